"""Programs whose sizes change from step to step, Flambeau beside its peers.

    python benchmarks/decode.py --tasks decode,train --peers flambeau,torch_eager,torch_compile,jax,jax_pad

decode: greedy decoding of 256 tokens with a small GPT (4 layers, width 256, 8 heads, batch 1), the key-value cache growing
by one position per token; JAX, as its users do, writes into a cache of the full length. train: a training step of a
small transformer (2 layers, width 128, batch 8, AdamW) with 40 different sequence lengths from 16 to 256.

Every peer runs in a process of its own and takes turns with the others, `--rounds` episodes each after a cold one. Their
tokens have to be the same, and their losses close. The table shows the cold episode (it includes compilation), the
medians of a step and of an episode over the warm ones, how many times faster Flambeau is, and what was compiled.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

import run  # noqa: E402

PEERS = {
    "flambeau": ("gpt_torch", "flambeau"),
    "before": ("gpt_torch", "flambeau"),
    "torch_eager": ("gpt_torch", "eager"),
    "torch_compile": ("gpt_torch", "compile"),
    "jax": ("gpt_jax", "jit"),
    "jax_pad": ("gpt_jax", "pad"),
}
TASKS = ("decode", "train")


def serve(peer: str, task: str, threads: int) -> None:
    """A peer's process: an episode at once, then one per line on standard input."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, variant = PEERS[peer]
    clock = time.perf_counter
    m = importlib.import_module(module)
    m.load(variant, threads)
    case = getattr(m, task)()
    while True:
        started = clock()
        case.begin()
        times, answers = [], []
        for i in range(case.steps):
            t = clock()
            answers.append(case.step(i))
            times.append(clock() - t)
        answer = dict(
            times=times, total=clock() - started, answers=answers, compilations=case.compilations(), rss_mb=run.memory_mb()
        )  # fmt: skip
        print(json.dumps(answer), file=out)
        if not sys.stdin.readline():
            return


class Peer(run.Peer):
    """A running peer process; `report` is its cold episode."""

    script = __file__

    def __init__(self, name: str, task: str, args: argparse.Namespace) -> None:
        self.episodes: list[dict] = []
        super().__init__(name, task, args)

    def episode(self) -> None:
        if "times" in self.report:
            print(file=self.process.stdin, flush=True)
            self.episodes.append(self.read())

    def row(self, first: Peer) -> dict:
        if "times" not in self.report:
            return self.report
        check(self, first)
        last = self.episodes[-1]
        return dict(
            cold_s=self.report["total"], step_ms=statistics.median(t for e in self.episodes for t in e["times"]) * 1e3,
            episode_s=statistics.median(e["total"] for e in self.episodes),
            compilations=last["compilations"], rss_mb=last["rss_mb"],
        )  # fmt: skip


def check(peer: Peer, first: Peer) -> None:
    """Tokens are the same, losses of the cold episode close."""
    ours, theirs = first.report["answers"], peer.report["answers"]
    if not all(a == b if isinstance(a, int) else math.isclose(a, b, rel_tol=1e-3) for a, b in zip(ours, theirs)):
        raise SystemExit(f"{peer.name} computes something else than {first.name}: {theirs[:8]} instead of {ours[:8]}")


def bench(task: str, args: argparse.Namespace) -> dict[str, dict]:
    names = [n for n in args.peers.split(",") if task == "train" or n != "jax_pad"]
    peers = [Peer(name, task, args) for name in names]
    for _ in range(args.rounds):
        for peer in peers:
            peer.episode()
    rows = {peer.name: peer.row(peers[0]) for peer in peers}
    for peer in peers:
        peer.close()
        peer.forget(args)
    return rows


def show(task: str, rows: dict[str, dict]) -> None:
    ours = rows.get("flambeau", {})
    print(f"\n{task}")
    for name, row in rows.items():
        if "step_ms" not in row:
            print(f"  {name:14s} -- {row.get('unsupported', 'no times')}")
            continue
        ratio = f"{row['episode_s'] / ours['episode_s']:6.2f}x" if "episode_s" in ours else ""
        print(
            f"  {name:14s} step {row['step_ms']:9.3f} ms  episode {row['episode_s']:7.3f} s {ratio}"
            f"  cold {row['cold_s']:7.2f} s  {row['compilations']:3d} compiled  peak {row['rss_mb']:6.0f} MB",
            flush=True,
        )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", default=",".join(name for name in PEERS if name != "before"))
    p.add_argument("--tasks", default=",".join(TASKS))
    p.add_argument("--before", default="", help="the Python of an environment with an earlier Flambeau, for that peer")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--core", default="1", help="the core to pin to with one thread")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--cache", default="", help="a cache folder to keep, for warm starts")
    p.add_argument("--clock", default="wall", help=argparse.SUPPRESS)
    p.add_argument("--out", default="", help="append a JSON line per task to this file")
    p.add_argument("--serve", default="", help=argparse.SUPPRESS)
    p.add_argument("--workloads", default="", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.serve:
        return serve(args.serve, args.workloads, args.threads)
    os.environ.setdefault("FLAMBEAU_STRICT_SIZES", "1")  # nothing is compiled for one size only without saying so
    for task in args.tasks.split(","):
        rows = bench(task, args)
        show(task, rows)
        if args.out:
            with open(args.out, "a") as f:
                f.write(json.dumps({"task": task, "threads": args.threads, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
