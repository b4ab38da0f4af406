"""Approximate search of clustered vectors beside hnswlib: queries per second at the same recall, in one run.

    cargo build --release -p medsiglip --features index --example ann_speed
    python scripts/bench_ann.py target/release/examples/ann_speed FOLDER [ROWS [CLUSTERS]]

Both are asked the same 1000 queries, one after the other on each thread, in turns; each with the fewest candidates (ef) whose
recall@10 is at least 0.99. FOLDER keeps the vectors and hnswlib's graph. Needs hnswlib 0.8.0 (built with -march=native, its
default) and numpy.
"""

import subprocess
import sys
import time
from pathlib import Path

import hnswlib
import numpy as np

DIM, K, ROUNDS, RECALL = 1152, 10, 15, 0.99
EFS = [10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]


class Ours:
    name = "medsiglip"

    def __init__(self, program, folder, rows, clusters):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, folder, str(rows), str(clusters)], stdin=pipe, stdout=pipe, text=True)
        print(self.name, self.process.stdout.readline().strip(), flush=True)

    def ask(self, ef, threads):
        self.process.stdin.write(f"{ef} {threads}\n")
        self.process.stdin.flush()
        return tuple(map(float, self.process.stdout.readline().split()))


class Hnswlib:
    name = "hnswlib"

    def __init__(self, folder, rows, clusters):
        read = lambda name: np.memmap(folder / name, np.float32, "r").reshape(-1, DIM)
        data, self.queries = read(f"vectors-{rows}-{clusters}.f32"), np.array(read(f"queries-1000-{clusters}.f32"))
        nearest = [np.argpartition(-(data @ query), K)[:K] for query in self.queries]
        self.truth = [set(rows) for rows in nearest]
        self.index = hnswlib.Index("ip", DIM)
        path = folder / f"hnswlib-{rows}-{clusters}.bin"
        if path.exists():
            self.index.load_index(str(path), max_elements=rows)
            return
        start = time.time()
        self.index.init_index(rows, M=16, ef_construction=200, random_seed=0)
        self.index.add_items(data, num_threads=2)
        print(f"{self.name} built in {time.time() - start:.1f} s", flush=True)
        self.index.save_index(str(path))

    def ask(self, ef, threads):
        self.index.set_ef(ef)
        start = time.perf_counter()
        found, _ = self.index.knn_query(self.queries, k=K, num_threads=threads)
        seconds = time.perf_counter() - start
        hits = sum(len(truth & set(rows)) for truth, rows in zip(self.truth, found))
        return hits / (K * len(self.queries)), seconds


def main():
    program, folder = sys.argv[1], Path(sys.argv[2])
    rows = int(sys.argv[3]) if len(sys.argv) > 3 else 200_000
    clusters = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    both = [Ours(program, folder, rows, clusters), Hnswlib(folder, rows, clusters)]
    chosen = []
    for one in both:
        for ef in EFS:
            recall, seconds = one.ask(ef, 1)
            print(f"{one.name}, ef {ef}: recall {recall:.4f}, {1000 * seconds / len(both[1].queries):.3f} ms", flush=True)
            if recall >= RECALL:
                break
        chosen.append((one, ef, recall))
    for threads in (1, 2):
        times = {one.name: [] for one, _, _ in chosen}
        for _ in range(ROUNDS):
            for one, ef, _ in chosen:
                times[one.name].append(one.ask(ef, threads)[1])
        for one, ef, recall in chosen:
            rate = len(both[1].queries) / np.median(times[one.name])
            print(f"{threads} threads, {one.name}, ef {ef}, recall {recall:.4f}: {rate:.0f} queries a second")
        ratios = np.array(times["hnswlib"]) / np.array(times["medsiglip"])
        low, ratio, high = np.percentile(ratios, [10, 50, 90])
        print(f"{threads} threads: {ratio:.2f} times as many as hnswlib ({low:.2f} to {high:.2f})", flush=True)


main()
