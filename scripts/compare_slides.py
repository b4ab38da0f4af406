"""Compares how slides are read here with OpenSlide's Python: every level, whole and in odd parts.

    cargo build --release --example slide -p medsiglip
    python scripts/compare_slides.py --binary target/release/examples/slide [--slides DIR]

Slides of DIR are read as they are; besides, pyramids are made from a picture: a tiled TIFF, DICOM in several files
(TILED_FULL; TILED_SPARSE; a level in two files of a concatenation). Needs openslide-python 1.4 with openslide-bin 4.0,
pydicom 3.0, tifffile, imagecodecs, Pillow 11.2.1. Exits 1 where a sample differs by more than one step, which is what the
YBR to RGB conversion of JPEG frames in DICOM may round differently. Prints slide | reader | level | largest difference | share of samples that differ.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import openslide
import openslide_bin
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, ExplicitVRLittleEndian, generate_uid

WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 240


def library():
    folder = Path(openslide_bin.__file__).parent
    return str(next(p for p in folder.iterdir() if p.name.startswith(("libopenslide.so", "libopenslide.1.dylib", "libopenslide-1.dll"))))


def read_ours(binary, slide, level, x, y, width, height):
    args = [binary, "region", slide, level, x, y, width, height]
    env = {**os.environ, "MEDSIGLIP_OPENSLIDE": library()}
    out = subprocess.run([str(a) for a in args], capture_output=True, env=env)
    if out.returncode:
        raise RuntimeError(out.stderr.decode())
    return np.frombuffer(out.stdout, np.uint8).reshape(height, width, 3)


def read_theirs(slide, level, x, y, width, height):
    tile = slide.read_region((x, y), level, (width, height))
    below = Image.new("RGB", tile.size, "#" + slide.properties.get("openslide.background-color", "ffffff"))
    below.paste(tile, None, tile)
    return np.asarray(below)


def levels_of(picture):
    """The picture, a half, an eighth: whole ratios, since OpenSlide blends pixels where a corner falls between two."""
    return [picture] + [picture.resize((picture.width // k, picture.height // k), Image.BOX) for k in (2, 8)]


def tiles_of(picture, tile):
    """Row by row; those at the ends are filled with white."""
    pixels = np.asarray(picture)
    rows, columns = -(-picture.height // tile), -(-picture.width // tile)
    filled = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    filled[: picture.height, : picture.width] = pixels
    for row in range(rows):
        for column in range(columns):
            yield column * tile, row * tile, filled[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]


def make_tiff(path, levels, compression):
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            options = dict(tile=(TILE - TILE % 16, TILE - TILE % 16), photometric="rgb", compression=compression)
            tiff.write(np.asarray(level), subifds=0, subfiletype=int(number > 0), **options)


def sequence(**elements):
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return [item]


def make_dicom(path, picture, spacing_mm, series, frames, **more):
    """One file of a slide: `frames` are (x, y, pixels)."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = WSI, generate_uid()
    data.StudyInstanceUID = data.SeriesInstanceUID = data.FrameOfReferenceUID = series
    data.Modality, data.ImageType = "SM", ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    if spacing_mm == 0.0005:
        data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.Rows = data.Columns = TILE
    data.NumberOfFrames = len(frames)
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = picture.size
    data.TotalPixelMatrixFocalPlanes = 1
    data.NumberOfOpticalPaths = 1
    data.DimensionOrganizationType = "TILED_FULL"
    data.OpticalPathSequence = sequence(OpticalPathIdentifier="1", ObjectiveLensPower=20)
    measures = sequence(PixelSpacing=[spacing_mm, spacing_mm], SliceThickness=0.001)
    data.SharedFunctionalGroupsSequence = sequence(PixelMeasuresSequence=measures)
    for name, value in more.items():
        setattr(data, name, value)
    if data.DimensionOrganizationType == "TILED_SPARSE":
        position = lambda x, y: sequence(ColumnPositionInTotalImagePixelMatrix=x + 1, RowPositionInTotalImagePixelMatrix=y + 1,
                                         XOffsetInSlideCoordinateSystem=0, YOffsetInSlideCoordinateSystem=0, ZOffsetInSlideCoordinateSystem=0)
        data.PerFrameFunctionalGroupsSequence = [sequence(PlanePositionSlideSequence=position(x, y))[0] for x, y, _ in frames]
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = WSI, data.SOPInstanceUID
    if more.get("PhotometricInterpretation") == "RGB":
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pixels = b"".join(pixels.tobytes() for _, _, pixels in frames)
        data.PixelData = pixels + b"\0" * (len(pixels) % 2)
    else:
        data.PhotometricInterpretation = "YBR_FULL_422"
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PixelData = encapsulate([jpeg(pixels) for _, _, pixels in frames])
        data["PixelData"].VR = "OB"
    data.save_as(path, enforce_file_format=True)


