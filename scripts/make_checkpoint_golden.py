"""Makes crates/medsiglip/tests/golden/checkpoint: a tiny SigLIP model in both layouts, and resampled position tables.

Made with torch 2.15.0 (CPU), transformers 4.51.3, scipy 1.17.1, numpy 2.4.6, safetensors 0.8.0:

    python scripts/make_checkpoint_golden.py

huggingface/     random SiglipModel, written by transformers' save_pretrained
bigvision.npz    the same numbers under big_vision's names (layers apart, as np.savez writes them)
scanned.npz      the same with stacked layers, compressed
bfloat16.npz     the same numbers rounded to bfloat16, which numpy stores as the opaque type V2
positions.safetensors   {method}_{from}_{to}: `table(from)` resampled by scipy or torch
"""

import pathlib

import numpy as np
import scipy.ndimage
import torch
from safetensors.numpy import save_file
from transformers import SiglipConfig, SiglipModel

OUT = pathlib.Path(__file__).parent.parent / "crates/medsiglip/tests/golden/checkpoint"


def table(grid):
    """A position table of width 2, (grid, grid, 2), from whole numbers, so that Rust can make it too."""
    i = np.arange(grid * grid * 2, dtype=np.int64)
    return ((i * i * 37 + i * 11) % 101).astype(np.float32).reshape(grid, grid, 2) / np.float32(64) - np.float32(0.75)


def bigvision(old, to):
    """big_vision/models/vit.py, resample_posemb."""
    zoom = (to / old.shape[0], to / old.shape[1], 1)
    return scipy.ndimage.zoom(old, zoom, order=1)


def bicubic(old, to):
    """transformers' SiglipVisionEmbeddings.interpolate_pos_encoding."""
    grid = torch.from_numpy(old).permute(2, 0, 1)[None]
    new = torch.nn.functional.interpolate(grid, size=(to, to), mode="bicubic", align_corners=False)
    return new[0].permute(1, 2, 0).contiguous().numpy()


def area(old, to):
    """The mean of each 2x2 block."""
    grid = torch.from_numpy(old).permute(2, 0, 1)
    return torch.nn.functional.avg_pool2d(grid, 2).permute(1, 2, 0).contiguous().numpy()


def positions():
    tables = {}
    for old, new in [(4, 2), (3, 5), (27, 32), (64, 32), (1, 3), (3, 1)]:
        methods = [bigvision, bicubic] + [area] * (old == 2 * new)
        for method in methods:
            result = method(table(old), new)
            assert result.shape == (new, new, 2) and result.dtype == np.float32
            tables[f"{method.__name__}_{old}_{new}"] = result
    save_file(tables, OUT / "positions.safetensors")


