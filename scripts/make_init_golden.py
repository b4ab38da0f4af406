"""
Measures how transformers' SiglipModel draws its random weights, for the test of ours.

    python scripts/make_init_golden.py

Writes crates/medsiglip/tests/data/init/moments.json: for each parameter of a small model, over SEEDS models, how many
numbers it has in all, their mean, standard deviation, mean magnitude and largest magnitude. Two runs write the same
bytes.
"""

import json
import pathlib

import torch
from transformers import SiglipConfig, SiglipModel

import golden_common as common

SEEDS = 256
OUT = pathlib.Path(__file__).parent.parent / "crates/medsiglip/tests/data/init/moments.json"
CONFIG = {
    "text_config": {
        "hidden_size": 24,
        "intermediate_size": 56,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 40,
        "max_position_embeddings": 6,
        "projection_size": 32,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 1,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    },
}


def main():
    common.check_versions()
    drawn = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        for name, parameter in SiglipModel(SiglipConfig(**CONFIG)).named_parameters():
            drawn.setdefault(name, []).append(parameter.detach().double().flatten())
    moments = {name: moments_of(torch.cat(numbers)) for name, numbers in sorted(drawn.items())}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"config": {"model_type": "siglip"} | CONFIG, "seeds": SEEDS, "moments": moments}, indent=1) + "\n")


def moments_of(numbers):
    return {
        "count": numbers.numel(),
        "mean": numbers.mean().item(),
        "std": numbers.std(correction=0).item(),
        "mean_abs": numbers.abs().mean().item(),
        "max_abs": numbers.abs().max().item(),
    }


if __name__ == "__main__":
    main()
