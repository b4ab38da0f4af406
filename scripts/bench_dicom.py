"""Times DICOM files from disk to pixel values beside pydicom + numpy + Pillow doing the same, on one core and on all.

    cargo build --release -p medsiglip --example dicom_speed
    python scripts/bench_dicom.py target/release/examples/dicom_speed FOLDER...

Both sides open the file, decode the first frame, apply modality LUT and window (or palette), make 8 bits, resize to 448
by Pillow's bicubic filter and scale to [-1, 1]. pydicom takes the fastest of its installed plugins by its own order. Files
that one side refuses are left out. Both run pinned to one core, in turn; ratios are medians of repeats.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import UID

sys.path.insert(0, str(Path(__file__).parent))
from compare_dicom import files


def peer(path):
    """Pixel values, (3, 448, 448)."""
    dataset = pydicom.dcmread(path)
    frames = int(dataset.get("NumberOfFrames") or 1)
    array = pixel_array(dataset, index=0) if frames > 1 else dataset.pixel_array
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
        picture = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
    elif array.ndim == 3:
        picture = array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)
    else:
        gray = apply_voi_lut(apply_modality_lut(array, dataset), dataset).astype(np.float64)
        low, high = gray.min(), gray.max()
        gray = (gray - low) * (255.0 / max(high - low, 1e-9)) + 0.5
        picture = gray.astype(np.uint8)
        if kind == "MONOCHROME1":
            picture = 255 - picture
    image = Image.fromarray(picture).convert("RGB").resize((448, 448), Image.BICUBIC)
    return (np.asarray(image, np.float32) / 255 - 0.5).transpose(2, 0, 1) / 0.5


def time_peer(path, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        try:
            peer(path)
        except Exception:
            return []
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cores = os.cpu_count()
    everything = os.sched_getaffinity(0)
    paths = [str(path) for path, _ in files(args.folders)]
    groups, ratios, usable = defaultdict(list), [], []
    for path in paths:
        os.sched_setaffinity(0, {min(everything)})
        theirs = time_peer(path, args.repeats)
        command = [args.binary, str(args.repeats), "1", path]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        os.sched_setaffinity(0, everything)
        lines = told.splitlines()
        ours = json.loads(lines[0])["seconds"] if lines else []
        if not theirs or not ours:
            continue
        usable.append(path)
        # The first of each pays for imports, the page cache and page faults.
        a, b = statistics.median(ours[1:] or ours), statistics.median(theirs[1:] or theirs)
        ratios.append(b / a)
        meta = pydicom.dcmread(path, stop_before_pixels=True)
        groups[UID(meta.file_meta.TransferSyntaxUID).name].append((a, b))
    print("| transfer syntax | files | ours, ms | pydicom, ms | ratio |\n|---|---|---|---|---|")
    for name, pairs in sorted(groups.items()):
        a, b = (statistics.median(side) for side in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {name} | {len(pairs)} | {a * 1e3:.2f} | {b * 1e3:.2f} | {ratio:.2f} |")
    print(f"\nmedian ratio over {len(ratios)} files: {statistics.median(ratios):.2f}; "
          f"below 1.5: {sum(r < 1.5 for r in ratios)}; below 1: {sum(r < 1 for r in ratios)}")
    times = {}
    for threads in sorted({1, cores}):
        command = [args.binary, str(args.repeats), str(threads), *usable]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        last = json.loads(told.splitlines()[-1])
        times[threads] = last["seconds"]
        print(f"all files, {threads} threads: {last['pictures']} pictures in {last['seconds']:.2f} s")
    if len(times) > 1:
        print(f"{cores} threads: {times[1] / times[cores]:.2f} times one")


if __name__ == "__main__":
    main()
