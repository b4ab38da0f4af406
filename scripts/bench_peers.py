"""
Times this software beside transformers (PyTorch, sdpa), ONNX Runtime and Pillow on the same machine, for BENCHMARKS.md.

    cargo build --release
    python scripts/bench_peers.py MODEL_FOLDER --work DIR [--binary target/release/medsiglip] [--rounds 5] [--only SECTION,...]

MODEL_FOLDER is what `make_golden.py full --out MODEL_FOLDER` wrote. Exported models go into --work (8 GB; kept for the
next run). In every round each program does its work once, in turn, so that a slow minute of the machine meets all of
them; medians, spreads and ratios are printed. Keep the machine quiet. Versions: scripts/README.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

# What is measured, by which part of `medsiglip bench`, beside which peers. Every worker is a process of its own.
SECTIONS = {
    "vision448": ("vision", ["transformers", "onnxruntime"]),
    "vision448x4": ("vision-batch-4", ["transformers", "onnxruntime"]),
    "vision896": ("vision-896", ["transformers", "onnxruntime"]),
    "text": ("text", ["transformers", "onnxruntime"]),
    "int8": ("vision", ["onnxruntime-int8"]),
    "pixels-gray": ("pixels", ["pillow"]),
    "pixels-rgb": ("pixels", ["pillow"]),
    "cold": ("cold-start", []),
    "memory": (None, []),
}
TEXT_BATCH = 8
TEXTS = ["a normal chest x-ray", "a chest x-ray with pleural effusion"]
PICTURES = 20
PAUSE_S = 0.5  # between two programs: threads of the one before that still spin come to rest


def main():
    arguments = parser().parse_args()
    if arguments.command == "worker":
        return work(arguments)
    if arguments.command == "prepare":
        return prepare(arguments.only[0], arguments)
    if arguments.command == "first-score":
        return first_score(arguments.model, arguments.picture, arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or SECTIONS:
        print(f"\n{name}", flush=True)
        if name == "cold":
            cold(arguments)
        elif name == "memory":
            memory(arguments)
        else:
            interleaved(name, arguments)


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("model", type=pathlib.Path)
    top.add_argument("--work", type=pathlib.Path, required=True, help="folder for exported models and pictures")
    top.add_argument("--binary", default="target/release/medsiglip")
    top.add_argument("--rounds", type=int, default=5)
    top.add_argument("--threads", type=int, default=os.cpu_count())
    top.add_argument("--only", type=lambda text: text.split(","), help=", ".join(SECTIONS))
    # What the processes that are started here are told.
    top.add_argument("--command", choices=["compare", "prepare", "worker", "first-score"], default="compare", help=argparse.SUPPRESS)
    top.add_argument("--stack", help=argparse.SUPPRESS)
    top.add_argument("--picture", type=pathlib.Path, help=argparse.SUPPRESS)
    return top


# --- The comparison ---


def interleaved(section, arguments):
    """Rounds of ours and every peer in turn; prints medians of seconds an item, and ratios."""
    part, stacks = SECTIONS[section]
    picture = make_picture(section, arguments) if section.startswith("pixels") else None
    prepared(section, stacks, arguments)
    workers = {stack: Worker(section, stack, arguments, picture) for stack in stacks}
    seconds = {name: [] for name in ["medsiglip", *stacks]}
    memory = {}
    for _ in range(arguments.rounds):
        time.sleep(PAUSE_S)
        ours, memory["medsiglip"] = run_ours(section, part, arguments, picture)
        if ours is None:
            break
        seconds["medsiglip"].append(ours)
        for stack, worker in workers.items():
            time.sleep(PAUSE_S)
            seconds[stack].append(worker.run())
    for stack, worker in workers.items():
        memory[stack] = worker.end()
    if seconds["medsiglip"]:
        report(seconds, memory)


def prepared(section, stacks, arguments):
    """Exports models in a process of its own, so that its memory is not counted as the worker's."""
    if not any(stack.startswith("onnxruntime") for stack in stacks):
        return
    command = [sys.executable, __file__, arguments.model, "--command", "prepare", "--only", section, "--work", arguments.work]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(process.stderr)
    print(process.stdout, end="")


def run_ours(section, part, arguments, picture):
    """One run after one to warm up, in a process of its own: seconds an item, and peak memory."""
    command = [arguments.binary, "bench", "--model", arguments.model, "--runs", "1", "--format", "json"]
    command += ["--threads", str(arguments.threads), "--only", f"{part},drift" if section == "int8" else part]
    command += ["--dtype", "int8"] if section == "int8" else []
    command += ["--picture", picture] if picture else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    code, peak = end(process)
    if code != 0 or not json.loads(output)["rows"]:
        print(f"  medsiglip cannot do this: exit code {code}")
        return None, peak
    answer = json.loads(output)
    if "drift" in answer:
        print(f"  medsiglip {answer['drift']}")
    return answer["rows"][0]["median_s"], peak


