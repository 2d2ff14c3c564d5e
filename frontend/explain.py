"""What was recorded, run and compiled, and where: `flambeau.explain()`.

In: the recorder's counters and log, the compiler's reports. Out: an `Explanation` to print or to ask. Next: the
recorder's `explain_log`, `flambeau.compiler.tools.report`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from flambeau.declarations import Unsampled, declared
from flambeau.runtime import recorder

_SHOWN = 12


class Event(NamedTuple):
    """Something the recorder did `times` times: a "miss" (a rule ran; `detail` names what differed from the nearest call
    seen before), a "build" or "widen" (a program was made), a "walk" (what was new and short ran
    call by call), or a "flush", with the user's line."""

    kind: str
    file: str | None
    line: int
    name: str
    detail: str
    times: int

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else "(unknown line)"
        what = " ".join(x for x in (self.name, self.detail) if x)
        return f"{self.times:6d} x  {place}  {what}"


class Kept(NamedTuple):
    """What is held now for gradients that may still be asked for: so many values, of so many bytes, from so many recordings
    that have run. A value that two of them hold counts twice. Where these numbers grow from step to step, something keeps
    results with their history: a list of losses, say."""

    recordings: int
    values: int
    bytes: int

    def __str__(self) -> str:
        return f"Gradients keep {self.values} values ({self.bytes} bytes) of {self.recordings} recordings."


@dataclass(frozen=True)
class Explanation:
    """Counters of this process. `programs` is how many programs were built, `reports` says what became of each, `kept` what
    gradients hold. With `shows_schedules` its text has the schedule of every kernel, by the kernel's label."""

    hits: int
    misses: int
    flushes: int
    failures: int
    programs: int
    events: tuple[Event, ...]
    reports: tuple[Any, ...]
    kept: Kept
    shows_schedules: bool = False

    @property
    def schedules(self) -> list[tuple[str, str]]:
        """Label and schedule of every kernel that was compiled, each pair once."""
        pairs = [pair for r in self.reports for pair in zip(r.kernels, r.schedules, strict=True)]
        return list(dict.fromkeys(pair for pair in pairs if pair[1]))

    @property
    def unread_schedules(self) -> list[str]:
        """Patterns of `compiler_options(schedules=...)` that meant no kernel of any program that was compiled with them."""
        fused = [r for r in self.reports if r.tier == "fused"]
        read = {p for r in fused for p in r.patterns if p not in r.unread}
        return [p for p in dict.fromkeys(p for r in fused for p in r.patterns) if p not in read]

    def __str__(self) -> str:
        tiers = Counter(r.tier for r in self.reports)
        lines = [
            f"Flambeau recorded {self.hits + self.misses} calls ({self.misses} new), flushed {self.flushes} times, "
            f"built {self.programs} programs ({tiers['fused']} fused, {tiers['generic']} op by op).",
        ]
        lines += [str(self.kept)] if self.kept.recordings else []
        lines += _section("programs", [_program(r) for r in self.reports])
        if unread := self.unread_schedules:
            named = ", ".join(f"'{p}'" for p in unread)
            lines += [
                f"schedules that no kernel took: {named}. explain(schedules=True) shows kernels and their fields."
            ]
        if self.shows_schedules:
            lines += ["schedules of kernels:", *(f"  {label}: {schedule}" for label, schedule in self.schedules)]
        for kind, title in (("flush", "flushes"), ("build", "programs built at"), ("miss", "new calls")):
            found = sorted((e for e in self.events if e.kind == kind), key=lambda e: -e.times)
            lines += _section(title, list(map(str, found)))
        return "\n".join(lines)


def _section(title: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    more = [f"  ... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return [f"{title}:", *(f"  {row}" for row in rows[:_SHOWN]), *more]


def _program(report: Any) -> str:
    made = f"{report.origin}, {report.seconds * 1e3:.0f} ms" if report.origin else "not fused"
    failed = f"  FAILED: {report.error.splitlines()[0]} ({report.reproducer})" if report.error else ""
    kernels = ", ".join(report.kernels[:4]) + (f", {len(report.kernels) - 4} more" if len(report.kernels) > 4 else "")
    return (
        f"{report.tier:8s} {made:22s} {report.ops:4d} ops in {report.steps:3d} steps  {kernels}{_sizes(report)}{failed}"
    )


def _sizes(report: Any) -> str:
    """How a program whose extents differ from run to run is served."""
    if not report.symbols:
        return ""
    plans = f"  for {report.symbols} sizes known at run time only, {len(report.plans)} plans"
    full = "; no more are made, other sizes run op by op" if report.is_full else ""
    pinned = f"; ONE SIZE ONLY: {report.pinned.splitlines()[0]}" if report.pinned else ""
    return plans + full + pinned


def _log() -> Iterable[tuple[tuple[str, str | None, int, str, str], int]]:
    return recorder.explain_log().items()


@declared(free="flambeau", samples=Unsampled("tells what the process did"))
def explain(schedules: bool = False) -> Explanation:
    """What happened so far in this process; print it, or read its fields. With `schedules` it shows how each kernel is looped, in
    the words that `compiler_options(schedules=...)` takes."""
    stats = recorder.stats()
    report = importlib.import_module("flambeau.compiler.tools.report")
    events = tuple(Event(*key, times) for key, times in _log())
    return Explanation(
        hits=stats["hits"],
        misses=stats["misses"],
        flushes=stats["flushes"],
        failures=stats["failures"],
        programs=stats["builds"],
        events=events,
        reports=tuple(report.programs()),
        kept=Kept(stats["histories"], stats["kept_values"], stats["kept_bytes"]),
        shows_schedules=schedules,
    )
