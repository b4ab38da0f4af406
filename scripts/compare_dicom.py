"""Compares the stored values of every DICOM file in some folders with pydicom's, and prints a table in Markdown.

    cargo build --release -p medsiglip --example dicom_stored
    python scripts/compare_dicom.py target/release/examples/dicom_stored FOLDER... > docs/dicom_comparison.md

pydicom 3.0.1 with all its pixel handlers is the reference (see scripts/README.md for versions). Values are compared
after YBR is RGB on both sides and before anything else: `Dataset.pixel_array` beside `DicomFile::stored`.
"""

import argparse
import json
import subprocess
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55",
         "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.112")


def files(folders):
    """Every file below the folders, with the name it has in the table."""
    skipped = {".csv", ".jpeg", ".jpg", ".png", ".md", ".txt", ".py", ".pyc", ".json", ".gz", ".zip", ".xml"}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.suffix.lower() not in skipped and path.name != "LICENSE":
                yield path, str(path.relative_to(folder))


def theirs(path):
    """(data set or None, array with a leading frame axis or None, why not)."""
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as error:
        return None, None, type(error).__name__
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return dataset, None, "no pixels"
    try:
        array = dataset.pixel_array
    except Exception as error:
        return dataset, None, type(error).__name__
    frames = int(dataset.get("NumberOfFrames") or 1)
    return dataset, array if frames > 1 else array[None], None


def ours(lines, number, out):
    """(list of frames or None, why not, warnings)."""
    mine = [line for line in lines if line["file"] == number]
    failed = next((line for line in mine if "error" in line), None)
    if failed:
        return None, f"{failed['error']}: {failed.get('message', '')}", []
    frames = []
    for line in mine:
        values = np.fromfile(out / f"{number}.{line['frame']}.bin", dtype="<" + line["dtype"])
        shape = (line["rows"], line["columns"]) + ((3,) if line["channels"] == 3 else ())
        frames.append(values.reshape(shape))
    return frames, None, sorted({w for line in mine for w in line["warnings"]})


def difference(a, b, dataset):
    """(largest difference in steps of 8 bits, share of values over 2 of those steps)."""
    bits = int(dataset.get("BitsStored") or 8)
    step = max(1.0, 2.0 ** (bits - 8))
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64)) / step
    return gap.max(initial=0), (gap > 2).mean() if gap.size else 0.0


def judge(dataset, array, why_theirs, frames, why_ours):
    if array is None and frames is None:
        return "refused by both"
    if frames is None:
        return "REFUSED BY US ALONE"
    if array is None:
        return "read by us alone"
    if len(frames) != len(array) or any(a.shape != b.shape for a, b in zip(frames, array)):
        return "DIFFERENT SHAPE"
    if all(np.array_equal(a, b) for a, b in zip(frames, array)):
        return "equal"
    worst, share = map(max, zip(*(difference(a, b, dataset) for a, b in zip(frames, array))))
    bits = dataset.get("BitsStored")
    verdict = f"up to {worst:.3g} of 255, {share:.2%} over 2" if bits else "differs"
    lossless = str(dataset.file_meta.get("TransferSyntaxUID", "")) not in LOSSY
    return ("DIFFERS though lossless: " if lossless else "") + verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found = list(files(args.folders))
    rows, totals = [], Counter()
    with tempfile.TemporaryDirectory() as out:
        out = Path(out)
        command = [args.binary, str(out), *(str(path) for path, _ in found)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        lines = [json.loads(line) for line in told.splitlines()]
        for number, (path, name) in enumerate(found):
            dataset, array, why_theirs = theirs(path)
            frames, why_ours, warned = ours(lines, number, out)
            verdict = judge(dataset, array, why_theirs, frames, why_ours)
            totals[verdict.split(":")[0] if not verdict.startswith("up to") else "lossy, close"] += 1
            syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") if dataset is not None else None
            get = lambda key: "" if dataset is None else str(dataset.get(key, "") or "")
            note = why_ours or "; ".join(warned)
            rows.append([name, UID(syntax).name if syntax else "", get("PhotometricInterpretation"),
                         f"{get('BitsStored')}/{get('BitsAllocated')}" if get("BitsAllocated") else "", verdict, note])
    print("# DICOM files beside pydicom\n")
    print(f"`scripts/compare_dicom.py` on {len(rows)} files, pydicom {pydicom.__version__}; bits are stored/allocated. "
          "Refusals name our reason.\n")
    print("| outcome | files |\n|---|---|")
    for verdict, count in totals.most_common():
        print(f"| {verdict} | {count} |")
    print("\n| file | transfer syntax | photometric | bits | outcome | our reason or warning |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")


if __name__ == "__main__":
    main()
