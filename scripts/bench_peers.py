"""
Times transformers (PyTorch, sdpa attention, f32) on the towers, as examples/time_towers.rs times ours, for BENCHMARKS.md.

    python scripts/bench_peers.py MODEL_FOLDER [RUNS]

Run both in turn on a quiet machine, and quote medians and ratios. Versions as in scripts/README.md.
"""

import statistics
import sys
import time

import torch
from transformers import SiglipModel


def main():
    folder = sys.argv[1]
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    start = time.perf_counter()
    model = SiglipModel.from_pretrained(folder, attn_implementation="sdpa", torch_dtype=torch.float32).eval()
    print(f"load: {time.perf_counter() - start:.3f} s, {torch.get_num_threads()} threads")
    size = model.config.vision_config.image_size
    for batch in (1, 4):
        pixels = ((torch.arange(batch * 3 * size * size) * 37 % 255) / 127.5 - 1).reshape(batch, 3, size, size)
        report(f"vision {size}, batch {batch}", runs, batch, lambda: model.get_image_features(pixels))
    ids = torch.arange(8 * 64).reshape(8, 64) % model.config.text_config.vocab_size
    report("text, batch 8", runs, 8, lambda: model.get_text_features(ids))


@torch.inference_mode()
def report(name, runs, items, work):
    """Runs `work` once to warm up, then `runs` times; prints seconds an item."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / items)
    print(f"{name}: median {statistics.median(seconds):.3f} s an item [{min(seconds):.3f}-{max(seconds):.3f}]")


if __name__ == "__main__":
    main()
