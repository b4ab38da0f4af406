#!/usr/bin/env python3
"""Makes crates/medsiglip/tests/data/pixels: what the reference pipelines make of small synthetic pictures.

    python scripts/make_pixel_golden.py hf           # Pillow, transformers, torchvision
    python scripts/make_pixel_golden.py eval-tf      # TensorFlow (its own environment)

Versions that made the checked-in files:
    numpy 2.4.6, Pillow 11.2.1 (libjpeg-turbo 3.1.0), transformers 4.51.3, torch 2.15.0, torchvision 0.29.2
    (11.2.1 is the serving container's Pillow; 13 resizes tall pictures in another order of passes)
    tensorflow-cpu 2.21.0, numpy 2.4.6

With --compare LIST.txt DIR it makes nothing: it writes each listed file's view by every recipe into DIR,
for a comparison with real pictures (see tests/pixels.rs, MEDSIGLIP_PIXEL_LIST).

Pictures come from the formula of `sample`, which tests/pixels.rs repeats: no picture is stored for the recipes.
Files for the decoder are stored with Pillow's reading of them beside (.raw: RGB or gray, 8 bits).
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/pixels"

# name, width, height, channels, bits, pattern, size of the result
CASES = [
    ("down", 61, 47, 3, 8, "mix", 24),
    ("up", 9, 7, 3, 8, "mix", 24),
    ("tall", 13, 90, 3, 8, "mix", 24),
    ("gray", 50, 31, 1, 8, "mix", 24),
    ("gray16", 40, 33, 1, 16, "mix", 24),
    ("row", 33, 1, 1, 8, "mix", 24),
    ("column", 1, 33, 3, 8, "mix", 24),
    ("pixel", 1, 1, 3, 8, "mix", 24),
    ("same", 24, 24, 3, 8, "mix", 24),
    ("same_width", 24, 40, 3, 8, "mix", 24),
    ("binary", 31, 22, 1, 8, "binary", 24),
    ("binary16", 31, 22, 1, 16, "binary", 24),
    ("black", 20, 30, 3, 8, "black", 24),
    ("white", 30, 20, 3, 8, "white", 24),
    ("long", 3000, 2, 1, 8, "mix", 24),
    ("big", 500, 333, 3, 8, "mix", 64),
]


def sample(width, height, channels, bits, pattern):
    """(height, width, channels) of uint8 or uint16; waves, edges and noise, in integers alone."""
    top = 255 if bits == 8 else 65535
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint64) for n in (height, width, channels)), indexing="ij")
    if pattern == "black":
        v = x * 0
    elif pattern == "white":
        v = x * 0 + top
    elif pattern == "binary":
        v = ((x // 3 + y // 2) % 2) * top
    else:
        noise = ((x * 2654435761 + y * 40503 + c * 97) >> 3) % 61
        smooth = (x * 7 + y * 5 + c * 40) % 256
        edge = ((x // 8 + y // 5) % 2) * 90
        v = np.minimum((smooth + noise + edge) % 288, 255)
        if bits == 16:
            v = v * 257 - np.minimum((x * 31 + y * 17) % 257, v * 257)
    return v.astype(np.uint8 if bits == 8 else np.uint16)


def to_8_bits(a):
    """Our rule for every recipe but container."""
    return a if a.dtype == np.uint8 else ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)


def rgb(a):
    return np.repeat(a, 3, axis=-1) if a.shape[-1] == 1 else a


def processor(size, **kwargs):
    from transformers import SiglipImageProcessor

    return SiglipImageProcessor(size={"height": size, "width": size}, **kwargs)


def hf(a, size, **kwargs):
    from PIL import Image

    image = Image.fromarray(np.squeeze(a, -1) if a.shape[-1] == 1 else a).convert("RGB")
    # Without the named format it takes a row of one pixel for three channels.
    return processor(size, **kwargs)(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]


def torchvision(a, size):
    from PIL import Image
    from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

    image = Image.fromarray(np.squeeze(a, -1) if a.shape[-1] == 1 else a).convert("RGB")
    steps = [Resize((size, size), interpolation=InterpolationMode.BILINEAR), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]
    return Compose(steps)(image).numpy()


def container(a, size):
    """`serving/predictor.py::_InputImageIter`: float by the type's maximum, 3 channels, centred zero pad, processor."""
    x = a.astype(np.float32) / np.iinfo(a.dtype).max
    assert x.dtype == np.float32
    x = rgb(x)
    height, width = x.shape[:2]
    side = max(height, width)
    dy, dx = side - height, side - width
    x = np.pad(x, ((dy // 2, dy - dy // 2), (dx // 2, dx - dx // 2), (0, 0)), constant_values=0)
    return processor(size, do_rescale=False)(x, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]


def eval_tf(a, size):
    import tensorflow as tf

    x = tf.image.resize(rgb(a), (size, size), method="bilinear", antialias=False)
    return x.numpy().astype(np.uint8)


def square(a):
    side = max(a.shape[:2])
    dy, dx = side - a.shape[0], side - a.shape[1]
    return np.pad(a, ((dy // 2, dy - dy // 2), (dx // 2, dx - dx // 2), (0, 0)))


FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def hf_recipes(a, size, long):
    """Recipe name -> float32 (3, size, size)."""
    b = to_8_bits(a)
    out = {"hf": hf(b, size), "container": container(a, size), "torchvision": torchvision(b, size)}
    if not long:
        out["hf+square"] = hf(square(b), size)
    for name, code in FILTERS.items():
        out[f"checkpoint-{name}"] = hf(b, size, resample=code)
    return out


def levels(pixel_values):
    """Back to the 8-bit levels, where this loses nothing."""
    table = (np.arange(256) * (1 / 255)).astype(np.float32)
    table = (table - np.float32(0.5)) / np.float32(0.5)
    at = np.searchsorted(table, pixel_values)
    assert (table[at] == pixel_values).all(), "not one of the 256 levels"
    return at.astype(np.uint8).transpose(1, 2, 0)


def make_hf():
    lines = []
    for name, width, height, channels, bits, pattern, size in CASES:
        a = sample(width, height, channels, bits, pattern)
        for recipe, pixel_values in hf_recipes(a, size, name == "long").items():
            view = levels(pixel_values)
            write_view(lines, name, recipe, view)
    write_index("hf.txt", lines)
    table = hf(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 16)[0].reshape(-1)
    (OUT / "levels.f32").write_bytes(table.astype("<f4").tobytes())
    odd = hf(sample(24, 24, 3, 8, "mix"), 24, image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28], rescale_factor=0.004)
    lines = [f"odd_levels {digest(odd.astype('<f4').tobytes())}"]
    write_index("odd_levels.txt", lines)
    make_files()


def make_tf():
    lines = []
    for name, width, height, channels, bits, pattern, size in CASES:
        b = to_8_bits(sample(width, height, channels, bits, pattern))
        write_view(lines, name, "eval-tf", eval_tf(b, size))
        if name != "long":
            write_view(lines, name, "eval-tf+square", eval_tf(square(b), size))
    write_index("tf.txt", lines)


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def write_view(lines, name, recipe, view):
    """A line of name, recipe and the start of the SHA-256 of the (size, size, 3) bytes; `down` and `up` are kept whole too."""
    lines.append(f"{name} {recipe} {digest(view.tobytes())}")
    if name in ("down", "up"):
        (OUT / f"{name}.{recipe}.rgb").write_bytes(view.tobytes())


def write_index(file, lines):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / file).write_text("\n".join(lines) + "\n")


def make_files():
    """Small files of each format, with Pillow's reading of them."""
    from PIL import Image

    folder = OUT / "files"
    folder.mkdir(parents=True, exist_ok=True)
    color = Image.fromarray(sample(37, 21, 3, 8, "mix"))
    gray = color.convert("L")
    alpha = color.copy()
    alpha.putalpha(gray)
    palette = color.quantize(13)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "rgb.png": (color, {}),
        "gray.png": (gray, {}),
        "gray1.png": (gray.convert("1"), {}),
        "gray_alpha.png": (alpha.convert("LA"), {}),
        "rgba.png": (alpha, {}),
        "palette4.png": (palette, {"bits": 4}),
        "palette_transparent.png": (palette, {"transparency": b"\x00\x80"}),
        "oriented.png": (color, {"exif": exif}),
        "oriented.jpg": (color, {"quality": 80, "exif": exif}),
        "color_420.jpg": (color, {"quality": 80}),
        "color_444.jpg": (color, {"quality": 95, "subsampling": 0}),
        "progressive.jpg": (color, {"quality": 70, "progressive": True}),
        "gray.jpg": (gray, {"quality": 70}),
        "rgb.jpg": (color, {"quality": 90, "keep_rgb": True}),
        "cmyk.jpg": (color.convert("CMYK"), {"quality": 90}),
        "rgb.tif": (color, {"compression": "tiff_lzw"}),
        "gray.tif": (gray, {"compression": "tiff_adobe_deflate"}),
        "gray1.tif": (gray.convert("1"), {}),
        "rgba.tif": (alpha, {}),
        "cmyk.tif": (color.convert("CMYK"), {}),
        "oriented.tif": (color, {"tiffinfo": {274: 8}}),
        "palette.tif": (palette, {"compression": "tiff_lzw"}),
        "palette_deflate.tif": (palette, {"compression": "tiff_adobe_deflate"}),
        "jpeg_rgb.tif": (color, {"compression": "jpeg", "quality": 80}),
        "jpeg_gray.tif": (gray, {"compression": "jpeg", "quality": 80}),
        "rgb.bmp": (color, {}),
        "palette.bmp": (palette, {}),
        "gray.bmp": (gray, {}),
        "rgb.ppm": (color, {}),
        "gray.pgm": (gray, {}),
        "gray1.pbm": (gray.convert("1"), {}),
        "lossless.webp": (color, {"lossless": True}),
        "alpha.webp": (alpha, {"lossless": True, "exact": True}),
    }
    for name, (image, options) in files.items():
        image.save(folder / name, **options)
    wide = sample(37, 21, 1, 16, "mix")[:, :, 0]
    Image.fromarray(wide).save(folder / "gray16.png")
    Image.fromarray(wide).save(folder / "gray16.tif")
    (folder / "max100.pgm").write_bytes(b"P5 37 21 100\n" + (np.asarray(gray).astype(int) * 100 // 255).astype(np.uint8).tobytes())
    for orientation in range(2, 9):
        exif[0x0112] = orientation
        Image.fromarray(sample(5, 3, 3, 8, "mix")).save(folder / f"orientation{orientation}.png", exif=exif)
    (folder / "jpeg_420_tiles.tif").write_bytes(jpeg_tiles(color))
    for path in sorted(folder.iterdir()):
        if path.suffix == ".raw":
            continue
        path.with_name(path.name + ".raw").write_bytes(read_upright(path).tobytes())


def jpeg_tiles(image, side=16):
    """A TIFF of YCbCr 4:2:0 JPEG tiles, as slide scanners write and Pillow does not."""
    import io
    import struct

    tiles = []
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            file = io.BytesIO()
            image.crop((left, top, left + side, top + side)).save(file, "JPEG", quality=80, subsampling=2)
            tiles.append(file.getvalue())
    n, short, long = len(tiles), 3, 4
    tags = 11
    bits_at = 8 + 2 + 12 * tags + 4
    offsets_at, lengths_at, data_at = bits_at + 6, bits_at + 6 + 4 * n, bits_at + 6 + 8 * n
    offsets = [data_at + sum(map(len, tiles[:i])) for i in range(n)]
    entries = [(256, long, 1, image.width), (257, long, 1, image.height), (258, short, 3, bits_at), (259, short, 1, 7),
               (262, short, 1, 6), (277, short, 1, 3), (322, long, 1, side), (323, long, 1, side),
               (324, long, n, offsets_at), (325, long, n, lengths_at), (530, short, 2, 2 | 2 << 16)]
    head = struct.pack("<2sHIH", b"II", 42, 8, tags) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return head + struct.pack("<3H", 8, 8, 8) + struct.pack(f"<{2 * n}I", *offsets, *map(len, tiles)) + b"".join(tiles)


def read_upright(path):
    """Gray or RGB as a careful user of Pillow reads it; 16 bits as little-endian pairs."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        return np.asarray(image).astype("<u2")
    gray = image.mode in ("L", "1", "LA")
    return np.asarray(image.convert("L" if gray else "RGB"))


def compare(kind, list_file, folder):
    """Views of real files at 448, one file a recipe, in the order of the list."""
    from PIL import Image

    for i, path in enumerate(Path(list_file).read_text().split()):
        image = Image.open(path)
        a = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        a = a[:, :, None] if a.ndim == 2 else a
        views = {"eval-tf": eval_tf(a, 448)} if kind == "eval-tf" else {
            k: levels(v) for k, v in {"hf": hf(a, 448), "container": container(a, 448), "torchvision": torchvision(a, 448)}.items()}
        for recipe, view in views.items():
            (Path(folder) / f"{i:04}.{recipe}.rgb").write_bytes(view.tobytes())


if __name__ == "__main__":
    if "--compare" in sys.argv:
        at = sys.argv.index("--compare")
        compare(sys.argv[1], *sys.argv[at + 1 : at + 3])
    elif sys.argv[1:] == ["hf"]:
        make_hf()
    elif sys.argv[1:] == ["eval-tf"]:
        make_tf()
    else:
        sys.exit(__doc__)
