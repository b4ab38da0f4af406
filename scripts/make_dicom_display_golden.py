#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/dicom/display.jsonl: what pydicom and the serving container make of small frames.

    python scripts/make_dicom_display_golden.py
    python scripts/make_dicom_display_golden.py --real OUT.jsonl FOLDER...

With --real it makes the same of every DICOM file below some folders (frames first, middle and last), for
`MEDSIGLIP_DISPLAY_GOLDEN=OUT.jsonl cargo test -p medsiglip --lib display::golden`. Such a file holds patients' pixels: keep
it out of the repository.

Versions that made the checked-in file: pydicom 3.0.1, numpy 2.4.6.

A line is a frame: a DICOM file without pixels, the stored values, and what is to be shown of them by some options.
`standard` is pydicom's apply_modality_lut, then apply_voi_lut, whose float64 result is scaled from pydicom's own output range
to 0..255, and rounded half up. What is less than 1e-9 below a half counts as a half: float64 does not tell them apart.
pydicom has no rule for padding, inversion, frames without a window, or windows of CT; they are written out here.
`container` is the serving container's handler for generic DICOM files, from its description, in numpy.
"""

import argparse
import base64
import copy
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/dicom/display.jsonl"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MEDSIGLIP = [(-100, 2250), (40, 350), (40, 80)]


class Refused(Exception):
    """The reference shows nothing."""


# --- standard ---------------------------------------------------------------------------------------------------------


def half_up(level):
    """8 bits, to nearest, half up."""
    return np.clip(np.floor(level + 0.5 + 1e-9), 0, 255).astype(np.uint8)


def ramp(x, lower, upper):
    if lower == upper:
        return np.where(x <= lower, 0, 255).astype(np.uint8)
    return half_up((np.clip(x, lower, upper) - lower) / (upper - lower) * 255)


def of_frame(ds, frame):
    """A data set with the frame's functional groups at the top, as pydicom's functions look for them."""
    flat = Dataset()
    flat.update({e.tag: e for e in ds if e.tag not in (0x52009229, 0x52009230, 0x7FE00010)})
    for tag in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        items = ds.get(tag) or []
        groups = items[frame if tag.startswith("Per") else 0] if len(items) else Dataset()
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if groups.get(macro):
                flat.update({e.tag: e for e in groups[macro][0]})
    flat = copy.deepcopy(flat)  # the elements would be the file's own
    flat.file_meta = ds.file_meta
    return flat


def stored_range(flat):
    bits = flat.BitsStored
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if flat.PixelRepresentation else (0.0, 2.0**bits - 1)


def has_rescale(flat):
    return flat.get("RescaleSlope") is not None and flat.get("RescaleIntercept") is not None


def modality_range(flat):
    """The range that pydicom's apply_windowing scales to, lower bound first."""
    if flat.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** flat.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    low, high = stored_range(flat)
    if has_rescale(flat):
        low, high = (v * float(flat.RescaleSlope) + float(flat.RescaleIntercept) for v in (low, high))
    return low, high


def padding(flat, arr):
    if arr.dtype.kind == "f":
        name = "FloatPixelPadding" if arr.dtype.itemsize == 4 else "DoubleFloatPixelPadding"
    else:
        name = "PixelPadding"
    value, limit = flat.get(name + "Value"), flat.get(name + "RangeLimit")
    out = np.isnan(arr)
    if value is not None:
        value = int(value) if arr.dtype.kind != "f" else value
        if arr.dtype.kind == "i" and value > 32767:
            value -= 65536
        limit = value if limit is None else limit
        out |= (arr >= min(value, limit)) & (arr <= max(value, limit))
    return out


def is_in_hu(flat):
    if flat.get("Modality") != "CT" or flat.get("RescaleType", "HU") not in ("HU", "HU_MOD"):
        return False
    rescaled = has_rescale(flat) or bool(flat.get("ModalityLUTSequence"))
    return str(flat.get("SOPClassUID", "")).startswith(CT_STORAGE + ".") or flat.get("SOPClassUID") == CT_STORAGE or (
        rescaled and flat.BitsStored > 8)