class Worker:
    """A peer that is loaded and warm, and does its work when it is told to."""

    def __init__(self, section, stack, arguments, picture):
        command = [sys.executable, __file__, arguments.model, "--command", "worker", "--stack", stack, "--only", section]
        command += ["--work", arguments.work, "--threads", str(arguments.threads)]
        command += ["--picture", picture] if picture else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        about = self.process.stdout.readline()
        if not about:
            raise SystemExit(f"{stack}: the worker ended before it was ready")
        print(f"  {stack}: {about.strip()}", flush=True)

    def run(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        return end(self.process)[1]


def end(process):
    """Exit code and peak memory in GiB of a process, its own children among it."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / 2**20


def report(seconds, memory):
    ours = statistics.median(seconds["medsiglip"])
    for name, runs in seconds.items():
        median = statistics.median(runs)
        print(
            f"  {name:18} {median:9.4f} s an item [{min(runs):.4f}-{max(runs):.4f}]"
            f"  ours is {median / ours:5.2f} times as fast  peak memory {memory[name]:.2f} GiB",
            flush=True,
        )


def cold(arguments):
    """From the start of a process to the score of one picture and two texts."""
    picture = make_picture("pixels-gray", arguments)
    times = {"medsiglip": [], "transformers": []}
    memory = {}
    for number in range(arguments.rounds + 1):
        # The first round brings the files into the page cache.
        keep = {name: (runs if number else []) for name, runs in times.items()}
        command = [arguments.binary, "bench", "--model", arguments.model, "--runs", "1", "--format", "json"]
        command += ["--only", "cold-start", "--threads", str(arguments.threads)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        start = json.loads(process.stdout.read())["cold_start"]["starts"][0]
        memory["medsiglip"] = end(process)[1]
        keep["medsiglip"].append((start["total_s"], start["total_s"] - start["second_forward_s"]))
        time.sleep(PAUSE_S)

        command = [sys.executable, __file__, arguments.model, "--command", "first-score", "--picture", picture]
        command += ["--work", arguments.work, "--threads", str(arguments.threads)]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        total = time.perf_counter() - begin
        forward = float(process.stdout.readline())
        memory["transformers"] = end(process)[1]
        keep["transformers"].append((total, total - forward))
        time.sleep(PAUSE_S)
    ours = [statistics.median(column) for column in zip(*times["medsiglip"])]
    for name, runs in times.items():
        total, beyond = (statistics.median(column) for column in zip(*runs))
        print(
            f"  {name:18} {total:7.3f} s to the first score (ours is {total / ours[0]:.2f} times as fast), {beyond:7.3f} s "
            f"beyond a warm forward pass ({beyond / ours[1]:.2f} times)  peak memory {memory[name]:.2f} GiB",
            flush=True,
        )


def memory(arguments):
    """Peak memory of `embed`; the peers' stands in the sections above."""
    pictures = sorted((arguments.model / "images").iterdir())
    command = [arguments.binary, "embed", *pictures, "--model", arguments.model, "--threads", str(arguments.threads)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    code, peak = end(process)
    print(f"  medsiglip embed, {len(pictures)} pictures: {peak:.2f} GiB, exit code {code}")


def make_picture(section, arguments):
    """A picture of the checkpoint's folder as a JPEG of 1024x1024 pixels: gray, or colour with 4:2:0 chroma."""
    from PIL import Image

    path = arguments.work / f"{section}.jpg"
    number, mode = (0, "L") if section == "pixels-gray" else (1, "RGB")
    source = sorted((arguments.model / "images").iterdir())[number]
    Image.open(source).convert(mode).resize((1024, 1024), Image.Resampling.LANCZOS).save(path, quality=90)
    return path


# --- The peers, each in a process of its own; they import no more than they need ---


def work(arguments):
    """Prepares the work, tells about it, and does it at every line of standard input, with its seconds an item."""
    section = arguments.only[0]
    run, items, about = PEERS[arguments.stack](section, arguments)
    run()
    print(about, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print((time.perf_counter() - start) / items, flush=True)


def pillow(section, arguments):
    import numpy as np
    import PIL
    from PIL import Image

    size = json.loads((arguments.model / "config.json").read_text())["vision_config"]["image_size"]

    def run():
        for _ in range(PICTURES):
            picture = Image.open(arguments.picture).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            pixels = np.asarray(picture).astype(np.float32) * np.float32(2 / 255) - np.float32(1)
            np.ascontiguousarray(pixels.transpose(2, 0, 1))

    return run, PICTURES, f"pillow {PIL.__version__}, one thread"


def transformers(section, arguments):
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    model, inputs = tower(section, arguments.model)

    @torch.inference_mode()
    def run():
        model(inputs)

    return run, len(inputs), f"transformers {transformers.__version__}, torch {torch.__version__}, sdpa"


def onnxruntime(section, arguments):
    import onnxruntime

    session = onnx_session(onnx_path(section, arguments, is_int8=section == "int8"), arguments.threads)
    inputs = {"x": sample(section, arguments.model)}
    return lambda: session.run(None, inputs), len(inputs["x"]), f"onnxruntime {onnxruntime.__version__}"


def onnx_session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads spin while it runs, as by default, and rest between two runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


PEERS = {
    "pillow": pillow,
    "transformers": transformers,
    "onnxruntime": onnxruntime,
    "onnxruntime-int8": onnxruntime,
}


def sample(section, folder):
    """What the tower takes, the same as `medsiglip bench` gives it."""
    import numpy as np

    config = json.loads((folder / "config.json").read_text())
    if section == "text":
        length, words = (config["text_config"].get(key, default) for key, default in [("max_position_embeddings", 64), ("vocab_size", 32000)])
        return (np.arange(TEXT_BATCH * length) % words).reshape(TEXT_BATCH, length)
    size = 896 if section == "vision896" else config["vision_config"]["image_size"]
    batch = 4 if section == "vision448x4" else 1
    ramp = np.arange(batch * 3 * size * size) * 37 % 255 / 127.5 - 1
    return ramp.astype(np.float32).reshape(batch, 3, size, size)


def tower(section, folder):
    """One tower as a torch module from an input to pooled embeddings, and its input."""
    import torch
    from transformers import SiglipModel

    model = SiglipModel.from_pretrained(folder, attn_implementation="sdpa", torch_dtype=torch.float32).eval()
    if section == "vision896":
        resize_positions(model.vision_model.embeddings, 896)
    inputs = torch.from_numpy(sample(section, folder))

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = model.text_model if section == "text" else model.vision_model

        def forward(self, x):
            return self.tower(x).pooler_output

    return Tower().eval(), inputs


def resize_positions(embeddings, size):
    """A vision tower for another resolution, its position table resampled beforehand as transformers does."""
    import torch

    grid = size // embeddings.patch_size
    with torch.no_grad():
        table = embeddings.interpolate_pos_encoding(torch.zeros(1, grid * grid, embeddings.embed_dim), size, size)[0]
    embeddings.position_embedding = torch.nn.Embedding.from_pretrained(table)
    embeddings.position_ids = torch.arange(grid * grid)[None]
    embeddings.image_size = size


def onnx_path(section, arguments, is_int8=False):
    section = "vision448" if section == "int8" else section
    return arguments.work / section / ("int8.onnx" if is_int8 else "model.onnx")


def prepare(section, arguments):
    """Exports the tower of a section, once; of `int8` also quantizes it, and prints how near it stays."""
    path = onnx_path(section, arguments)
    if not path.exists():
        export(section, arguments, path)
    if section == "int8":
        target = onnx_path(section, arguments, is_int8=True)
        if not target.exists():
            quantize(path, target)
        inputs = {"x": sample(section, arguments.model)}
        a, b = (onnx_session(which, arguments.threads).run(None, inputs)[0] for which in (path, target))
        cosine = float((a * b).sum() / ((a * a).sum() * (b * b).sum()) ** 0.5)
        print(f"  onnxruntime-int8: dynamic, reduce_range; cosine to its f32 {cosine:.6f}")


def export(section, arguments, path):
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    model, inputs = tower(section, arguments.model)
    with torch.inference_mode():
        torch.onnx.export(
            model, (inputs,), path, input_names=["x"], output_names=["pooled"], dynamo=True, external_data=True,
            verbose=False,
        )


def quantize(path, target):
    """Dynamic int8 products; reduce_range keeps the 16-bit sums of machines without VNNI from saturating."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path, target, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8, reduce_range=True,
        use_external_data_format=True,
    )


def first_score(folder, picture, threads):
    """The script that a user of transformers would write: prints a probability, then the seconds of a warm pass."""
    import torch
    from PIL import Image
    from transformers import SiglipImageProcessor, SiglipModel, SiglipTokenizer

    torch.set_num_threads(threads)
    model = SiglipModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    pixels = SiglipImageProcessor.from_pretrained(folder)(Image.open(picture).convert("RGB"), return_tensors="pt")
    ids = SiglipTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", truncation=True, return_tensors="pt")

    @torch.inference_mode()
    def score():
        return torch.sigmoid(model(**pixels, input_ids=ids["input_ids"]).logits_per_image)

    print(score().tolist(), flush=True)
    start = time.perf_counter()
    score()
    print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
