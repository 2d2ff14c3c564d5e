"""`profile()`: where the time of a block goes, by kernels and the lines that they compute.

In: programs, watched, the clock read around every step of their plans. Out: a `profile` to print or to ask. Lines are looked up
when somebody asks, by going through the compiler's stages again. Next: `watching.py`, `compiler/tools/provenance.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from time import perf_counter
from typing import Any, Self

import numpy as np
from flambeau.border import publish
from flambeau.dialects.graph import Graph
from flambeau.programs import compiler_options
from flambeau.runtime import memory_stats, recorder, reset_peak
from flambeau.watching import ProgramRun, Watcher

_SHOWN = 20


@dataclass(frozen=True)
class ProfileRow:
    """What ran as one: the kernels of a fusion group, of all programs that have the same one at the same lines.

    kernels  their labels. `ops`: the ops that they compute, but for views; `lines`: those that recorded them ("file:line").
    calls    how often it ran, and the `seconds` of all calls together.
    bytes    of operands and results, and floating-point operations (`flops`, a multiply-add being two), of one call.
    limit    the share of the time that the machine's limit explains: what `bytes` or `flops` take at the least, over what a call
             took. The limits are those of a copy of large arrays and of a large product, measured here; what lies in a cache may
             be faster, so that this is above 1.
    """

    kernels: tuple[str, ...]
    ops: tuple[str, ...]
    lines: tuple[str, ...]
    calls: int
    seconds: float
    bytes: int
    flops: int
    limit: float


class _Timed:
    """The runs of an executable at certain sizes: nanoseconds of its plan's steps."""

    def __init__(self, run: ProgramRun, steps: int) -> None:
        self.executable, self.sizes = run.executable, tuple(run.sizes)
        self.times, self.runs = np.zeros(steps, np.int64), 0


class profile(Watcher):
    """`with profile() as p:` measures the steps of all programs that run in the block; `print(p)` shows them, the longest first,
    with ops, lines, rates, and how near they are to the machine's limit. Programs are those that run without it, with the same
    kernels and the same memory; the clock is read around each step, and runs come through Python, which costs some microseconds
    each. Everything is compiled before it is timed. Programs that run op by op are not in it.

    `seconds` is the block's time, `compiling` what of it was spent on compiling, `peak_bytes` the most memory of tensors and
    temporaries that was held within it. `rows` are `ProfileRow`s."""

    def __init__(self) -> None:
        super().__init__(compiler_options(mode="blocking"))
        self._timed: dict[tuple[int, tuple[int, ...]], _Timed] = {}
        self._began = 0.0
        self.seconds = self.compiling = 0.0
        self.peak_bytes = 0

    def enter(self) -> Self:
        super().enter()
        reset_peak()
        self._began = perf_counter()
        return self

    def leave(self) -> None:
        if self._began:
            recorder.flush()
            self.seconds += perf_counter() - self._began
            self.peak_bytes = max(self.peak_bytes, memory_stats()["peak_bytes"])
            self._began = 0.0
        super().leave()

    def watch(self, run: ProgramRun, usual: Callable[..., list[Any]]) -> list[Any]:
        began = perf_counter()
        key = id(run.executable), tuple(run.sizes)
        found = self._timed.get(key)
        if found is None:
            plan = run.executable.ready(run.sizes)
            self.compiling += perf_counter() - began
            if plan is None:  # op by op: the options say so, or it could not be compiled
                return usual(given=run.may_take)
            found = self._timed[key] = _Timed(run, plan.steps)
        found.runs += 1
        return usual(given=run.may_take, times=found.times)

    @property
    def rows(self) -> list[ProfileRow]:
        """What ran, the longest first."""
        found: dict[tuple, list[ProfileRow]] = {}
        for timed in list(self._timed.values()):
            for row in _rows(timed):
                found.setdefault((row.kernels, row.lines, row.bytes), []).append(row)
        return sorted((_together(rows) for rows in found.values()), key=lambda r: -r.seconds)

    def __str__(self) -> str:
        rows = self.rows
        inside = sum(r.seconds for r in rows)
        table: list[tuple[str, ...]] = [("ms", "share", "calls", "GFLOP/s", "GB/s", "limit", "kernel", "ops", "lines")]
        table += [_shown(row, inside) for row in rows[:_SHOWN]]
        widths = [max(len(line[i]) for line in table) for i in range(8)]
        lines = [
            "  ".join(
                [*(x.rjust(w) for x, w in zip(line[:6], widths)), *(x.ljust(w) for x, w in zip(line[6:8], widths[6:]))]
            )
            + f"  {line[8]}"
            for line in table
        ]
        if len(rows) > _SHOWN:
            lines.append(f"... and {len(rows) - _SHOWN} more")
        outside = max(0.0, self.seconds - inside - self.compiling)
        lines.append(
            f"{inside * 1e3:.3g} ms in kernels, {outside * 1e3:.3g} ms outside of them, {self.compiling * 1e3:.3g} ms compiling; "
            f"at most {self.peak_bytes / 1e6:.3g} MB of memory"
        )
        return "\n".join(line.rstrip() for line in lines)


