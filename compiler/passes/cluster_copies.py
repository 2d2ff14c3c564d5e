"""Repeats of a program whose groups are copied from the repeat before instead of being formed again.

In: the forms of nodes, in the order that clustering goes through. Out: `Stretch`es of nodes that repeat themselves, and
the groups of one repeat on the values of the next. A repeat begins at a *clean* cut, which no group reaches over; the period alone
does not say where that is, the groups of the first repeats do. Next: `cluster.py`, which forms those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from flambeau.compiler.passes.cluster_groups import Clustering, OpenGroup

#: Nodes by whose forms a repeat is recognised, the least that is one, and how many it takes to be worth looking at.
_SEEN = 8
_LEAST = 24
_REPEATS = 4
#: Places where the same was seen before that are tried: a layer has parts that are equal, too.
_TRIED = 8


class Stretch(NamedTuple):
    """Nodes `begin` to `end` (without it): those from `begin + period` on have the forms of those `period` before."""

    begin: int
    period: int
    end: int


def runs(forms: Sequence[int | None]) -> list[Stretch]:
    """The stretches that repeat themselves at least `_REPEATS` times, in order; they do not overlap."""
    found, places, i = list[Stretch](), dict[tuple[int | None, ...], list[int]](), 0
    while i + _SEEN <= len(forms):
        before = places.setdefault(tuple(forms[i : i + _SEEN]), [])
        run = _run_at(forms, i, before)
        if run is not None and run.end - run.begin >= _REPEATS * run.period:
            found.append(run)
            places.clear()
            i = run.end
            continue
        before.append(i)
        del before[:-_TRIED]
        i += 1
    return found


def _run_at(forms: Sequence[int | None], i: int, before: Iterable[int]) -> Stretch | None:
    """The run whose second repeat begins at a node, if there is one."""
    for begin in reversed(list(before)):
        period = i - begin
        if period < _LEAST or forms[begin:i] != forms[i : i + period] or None in forms[begin:i]:
            continue
        end = i + period
        while forms[end : end + period] == forms[begin:i]:
            end += period
        return Stretch(begin, period, end)
    return None


def clean_cut(begin: int, period: int, groups: Iterable[OpenGroup]) -> int | None:
    """A node of the repeat from `begin` on that no group of it and the next reaches over, nor over the one a period later."""
    over = [0] * (2 * period + 1)
    for group in groups:
        if group.last > begin and group.first < begin + 2 * period:
            over[max(group.first + 1 - begin, 0)] += 1
            over[min(group.last + 1 - begin, 2 * period)] -= 1
    reached, clean = 0, list[bool]()
    for change in over:
        reached += change
        clean.append(not reached)
    return next((begin + k for k in range(1, period) if clean[k] and clean[k + period]), None)


def within(groups: Iterable[OpenGroup], begin: int) -> list[OpenGroup] | None:
    """The groups of the nodes from `begin` on, or None if one of them has earlier nodes, too."""
    found = [group for group in groups if group.last >= begin]
    return found if all(group.first >= begin for group in found) else None


class Copies:
    """Copies the groups of the `period` nodes from `begin` on to the same nodes of later repeats."""

    def __init__(
        self, program: Clustering, begin: int, period: int, groups: Sequence[OpenGroup], waiting: set[int]
    ) -> None:
        self.program, self.begin, self.period, self.groups = program, begin, period, groups
        self.waiting = waiting  # nodes that join none
        self._is_possible = not any(group.is_scalar for group in groups)  # numbers gather from everywhere

    def at(self, begin: int) -> list[OpenGroup] | None:
        """The groups of the repeat that begins at a node, or None if it is not the same."""
        names = self._names(begin) if self._is_possible else None
        if names is None:
            return None
        apart = begin - self.begin
        return [
            replace(
                group,
                nodes=[i + apart for i in group.nodes],
                values=[names[v] for v in group.values],
                reads={names[v]: None for v in group.reads},
                product=None if group.product is None else names[group.product],
            )
            for group in self.groups
        ]

    def _names(self, begin: int) -> dict[int, int] | None:
        """What the values of the copied repeat are in the one at `begin`, if what each node reads is the same there."""
        program, nodes, apart = self.program, self.program.graph.nodes, begin - self.begin
        names: dict[int, int] = {}
        for i in range(self.begin, self.begin + self.period):
            here, there = nodes[i], nodes[i + apart]
            if (i in self.waiting) != (i + apart in self.waiting):
                return None
            if any((v in program.stored) != (w in program.stored) for v, w in zip(here.results, there.results)):
                return None
            (_, roots), (_, others) = program.form_and_roots(i), program.form_and_roots(i + apart)
            for v, w in zip(roots, others, strict=True):
                if names.setdefault(v, w) != w:
                    return None
            names.update(zip(here.results, there.results))
        return names if len(set(names.values())) == len(names) else None
