#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/augment.json: what torchvision makes of a small synthetic picture.

    python scripts/make_augment_golden.py

Versions that made the checked-in file: numpy 2.4.6, torch 2.15.0, torchvision 0.29.2.

The picture is the formula of `sample`, which dataset/augment/tests.rs repeats. Functions are those on tensors.
"""

import json
from pathlib import Path

import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/augment.json"
SIZE = 11


def sample(channels):
    """(channels, SIZE, SIZE): every channel another mixture, with flat, black and white places."""
    levels = torch.zeros(channels, SIZE, SIZE, dtype=torch.uint8)
    for c in range(channels):
        for y in range(SIZE):
            for x in range(SIZE):
                level = (x * 37 + y * 101 + c * 59 + x * y * (c + 3)) % 256
                if y == 0:
                    level = 0 if x < 4 else 255 if x < 8 else 90
                levels[c, y, x] = level
    return levels


def cases():
    for channels, kind in [(3, "rgb"), (1, "gray")]:
        picture = sample(channels)
        for factor in [0.0, 0.55, 1.0, 1.4, 2.5]:
            yield f"{kind} brightness {factor}", F.adjust_brightness(picture, factor)
            yield f"{kind} contrast {factor}", F.adjust_contrast(picture, factor)
        for degrees in [-180.0, -33.0, 7.5, 90.0]:
            rotated = F.rotate(picture, degrees, InterpolationMode.BILINEAR)
            yield f"{kind} rotate {degrees}", rotated
        for size, sigma in [(3, 0.1), (5, 1.2), (9, 2.0)]:
            blurred = F.gaussian_blur(picture, [size, size], [sigma, sigma])
            yield f"{kind} blur {size} {sigma}", blurred
        yield f"{kind} horizontal_flip", F.hflip(picture)
        yield f"{kind} vertical_flip", F.vflip(picture)
        yield f"{kind} quarter_turn", torch.rot90(picture, 1, (1, 2))
    picture = sample(3)
    for factor in [0.0, 0.55, 1.0, 1.4, 2.5]:
        yield f"rgb saturation {factor}", F.adjust_saturation(picture, factor)
    for shift in [-0.5, -0.2, 0.0, 0.07, 0.31]:
        yield f"rgb hue {shift}", F.adjust_hue(picture, shift)


def main():
    lines = []
    for name, result in cases():
        levels = result.permute(1, 2, 0).flatten().tolist()
        lines.append(f"{json.dumps(name)}: {json.dumps(levels, separators=(',', ':'))}")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
