"""
Makes the golden that the trainer's test compares with, from transformers and torch (CPU, float32): every gradient of the first
of twenty AdamW steps of the checked-in tiny model, and the loss of every step.

    python scripts/make_training_golden.py

Inputs are made by a formula that the test repeats. The versions are pinned in golden_common.py and checked here.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import SiglipModel

import golden_common as common

DATA = Path(__file__).resolve().parent.parent / "crates" / "medsiglip" / "tests" / "data"
STEPS, BATCH = 20, 6
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1


def numbers(count, seed):
    """The integers 0..2^24 that a multiplicative hash gives: exact in float32."""
    k = torch.arange(count, dtype=torch.int64) + seed * 1_000_003
    return ((k * 2_654_435_761) % 2**32) >> 8


def batch(step, config):
    size = config.vision_config.image_size
    pixels = numbers(BATCH * 3 * size * size, step).to(torch.float32) / 2**23 - 1
    length, vocab = config.text_config.max_position_embeddings, config.text_config.vocab_size
    ids = numbers(BATCH * length, 1000 + step) % vocab
    return pixels.reshape(BATCH, 3, size, size), ids.reshape(BATCH, length)


def decays(name, parameter):
    """big_vision decays kernels alone."""
    if name.endswith("probe") or (name.endswith("_embedding.weight") and "patch" not in name):
        return False
    return parameter.dim() >= 2


def main():
    common.check_versions()
    model = SiglipModel.from_pretrained(DATA / "tiny", attn_implementation="eager")
    model.train()
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": DECAY},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    losses, gradients = [], {}
    for step in range(STEPS):
        pixels, ids = batch(step, model.config)
        optimizer.zero_grad()
        loss = model(input_ids=ids, pixel_values=pixels, return_loss=True).loss
        loss.backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in named}
        optimizer.step()
        losses.append(loss.item())
    gradients["losses"] = torch.tensor(losses, dtype=torch.float64).to(torch.float32)
    about = {"torch": torch.__version__, "settings": json.dumps({"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY})}
    save_file(gradients, DATA / "golden" / "training.safetensors", metadata=about)
    print(losses)


main()
