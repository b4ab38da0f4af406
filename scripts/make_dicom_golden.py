#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/dicom: small DICOM frames of every transfer syntax, with pydicom's values beside.

    python scripts/make_dicom_golden.py                            # the goldens
    python scripts/make_dicom_golden.py --files OUT FOLDER...      # the same form from the DICOM files in folders

Versions that made the checked-in files:
    pydicom 3.0.1, numpy 2.4.6, python-gdcm 3.2.6, pylibjpeg 2.1.0 (libjpeg 2.5.0, openjpeg 2.6.0, rle 2.2.0),
    pyjpegls 1.5.1, imagecodecs 2026.3.6, pillow 11.2.1

frames.jsonl has a line for each frame: the pixel module's numbers and places in frames.bin of its bytes and of the
values expected (`want`, little endian, interleaved). They are pydicom's `pixel_array`, as RGB where that is its rule.
Where pydicom has no decoder for a syntax, and for signed data that its encoders cannot write, they are what went into
a lossless encoder, or what the encoder's own library makes of a lossy frame.

With --files up to three frames of each file are taken, and a frame that pydicom refuses has no `want`. The Rust test
`frames_of_files_are_those_of_pydicom` reads them (MEDSIGLIP_DICOM_FRAMES=OUT).
"""

import io
import itertools
import json
import logging
import sys
import time
import warnings
import zlib
from pathlib import Path

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom
from PIL import Image
from openjpeg.utils import encode_array as encode_j2k
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import UID

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/dicom"
UIDS = "1.2.840.10008.1.2"
# Encapsulated, though pydicom 3.0.1 does not know them: deflated frames, encapsulated uncompressed, JPEG XL
UNKNOWN = [UIDS + end for end in (".8.1", ".1.98", ".4.110", ".4.111", ".4.112")]
DEFLATED = UIDS + ".1.99"


class Frames:
    """Writes frames.jsonl and frames.bin."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = open(folder / "frames.jsonl", "w")
        self.bytes = open(folder / "frames.bin", "wb")
        self.count = 0

    def put(self, data):
        at = self.bytes.tell()
        self.bytes.write(data)
        return {"at": at, "len": len(data)}

    def add(self, name, syntax, ds, frame, want, first_bit=0, seconds=None):
        bits = int(ds.BitsAllocated)
        record = {
            "name": name,
            "syntax": syntax,
            "first_bit": first_bit,
            "rows": int(ds.Rows),
            "columns": int(ds.Columns),
            "samples": int(ds.SamplesPerPixel),
            "planar": int(ds.get("PlanarConfiguration", 0) or 0),
            "allocated": bits,
            "stored": int(ds.get("BitsStored", bits)),
            "high": int(ds.get("HighBit", ds.get("BitsStored", bits) - 1)),
            "signed": int(ds.get("PixelRepresentation", 0) or 0),
            "float": "PixelData" not in ds,
            "photometric": str(ds.PhotometricInterpretation),
            **self.put(frame),
        }
        if want is not None:
            want = np.ascontiguousarray(want)
            want = want.astype(want.dtype.newbyteorder("<"))
            record["want"] = {"dtype": want.dtype.str[1:], **self.put(want.tobytes())}
        if seconds is not None:
            record["seconds"] = seconds
        self.lines.write(json.dumps(record) + "\n")
        self.count += 1