def _rows(timed: _Timed) -> list[ProfileRow]:
    compiled = timed.executable.compiled
    origins = importlib.import_module("flambeau.compiler.tools.provenance").origins
    graph: Graph = timed.executable.graph
    steps = origins(graph, compiled.options, timed.sizes)
    if len(steps) != len(timed.times):  # a plan from other sizes that serves these
        steps = [steps[0]._replace(kernel="program", cluster=0)] * len(timed.times) if steps else []
    pairs = sorted(zip(steps, timed.times.tolist()), key=lambda pair: pair[0].cluster)
    return [_row([*group], timed.runs) for _, group in groupby(pairs, key=lambda pair: pair[0].cluster)]


def _row(steps: Sequence[tuple[Any, int]], runs: int) -> ProfileRow:
    first, seconds = steps[0][0], sum(ns for _, ns in steps) * 1e-9
    kernels = tuple(dict.fromkeys(step.kernel for step, _ in steps))
    return ProfileRow(
        kernels,
        first.ops,
        first.lines,
        runs,
        seconds,
        first.bytes,
        first.flops,
        _limit(first.bytes, first.flops, seconds / runs),
    )


def _together(rows: Sequence[ProfileRow]) -> ProfileRow:
    first, calls, seconds = rows[0], sum(r.calls for r in rows), sum(r.seconds for r in rows)
    limit = _limit(first.bytes, first.flops, seconds / calls)
    return ProfileRow(first.kernels, first.ops, first.lines, calls, seconds, first.bytes, first.flops, limit)


def _limit(moved: int, flops: int, seconds: float) -> float:
    bandwidth, peak = machine_limits()
    return max(moved / bandwidth, flops / peak) / seconds if seconds else 0.0


@cache
def machine_limits() -> tuple[float, float]:
    """Bytes and floating-point operations a second on one thread, as far as a copy of large arrays and a product in float32 of a
    library reach them: the best of a few tries."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    x, out = np.ones((768, 768), np.float32), np.empty((768, 768), np.float32)
    copy = min(_seconds(lambda: np.copyto(target, source)) for _ in range(5))
    product = min(_seconds(lambda: np.matmul(x, x, out=out)) for _ in range(5))
    return 2 * source.nbytes / copy, 2 * 768**3 / product


def _seconds(call: Callable[[], Any]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def _shown(row: ProfileRow, total: float) -> tuple[str, ...]:
    each = row.seconds / row.calls if row.seconds else float("inf")
    return (
        f"{row.seconds * 1e3:.3f}",
        f"{row.seconds / total:.0%}" if total else "-",
        str(row.calls),
        f"{row.flops / each * 1e-9:.3g}",
        f"{row.bytes / each * 1e-9:.3g}",
        f"{row.limit:.2f}",
        _few(row.kernels, 2),
        _few(row.ops, 4),
        _few(
            [
                f"{file}:{','.join(n for _, n in group)}"
                for file, group in groupby(map(_split, row.lines), key=lambda x: x[0])
            ],
            3,
        ),
    )


def _split(line: str) -> tuple[str, str]:
    file, _, number = line.rpartition(":")
    return file.rpartition("/")[2], number


def _few(texts: Sequence[str], most: int) -> str:
    return " ".join(texts[:most]) + (f" +{len(texts) - most}" if len(texts) > most else "")


publish(globals(), ["profile"])