def jpeg(pixels):
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90, subsampling=1)
    return out.getvalue()


def make_dicom_slides(folder, levels):
    """Folders of several files; gives the file to open and the file that OpenSlide is to open."""
    spacing = lambda level: 0.0005 * levels[0].width / level.width
    made = []
    for name, more in (("full", {}), ("native", {"PhotometricInterpretation": "RGB"})):
        (folder / name).mkdir()
        series = generate_uid()
        for number, level in enumerate(levels):
            make_dicom(folder / name / f"{number}.dcm", level, spacing(level), series, list(tiles_of(level, TILE)), **more)
        made.append((f"dicom {name}", folder / name / "1.dcm", folder / name / "1.dcm"))
    rng = np.random.default_rng(0)
    full = folder / "full" / "1.dcm"
    for name in ("sparse", "concatenated"):
        (folder / name).mkdir()
        series = generate_uid()
        for number, level in enumerate(levels):
            frames = list(tiles_of(level, TILE))
            if name == "sparse":
                rng.shuffle(frames := [f for f in frames])
                make_dicom(folder / name / f"{number}.dcm", level, spacing(level), series, frames, DimensionOrganizationType="TILED_SPARSE")
                continue
            half, uid = len(frames) // 2, generate_uid()
            for part, of in ((1, frames[:half]), (2, frames[half:])):
                if of:
                    more = dict(ConcatenationUID=uid, InConcatenationNumber=part, InConcatenationTotalNumber=2,
                                ConcatenationFrameOffsetNumber=0 if part == 1 else half)
                    make_dicom(folder / name / f"{number}-{2 - part}.dcm", level, spacing(level), series, of, **more)
        made.append((f"dicom {name}", folder / name / "1.dcm" if name == "sparse" else folder / name / "1-0.dcm", full))
    return made


def compare(binary, name, ours, theirs):
    slide = openslide.OpenSlide(str(theirs))
    worst = 0
    for level, (width, height) in enumerate(slide.level_dimensions):
        scale = slide.level_downsamples[level]
        at = lambda v: round(round(v) * scale)
        parts = [(0, 0, width, height), (at(width / 3), at(height / 4), width // 2, height // 2),
                 (at(width * 0.9), at(height * 0.9), width // 5, height // 5)]
        for part in parts:
            a, b = read_ours(binary, ours, level, *part), read_theirs(slide, level, *part)
            difference = np.abs(a.astype(int) - b)
            worst = max(worst, difference.max())
            x, y, w, h = part
            print(f"| {name} | {level} | {w}x{h} at {x}, {y} | {difference.max()} | {(difference > 0).mean():.2%} |")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--slides", type=Path)
    args = parser.parse_args()
    print(f"OpenSlide {openslide.__library_version__}\n\n| slide | level | part | largest difference | samples that differ |\n|---|---|---|---|---|")
    worst = 0
    picture = Image.effect_mandelbrot((1496, 1104), (-2, -1.2, 1, 1.2), 100).convert("RGB")
    if args.slides:
        for path in sorted(args.slides.iterdir()):
            if openslide.OpenSlide.detect_format(str(path)):
                worst = max(worst, compare(args.binary, path.name, path, path))
                if path.suffix == ".svs":
                    slide = openslide.OpenSlide(str(path))
                    picture = slide.read_region((300, 200), 0, (1496, 1104)).convert("RGB")
    levels = levels_of(picture)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for compression in ("deflate", "lzw", "jpeg"):
            path = folder / f"{compression}.tiff"
            make_tiff(path, levels, compression)
            worst = max(worst, compare(args.binary, f"tiff {compression}", path, path))
        for name, ours, theirs in make_dicom_slides(folder, levels):
            worst = max(worst, compare(args.binary, name, ours, theirs))
    print(f"\nLargest difference: {worst}")
    sys.exit(bool(worst > 1))


if __name__ == "__main__":
    main()
