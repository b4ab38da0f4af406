"""What the makers of goldens share: pinned versions, seeded weights, captured stages."""

import importlib.metadata
import json
import zlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import SiglipImageProcessor, SiglipModel
from transformers.modeling_utils import no_init_weights

# The goldens in the repository were made with exactly these. transformers 4.51.3 is what the public serving container runs.
VERSIONS = {
    "torch": "2.15.0",
    "transformers": "4.51.3",
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "safetensors": "0.8.0",
    "pillow": "11.2.1",
    "sentencepiece": "0.2.0",
}
SEED = 20250709


def check_versions():
    """Stops where a package is not the pinned one: another version may give other numbers."""
    wrong = [
        f"{name} {importlib.metadata.version(name).split('+')[0]}, expected {version}"
        for name, version in VERSIONS.items()
        if importlib.metadata.version(name).split("+")[0] != version
    ]
    if wrong:
        raise SystemExit("wrong versions: " + "; ".join(wrong))


def build(model_class, config, scale, attention="eager"):
    """A model in float32 whose weights `seed_weights` drew."""
    config._attn_implementation = attention
    with no_init_weights():
        model = model_class(config)
    seed_weights(model, scale)
    return model.eval()


@torch.no_grad()
def seed_weights(model, scale):
    """
    Draws each parameter from a generator seeded with its own name, so that a tower has the same weights in every model that holds it.

    Weights are normal with standard deviation gain / sqrt(fan in). The gains are far above those of a usual
    initialisation: attention is peaked, GELU bends, and different inputs get different embeddings.
    """
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(SEED ^ zlib.crc32(name.encode()))
        kind = kind_of(name)
        if kind in scale.get("constant", {}):
            parameter.fill_(scale["constant"][kind])
            continue
        mean, std = moments(kind, parameter, scale)
        parameter.normal_(mean, std, generator=generator)


def kind_of(name):
    """The role of a parameter, by which its spread is chosen."""
    if name in ("logit_scale", "logit_bias"):
        return name
    if "norm" in name:
        return "norm_weight" if name.endswith("weight") else "bias"
    if name.endswith("bias"):
        return "bias"
    for part, kind in [
        ("position_embedding", "position"),
        ("patch_embedding", "patch"),
        ("token_embedding", "token"),
        ("probe", "probe"),
        ("q_proj", "query_key"),
        ("k_proj", "query_key"),
        ("in_proj_weight", "pooling"),
    ]:
        if part in name:
            return kind
    return "linear"


def moments(kind, parameter, scale):
    """Mean and standard deviation of the normal distribution a parameter is drawn from."""
    if kind == "norm_weight":
        return 1.0, 0.2
    if kind in ("bias", "position", "token", "probe"):
        return 0.0, scale[kind]
    fan_in = parameter[0].numel()
    return 0.0, scale[kind] / fan_in**0.5


def hook(captured, name, module, take):
    """Keeps what `module` returns, through `take`, under `name`."""
    return module.register_forward_hook(
        lambda _module, _inputs, output: captured.__setitem__(name, take(output).detach().clone())
    )


@torch.no_grad()
def vision_stages(vision_model, pixel_values, prefix="vision"):
    """Every stage of the vision tower, (B, N, D) each; the MAP head's attention is (B, H, N)."""
    captured = {}
    hooks = [
        hook(captured, f"{prefix}.patches", vision_model.embeddings.patch_embedding, lambda x: x.flatten(2).transpose(1, 2)),
        hook(captured, f"{prefix}.embeddings", vision_model.embeddings, lambda x: x),
        hook(captured, f"{prefix}.last_hidden_state", vision_model.post_layernorm, lambda x: x),
    ]
    for i, layer in enumerate(vision_model.encoder.layers):
        hooks.append(hook(captured, f"{prefix}.block.{i}", layer, lambda x: x[0]))
    pooled = vision_model(pixel_values).pooler_output
    for one in hooks:
        one.remove()
    if pooled is not None:
        captured[f"{prefix}.map_attention"] = map_attention(vision_model.head, captured[f"{prefix}.last_hidden_state"])
        captured[f"{prefix}.pooled"] = pooled
        captured[f"{prefix}.normalized"] = pooled / pooled.norm(dim=-1, keepdim=True)
    return captured


def map_attention(head, hidden):
    """The pooling head's attention weights, (B, H, N)."""
    probe = head.probe.repeat(hidden.shape[0], 1, 1)
    _, weights = head.attention(probe, hidden, hidden, need_weights=True, average_attn_weights=False)
    return weights[:, :, 0, :]


@torch.no_grad()
def text_stages(text_model, input_ids, prefix="text"):
    """Every stage of the text tower, (B, T, D) each. No attention mask: padding is attended, as in training."""
    captured = {}
    hooks = [
        hook(captured, f"{prefix}.embeddings", text_model.embeddings, lambda x: x),
        hook(captured, f"{prefix}.last_hidden_state", text_model.final_layer_norm, lambda x: x),
    ]
    for i, layer in enumerate(text_model.encoder.layers):
        hooks.append(hook(captured, f"{prefix}.block.{i}", layer, lambda x: x[0]))
    pooled = text_model(input_ids).pooler_output
    for one in hooks:
        one.remove()
    captured[f"{prefix}.pooled"] = pooled
    captured[f"{prefix}.normalized"] = pooled / pooled.norm(dim=-1, keepdim=True)
    return captured


@torch.no_grad()
def scores(model: SiglipModel, input_ids, pixel_values):
    """The pair's logits and probabilities, (B images, B texts), as `SiglipModel.forward` gives them."""
    logits = model(input_ids=input_ids, pixel_values=pixel_values).logits_per_image
    return {"logits_per_image": logits, "probability": torch.sigmoid(logits)}


def require_close(name, ours, theirs, tolerance=1e-5):
    """Stops where two ways to the same number differ by more than `tolerance` of the largest magnitude."""
    difference = (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
    if not difference <= tolerance:
        raise SystemExit(f"{name}: differs by {difference:.2e}, expected at most {tolerance:.0e}")


def write_tensors(path, tensors):
    """Goldens to one safetensors file; the versions that made them go into its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"made_with": json.dumps(VERSIONS)})
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1e3:.0f} kB")


def write_preprocessor(folder, size):
    """`preprocessor_config.json` as it is published: bicubic, no padding, mean and standard deviation 0.5."""
    processor = SiglipImageProcessor(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3, do_convert_rgb=True
    )
    processor._set_processor_class("SiglipProcessor")
    processor.save_pretrained(folder)


def synthetic_pixels(batch, size, seed):
    """Pictures of smooth blobs under noise, in 256 steps of [-1, 1], (B, 3, size, size)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    pictures = np.zeros((batch, 3, size, size))
    for b in range(batch):
        for c in range(3):
            fy, fx, phase = random.uniform(1, 9, 3)
            wave = np.sin(fy * y + phase) * np.cos(fx * x - phase)
            pictures[b, c] = 0.5 + 0.35 * wave + 0.12 * random.standard_normal((size, size))
    levels = np.round(np.clip(pictures, 0, 1) * 255)
    return torch.from_numpy((levels / 255 * 2 - 1).astype(np.float32))
