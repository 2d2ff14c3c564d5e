"""`autograd.profiler`: where time goes, under PyTorch's names.

In: blocks. Out: `profile`, with a row for each kernel that ran and each block that `record_function` names. Next: `profiling.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, Self

from flambeau import border as _border
from flambeau import profiling
from flambeau.runtime import recorder


@dataclass(frozen=True)
class FunctionEventAvg:
    """What ran under one name: how often, and microseconds of all calls together."""

    key: str
    count: int
    cpu_time_total: float

    @property
    def cpu_time(self) -> float:
        """Microseconds of one call."""
        return self.cpu_time_total / self.count

    @property
    def self_cpu_time_total(self) -> float:
        """As `cpu_time_total`: kernels call nothing."""
        return self.cpu_time_total


class EventList(list):
    """Rows, and their text."""

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all rows."""
        return sum(row.cpu_time_total for row in self)

    def total_average(self) -> FunctionEventAvg:
        """All rows as one."""
        return FunctionEventAvg("Total", sum(row.count for row in self), self.self_cpu_time_total)

    def table(self, sort_by: str | None = None, row_limit: int = 100, **_: Any) -> str:
        """The rows as text, the ones with most of `sort_by` ("cpu_time_total", "cpu_time", "count") first. Other arguments, and
        names of times of other devices, change nothing."""
        given = str(sort_by or "").removeprefix("self_")
        key = given if given in ("count", "cpu_time") else "cpu_time_total"
        rows = sorted(self, key=lambda row: -getattr(row, key)) if sort_by else list(self)
        lines = [("Name", "CPU total us", "CPU time avg us", "# of Calls")]
        lines += [(r.key, f"{r.cpu_time_total:.3f}", f"{r.cpu_time:.3f}", str(r.count)) for r in rows[:row_limit]]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        text = [
            " ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:]))]) for line in lines
        ]
        return "\n".join([*text, f"Self CPU time total: {self.self_cpu_time_total:.3f}us"])


#: The profiles that are on, the outermost first.
_on: list[profile] = []


class profile:
    """`with profile() as p:` measures what runs in the block: `p.key_averages().table()`. Kernels are named by the ops that they
    compute. Of the arguments `enabled` counts: without it nothing is measured. More is in `flambeau.profile`."""

    def __init__(self, enabled: bool = True, **_: Any) -> None:
        self.enabled, self._kernels = enabled, profiling.profile() if enabled else None
        self._blocks: list[tuple[str, float, float]] = []

    def __enter__(self) -> Self:
        if self._kernels is not None:
            self._kernels.__enter__()
            _on.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._kernels is not None:
            _on.remove(self)
            self._kernels.__exit__(*error)

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, **_: Any) -> EventList:
        """A row for each name; shapes and stacks are not told apart."""
        found: dict[str, tuple[int, float]] = {}
        rows = [] if self._kernels is None else self._kernels.rows
        spans = [(" ".join(r.ops) or ", ".join(r.kernels), r.calls, r.seconds) for r in rows]
        for name, calls, seconds in [*spans, *((name, 1, end - start) for name, start, end in self._blocks)]:
            before = found.get(name, (0, 0.0))
            found[name] = before[0] + calls, before[1] + seconds
        return EventList(FunctionEventAvg(name, n, seconds * 1e6) for name, (n, seconds) in found.items())

    def total_average(self) -> FunctionEventAvg:
        """All rows as one."""
        return self.key_averages().total_average()

    @property
    def function_events(self) -> EventList:
        """The rows."""
        return self.key_averages()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all rows."""
        return self.key_averages().self_cpu_time_total

    def table(self, sort_by: str | None = None, row_limit: int = 100, **more: Any) -> str:
        """The rows as text: see `EventList.table`."""
        return self.key_averages().table(sort_by, row_limit, **more)

    def export_chrome_trace(self, path: str) -> None:
        """Write the blocks of `record_function`, and kernels by their sums, for a browser's `chrome://tracing`."""
        begun = min((start for _, start, _ in self._blocks), default=0.0)
        spans = [(name, (start - begun) * 1e6, (end - start) * 1e6) for name, start, end in self._blocks]
        names = {name for name, _, _ in spans}
        at = 0.0
        for row in self.key_averages():
            if row.key not in names:
                spans.append((row.key, at, row.cpu_time_total))
                at += row.cpu_time_total
        events = [
            {"name": n, "ph": "X", "ts": ts, "dur": d, "pid": 0, "tid": int(n not in names)} for n, ts, d in spans
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events}, file)

    def __str__(self) -> str:
        return self.table(sort_by="cpu_time_total")


class record_function:
    """`with record_function("name"):`, or as a decorator: the block is a row of the profiles that are on. While one is on, what the
    block has recorded is run at its end, so that its time is in it; else this does nothing."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args
        self._began: list[float] = []

    def __enter__(self) -> Self:
        if _on:
            recorder.flush()
        self._began.append(perf_counter())
        return self

    def __exit__(self, *error: Any) -> None:
        began = self._began.pop()
        if _on:
            recorder.flush()
            for each in _on:
                each._blocks.append((self.name, began, perf_counter()))

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return named


class _Emit:
    """A block whose ops are told to another profiler. Raises RuntimeError: there is none that could be told."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.enabled = enabled

    def __enter__(self) -> Self:
        if self.enabled:
            raise RuntimeError(
                f"[{type(self).__name__}] there is no profiler of another maker to tell. Use profile(), or enabled=False."
            )
        return self

    def __exit__(self, *error: Any) -> None:
        pass


class emit_nvtx(_Emit):
    """`with emit_nvtx():` would name ops for NVIDIA's profilers. Raises RuntimeError unless `enabled` is False."""


class emit_itt(_Emit):
    """`with emit_itt():` would name ops for Intel's profilers. Raises RuntimeError unless `enabled` is False."""


__all__ = ["EventList", "FunctionEventAvg", "emit_itt", "emit_nvtx", "profile", "record_function"]

_border.publish(globals(), __all__)