def parse(window):
    center, width = window.split("/")
    return float(center), float(width)


def text(windows):
    return ",".join(f"{c:.12g}/{w:.12g}" for c, w in windows)


def standard_gray(flat, arr, window, ct_windows):
    padded = padding(flat, arr)
    x = apply_modality_lut(arr, flat).astype(np.float64)
    if window == "file" and ct_windows != "gray" and is_in_hu(flat):
        windows = MEDSIGLIP if ct_windows == "medsiglip" else [parse(w) for w in ct_windows.split(",")]
        out = np.stack([ramp(x, c - w / 2, c + w / 2) for c, w in windows], axis=-1)
        out[padded] = 0
        return out, "ct-windows=" + text(windows)
    if window not in ("file", "min-max"):
        for name in ("VOILUTSequence", "VOILUTFunction"):
            if name in flat:
                del flat[name]
        flat.WindowCenter, flat.WindowWidth = parse(window)
    lut = flat.get("VOILUTSequence")
    has_window = flat.get("WindowCenter") is not None and flat.get("WindowWidth") is not None
    how = ""
    if window == "min-max" or (arr.dtype.kind == "f" and not has_window):
        good = x[~padded & np.isfinite(x)]
        out, how = ramp(x, *((good.min(), good.max()) if good.size else (0, 0))), "min-max"
    elif lut:
        # apply_voi casts the index to the table's own type, so that it wraps: looked up here from the standard.
        count, first, bits = lut[0].LUTDescriptor
        table = lut_entries(lut[0], count or 65536, flat)
        index = np.clip(np.floor(x - first), 0, (count or 65536) - 1).astype(np.int64)
        out, how = half_up(table[index] / (2.0**bits - 1) * 255), "voi-lut"
        fits = np.issubdtype(arr.dtype, np.integer) and (x - first).max() < (256 if bits == 8 else 65536)
        is_packed = isinstance(lut[0].LUTData, bytes) and len(lut[0].LUTData) < 2 * (count or 65536)
        if fits and not is_packed and not has_rescale(flat):
            theirs = apply_voi_lut(apply_modality_lut(arr, flat), flat)
            assert np.array_equal(theirs, table[index]), "pydicom looks up something else"
    elif has_window:
        if arr.dtype.kind == "f":
            flat.BitsStored, flat.PixelRepresentation = 8, 0  # pydicom scales to what these hold
        low, high = modality_range(flat)
        y = apply_voi_lut(x, flat)
        out = half_up((y - low) / (high - low) * 255)
        first = lambda v: float(v[0]) if isinstance(v, (pydicom.multival.MultiValue, list)) else float(v)
        function = {"LINEAR_EXACT": " linear-exact", "SIGMOID": " sigmoid"}.get(flat.get("VOILUTFunction"), "")
        how = f"window={text([(first(flat.WindowCenter), first(flat.WindowWidth))])}{function}"
    else:
        low, high = sorted(modality_range(flat))
        out, how = ramp(x, low, high), "full-range"
    if flat.PhotometricInterpretation == "MONOCHROME1" or flat.get("PresentationLUTShape") == "INVERSE":
        out = 255 - out
    out[padded] = 0
    return out[..., None], how


def lut_entries(item, count, flat):
    data = item.LUTData
    if isinstance(data, bytes):
        little = flat.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
        if item.LUTDescriptor[2] == 8 and len(data) < 2 * count:
            data = np.frombuffer(data, dtype="<u2" if little else ">u2").astype("<u2").tobytes()
            return np.frombuffer(data, dtype=np.uint8)[:count].astype(np.float64)
        return np.frombuffer(data, dtype="<u2" if little else ">u2")[:count].astype(np.float64)
    return np.asarray(data)[:count].astype(np.float64)