def flax_layout(state, config):
    """The state dict under big_vision's names, layers apart."""
    new = {}

    def norm(to, name):
        new[f"{to}/scale"] = state[f"{name}.weight"]
        new[f"{to}/bias"] = state[f"{name}.bias"]

    def linear(to, name):
        new[f"{to}/kernel"] = state[f"{name}.weight"].T
        new[f"{to}/bias"] = state[f"{name}.bias"]

    def mlp(to, name):
        linear(f"{to}/Dense_0", f"{name}.fc1")
        linear(f"{to}/Dense_1", f"{name}.fc2")

    def attention(to, q, k, v, out, heads):
        for name, (weight, bias) in {"query": q, "key": k, "value": v}.items():
            new[f"{to}/{name}/kernel"] = weight.T.reshape(weight.shape[1], heads, -1)
            new[f"{to}/{name}/bias"] = bias.reshape(heads, -1)
        new[f"{to}/out/kernel"] = out[0].T.reshape(heads, -1, out[0].shape[0])
        new[f"{to}/out/bias"] = out[1]

    def block(to, name, heads):
        norm(f"{to}/LayerNorm_0", f"{name}.layer_norm1")
        norm(f"{to}/LayerNorm_1", f"{name}.layer_norm2")
        mlp(f"{to}/MlpBlock_0", f"{name}.mlp")
        pair = lambda p: (state[f"{name}.self_attn.{p}.weight"], state[f"{name}.self_attn.{p}.bias"])
        attention(f"{to}/MultiHeadDotProductAttention_0", *map(pair, ["q_proj", "k_proj", "v_proj", "out_proj"]), heads)

    v, t = config.vision_config, config.text_config
    embeddings = "vision_model.embeddings"
    new["img/embedding/kernel"] = state[f"{embeddings}.patch_embedding.weight"].transpose(2, 3, 1, 0)
    new["img/embedding/bias"] = state[f"{embeddings}.patch_embedding.bias"]
    new["img/pos_embedding"] = state[f"{embeddings}.position_embedding.weight"][None]
    for i in range(v.num_hidden_layers):
        block(f"img/Transformer/encoderblock_{i}", f"vision_model.encoder.layers.{i}", v.num_attention_heads)
    norm("img/Transformer/encoder_norm", "vision_model.post_layernorm")
    head, to = "vision_model.head", "img/MAPHead_0"
    new[f"{to}/probe"] = state[f"{head}.probe"]
    weights = np.split(state[f"{head}.attention.in_proj_weight"], 3)
    biases = np.split(state[f"{head}.attention.in_proj_bias"], 3)
    out = (state[f"{head}.attention.out_proj.weight"], state[f"{head}.attention.out_proj.bias"])
    attention(f"{to}/MultiHeadDotProductAttention_0", *zip(weights, biases), out, v.num_attention_heads)
    norm(f"{to}/LayerNorm_0", f"{head}.layernorm")
    mlp(f"{to}/MlpBlock_0", f"{head}.mlp")

    new["txt/Embed_0/embedding"] = state["text_model.embeddings.token_embedding.weight"]
    new["txt/pos_embedding"] = state["text_model.embeddings.position_embedding.weight"][None]
    for i in range(t.num_hidden_layers):
        block(f"txt/Encoder_0/encoderblock_{i}", f"text_model.encoder.layers.{i}", t.num_attention_heads)
    norm("txt/Encoder_0/encoder_norm", "text_model.final_layer_norm")
    linear("txt/head", "text_model.head")
    new["t"], new["b"] = state["logit_scale"], state["logit_bias"]
    return {f"params/{key}": np.ascontiguousarray(value) for key, value in new.items()}


def scanned(arrays):
    """The same arrays with the layers stacked along a first axis, as `scan=True` has them."""
    stacks, rest = {}, {}
    for key, value in arrays.items():
        head, found, tail = key.partition("/encoderblock_")
        if found:
            layer, path = tail.split("/", 1)
            stacks.setdefault(f"{head}/encoderblock/{path}", {})[int(layer)] = value
        else:
            rest[key] = value
    return rest | {key: np.stack([s[i] for i in sorted(s)]) for key, s in stacks.items()}


def as_v2(array):
    """bfloat16 bits as np.save stores ml_dtypes' bfloat16."""
    bits = torch.from_numpy(np.array(array)).to(torch.bfloat16).view(torch.int16).numpy()
    return bits.view("V2")


def models():
    torch.manual_seed(0)
    vision = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4)
    text = dict(
        hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, vocab_size=24,
        max_position_embeddings=6, projection_size=8,
    )  # fmt: skip
    model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(OUT / "huggingface")
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = flax_layout(state, model.config)
    # what a training checkpoint has beside its parameters is not for us
    np.savez(OUT / "bigvision.npz", **arrays, **{"opt/count": np.int32(7)})
    np.savez_compressed(OUT / "scanned.npz", **scanned(arrays))
    np.savez(OUT / "bfloat16.npz", **{key: as_v2(value) for key, value in arrays.items()})


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    positions()
    models()
