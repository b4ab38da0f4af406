"""Compares colour transforms here with LittleCMS (Pillow's ImageCms), which the serving container uses.

    cargo build --release --example icc -p medsiglip
    python scripts/compare_icc.py --binary target/release/examples/icc PROFILE.icc... [--picture slide.png]

Prints, for each profile and target, the largest step between both and the share of samples that differ by more than
one, on random pixels and on the picture. The targets are made here from their published primaries (in D50) and curves.
Needs Pillow 11.2.1 and numpy.
"""

import argparse
import io
import struct
import subprocess

import numpy as np
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
TARGETS = {
    "adobergb": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), (563 / 256,)),
    "displayp3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), SRGB_CURVE),
    "rommrgb": ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491), (1.8, 1.0, 0.0, 1 / 16, 0.031248)),
}


def make_profile(red, green, blue, curve):
    """A matrix profile of version 4 (ICC.1:2022 8.3)."""
    fixed = lambda values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)
    xyz = lambda values: b"XYZ \0\0\0\0" + fixed(values)
    para = b"para\0\0\0\0" + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + fixed(curve)
    text = lambda t: b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(t), 28) + t.encode("utf-16-be")
    tags = {b"desc": text("made"), b"cprt": text("none"), b"wtpt": xyz(D50), b"rXYZ": xyz(red), b"gXYZ": xyz(green),
            b"bXYZ": xyz(blue), b"rTRC": para, b"gTRC": para, b"bTRC": para}
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI4s4s4s12s4s", 128 + len(body), b"none", 0x04400000, b"mntr", b"RGB ", b"XYZ ", b"\0" * 12, b"acsp")
    return (header + b"\0" * (68 - len(header)) + fixed(D50)).ljust(128, b"\0") + body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--picture")
    parser.add_argument("profiles", nargs="+")
    args = parser.parse_args()
    pictures = {"random": Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))}
    if args.picture:
        pictures["picture"] = Image.open(args.picture).convert("RGB")
    targets = {name: ImageCms.ImageCmsProfile(io.BytesIO(make_profile(*of))) for name, of in TARGETS.items()}
    targets = {"srgb": ImageCms.createProfile("sRGB"), **targets}
    print("| profile | target | pixels | largest step | over 1 |\n|---|---|---|---|---|")
    for profile in args.profiles:
        for target, to in targets.items():
            transform = ImageCms.buildTransform(profile, to, "RGB", "RGB", ImageCms.Intent.PERCEPTUAL)
            for name, picture in pictures.items():
                theirs = np.asarray(ImageCms.applyTransform(picture, transform)).astype(int)
                out = subprocess.run([args.binary, profile, target], input=picture.tobytes(), capture_output=True, check=True).stdout
                step = np.abs(np.frombuffer(out, np.uint8).reshape(theirs.shape) - theirs)
                print(f"| {profile.split('/')[-1]} | {target} | {name} | {step.max()} | {(step > 1).mean():.3%} |")


if __name__ == "__main__":
    main()
