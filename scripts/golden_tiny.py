"""The tiny models and their goldens: small enough to be checked in, odd enough to find mistakes."""

import json
import math

import numpy as np
import scipy.ndimage
import torch
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

import golden_common as common

SCALE = {
    "bias": 0.15,
    "patch": 2.5,
    "position": 0.5,
    "token": 1.0,
    "probe": 1.0,
    "query_key": 1.5,
    "pooling": 2.0,
    "linear": 1.2,
    "constant": {"logit_scale": math.log(100.0), "logit_bias": -10.0},
}
# Narrower models have larger cosines: a milder slope keeps their probabilities off 0 and 1.
MILD_SCALE = {**SCALE, "constant": {"logit_scale": math.log(20.0), "logit_bias": 1.0}}


def make(data):
    """Writes every tiny model under `data` (the tests' data folder), and the goldens to `data`/golden."""
    tiny = make_tiny(data)
    make_gemma(data, tiny)
    make_odd(data)
    make_big_vision(data)


def tiny_config(width, mlp, depth, heads, image, patch, vocab):
    """A SigLIP config with `depth` = (vision, text) layers."""
    shared = {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
    vision = {**shared, "num_hidden_layers": depth[0], "image_size": image, "patch_size": patch}
    text = {
        **shared,
        "num_hidden_layers": depth[1],
        "vocab_size": vocab,
        "max_position_embeddings": 64,
        "projection_size": width,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return SiglipConfig(vision_config=vision, text_config=text)


def make_tiny(data):
    """`tiny`: head size 16, MLP 150 (no multiple of 16), 4 x 4 patches. Every stage; and 112 pixels by bicubic positions."""
    config = tiny_config(width=64, mlp=150, depth=(3, 2), heads=4, image=56, patch=14, vocab=640)
    model = common.build(SiglipModel, config, SCALE)
    model.save_pretrained(data / "tiny")
    common.write_preprocessor(data / "tiny", 56)

    pixels, ids = common.synthetic_pixels(2, 56, seed=1), token_rows(640)
    pixels112 = common.synthetic_pixels(1, 112, seed=2)
    goldens = {"pixel_values": pixels, "input_ids": ids.to(torch.int32)}
    goldens |= common.vision_stages(model.vision_model, pixels)
    goldens |= common.text_stages(model.text_model, ids)
    goldens |= common.scores(model, ids, pixels)
    with torch.no_grad():
        at112 = model.vision_model(pixels112, interpolate_pos_encoding=True)
    table = model.vision_model.embeddings.position_embedding.weight.detach()
    goldens |= {
        "vision112.pixel_values": pixels112,
        "vision112.positions": resample(table, 8, "bicubic"),
        "vision112.positions.bigvision": resample(table, 8, "bigvision"),
        "vision112.last_hidden_state": at112.last_hidden_state,
        "vision112.pooled": at112.pooler_output,
    }
    common.write_tensors(data / "golden" / "tiny.safetensors", goldens)
    check_sdpa(config, goldens, ids)
    print("probabilities", [f"{p:.4f}" for p in goldens["probability"].flatten().tolist()])
    return model


def token_rows(vocab):
    """A short text, one that fills all 64 positions, and one of a single token; padded with 1."""
    random = np.random.default_rng(3)
    ids = np.ones((3, 64), dtype=np.int64)
    ids[0, :11] = random.integers(3, vocab, 11)
    ids[1, :63] = random.integers(0, vocab, 63)
    ids[1, 20:23] = [0, 2, vocab - 1]
    ids[2, 0] = 7
    return torch.from_numpy(ids)


def check_sdpa(config, goldens, ids):
    """The fused attention of torch must give the same answers as the plain one."""
    model = common.build(SiglipModel, config, SCALE, attention="sdpa")
    again = common.scores(model, ids, goldens["pixel_values"])
    again |= common.vision_stages(model.vision_model, goldens["pixel_values"])
    again |= common.text_stages(model.text_model, ids)
    for name, value in again.items():
        common.require_close(f"sdpa {name}", value, goldens[name])


def resample(table, grid, rule):
    """A position table (N, D) on `grid` x `grid`: transformers' rule, big_vision's `resample_posemb`, or the mean of 2 x 2."""
    old = math.isqrt(table.shape[0])
    square = table.reshape(old, old, -1)
    if rule == "bigvision":
        zoomed = scipy.ndimage.zoom(square.numpy(), (grid / old, grid / old, 1), order=1)
        return torch.from_numpy(zoomed).reshape(grid * grid, -1)
    channels_first = square.permute(2, 0, 1)[None]
    if rule == "area":
        out = torch.nn.functional.avg_pool2d(channels_first, 2)
    else:
        out = torch.nn.functional.interpolate(channels_first, size=(grid, grid), mode="bicubic", align_corners=False)
    return out[0].permute(1, 2, 0).reshape(grid * grid, -1)


def make_gemma(data, tiny):
    """`tiny-gemma`: the vision tower as Gemma 3 and MedGemma store it: renamed, bfloat16, 112 pixels, no pooling head. Its pictures are those of `tiny`."""
    shape = dict(tiny.config.vision_config.to_dict(), image_size=112, vision_use_head=False)
    config = SiglipVisionConfig(**shape)
    tower = common.build(SiglipVisionModel, config, SCALE)
    stored = {name: value.detach().bfloat16() for name, value in tower.state_dict().items()}
    tower.load_state_dict({name: value.float() for name, value in stored.items()})
    write_gemma(data / "tiny-gemma", stored, gemma_config(config))

    pixels112 = common.synthetic_pixels(1, 112, seed=2)
    stages = common.vision_stages(tower.vision_model, pixels112)
    goldens = {"vision.last_hidden_state": stages["vision.last_hidden_state"]}
    with torch.no_grad():
        goldens["joined.pooled"] = tiny.vision_model.head(goldens["vision.last_hidden_state"])
    goldens |= joined_at_56(tower, tiny, stored)
    common.write_tensors(data / "golden" / "tiny-gemma.safetensors", goldens)


@torch.no_grad()
def joined_at_56(tower, tiny, stored):
    """The bfloat16 tower at 56 pixels under the head of `tiny`, by each rule for the positions."""
    table = stored["vision_model.embeddings.position_embedding.weight"].float()
    config = SiglipVisionConfig(**dict(tower.config.to_dict(), image_size=56, vision_use_head=False))
    small = common.build(SiglipVisionModel, config, SCALE)
    pixels = common.synthetic_pixels(2, 56, seed=1)
    goldens = {}
    for rule in ("bigvision", "area", "bicubic"):
        positions = resample(table, 4, rule)
        weights = {name: value.float() for name, value in stored.items()}
        weights["vision_model.embeddings.position_embedding.weight"] = positions
        small.load_state_dict(weights)
        goldens[f"joined56.positions.{rule}"] = positions
        goldens[f"joined56.pooled.{rule}"] = tiny.vision_model.head(small(pixels).last_hidden_state)
    return goldens


def gemma_config(vision):
    """The fields of a published Gemma 3 `config.json` that matter here."""
    keys = ["hidden_size", "image_size", "intermediate_size", "model_type", "num_attention_heads", "num_hidden_layers", "patch_size"]
    shape = vision.to_dict()
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "mm_tokens_per_image": 16,
        "model_type": "gemma3",
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34},
        "torch_dtype": "bfloat16",
        "vision_config": {**{key: shape[key] for key in keys}, "vision_use_head": False},
    }


