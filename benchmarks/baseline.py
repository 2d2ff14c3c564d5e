"""Before anything is compiled: programs run op by op, Flambeau beside PyTorch, on an idle and on a busy machine.

    python benchmarks/baseline.py [--spin 2] [--seconds 3]

Microseconds per operation on the slow tier: the workers make one-op plans and are kept from making larger ones. Then what is seen
for the first time, each library in a process of its own after it was imported, without any cache and with what an earlier
process left: the first hundred steps of a small MLP, and 600 different small programs, without and with gradients. `--spin`
processes that only count keep the machine busy meanwhile. Times are medians on one thread; both libraries take turns.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from turns import Step, count, find_torch, medians

TURN, TURNS = 2e-3, 21


def array(m: ModuleType, *shape: int) -> Any:
    return m.tensor(np.linspace(0.5, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape))


def adds(m: ModuleType) -> Step:
    """A hundred additions, of which the last is read."""
    x, y = array(m, 16), array(m, 16)

    def step() -> float:
        z = x
        for _ in range(100):
            z = z + y
        return z[0].item()

    return step


def mixed(m: ModuleType) -> Step:
    """Twelve different operations, and one look."""
    x, y = array(m, 16), array(m, 16)

    def step() -> float:
        z = (x + y) * x - y
        z = m.maximum(z.exp() / x, y).abs().sqrt().tanh()
        return m.where(z > y, z, x).sum().item()

    return step


def row(m: ModuleType) -> Step:
    x, at = array(m, 20, 20), 0

    def step() -> float:
        nonlocal at
        at = (at + 1) % 20
        return x[at].sum().item()

    return step


#: What is timed, and how many operations a call has.
CASES: dict[str, tuple[Callable[[ModuleType], Step], int]] = {
    "z + y, one of 100": (adds, 100),
    "x.max().item()": (lambda m: (lambda x: lambda: x.max().item())(array(m, 16)), 1),
    "b[10:20].sum().item()": (lambda m: (lambda b: lambda: b[10:20].sum().item())(array(m, 100)), 1),
    "x[i].sum().item()": (row, 1),
    "12 different operations, one look": (mixed, 1),
}


# ---- what is known, but not compiled --------------------------------------------------------------------------


def slow_tier() -> None:
    """From now on nothing but one-op programs is compiled."""
    from flambeau.compiler.compiled import Compiled

    Compiled._start_build = lambda *args: None  # type: ignore[method-assign]
    Compiled._from_disk = lambda *args: False  # type: ignore[method-assign]


def repeated(step: Step, seconds: float) -> int:
    """Run for some time; gives how many calls then make a turn."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        step()
    return count(step, TURN, tries=5)


def known(seconds: float) -> None:
    import flambeau as fb

    slow_tier()
    modules = {"flambeau": fb, **({"torch": torch} if (torch := find_torch()) else {})}
    for name, (case, n) in CASES.items():
        steps = {k: case(m) for k, m in modules.items()}
        counts = {k: repeated(step, seconds if k == "flambeau" else 0.1) for k, step in steps.items()}
        found = medians(steps, counts, TURNS)
        show(name, {k: us / n for k, us in found.items()}, "us")


# ---- what is new ----------------------------------------------------------------------------------------------


def hundred_steps(m: ModuleType) -> None:
    """The first steps of an MLP."""
    m.manual_seed(0)
    model = m.nn.Sequential(m.nn.Linear(16, 32), m.nn.Tanh(), m.nn.Linear(32, 4))
    optimizer = m.optim.Adam(model.parameters(), lr=1e-3)
    x, y = array(m, 8, 16), array(m, 8, 4)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        loss.item()


def programs(m: ModuleType, differentiate: bool = False) -> None:
    """600 different programs of 5 to 15 operations."""
    for seed in range(600):
        r = random.Random(seed)
        x, y = m.ones((r.choice((2, 3, 5, 7)), r.choice((3, 4, 6, 8, 12, 16)))), m.tensor(0.5)
        operations = (
            lambda z: z + x,  # noqa: B023
            lambda z: z * y,  # noqa: B023
            lambda z: z - x,  # noqa: B023
            lambda z: m.maximum(z, x),  # noqa: B023
            lambda z: (z * 0.1).exp(),
            lambda z: z.tanh(),
            lambda z: z.abs(),
            lambda z: -z,
        )
        z = x.requires_grad_() * 1.5 if differentiate else x
        for operation in r.choices(operations, k=r.randint(5, 15)):
            z = operation(z)
        z = z.sum() if seed % 2 else z.mean(0).max()
        if differentiate:
            z.backward()
            z = x.grad[0, 0]
        z.item()


NEW = {
    "the first 100 steps of an MLP": hundred_steps,
    "600 different programs": programs,
    "600 different programs and gradients": lambda m: programs(m, differentiate=True),
}


def first(library: str, name: str) -> None:
    """In a process of its own."""
    m = __import__(library)
    if library == "torch":
        m.set_num_threads(1)
    began = time.perf_counter()
    NEW[name](m)
    print((time.perf_counter() - began) * 1e3)


def new(library: str, name: str, cache: str) -> float:
    environment = {**os.environ, "FLAMBEAU_CACHE": cache}
    command = [sys.executable, __file__, "--first", library, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


# ---- all of it ------------------------------------------------------------------------------------------------


@contextmanager
def spinning(n: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def show(name: str, times: dict[str, float], unit: str) -> None:
    ours, theirs = times["flambeau"], times.get("torch")
    rest = "" if theirs is None else f"   PyTorch {theirs:9.2f}   x {theirs / ours:.2f}"
    print(f"{name:44} {ours:9.2f} {unit}{rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spin", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--first", nargs=2)
    args = parser.parse_args()
    if args.first:
        first(*args.first)
        return
    os.environ["FLAMBEAU_COMPILE"] = "background"
    with spinning(args.spin):
        known(args.seconds)
        theirs = find_torch() is not None
        for name in NEW:
            peer = {"torch": new("torch", name, "")} if theirs else {}
            with tempfile.TemporaryDirectory() as cache:
                for what in ("no cache", "again"):
                    show(f"{name}, {what}", {"flambeau": new("flambeau", name, cache), **peer}, "ms")


if __name__ == "__main__":
    main()
