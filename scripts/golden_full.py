"""Full-size random models (published So400m shapes) and their goldens. 4 GB a model: written outside the repository."""

import json
import math
import shutil
import time

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer, SiglipVisionConfig, SiglipVisionModel
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

import golden_common as common
from golden_tiny import gemma_config

SCALE = {
    "bias": 0.15,
    "patch": 3.0,
    "position": 0.5,
    "token": 1.0,
    "probe": 1.0,
    "query_key": 1.5,
    "pooling": 2.0,
    "linear": 1.2,
    "constant": {"logit_scale": math.log(100.0), "logit_bias": -10.0},
}
TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
TOKENIZER_FILES = ["spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
PROMPTS = [
    "a chest X-ray with no acute cardiopulmonary abnormality",
    "right-sided pleural effusion; no pneumothorax.",
    "a fundus photograph showing moderate non-proliferative diabetic retinopathy",
    "histopathology of lung adenocarcinoma, H&E stain",
    "a photo of an arm with no rash",
    "",
]
ROWS = 64


def make(out, tokenizer, images, dtype, shard_size):
    """Both towers at 448 pixels. `dtype` is how the weights are stored; goldens are computed in float32 from what is stored."""
    out.mkdir(parents=True, exist_ok=True)
    config = SiglipConfig(
        vision_config={**TOWER, "image_size": 448, "patch_size": 14},
        text_config={
            **TOWER,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "projection_size": 1152,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
    )
    model = common.build(SiglipModel, config, SCALE, attention="sdpa").to(dtype)
    model.save_pretrained(out, max_shard_size=shard_size)
    model.float()
    common.write_preprocessor(out, 448)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, out / name)

    pixels = read_images(out, images, 448)
    ids = SiglipTokenizer.from_pretrained(out)(
        PROMPTS, padding="max_length", truncation=True, max_length=64, return_tensors="pt"
    ).input_ids
    goldens = {"pixel_values": pixels, "input_ids": ids.to(torch.int32)}
    goldens |= few_rows(timed("image", lambda: one_by_one(model.vision_model, pixels)))
    goldens |= few_rows(timed("text", lambda: common.text_stages(model.text_model, ids)))
    goldens |= pair_scores(model, goldens)
    write(out, images, goldens)


def pair_scores(model, goldens):
    """Logits and probabilities, (B images, B texts), as `SiglipModel.forward` computes them."""
    similarity = goldens["text.normalized"] @ goldens["vision.normalized"].T
    logits = (similarity * model.logit_scale.exp() + model.logit_bias).T.detach()
    return {"logits_per_image": logits, "probability": torch.sigmoid(logits)}


def make_896(out, images):
    """The vision tower alone at 896 pixels in bfloat16, as Gemma 3 and MedGemma store it; pooled under the head of `make`'s model."""
    out.mkdir(parents=True, exist_ok=True)
    config = SiglipVisionConfig(**TOWER, image_size=896, patch_size=14, vision_use_head=False)
    tower = common.build(SiglipVisionModel, config, SCALE, attention="sdpa").bfloat16()
    tensors = {f"vision_tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(gemma_config(config), indent=2) + "\n")
    common.write_preprocessor(out, 896)
    del tensors
    tower.float()

    pixels = read_images(out, images, 896)
    stages = timed("image", lambda: one_by_one(tower.vision_model, pixels))
    goldens = {"pixel_values": pixels}
    with torch.no_grad():
        goldens["joined.pooled"] = pooling_head()(stages["vision.last_hidden_state"])
    write(out, images, goldens | few_rows(stages))


def pooling_head():
    """The f32 pooling head that `make` gives its model: weights depend on their names alone."""

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vision_model = torch.nn.Module()
            self.vision_model.head = SiglipMultiheadAttentionPoolingHead(SiglipVisionConfig(**TOWER))

    holder = Holder()
    common.seed_weights(holder, SCALE)
    return holder.vision_model.head.eval()


def read_images(out, images, size):
    """Pictures through transformers' processor (PIL, bicubic), (B, 3, size, size); the files are copied beside the goldens."""
    (out / "images").mkdir(exist_ok=True)
    for path in images:
        shutil.copyfile(path, out / "images" / path.name)
    pictures = [Image.open(path).convert("RGB") for path in images]
    return SiglipImageProcessor.from_pretrained(out)(pictures, return_tensors="pt").pixel_values


def one_by_one(vision_model, pixels):
    """The stages of each picture alone, joined: a batch would need more memory for the same numbers."""
    stages = [common.vision_stages(vision_model, picture[None]) for picture in pixels]
    return {name: torch.cat([stage[name] for stage in stages]) for name in stages[0]}


def few_rows(stages):
    """Keeps at most 64 evenly spaced rows of each (B, N, D) stage; row k of them is row k * (N // 64)."""
    kept = {}
    for name, value in stages.items():
        if name.endswith((".patches", ".embeddings", ".last_hidden_state")) or ".block." in name:
            value = value[:, :: value.shape[1] // ROWS][:, :ROWS]
        if ".block." in name and int(name.rsplit(".", 1)[1]) not in (0, 1, 8, 17, 26):
            continue
        kept[name] = value
    return kept


def timed(what, run):
    """Runs, and says how long it took."""
    start = time.perf_counter()
    result = run()
    print(f"{what} tower: {time.perf_counter() - start:.1f} s", flush=True)
    return result


def write(out, images, goldens):
    """The goldens, the list of inputs, and how far apart the embeddings are."""
    common.write_tensors(out / "golden.safetensors", goldens)
    inputs = {"images": [f"images/{path.name}" for path in images]}
    if "input_ids" in goldens:
        inputs["prompts"] = PROMPTS
    (out / "golden.json").write_text(json.dumps(inputs, indent=2) + "\n")
    for name in ("vision.normalized", "text.normalized", "joined.pooled"):
        if name in goldens:
            rows = torch.nn.functional.normalize(goldens[name], dim=-1)
            print(name, "cosines", np.array2string((rows @ rows.T).numpy(), precision=3))
    if "probability" in goldens:
        print("logits", np.array2string(goldens["logits_per_image"].numpy(), precision=3))
        print("probability", np.array2string(goldens["probability"].numpy(), precision=4))