def write_gemma(folder, stored, config):
    """The tower under Gemma 3's names, beside tensors of the language model, which a reader must pass over."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"vision_tower.{name}": value.contiguous() for name, value in stored.items()}
    width = config["vision_config"]["hidden_size"]
    tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = torch.zeros(width, dtype=torch.bfloat16)
    tensors["language_model.model.norm.weight"] = torch.zeros(8, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def make_odd(data):
    """`tiny-odd`: head size 9, a picture that patches do not fill (45 = 6 x 7 + 3), bfloat16 in two shards."""
    config = tiny_config(width=36, mlp=70, depth=(2, 2), heads=4, image=45, patch=7, vocab=96)
    model = common.build(SiglipModel, config, MILD_SCALE).bfloat16()
    total = sum(p.numel() * 2 for p in model.parameters())
    model.save_pretrained(data / "tiny-odd", max_shard_size=total * 6 // 10)
    if len(list((data / "tiny-odd").glob("model-*.safetensors"))) != 2:
        raise SystemExit("tiny-odd: expected two shards")
    common.write_preprocessor(data / "tiny-odd", 45)
    write_pooled(data / "golden" / "tiny-odd.safetensors", model.float(), 45, 96)


def write_pooled(path, model, image, vocab):
    """Goldens of a model's two embeddings and scores, in float32."""
    pixels, ids = common.synthetic_pixels(2, image, seed=4), token_rows(vocab)
    vision, text = common.vision_stages(model.vision_model, pixels), common.text_stages(model.text_model, ids)
    goldens = {
        "pixel_values": pixels,
        "input_ids": ids.to(torch.int32),
        "vision.last_hidden_state": vision["vision.last_hidden_state"],
        "vision.pooled": vision["vision.pooled"],
        "vision.normalized": vision["vision.normalized"],
        "text.pooled": text["text.pooled"],
        "text.normalized": text["text.normalized"],
    }
    common.write_tensors(path, goldens | common.scores(model, ids, pixels))


def make_big_vision(data):
    """`tiny-bigvision`: one model as big_vision's `.npz`, layer by layer and scanned, and as transformers stores it."""
    config = tiny_config(width=24, mlp=50, depth=(2, 2), heads=4, image=28, patch=7, vocab=96)
    model = common.build(SiglipModel, config, MILD_SCALE)
    folder = data / "tiny-bigvision"
    model.save_pretrained(folder / "hf")
    arrays = to_big_vision(model)
    # np.savez stores, which is what big_vision writes; the other file is deflated, so that readers meet both.
    np.savez(folder / "per_layer.npz", **arrays)
    np.savez_compressed(folder / "scanned.npz", **scan_layers(arrays))
    write_pooled(data / "golden" / "tiny-bigvision.safetensors", model, 28, 96)