def standard(ds, arr, frame, window="file", ct_windows="medsiglip"):
    flat = of_frame(ds, frame)
    if flat.PhotometricInterpretation == "PALETTE COLOR":
        if flat.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and "RedPaletteColorLookupTableData" in flat:
            # pydicom 3.0.1 reads these words as little endian, whatever the file is.
            for color in ("Red", "Green", "Blue"):
                element = flat[f"{color}PaletteColorLookupTableData"]
                element.value = np.frombuffer(element.value, dtype=">u2").astype("<u2").tobytes()
        out = apply_color_lut(arr, flat)
        is_wide = out.dtype == np.uint16 and flat.RedPaletteColorLookupTableDescriptor[2] == 16
        return (out >> 8 if is_wide else out).astype(np.uint8), "standard palette"
    if arr.ndim == 3:
        top = 2.0**ds.BitsStored - 1
        return half_up(np.minimum(arr, top) / top * 255), "standard color"
    out, how = standard_gray(flat, arr, window, ct_windows)
    return out, "standard " + how


# --- container --------------------------------------------------------------------------------------------------------

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
ENCAPSULATED = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 110, 111, 112)}


def integer_window(x, center, width):
    half = width // 2
    low, high = center - half, center + half
    return np.round(np.interp(np.clip(x.astype(np.float64), low, high), [low, high], [0, 65535])).astype(np.uint16)


def container_window(ds, window):
    if window != "file":
        return tuple(int(v) for v in window.split("/"))
    if "WindowWidth" not in ds or "WindowCenter" not in ds:
        return None
    for value in (ds.WindowCenter, ds.WindowWidth):
        if value is None or isinstance(value, pydicom.multival.MultiValue):
            raise Refused("error 500: the window is not one number")
    return float(ds.WindowCenter), float(ds.WindowWidth)


def container_gate(ds):
    if ds.get("Modality") not in ("CR", "DX", "GM", "SM", "XC", "CT"):
        raise Refused("modality")
    syntax = str(ds.file_meta.TransferSyntaxUID)
    if syntax not in NATIVE | ENCAPSULATED:
        raise Refused("transfer syntax")
    if ds.get("SamplesPerPixel") not in (1, 3) or int(ds.get("NumberOfFrames") or 1) != 1:
        raise Refused("samples or frames")
    gray = ds.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
    if syntax in NATIVE and not gray and ds.PhotometricInterpretation != "RGB":
        raise Refused("photometric")
    if (ds.SamplesPerPixel == 1) != gray:
        raise Refused("photometric")


def stretch(x):
    """The second stretch of CR and DX."""
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "u":
        if x.dtype.itemsize > 2:
            raise Refused("int32")
        x = (x.astype(np.int64) - int(x.min())).astype(f"u{x.dtype.itemsize}")
    if x.dtype.itemsize > 2:
        raise Refused("no picture of ours")
    top = np.iinfo(x.dtype).max
    return np.interp(x, [x.min(), x.max()], [0, top]).astype(x.dtype)


def container(ds, arr, frame, window="file", ct_windows=None):
    if window == "min-max":
        raise Refused("argument")
    is_slide = ds.get("SOPClassUID") == "1.2.840.10008.5.1.4.1.1.77.1.6"
    if not is_slide:
        container_gate(ds)
    inverse = ds.PhotometricInterpretation == "MONOCHROME1"
    if arr.ndim == 2 and ds.Modality in ("CR", "DX") and not is_slide:
        x = apply_modality_lut(arr, ds)
        win = container_window(ds, window)
        how = "min-max"
        if win is not None:
            x, how = integer_window(x, *win), f"window={text([win])} min-max"
        if x.dtype == np.float64:
            if arr.dtype.itemsize > 2:
                raise Refused("no picture of ours")
            x = x.astype(np.int64).astype(arr.dtype)
        how = "raw" if x.dtype == np.uint8 else how
        out = stretch(x)
    elif arr.ndim == 2 and ds.Modality == "CT" and not is_slide:
        if ("RescaleSlope" in ds) != ("RescaleIntercept" in ds):
            raise Refused("one of slope and intercept")
        x = arr.astype(np.float64)
        if "RescaleSlope" in ds:
            x = x * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        win = container_window(ds, window) or (100, 2500)
        out, how = integer_window(x, *win), f"window={text([win])}"
    else:
        if arr.dtype not in (np.uint8, np.uint16):
            raise Refused("no picture of ours")
        out, how, inverse = arr, "raw", inverse and is_slide
    out = np.iinfo(out.dtype).max - out if inverse else out
    return (out if out.ndim == 3 else out[..., None]), "container " + how


