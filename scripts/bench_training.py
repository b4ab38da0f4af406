"""
Times a training step (forward, backward, AdamW) of one model beside torch and transformers: same model, batch, precision.

    python scripts/bench_training.py FOLDER [--batch 32] [--steps 7] [--rounds 3]

Needs `cargo build --release -p medsiglip --features train --example training_step` before. The two take turns; the first step of
each is left out. Prints medians and the ratio. Versions are pinned in golden_common.py.
"""

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch
from transformers import SiglipModel

import golden_common as common


def torch_steps(folder, batch, steps):
    model = SiglipModel.from_pretrained(folder, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1e-4)
    size, text = model.config.vision_config.image_size, model.config.text_config
    pixels = torch.rand(batch, 3, size, size) * 2 - 1
    ids = torch.randint(0, text.vocab_size, (batch, text.max_position_embeddings))
    for _ in range(steps):
        began = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=ids, pixel_values=pixels, return_loss=True).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield time.perf_counter() - began


def our_steps(folder, batch, steps):
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parent.parent / "target"))
    program = target / "release" / "examples" / "training_step"
    run = subprocess.run([program, folder, str(batch), str(steps)], check=True, capture_output=True, text=True)
    return [float(line) for line in run.stdout.split()]


def main():
    common.check_versions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    ours, theirs = [], []
    for _ in range(a.rounds):
        theirs += list(torch_steps(a.folder, a.batch, a.steps))[1:]
        ours += our_steps(a.folder, a.batch, a.steps)[1:]
    ms = lambda times: f"{1e3 * statistics.median(times):.0f} ms [{1e3 * min(times):.0f}-{1e3 * max(times):.0f}]"
    print(f"threads {torch.get_num_threads()}, batch {a.batch}")
    print(f"torch {torch.__version__}: {ms(theirs)}")
    print(f"medsiglip: {ms(ours)}")
    print(f"ratio {statistics.median(theirs) / statistics.median(ours):.2f}")


main()
