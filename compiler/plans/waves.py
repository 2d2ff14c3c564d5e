"""Steps that run side by side: independent ones that are too small to be split among threads.

In: a program's steps in order, what may fail first. Out: the same steps, those of a *wave* one after the other and numbered
(`Step.wave`); a step may have moved in front of others that it does not depend on. Whoever places memory keeps apart what the
steps of a wave touch. With one thread they run as they stand. Next: `plan.py`; `runtime/src/plan_waves.c`, which runs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from flambeau.compiler.kernel import Cluster
from flambeau.compiler.plans.steps import Step
from flambeau.dialects import size_scopes
from flambeau.dialects.aval import CPU
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.size import hint
from flambeau.runtime.plan_spec import MAX_WAVE

#: A step that takes longer, as `cost.nanoseconds` has it, is left to its own chunks, if it has several.
LONG_NS = 50_000
#: What two threads must save to be worth a wave: waking one, and waiting for it.
WAKE_NS = 5_000
#: What the steps of a wave write in all, at most: with one thread, too, it waits in the cache for its readers.
WRITTEN_BYTES = 1 << 20
#: How far ahead steps are looked for.
AHEAD = 32


def find(steps: Sequence[Step], n_kept: int, n_fallible: int, updated: dict[int, int]) -> list[Step]:
    """The steps, waves together; the first `n_kept` stay as they are, and none leaves the part that may fail, or the other one.
    `updated`: id of the block of an output -> id of that of the input that it replaces, whose readers stay in front of what may
    be written over it."""
    costs, made = _Costs(steps[n_kept:]), count(1)
    found = list(steps[:n_kept])
    for part in (steps[n_kept:n_fallible], steps[n_fallible:]):
        found += _arranged([_Candidate.of(s, costs, updated) for s in part], made)
    return found


class _Costs:
    """How many nanoseconds a call takes: an equal share of what its cluster does."""

    def __init__(self, steps: Sequence[Step]) -> None:
        scope = size_scopes.current()
        self._sizes = tuple(scope.hints) if scope else ()
        self._shares = Counter(id(s.cluster) for s in steps)
        self._totals: dict[tuple[str, int], int] = {}

    def of(self, cluster: Cluster) -> int:
        key = ("cluster", id(cluster)) if cluster.form is None else ("form", cluster.form)
        if key not in self._totals:
            graph = replace(cluster.graph, sizes=self._sizes) if self._sizes else cluster.graph
            self._totals[key] = nanoseconds(graph)
        return self._totals[key] // self._shares[id(cluster)]


@dataclass
class _Candidate:
    """A step and what decides where it may go: ids of the blocks that it reads and writes, nanoseconds, bytes written."""

    step: Step
    read: set[int]
    written: set[int]
    cost: int
    bytes: int
    joins: bool  # a wave
    is_placed: bool = False

    @staticmethod
    def of(step: Step, costs: _Costs, updated: dict[int, int]) -> _Candidate:
        written = {id(b) for b in step.written()}
        cluster, call = step.cluster, step.call
        is_ours = cluster is not None and cluster.device == CPU and bool(call.source.text) and not call.source.is_host
        size = sum(hint(b.bytes) for b in step.written())
        cost = costs.of(cluster) if cluster is not None and is_ours and size <= WRITTEN_BYTES else 0
        return _Candidate(
            step,
            {id(b) for b in step.read()},
            written | {updated[b] for b in written if b in updated},
            cost,
            size,
            cost > 0 and (cost < LONG_NS or hint(call.n) <= hint(call.grain)),
        )


def _arranged(members: list[_Candidate], made: Iterator[int]) -> list[Step]:
    """The steps, each wave where its first one stands."""
    found = []
    for k, member in enumerate(members):
        if member.is_placed:
            continue
        wave = _beside(members, k) if member.joins else []
        if _saved(wave) >= WAKE_NS:
            number = next(made)
            for other in wave:
                other.step.wave, other.is_placed = number, True
            found += [other.step for other in wave]
        else:
            found.append(member.step)
    return found


def _beside(members: list[_Candidate], k: int) -> list[_Candidate]:
    """Member k and those behind it that may run beside it: they touch nothing that is written by what they would overtake, and
    write nothing that it reads."""
    first = members[k]
    wave, size = [first], first.bytes
    read, written = set(first.read), set(first.written)
    for other in islice((m for m in islice(members, k + 1, None) if not m.is_placed), AHEAD):
        fits = other.joins and size + other.bytes <= WRITTEN_BYTES and len(wave) < MAX_WAVE
        if fits and written.isdisjoint(other.read | other.written) and read.isdisjoint(other.written):
            wave.append(other)
            size += other.bytes
        read |= other.read
        written |= other.written
    return wave


def _saved(wave: Sequence[_Candidate]) -> int:
    """The nanoseconds that two threads take less for these steps than one does."""
    total = sum(m.cost for m in wave)
    return total - max(total // 2, max((m.cost for m in wave), default=0))