# --- files ------------------------------------------------------------------------------------------------------------


def written(ds):
    """The bytes of the file without pixels."""
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def line(name, file, ds, arr, frame, shows):
    b64 = lambda data: base64.b64encode(data).decode()
    record = {"name": name, "file": b64(file), "frame": frame, "rows": arr.shape[0], "columns": arr.shape[1],
              "channels": arr.shape[2] if arr.ndim == 3 else 1, "dtype": arr.dtype.newbyteorder("=").str[1:],
              "stored": b64(arr.astype(arr.dtype.newbyteorder("<")).tobytes()), "shows": []}
    for rule, window, ct_windows in shows:
        show = {"rule": rule, "window": window, "ct_windows": ct_windows}
        try:
            out, show["description"] = {"standard": standard, "container": container}[rule](
                ds, arr, frame, window=window, ct_windows=ct_windows)
            show["channels"] = out.shape[2]
            show["samples"] = f"u{8 * out.dtype.itemsize}"
            show["expected"] = b64(out.astype(out.dtype.newbyteorder("<")).tobytes())
        except Refused as error:
            show["refused"] = str(error)
        except Exception as error:  # pydicom's own refusals
            show["refused"] = f"{type(error).__name__}"
        record["shows"].append(show)
    return json.dumps(record, separators=(",", ":"))


DEFAULT = [("standard", "file", "medsiglip")]
BOTH = DEFAULT + [("container", "file", "medsiglip")]


class Maker:
    """Collects the lines of made-up frames."""

    def __init__(self):
        self.lines = []

    def add(self, name, arr, shows=DEFAULT, syntax=ExplicitVRLittleEndian, frame=0, **attributes):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = SECONDARY_CAPTURE, "1.2.3", "OT"
        arr = np.atleast_2d(arr)
        ds.Rows, ds.Columns = arr.shape[:2]
        ds.SamplesPerPixel = 3 if arr.ndim == 3 else 1
        ds.PhotometricInterpretation = "RGB" if arr.ndim == 3 else "MONOCHROME2"
        if arr.dtype.kind != "f":
            ds.BitsAllocated = ds.BitsStored = 8 * arr.dtype.itemsize
            ds.PixelRepresentation = int(arr.dtype.kind == "i")
            ds.HighBit = ds.BitsStored - 1
        for key, value in attributes.items():
            setattr(ds, key, value)
        file = written(ds)
        ds = pydicom.dcmread(io.BytesIO(file))
        self.lines.append(line(name, file, ds, arr, frame, shows))


def item(**attributes):
    out = Dataset()
    for key, value in attributes.items():
        setattr(out, key, value)
    return out


def lut(entries, first, bits, vr="OW", order="<", packed=False, signed=False):
    """A LUT sequence of one item."""
    out = Dataset()
    out.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 65536, first, bits])
    data = np.asarray(entries, dtype=np.uint8 if packed else order + "u2")
    if packed and order == ">":  # two bytes a word, the low one first
        data = data.reshape(-1, 2)[:, ::-1]
    out.add_new("LUTData", vr, data.tobytes() if vr == "OW" else [int(v) for v in entries])
    return [out]


