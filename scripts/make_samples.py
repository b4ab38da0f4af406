"""
Makes the pictures in samples/ from registry packages whose licences allow it.

    pip install scikit-image==0.26.0 pydicom==3.0.2 pydicom-data==1.0.0 numpy==2.4.6 pillow==13.0.0
    python scripts/make_samples.py

Only files that the wheels themselves hold are read; nothing is downloaded. Each input's SHA-256 is checked.
"""

import hashlib
import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

VERSIONS = {"scikit-image": "0.26.0", "pydicom": "3.0.2", "pydicom-data": "1.0.0", "numpy": "2.4.6", "pillow": "13.0.0"}
SHA256 = {
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "CT_small.dcm": "3dd31e5cc835b3f2cdd46c9da1982f59251e78518fefa8163d914631c66437d6",
    "RG1_UNCR.dcm": "946f28f48b9fbf360196a9b835c8fce83b0c654bf85a5107663c8a61df02e498",
}
CHEST_HEIGHT = 768


def main():
    for name, version in VERSIONS.items():
        if importlib.metadata.version(name) != version:
            raise SystemExit(f"{name} {importlib.metadata.version(name)}, expected {version}")
    samples = Path(__file__).resolve().parent.parent / "samples"
    samples.mkdir(exist_ok=True)
    skimage, dicom = package("skimage") / "data", package("data_store") / "data"
    for name in ("retina.jpg", "ihc.png"):
        shutil.copyfile(checked(skimage / name), samples / name)
    shutil.copyfile(checked(package("pydicom") / "data" / "test_files" / "CT_small.dcm"), samples / "ct.dcm")
    chest_xray(checked(dicom / "RG1_UNCR.dcm")).save(samples / "chest_xray.png", optimize=True)
    licence("scikit-image", "LICENSE.txt", samples / "LICENSE-scikit-image.txt")
    licence("pydicom", "LICENSE", samples / "LICENSE-pydicom.txt")
    licence("pydicom-data", "LICENSE", samples / "LICENSE-pydicom-data.txt")


def package(name):
    """The folder of an installed package, found without importing it."""
    return Path(importlib.util.find_spec(name).submodule_search_locations[0])


def checked(path):
    """The path, once its SHA-256 is the expected one."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[path.name]:
        raise SystemExit(f"sha-256 {found}, expected {SHA256[path.name]}: {path.name}")
    return path


def chest_xray(path):
    """The radiograph under its own window (PS3.3 C.11.2.1.2.1), inverted as MONOCHROME1 asks, shrunk by area means, 8 bits."""
    dataset = pydicom.dcmread(path)
    if dataset.PhotometricInterpretation != "MONOCHROME1" or "ModalityLUTSequence" in dataset or "RescaleSlope" in dataset:
        raise SystemExit("expected MONOCHROME1 without a modality transform")
    center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    values = dataset.pixel_array.astype(np.float64)
    shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    picture = Image.fromarray((1 - shown).astype(np.float32))
    size = (round(picture.width * CHEST_HEIGHT / picture.height), CHEST_HEIGHT)
    small = np.asarray(picture.resize(size, Image.Resampling.BOX))
    return Image.fromarray(np.round(small * 255).astype(np.uint8))


def licence(name, file, target):
    """Copies a package's licence text."""
    distribution = importlib.metadata.distribution(name)
    for path in distribution.files:
        if path.name == file and ".dist-info" in str(path):
            shutil.copyfile(distribution.locate_file(path), target)
            return
    raise SystemExit(f"no {file} in {name}")


if __name__ == "__main__":
    main()