def to_big_vision(model):
    """The inverse of transformers' `convert_siglip_to_hf.py`: flax names and layouts, `params/` and slashes."""
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    vision, text = model.config.vision_config, model.config.text_config
    arrays = {"params/t": weights["logit_scale"].reshape(1), "params/b": weights["logit_bias"].reshape(1)}

    img = "params/img/"
    arrays[img + "embedding/kernel"] = weights["vision_model.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
    arrays[img + "embedding/bias"] = weights["vision_model.embeddings.patch_embedding.bias"]
    arrays[img + "pos_embedding"] = weights["vision_model.embeddings.position_embedding.weight"][None]
    for i in range(vision.num_hidden_layers):
        arrays |= block(weights, f"vision_model.encoder.layers.{i}.", f"{img}Transformer/encoderblock_{i}/", vision.num_attention_heads)
    arrays |= norm(weights, "vision_model.post_layernorm", img + "Transformer/encoder_norm")
    arrays |= map_head(weights, img + "MAPHead_0/", vision.num_attention_heads)

    txt = "params/txt/"
    arrays[txt + "Embed_0/embedding"] = weights["text_model.embeddings.token_embedding.weight"]
    arrays[txt + "pos_embedding"] = weights["text_model.embeddings.position_embedding.weight"][None]
    for i in range(text.num_hidden_layers):
        arrays |= block(weights, f"text_model.encoder.layers.{i}.", f"{txt}Encoder_0/encoderblock_{i}/", text.num_attention_heads)
    arrays |= norm(weights, "text_model.final_layer_norm", txt + "Encoder_0/encoder_norm")
    arrays |= dense(weights, "text_model.head", txt + "head")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def block(weights, old, new, heads):
    """One encoder block."""
    arrays = norm(weights, old + "layer_norm1", new + "LayerNorm_0") | norm(weights, old + "layer_norm2", new + "LayerNorm_1")
    arrays |= dense(weights, old + "mlp.fc1", new + "MlpBlock_0/Dense_0") | dense(weights, old + "mlp.fc2", new + "MlpBlock_0/Dense_1")
    for part, flax in [("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out")]:
        name = f"{old}self_attn.{part}"
        arrays |= attention(weights[name + ".weight"], weights[name + ".bias"], f"{new}MultiHeadDotProductAttention_0/{flax}", heads)
    return arrays


def map_head(weights, new, heads):
    """The pooling head, whose three projections torch keeps in one matrix."""
    old = "vision_model.head."
    arrays = {new + "probe": weights[old + "probe"]}
    kernels = np.split(weights[old + "attention.in_proj_weight"], 3)
    biases = np.split(weights[old + "attention.in_proj_bias"], 3)
    for flax, kernel, bias in zip(("query", "key", "value"), kernels, biases):
        arrays |= attention(kernel, bias, f"{new}MultiHeadDotProductAttention_0/{flax}", heads)
    out = old + "attention.out_proj"
    arrays |= attention(weights[out + ".weight"], weights[out + ".bias"], new + "MultiHeadDotProductAttention_0/out", heads)
    arrays |= norm(weights, old + "layernorm", new + "LayerNorm_0")
    arrays |= dense(weights, old + "mlp.fc1", new + "MlpBlock_0/Dense_0")
    return arrays | dense(weights, old + "mlp.fc2", new + "MlpBlock_0/Dense_1")


def attention(weight, bias, new, heads):
    """Query, key and value kernels are (D, H, Dh) with bias (H, Dh); the output's is (H, Dh, D) with bias (D)."""
    width = weight.shape[0]
    if new.endswith("out"):
        return {new + "/kernel": weight.T.reshape(heads, width // heads, width), new + "/bias": bias}
    return {new + "/kernel": weight.T.reshape(width, heads, width // heads), new + "/bias": bias.reshape(heads, width // heads)}


def dense(weights, old, new):
    """A linear layer; flax keeps it transposed."""
    return {new + "/kernel": weights[old + ".weight"].T, new + "/bias": weights[old + ".bias"]}


def norm(weights, old, new):
    """A layer norm."""
    return {new + "/scale": weights[old + ".weight"], new + "/bias": weights[old + ".bias"]}


def scan_layers(arrays):
    """The layout of a model trained with `scan=True`: `encoderblock_{i}` become one `encoderblock` with a leading depth axis."""
    scanned, layers = {}, {}
    for name, array in arrays.items():
        if "/encoderblock_" not in name:
            scanned[name] = array
            continue
        head, tail = name.split("/encoderblock_", 1)
        index, rest = tail.split("/", 1)
        layers.setdefault(f"{head}/encoderblock/{rest}", {})[int(index)] = array
    for name, by_index in layers.items():
        scanned[name] = np.stack([by_index[i] for i in range(len(by_index))])
    return scanned