U8 = np.arange(256, dtype=np.uint8)
U12 = np.unique(np.concatenate([np.arange(0, 4096, 37), np.arange(980, 1100)])).astype(np.uint16)
I16 = np.unique(np.concatenate([np.arange(-32768, 32768, 997), np.arange(-300, 700, 7), np.arange(-8, 88)])).astype(np.int16)


def gray(make):
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        for center, width in ((128, 256), (127.5, 255), (100, 510), (40.25, 33.5), (60, 1)):
            make.add(f"8 bits {function} {center}/{width}", U8, VOILUTFunction=function, WindowCenter=center, WindowWidth=width)
    narrow = dict(VOILUTFunction="LINEAR_EXACT", WindowCenter=60, WindowWidth=0.5)
    make.add("width below 1, LINEAR_EXACT", U8, **narrow)
    make.add("width below 1, LINEAR", U8, **(narrow | {"VOILUTFunction": "LINEAR"}))
    make.add("width 0, SIGMOID", U8, **(narrow | {"VOILUTFunction": "SIGMOID", "WindowWidth": 0}))
    make.add("unknown function", U8, **(narrow | {"VOILUTFunction": "CUBIC"}))
    shows = [(rule, w, "gray") for rule in ("standard", "container") for w in ("file", "20/31", "-5/400", "min-max")]
    make.add("user's window", U8, shows, WindowCenter=128, WindowWidth=256, VOILUTFunction="SIGMOID", Modality="CR")
    make.add("multi-valued", U12, BOTH, BitsStored=12, WindowCenter=[1000, 30], WindowWidth=[200, 10], Modality="DX")
    make.add("12 bits without window", U12, DEFAULT + [("standard", "min-max", "gray")], BitsStored=12)
    make.add("rescaled", U12, BOTH, BitsStored=12, RescaleSlope=0.37, RescaleIntercept=-1024.5, WindowCenter=-600, WindowWidth=300, Modality="CR")
    make.add("rescaled without window", U12, BOTH, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1024, Modality="CR")
    make.add("falling rescale", U12, BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=3000)
    make.add("falling rescale without window", U12, BitsStored=12, RescaleSlope=-1.5, RescaleIntercept=10)
    make.add("signed", I16, DEFAULT + [("standard", "min-max", "gray")], WindowCenter=40, WindowWidth=80)
    make.add("signed without window", I16)
    make.add("signed 8 bits", np.arange(-128, 128, dtype=np.int8), BOTH, Modality="CR")
    for shape in ("IDENTITY", "INVERSE"):
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            make.add(f"{photometric} {shape}", U8, BOTH, PhotometricInterpretation=photometric, PresentationLUTShape=shape,
                     WindowCenter=90, WindowWidth=100, Modality="DX")
    make.add("MONOCHROME1 of 16 bits", U12, BOTH, PhotometricInterpretation="MONOCHROME1", BitsStored=12, Modality="CR",
             WindowCenter=1000, WindowWidth=301)
    make.add("MONOCHROME1 without window", U12, BOTH, PhotometricInterpretation="MONOCHROME1", BitsStored=12, Modality="DX")
    make.add("1 bit", np.arange(7, dtype=np.uint8) % 2, BitsStored=1, HighBit=0)
    u32 = np.arange(0, 2**32, 2**32 // 301, dtype=np.uint32)
    make.add("32 bits", u32, BOTH + [("standard", "2000000000/1000000000", "gray")], Modality="CR")
    i32 = (u32.astype(np.int64) - 2**31).astype(np.int32)
    make.add("32 bits signed", i32, BOTH + [("standard", "min-max", "gray")], Modality="CR")
    make.add("one value", np.full(9, 7, np.uint16), BOTH + [("standard", "min-max", "gray")], Modality="CR")


def padded(make):
    shows = [("standard", w, "gray") for w in ("file", "min-max", "40/400")]
    make.add("padding", I16, shows, PixelPaddingValue=-2000, WindowCenter=0, WindowWidth=2000)
    arr = np.concatenate([I16, [-2000] * 9]).astype(np.int16)
    make.add("padding inverse", arr, shows, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    make.add("padding range", I16, shows, PixelPaddingValue=-32768, PixelPaddingRangeLimit=-2000)
    make.add("padding range, other way", I16, shows, PixelPaddingValue=2000, PixelPaddingRangeLimit=-100, PhotometricInterpretation="MONOCHROME1")
    make.add("padding, implicit", arr, shows, syntax=ImplicitVRLittleEndian, PixelPaddingValue=-2000, WindowCenter=0, WindowWidth=3000)
    floats = np.array([-9999, 0, 0.25, 1, 1.5, np.nan, np.inf, -np.inf, 3], dtype=np.float32)
    make.add("float", floats, shows, FloatPixelPaddingValue=-9999.0)
    make.add("double", floats.astype(np.float64), shows, DoubleFloatPixelPaddingValue=-10000.0, DoubleFloatPixelPaddingRangeLimit=-5.0,
             WindowCenter=1, WindowWidth=2, VOILUTFunction="LINEAR_EXACT")


def tables(make):
    entries12 = [(i * i) // 300 for i in range(1000)]
    entries8 = [255 - (i * 7) % 256 for i in range(100)]
    for syntax, order in ((ExplicitVRLittleEndian, "<"), (ExplicitVRBigEndian, ">"), (ImplicitVRLittleEndian, "<")):
        name = syntax.name
        make.add(f"VOI LUT, {name}", U12, syntax=syntax, BitsStored=12, VOILUTSequence=lut(entries12, 990, 12, order=order))
        make.add(f"VOI LUT, packed, {name}", U8, syntax=syntax, VOILUTSequence=lut(entries8, 20, 8, order=order, packed=True))
        make.add(f"Modality LUT, {name}", U12, BOTH, syntax=syntax, BitsStored=12, Modality="CR",
                 ModalityLUTSequence=lut([65535 - 60 * i for i in range(1000)], 800, 16, order=order),
                 WindowCenter=30000, WindowWidth=40001)
    make.add("VOI LUT in US, 16 bits over 8", U8, VOILUTSequence=lut([i * 257 for i in range(256)], 0, 16, vr="US"))
    make.add("VOI LUT before window", U8, VOILUTSequence=lut(entries8, 0, 8), WindowCenter=5, WindowWidth=3)
    make.add("VOI LUT, window of the user", U8, [("standard", "50/60", "gray")], VOILUTSequence=lut(entries8, 0, 8))
    make.add("VOI LUT, signed", I16, VOILUTSequence=lut(entries12, -300, 12, signed=True))
    make.add("VOI LUT, signed, implicit", I16, syntax=ImplicitVRLittleEndian, VOILUTSequence=lut(entries12, -300, 12, signed=True))
    make.add("VOI LUT after rescale", U12, BitsStored=12, RescaleSlope=0.5, RescaleIntercept=-700,
             VOILUTSequence=lut(entries12, -200, 12, signed=True))
    make.add("VOI LUT inverse", U8, VOILUTSequence=lut(entries8, 30, 8), PhotometricInterpretation="MONOCHROME1")
    make.add("VOI LUT of 10 bits", U12, BitsStored=12, VOILUTSequence=lut([i for i in range(1000)], 500, 10))
    make.add("Modality LUT, signed", I16, BOTH, Modality="CR", ModalityLUTSequence=lut([3 * i for i in range(600)], -250, 16, signed=True))
    make.add("Modality LUT of 8 bits", U12, BOTH + [("standard", "min-max", "gray")], BitsStored=12, Modality="CR",
             ModalityLUTSequence=lut([i // 4 for i in range(1000)], 100, 8))
    make.add("Modality and VOI LUT", U12, BitsStored=12, ModalityLUTSequence=lut([7 * i for i in range(1000)], 500, 16),
             VOILUTSequence=lut(entries12, 3000, 12))


def palettes(make):
    ramp16 = np.array([(i * 255 // 99) * 257 for i in range(100)], dtype=np.uint16)
    curves = [ramp16, ramp16[::-1], (ramp16 // 3 + 99).astype(np.uint16)]

    def palette(descriptor, tables, prefix="", vr="US"):
        out = {"PhotometricInterpretation": "PALETTE COLOR"}
        for color, table in zip(("Red", "Green", "Blue"), tables):
            out[f"{color}PaletteColorLookupTableDescriptor"] = descriptor
            out[f"{prefix}{color}PaletteColorLookupTableData"] = table.tobytes()
        return out

    make.add("palette of 16 bits", U8, **palette([100, 30, 16], curves))
    make.add("palette of 8 bits", U8, **palette([100, 0, 8], [(c >> 8).astype(np.uint8) for c in curves]))
    make.add("palette of 8 bits in words", U8, **palette([100, 0, 8], [(c >> 8).astype(np.uint16) for c in curves]))
    make.add("palette, bytes under 16 bits", U8, **palette([100, 0, 16], [(c >> 8).astype(np.uint8) for c in curves]))
    make.add("palette, big endian", U8, syntax=ExplicitVRBigEndian, **palette([100, 3, 16], [c.astype(">u2") for c in curves]))
    make.add("palette over 16 bits", U12, **palette([100, 1000, 16], curves))
    segments = [0, 3, 100, 5000, 60000, 1, 60, 256, 0, 1, 9, 1, 136, 65535]
    tables = [np.array(segments, dtype=np.uint16), np.array([0, 2, 7, 9000, 1, 198, 65535], dtype=np.uint16),
              np.array([0, 1, 0, 1, 199, 51200], dtype=np.uint16)]
    make.add("segmented palette", U8, **palette([200, 20, 16], tables, "Segmented"))
    small = [np.array([0, 1, 0, 1, 128, 255, 1, 71, 3, 0], dtype=np.uint8)[:9], np.array([0, 1, 5, 1, 199, 204], dtype=np.uint8),
             np.array([0, 2, 0, 1, 1, 198, 255, 0], dtype=np.uint8)[:7]]
    small = [np.append(t, np.uint8(0)) if len(t) % 2 else t for t in small]
    make.add("segmented palette of 8 bits", U8, **palette([200, 0, 8], small, "Segmented"))
    rgb = np.stack([U8, U8[::-1], U8 // 2], axis=-1)[None]
    make.add("RGB", rgb, BOTH, Modality="XC")
    make.add("RGB of 16 bits", (rgb.astype(np.uint16) * 257 - rgb), BOTH, Modality="GM")
    make.add("RGB of 12 bits", (rgb.astype(np.uint16) * 16 + 7), BOTH, BitsStored=12, HighBit=11, Modality="OP")


def tomography(make):
    hu = np.arange(-2000, 2001, 500, dtype=np.int16).reshape(3, 3)
    every = [("standard", "file", w) for w in ("medsiglip", "gray", "40/80", "-600/1500,50/350,400/1800")]
    every += [("standard", w, "medsiglip") for w in ("min-max", "100/50")]
    every += [("container", w, "medsiglip") for w in ("file", "40/400", "7/3", "0/1", "min-max")]
    ct = dict(Modality="CT", SOPClassUID=CT_STORAGE)
    make.add("CT matrix", hu, every, RescaleSlope=1, RescaleIntercept=0, **ct)
    make.add("CT", I16, every, RescaleSlope=1, RescaleIntercept=-24, RescaleType="HU", WindowCenter=50, WindowWidth=350, **ct)
    make.add("CT padded", I16, every, RescaleSlope=1, RescaleIntercept=-24, PixelPaddingValue=-16, **ct)
    make.add("CT unsigned", U12, every, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, **ct)
    make.add("CT not rescaled", I16, every, **ct)
    make.add("CT MONOCHROME1", I16, every, PhotometricInterpretation="MONOCHROME1", WindowCenter=40.5, WindowWidth=401.5, **ct)
    make.add("CT in another unit", U12, every, BitsStored=12, RescaleSlope=1, RescaleIntercept=0, RescaleType="US", **ct)
    make.add("CT as secondary capture of 8 bits", U8, every, RescaleSlope=1, RescaleIntercept=0, Modality="CT")
    make.add("CT as secondary capture of 12 bits", U12, every, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, Modality="CT")
    make.add("CT with one of two", I16, [("container", "file", "gray")], RescaleSlope=1, **ct)
    make.add("CT with an empty window", I16, every, WindowCenter=None, WindowWidth=None, **ct)


def frames(make):
    shared = item(PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="US")],
                  FrameVOILUTSequence=[item(WindowCenter=0, WindowWidth=300)])
    own = [item(FrameVOILUTSequence=[item(WindowCenter=100 * n, WindowWidth=50 + n, VOILUTFunction="LINEAR_EXACT")],
                PixelValueTransformationSequence=[item(RescaleSlope=1 + n, RescaleIntercept=-7)]) for n in range(3)]
    own.append(Dataset())
    groups = dict(SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=own, NumberOfFrames=4, BitsStored=12,
                  Modality="MR", WindowCenter=1, WindowWidth=1)
    for frame in range(4):
        make.add(f"frame {frame} of 4", U12, BOTH, frame=frame, **groups)


def gates(make):
    for modality in ("CR", "DX", "GM", "SM", "XC", "CT", "MR", "MG", "US", "OP"):
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            make.add(f"container {modality} {photometric}", U8, BOTH[1:], Modality=modality, PhotometricInterpretation=photometric)
    make.add("container, slide", U8, BOTH[1:], Modality="SM", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6",
             PhotometricInterpretation="MONOCHROME1", NumberOfFrames=9)
    make.add("container, 12 bits raw", U12, BOTH[1:], Modality="XC", BitsStored=12)
    make.add("container, signed raw", I16, BOTH[1:], Modality="XC")
    make.add("container, signed CR", I16, BOTH[1:] + [("container", "10/401", "gray")], Modality="CR")
    make.add("container, big endian", U8, BOTH[1:], syntax=ExplicitVRBigEndian, Modality="CR")
    make.add("container, frames", U8, BOTH[1:], Modality="CR", NumberOfFrames=2)
    make.add("container, wraps", U12, BOTH[1:], Modality="CR", BitsStored=12, RescaleSlope=1, RescaleIntercept=-1000.7)
    make.add("container, slope alone", U12, BOTH[1:], Modality="CR", BitsStored=12, RescaleSlope=3)


def real(out, folders):
    shows = [(r, w, "medsiglip") for r in ("standard", "container") for w in ("file", "40/400", "min-max")]
    shows.append(("standard", "file", "gray"))
    with open(out, "w") as lines:
        for path in sorted(p for folder in folders for p in Path(folder).rglob("*") if p.is_file()):
            try:
                ds = pydicom.dcmread(path)
                array = ds.pixel_array
                ds.file_meta.TransferSyntaxUID, ds.PhotometricInterpretation
            except Exception as error:
                print(f"{type(error).__name__}: {path}", file=sys.stderr)
                continue
            count = int(ds.get("NumberOfFrames") or 1)
            array = array if count > 1 else array[None]
            for frame in sorted({0, count // 2, count - 1}):
                name = f"{path.name} frame {frame}"
                print(line(name, path.read_bytes(), ds, array[frame][:512, :512], frame, shows), file=lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", metavar="OUT")
    parser.add_argument("folders", nargs="*")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    if args.real:
        return real(args.real, args.folders)
    make = Maker()
    for part in (gray, padded, tables, palettes, tomography, frames, gates):
        part(make)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(make.lines) + "\n")


if __name__ == "__main__":
    main()
