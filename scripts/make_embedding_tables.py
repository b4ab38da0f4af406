"""Small tables of embeddings, written by the libraries that users write them with.

    pip install numpy==2.4.6 pyarrow==26.0.1 h5py==3.16.0
    python scripts/make_embedding_tables.py

All hold the embeddings of `expected.csv` (id, then the numbers as they are after rounding to the type of the file's
name), so that a reader must give the same numbers and ids whatever the format. TFRecords are framed here by hand, with a
CRC-32C of one bit at a time and protobuf's wire format spelled out: nothing is shared with the reader under test.
"""

import struct
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parent.parent / "crates/medsiglip/tests/data/golden/embedding_tables"
N, D = 7, 5
IDS = [f"images/p{i:02d}.png" for i in range(N - 1)] + ["images/ünïcode.png"]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(tag: int, payload: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def feature(name: str, kind: int, payload: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, field(kind, payload)))


def floats(values, packed: bool) -> bytes:
    raw = [struct.pack("<f", v) for v in values]
    return field(1, b"".join(raw)) if packed else b"".join(b"\x0d" + r for r in raw)


def record(features: list[bytes]) -> bytes:
    data = field(1, b"".join(features))
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def write_tfrecords(x: np.ndarray) -> None:
    records = b""
    for i, (name, row) in enumerate(zip(IDS, x)):
        label = feature("label", 3, field(1, varint(i)))
        image = feature("image/id", 1, field(1, name.encode()))
        # Both encodings of repeated floats are valid.
        records += record([label, image, feature("embedding", 2, floats(row, i % 2 == 0))])
    (OUT / "f32.tfrecord").write_bytes(records)
    folder = OUT / "cxr_foundation"
    folder.mkdir(exist_ok=True)
    for i, row in enumerate(x[:2]):
        path = folder / f"p{i:02d}.tfrecord"
        path.write_bytes(record([feature("embedding", 2, floats(row, True))]))


def write_parquet(x: np.ndarray) -> None:
    ids = pa.array(IDS)
    label = pa.array(range(N), pa.int64())
    for name, type_ in [("f16", pa.float16()), ("f32", pa.float32()), ("f64", pa.float64())]:
        flat = pa.array(x.ravel().astype(name.replace("f", "float")), type_)
        fixed = pa.FixedSizeListArray.from_arrays(flat, D)
        table = pa.table({"image_id": ids, "label": label, "vector": fixed})
        pq.write_table(table, OUT / f"{name}.parquet", row_group_size=3, store_schema=False)
    lists = pa.array([list(map(float, row)) for row in x], pa.list_(pa.float32()))
    thumbnail = pa.array([[0.0]] * N, pa.list_(pa.float32()))
    table = pa.table({"thumbnail": thumbnail, "embedding": lists, "id": pa.array(range(N), pa.int32())})
    pq.write_table(table, OUT / "lists_number_ids.parquet", compression="zstd", use_dictionary=False, store_schema=False)
    columns = {f"f_{j}": pa.array(x[:, j], pa.float32()) for j in range(D)}
    pq.write_table(pa.table({"path": ids, **columns}), OUT / "wide.parquet", data_page_version="2.0", store_schema=False)
    holes = pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": ["a", "b"], "embedding": holes}), OUT / "null.parquet", store_schema=False)


def write_numpy(x: np.ndarray) -> None:
    for name, type_ in [("f16", "<f2"), ("f32", "<f4"), ("f64", "<f8"), ("f32be", ">f4")]:
        np.save(OUT / f"{name}.npy", x.astype(type_))
        (OUT / f"{name}.ids.txt").write_text("\n".join(IDS) + "\n")
    np.savez(OUT / "plain.npz", features=x, ids=np.array(IDS))
    np.savez_compressed(OUT / "packed.npz", x=x.astype("f8"), id=np.array([f"p{i}".encode() for i in range(N)]))
    np.savez(OUT / "one.npz", embedding=x[0])
    np.savez(OUT / "pickled.npz", embedding=x, ids=np.array(IDS, dtype=object))


def write_hdf5(x: np.ndarray) -> None:
    with h5py.File(OUT / "f32.h5", "w") as file:
        file.create_dataset("features", data=x)
        file.create_dataset("ids", data=IDS, dtype=h5py.string_dtype())
    fixed = np.array([i.encode() for i in IDS])
    with h5py.File(OUT / "f16.h5", "w", libver="latest") as file:
        file.create_dataset("features", data=x.astype("f2"), chunks=(2, D), compression="gzip", shuffle=True)
        file.create_dataset("ids", data=fixed)
    with h5py.File(OUT / "f64.h5", "w", libver="latest") as file:
        file.create_dataset("embeddings", data=x.astype("f8"))
        file.create_dataset("id", data=fixed)
    with h5py.File(OUT / "slide.h5", "w", libver="latest") as file:
        file.create_dataset("features", data=x[None])
        file.create_dataset("coords", data=np.array([[448 * i, 896] for i in range(N)], "i4"))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(6).normal(size=(N, D)).astype("f4")
    x[0, 0], x[1, 1] = 0.0, -65504.0
    lines = [",".join([name, *(repr(float(v)) for v in row)]) for name, row in zip(IDS, x)]
    (OUT / "expected.csv").write_text("\n".join(["id," + ",".join(f"e{j}" for j in range(D)), *lines]) + "\n")
    half = x.astype("f2").astype("f4")
    lines = [",".join([name, *(repr(float(v)) for v in row)]) for name, row in zip(IDS, half)]
    (OUT / "expected_f16.csv").write_text("\n".join(["id," + ",".join(f"e{j}" for j in range(D)), *lines]) + "\n")
    write_tfrecords(x)
    write_parquet(x)
    write_numpy(x)
    write_hdf5(x)


if __name__ == "__main__":
    main()