def picture(rows, columns, samples, bits, signed=False, seed=1):
    """(rows, columns[, samples]) of numbers of `bits` bits: slopes, edges, flat parts, noise and both extremes."""
    rng = np.random.default_rng(seed)
    y, x, c = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(samples), indexing="ij")
    top = 2**bits - 1
    v = (x * 5 + y * 3 + c * 11) / (columns * 5 + rows * 3 + samples * 11) * top
    v = np.where((x // 5 + y // 4) % 3 == 0, top * 0.3, v + rng.normal(0, top / 60, v.shape))
    v[0, :3], v[-1, -3:] = 0, top
    v = np.clip(np.round(v), 0, top).astype(np.int64)
    if signed:
        v -= 2 ** (bits - 1)
    size = 8 if bits <= 8 else 16 if bits <= 16 else 32
    v = v.astype(f"{'i' if signed else 'u'}{size // 8}")
    return v[..., 0] if samples == 1 else v


def dataset(array, stored, photometric, syntax, allocated=None, planar=0):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel = 1 if array.ndim == 2 else array.shape[2]
    if ds.SamplesPerPixel > 1:
        ds.PlanarConfiguration = planar
    ds.BitsAllocated = allocated or array.itemsize * 8
    ds.BitsStored, ds.HighBit = stored, stored - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.PhotometricInterpretation = photometric
    ds.NumberOfFrames = 1
    return ds


def encapsulated(frames, name, end, array, stored, photometric, frame, want=None, **more):
    """Adds an encapsulated frame; its values are pydicom's unless `want` gives them."""
    syntax = UIDS + end
    ds = dataset(array, stored, photometric, syntax, **more)
    ds.PixelData = encapsulate([bytes(frame)])
    ds["PixelData"].is_undefined_length = True
    if want is None:
        want = pixel_array(ds, index=0)
    frames.add(name, syntax, ds, bytes(frame), want)


def native(frames):
    for end, name in (("", "implicit"), (".1", "explicit"), (".1.99", "deflated"), (".2", "big-endian")):
        order = ">" if end == ".2" else "<"
        for bits, stored, signed in ((8, 8, 0), (8, 6, 1), (16, 12, 0), (16, 12, 1), (16, 16, 1), (32, 32, 0), (32, 20, 1)):
            array = picture(7, 9, 1, stored, signed).astype(f"{order}{'iu'[not signed]}{bits // 8}")
            ds = dataset(array, stored, "MONOCHROME2", UIDS + end)
            data = bytearray(array.tobytes())
            if stored % 8:  # something in the unused bits
                data[0 if order == ">" and bits > 8 else bits // 8 - 1] ^= 0xC0
            ds.PixelData = bytes(data) + b"\0" * (len(data) % 2)
            ds["PixelData"].VR = "OB" if bits == 8 else "OW"
            frames.add(f"{name}-{bits}-{stored}-{signed}", UIDS + end, ds, bytes(data), pixel_array(ds, index=0))
        for planar, bits in ((0, 8), (1, 8), (1, 16)):
            array = picture(7, 9, 3, bits).astype(f"{order}u{bits // 8}")
            for photometric in ("RGB", "YBR_FULL")[: 3 - bits // 8]:
                ds = dataset(array, bits, photometric, UIDS + end, planar=planar)
                data = array.transpose(2, 0, 1).tobytes() if planar else array.tobytes()
                ds.PixelData = data + b"\0" * (len(data) % 2)
                ds["PixelData"].VR = "OB" if bits == 8 else "OW"
                frames.add(f"{name}-{photometric}-{planar}-{bits}", UIDS + end, ds, data, pixel_array(ds, index=0))
    ybr = picture(6, 10, 3, 8)
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    ds = dataset(ybr, 8, "YBR_FULL_422", UIDS + ".1")
    ds.PixelData = pairs.tobytes()
    ds["PixelData"].VR = "OB"
    frames.add("explicit-422", UIDS + ".1", ds, pairs.tobytes(), pixel_array(ds, index=0))
    every_ybr(frames)
    packed_bits(frames)
    floats(frames)


def every_ybr(frames):
    """Cb and Cr in steps of 5 at three Y."""
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    ybr = np.stack(np.meshgrid(np.uint8([0, 77, 255]), steps, steps, indexing="ij"), axis=-1).reshape(-1, steps.size, 3)
    ds = dataset(ybr, 8, "YBR_FULL", UIDS + ".1")
    ds.PixelData = ybr.tobytes()
    ds["PixelData"].VR = "OB"
    frames.add("explicit-every-ybr", UIDS + ".1", ds, ybr.tobytes(), pixel_array(ds, index=0))


def packed_bits(frames):
    """1 bit allocated: frames of 35 pixels, so that the second and third begin within a byte."""
    packed = np.packbits(picture(15, 7, 1, 1).ravel(), bitorder="little")
    ds = dataset(np.zeros((5, 7), np.uint8), 1, "MONOCHROME2", UIDS + ".1", allocated=1)
    ds.NumberOfFrames = 3
    ds.PixelData = packed.tobytes()
    ds["PixelData"].VR = "OB"
    want = pixel_array(ds)  # for one frame alone pydicom reads a byte too few
    for index in range(3):
        start, end = index * 35, index * 35 + 35
        frame = packed[start // 8 : (end + 7) // 8].tobytes()
        frames.add(f"bits-{index}", UIDS + ".1", ds, frame, want[index], first_bit=start % 8)
    frame = packed[:5].tobytes()
    want = np.unpackbits(packed[:5], bitorder="little")[:35].reshape(5, 7)
    frames.add("bits-deflated-frame", UIDS + ".8.1", ds, deflate(frame), want)


def floats(frames):
    for size, keyword in ((4, "FloatPixelData"), (8, "DoubleFloatPixelData")):
        for end, order in ((".1", "<"), (".2", ">")):
            array = (picture(5, 7, 1, 16) / 7 - 999).astype(f"{order}f{size}")
            ds = dataset(array, size * 8, "MONOCHROME2", UIDS + end)
            setattr(ds, keyword, array.tobytes())
            frames.add(f"float{size * 8}{end}", UIDS + end, ds, array.tobytes(), pixel_array(ds, index=0))


def deflate(data):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(data) + squeeze.flush()


def rle(frames):
    for stored, signed, samples in ((8, 0, 1), (8, 0, 3), (12, 1, 1), (16, 0, 1), (16, 0, 3), (32, 0, 1), (20, 1, 1)):
        array = picture(9, 14, samples, stored, signed)
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
        encapsulated(frames, f"rle-{stored}-{signed}-{samples}", ".5", array, stored, photometric, rle_of(array))
    array = picture(9, 14, 3, 8)
    encapsulated(frames, "rle-ybr", ".5", array, 8, "YBR_FULL", rle_of(array))


def rle_of(array):
    planes = array.reshape(-1, 1 if array.ndim == 2 else array.shape[2]).T
    segments = [pack_bits(bytes(byte)) for plane in planes for byte in plane.astype(plane.dtype.newbyteorder(">")).view("u1").reshape(plane.size, -1).T]
    header, at = [len(segments)], 64
    for segment in segments:
        header.append(at)
        at += len(segment)
    return np.array(header + [0] * (16 - len(header)), "<u4").tobytes() + b"".join(segments)


def pack_bits(data):
    out, literal = bytearray(), bytearray()
    for byte, run in ((byte, len(list(run))) for byte, run in itertools.groupby(data)):
        while run:
            if run == 1:
                literal.append(byte)
            if literal and (run > 1 or len(literal) == 128):
                out += bytes([len(literal) - 1]) + literal
                literal.clear()
            if run == 1:
                break
            part = min(run, 128)
            out += bytes([257 - part, byte])
            run -= part
    if literal:
        out += bytes([len(literal) - 1]) + literal
    return bytes(out) + b"\x80" * (len(out) % 2)


def uncompressed(frames):
    """Syntaxes that pydicom does not know: the values are those that were encoded."""
    for stored, signed, samples in ((8, 0, 3), (12, 1, 1), (16, 0, 1)):
        array = picture(9, 14, samples, stored, signed)
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
        name = f"{stored}-{signed}-{samples}"
        encapsulated(frames, f"deflated-frame-{name}", ".8.1", array, stored, photometric, deflate(array.tobytes()), array)
        encapsulated(frames, f"encapsulated-{name}", ".1.98", array, stored, photometric, array.tobytes(), array)


def jpeg(frames):
    gray, color = picture(17, 21, 1, 8), picture(17, 21, 3, 8)
    encode = imagecodecs.jpeg8_encode
    encapsulated(frames, "jpeg-gray", ".4.50", gray, 8, "MONOCHROME2", encode(gray, 90))
    for subsampling in ("444", "422", "420"):
        frame = encode(color, 90, subsampling=subsampling)
        encapsulated(frames, f"jpeg-ycbcr-{subsampling}", ".4.50", color, 8, "YBR_FULL_422", frame)
    frame = encode(color, 90, subsampling="444")
    encapsulated(frames, "jpeg-jfif-says-rgb", ".4.50", color, 8, "RGB", frame)
    frame = encode(color, 90, outcolorspace="rgb", subsampling="444")
    encapsulated(frames, "jpeg-rgb", ".4.50", color, 8, "RGB", frame)
    encapsulated(frames, "jpeg-ids-rgb", ".4.50", color, 8, "YBR_FULL", frame)
    twelve = picture(17, 21, 1, 12)
    frame = encode(twelve, 95, bitspersample=12)
    want = imagecodecs.jpeg8_decode(frame)  # libjpeg-turbo's; pylibjpeg's inverse transform is another
    encapsulated(frames, "jpeg-12", ".4.51", twelve, 12, "MONOCHROME2", frame, want)


def jpeg_lossless(frames):
    for predictor in range(1, 8):
        array = picture(11, 13, 1, 16)
        frame = imagecodecs.jpeg8_encode(array, lossless=True, predictor=predictor, bitspersample=16)
        encapsulated(frames, f"lossless-predictor-{predictor}", ".4.57", array, 16, "MONOCHROME2", frame)
    for stored, signed in ((2, 0), (7, 0), (8, 0), (10, 0), (12, 0), (12, 1), (16, 1)):
        array = picture(11, 13, 1, stored, signed)
        bits = array.view(f"u{array.itemsize}") & (2**stored - 1)
        frame = imagecodecs.jpeg8_encode(bits.astype(bits.dtype), lossless=True, predictor=1, bitspersample=stored)
        encapsulated(frames, f"lossless-{stored}-{signed}", ".4.70", array, stored, "MONOCHROME2", frame, array)
    color = picture(11, 13, 3, 8)
    frame = imagecodecs.jpeg8_encode(color, lossless=True, predictor=1, outcolorspace="rgb")
    encapsulated(frames, "lossless-rgb", ".4.70", color, 8, "RGB", frame)


def jpeg_ls_frames(frames):
    for stored, signed in ((2, 0), (5, 0), (7, 0), (8, 0), (8, 1), (9, 0), (12, 0), (12, 1), (16, 0), (16, 1)):
        for near in (0, 1 if stored < 5 else 3):
            array = picture(17, 21, 1, stored, signed)
            bits = array.view(f"u{array.itemsize}") & (2**stored - 1)
            ends = (".4.80", ".4.81")
            frame = jpeg_ls_of(bits, stored, near, 0)
            want = array
            if near:
                want = jpeg_ls.decode(np.frombuffer(bytes(frame), np.uint8)).reshape(array.shape)
                shift = array.itemsize * 8 - stored
                want = (want.astype(bits.dtype) << shift).view(array.dtype) >> shift
            encapsulated(frames, f"jls-{stored}-{signed}-near{near}", ends[near > 0], array, stored, "MONOCHROME2", frame, want)
    for mode in (0, 1, 2):
        for near in (0, 2):
            color = picture(17, 21, 3, 8)
            frame = jpeg_ls_of(color, 8, near, mode)
            encapsulated(frames, f"jls-rgb-mode{mode}-near{near}", (".4.80", ".4.81")[near > 0], color, 8, "RGB", frame)
    for value in (0, 200):
        flat = np.full((9, 300), value, np.uint8)  # runs of every length
        flat[4, 150] = 7
        encapsulated(frames, f"jls-flat-{value}", ".4.80", flat, 8, "MONOCHROME2", jpeg_ls_of(flat, 8, 0, 0))


def jpeg_ls_of(array, stored, near, mode):
    src = array.transpose(2, 0, 1).tobytes() if array.ndim == 3 and mode == 0 else array.tobytes()
    samples = 1 if array.ndim == 2 else 3
    return jpeg_ls.encode_buffer(src, *array.shape[:2], samples, stored, near, mode)


def jpeg_2000(frames):
    for stored, signed in ((1, 0), (8, 0), (8, 1), (10, 0), (12, 0), (12, 1), (13, 1), (16, 0), (16, 1)):
        array = picture(37, 41, 1, stored, signed)
        frame = encode_j2k(array, bits_stored=stored, photometric_interpretation=2)
        encapsulated(frames, f"j2k-{stored}-{signed}", ".4.90", array, stored, "MONOCHROME2", frame)
    unsigned = picture(37, 41, 1, 13)
    frame = encode_j2k(unsigned, bits_stored=13, photometric_interpretation=2)
    encapsulated(frames, "j2k-sign-mismatch", ".4.90", unsigned.view("i2"), 13, "MONOCHROME2", frame)
    signed = picture(37, 41, 1, 13, True)
    frame = encode_j2k(signed, bits_stored=13, photometric_interpretation=2)
    encapsulated(frames, "j2k-sign-mismatch-back", ".4.90", signed.view("u2"), 13, "MONOCHROME2", frame)
    color = picture(37, 41, 3, 8)
    for use_mct, photometric in ((True, "YBR_RCT"), (False, "RGB"), (False, "YBR_FULL")):
        frame = encode_j2k(color, bits_stored=8, photometric_interpretation=1, use_mct=use_mct)
        encapsulated(frames, f"j2k-{photometric}", ".4.90", color, 8, photometric, frame)
    frame = encode_j2k(color, bits_stored=8, photometric_interpretation=1, use_mct=True, compression_ratios=[4])
    encapsulated(frames, "j2k-lossy-YBR_ICT", ".4.91", color, 8, "YBR_ICT", frame)
    gray = picture(37, 41, 1, 12)
    frame = encode_j2k(gray, bits_stored=12, photometric_interpretation=2, compression_ratios=[4])
    encapsulated(frames, "j2k-lossy-12", ".4.91", gray, 12, "MONOCHROME2", frame)
    jp2 = io.BytesIO()
    Image.fromarray(color).save(jp2, "JPEG2000", tile_size=(16, 16), num_resolutions=3, irreversible=False)
    encapsulated(frames, "j2k-tiles-in-jp2", ".4.90", color, 8, "YBR_RCT", jp2.getvalue())


def htj2k(frames):
    for stored, end in ((8, ".4.201"), (12, ".4.202"), (16, ".4.201")):
        array = picture(37, 41, 1, 8 if stored == 8 else 16)
        if stored == 12:
            array >>= 4
        encapsulated(frames, f"htj2k-{stored}", end, array, stored, "MONOCHROME2", imagecodecs.htj2k_encode(array, reversible=True))
    color = picture(37, 41, 3, 8)
    encapsulated(frames, "htj2k-rgb", ".4.201", color, 8, "YBR_RCT", imagecodecs.htj2k_encode(color, reversible=True))
    encapsulated(frames, "htj2k-lossy", ".4.203", color, 8, "YBR_ICT", imagecodecs.htj2k_encode(color, level=0.01, reversible=False))


def jpeg_xl(frames):
    for stored, samples in ((8, 1), (8, 3), (10, 1), (12, 1), (16, 1), (16, 3)):
        array = picture(37, 41, samples, stored)
        frame = imagecodecs.jpegxl_encode(array, lossless=True, bitspersample=stored)
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
        encapsulated(frames, f"jxl-{stored}-{samples}", ".4.110", array, stored, photometric, frame, array)
    for samples in (1, 3):
        array = picture(37, 41, samples, 8)
        frame = imagecodecs.jpegxl_encode(array, distance=1.0)
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
        encapsulated(frames, f"jxl-lossy-{samples}", ".4.112", array, 8, photometric, frame, imagecodecs.jpegxl_decode(frame))
    color = picture(37, 41, 3, 8)
    frame = imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode(color, 95, subsampling="444"))
    want = imagecodecs.jpegxl_decode(frame)
    encapsulated(frames, "jxl-lossy-recompressed", ".4.111", color, 8, "YBR_FULL_422", frame, want)


def goldens():
    frames = Frames(OUT)
    for make in (native, rle, uncompressed, jpeg, jpeg_lossless, jpeg_ls_frames, jpeg_2000, htj2k, jpeg_xl):
        make(frames)
    print(f"{frames.count} frames, {frames.bytes.tell()} bytes: {OUT}")


def of_files(out, folders):
    frames = Frames(out)
    seen = set()
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*") if path.is_file()):
        data = path.read_bytes()
        if data in seen:
            continue
        seen.add(data)
        try:
            add_file(frames, path, pydicom.dcmread(path, force=True))
        except (AttributeError, ValueError, TypeError, KeyError, NotImplementedError, pydicom.errors.InvalidDicomError) as error:
            print(f"{path}: left out: {type(error).__name__}")
    print(f"{frames.count} frames: {out}")


def add_file(frames, path, ds):
    keywords = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    keyword = next((keyword for keyword in keywords if keyword in ds), None)
    if keyword is None:
        return
    syntax = str(ds.file_meta.TransferSyntaxUID)
    count = int(ds.get("NumberOfFrames", 1) or 1)
    value = ds[keyword].value
    samples = ds.Rows * ds.Columns * ds.SamplesPerPixel
    bits = samples * ds.BitsAllocated
    if ds.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits * 2 // 3
    if syntax in UNKNOWN or UID(syntax).is_encapsulated:
        parts = list(generate_frames(value, number_of_frames=count))
        frame = lambda i: (parts[i], 0)
    else:
        if syntax == UIDS + ".2" and ds.BitsAllocated == 8 and ds[keyword].VR == "OW":
            value = np.frombuffer(value, "u2").byteswap().tobytes()
        frame = lambda i: (value[i * bits // 8 : (i * bits + bits + 7) // 8], i * bits % 8)
    for index in sorted({0, count // 2, count - 1}):
        data, first_bit = frame(index)
        try:
            start = time.perf_counter()
            want = pixel_array(ds, index=index)
            seconds = time.perf_counter() - start
        except Exception:
            want = seconds = None
        frames.add(f"{path}#{index}", syntax, ds, data, want, first_bit, seconds)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if sys.argv[1:2] == ["--files"]:
        of_files(Path(sys.argv[2]), sys.argv[3:])
    else:
        goldens()
