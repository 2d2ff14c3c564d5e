"""Flambeau beside its peers: every peer in its own process, measured in turn, medians and ratios.

    python benchmarks/run.py --workloads W1_b64,W7_mm512 --peers flambeau,jax,torch_eager --threads 1

Per workload each peer's process starts, runs three steps (their time includes compilation; their losses are
compared), then the peers take turns for `--rounds` rounds of `--seconds` each. With them goes `limit`: what the
workload's multiply-adds, or reading its weights, would take at the rate that is measured in the same turns. The table shows
medians, how many times faster Flambeau is than each peer, seconds from the start of a process to the end of the third step
with an empty cache and, with `--warm`, with the one it left, and peak memory above that of the process when all was imported
(with the compiler; a warm process loads none). Where other programs use the machine, `--clock cpu` counts processor time.
`tables.py` makes pages of what `--out` writes.

    python benchmarks/run.py --workloads spine --peers flambeau,before --before ../old/.venv/bin/python --rounds 7

An earlier Flambeau is a peer like any other: `before`, run by the Python of an environment where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import counts  # noqa: E402
import workloads  # noqa: E402

PEERS = {
    "flambeau": ("flambeau_peer", ""),
    "before": ("flambeau_peer", ""),
    "torch_eager": ("torch_peer", "eager"),
    "torch_fused": ("torch_peer", "fused"),
    "torch_compile": ("torch_peer", "compile"),
    "jax": ("jax_peer", "jit"),
    "iree": ("iree_peer", ""),
    "onnxruntime": ("ort_peer", ""),
    "numpy": ("numpy_peer", ""),
    "limit": ("limit_peer", ""),
}
GROUPS = {
    "train": workloads.TRAIN,
    "nets": [*workloads.TRAIN, *workloads.INFER, *workloads.IMAGES, "decode"],
    "chain": [f"W6_{d}_{n}" for d in ("fwd", "fwdbwd") for n in ("1e3", "1e5", "1e7")],
    "matmul": workloads.MM,
    "rows": workloads.ROWS,
    "dispatch": ["W8_add"],
    "spine": ["W1_b64", "W1_b512", "W6_fwd_1e5", "W6_fwd_1e7", "W6_fwdbwd_1e5", "W6_fwdbwd_1e7"]
    + workloads.MM + workloads.ROWS + ["W8_add"],
}  # fmt: skip


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def environment(threads: int, cache: str) -> dict[str, str]:
    """The child's environment: thread counts and private caches. Two OpenBLAS variables would halve NumPy's speed."""
    t = str(threads)
    env = dict(
        os.environ, OMP_NUM_THREADS=t, MKL_NUM_THREADS=t, OPENBLAS_NUM_THREADS=t, NPROC=t, JAX_PLATFORMS="cpu",
        TORCHINDUCTOR_CACHE_DIR=f"{cache}/inductor", TORCHINDUCTOR_COMPILE_THREADS=t, XDG_CACHE_HOME=cache,
        TMPDIR=cache, PYTHONWARNINGS="ignore", FLAMBEAU_CACHE=f"{cache}/flambeau",
    )  # fmt: skip
    env.setdefault("FLAMBEAU_COMPILE", "blocking")
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return env


def memory_mb() -> float:
    """Most memory that this process has had in use, MB. On Linux of the program by itself: what `getrusage` says begins with
    what the process had that started it."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(peer: str, workload: str, threads: int, clock: Callable[[], float]) -> None:
    """A peer's process: set up, report, then time steps for as long as each line on standard input asks."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, variant = PEERS[peer]
    started = clock()
    m = importlib.import_module(module)
    try:
        versions = m.load(variant, threads)
        imported, at_import = clock(), memory_mb()
        case = m.make(workload)
        first, losses = [], []
        for _ in range(3):
            t = clock()
            result = case.step()
            first.append(clock() - t)
            losses.append(case.loss(result))
    except workloads.Unsupported as e:
        print(json.dumps({"unsupported": str(e)}), file=out)
        return
    third = clock() - started
    report = dict(
        versions=versions, import_s=imported - started, first=first, third_s=third, losses=losses,
        import_mb=at_import, third_mb=memory_mb(),
    )  # fmt: skip
    print(json.dumps(report), file=out)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while time.perf_counter() < end or len(times) < 5:
            t = clock()
            case.step()
            times.append((clock() - t) / case.inner)
        print(json.dumps({"times": times[:100_000], "rss_mb": memory_mb()}), file=out)


class Peer:
    """A running peer process."""

    script = __file__

    def __init__(self, name: str, workload: str, args: argparse.Namespace, cache: str = "") -> None:
        self.name, self.times, self.rss_mb = name, [], 0.0
        self.cache = cache or args.cache or tempfile.mkdtemp()
        command = [
            args.before if name == "before" else sys.executable,
            self.script,
            "--serve",
            name,
            "--workloads",
            workload,
            "--threads",
            str(args.threads),
            "--clock",
            args.clock,
        ]
        if args.threads == 1:
            command = ["taskset", "-c", args.core, *command]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, env=environment(args.threads, self.cache), text=True, cwd=HERE,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        self.report = self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.log.seek(0)
        return {"unsupported": "failed: " + (self.log.read().strip().splitlines() or ["no output"])[-1][:160]}

    def measure(self, seconds: float) -> None:
        if "unsupported" in self.report:
            return
        print(seconds, file=self.process.stdin, flush=True)
        answer = self.read()
        if "times" not in answer:
            self.report = answer
            return
        self.times.append(statistics.median(answer["times"]))
        self.rss_mb = answer["rss_mb"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)

    def forget(self, args: argparse.Namespace) -> None:
        """Remove the cache, if it is its own."""
        if self.cache != args.cache:
            shutil.rmtree(self.cache, ignore_errors=True)

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def bench(workload: str, args: argparse.Namespace) -> dict:
    names = args.peers.split(",")
    if counts.flops(workload) or counts.read_bytes(workload):
        names.append("limit")
    peers = [Peer(name, workload, args) for name in names]
    for peer in peers:
        peer.measure(args.seconds / 2)  # warm up, not counted
        peer.times.clear()
    for _ in range(args.rounds):
        for peer in peers:
            peer.measure(args.seconds)
    rows = {}
    for peer in peers:
        peer.close()
        warm = warm_start(peer, workload, args) if args.warm and peer.times else {}
        peer.forget(args)
        if not peer.times:
            rows[peer.name] = {"unsupported": peer.report.get("unsupported", "no times")}
            continue
        rows[peer.name] = dict(
            median_ms=peer.median * 1e3, spread=max(peer.times) / min(peer.times), rss_mb=peer.rss_mb,
            third_step_s=peer.report["third_s"], loss=peer.report["losses"][-1], import_s=peer.report["import_s"],
            above_mb=peer.rss_mb - peer.report["import_mb"], **warm,
        )  # fmt: skip
    return rows


def warm_start(peer: Peer, workload: str, args: argparse.Namespace) -> dict[str, float]:
    """Seconds to the end of the third step of a process that finds what an earlier one has cached, and its memory then."""
    again = Peer(peer.name, workload, args, peer.cache)
    again.close()
    return {"warm_s": again.report["third_s"], "warm_mb": again.report["third_mb"] - again.report["import_mb"]}


def show(workload: str, rows: dict) -> None:
    ours = rows.get("flambeau", {}).get("median_ms")
    print(f"\n{workload}")
    for name, row in rows.items():
        if "unsupported" in row:
            print(f"  {name:14s} -- {row['unsupported']}")
            continue
        ratio = f"{row['median_ms'] / ours:6.2f}x" if ours else ""
        print(
            f"  {name:14s} {row['median_ms']:11.5f} ms {ratio}  spread {row['spread']:.2f}"
            f"  3 steps {row['third_step_s']:6.2f} s"
            + (f" warm {row['warm_s']:5.2f} s {row['warm_mb']:4.0f} MB" if "warm_s" in row else "")
            + f"  peak {row['above_mb']:6.0f} MB  loss {row['loss']:.6f}",
            flush=True,
        )


def named(name: str) -> list[str]:
    """The workloads of a name: those of a group, or all whose names begin so, as W6. Ends the program for any other name."""
    found = GROUPS.get(name) or [w for w in workloads.ALL if w == name or w.startswith(f"{name}_")]
    if not found:
        sys.exit(f"There is no workload {name}. There are {', '.join([*GROUPS, *workloads.ALL])}.")
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", default="flambeau,torch_eager,torch_compile,jax,iree,numpy")
    p.add_argument("--workloads", default="spine", help=f"names or groups: {', '.join(GROUPS)}")
    p.add_argument("--before", default="", help="the Python of an environment with an earlier Flambeau")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--warm", action="store_true", help="also start every peer again with what it cached")
    p.add_argument("--core", default="1", help="the core to pin to with one thread")
    p.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: of a process, all its threads together"
    )
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.7)
    p.add_argument("--cache", default="", help="a cache folder to keep, for warm starts")
    p.add_argument("--out", default="", help="append a JSON line per workload to this file")
    p.add_argument("--serve", default="", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.serve:
        return serve(args.serve, args.workloads, args.threads, CLOCKS[args.clock])
    for chosen in list(map(named, args.workloads.split(","))):
        for workload in chosen:
            rows = bench(workload, args)
            show(workload, rows)
            if args.out:
                with open(args.out, "a") as f:
                    f.write(json.dumps({"workload": workload, "threads": args.threads, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
