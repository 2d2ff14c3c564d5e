"""Shapes: the extents of loops, regrouped axes, windows.

In: shapes. Out: trip counts, reassociations, limits of starts. Next: `text.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import prod

from flambeau.compiler.groups.form import Affine, GroupBuilder, GroupError, Map
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int, at_most, same

Shape = tuple[Int, ...]
Runs = tuple[tuple[int, ...], ...]


def extents(maps: Sequence[Map], shapes: Sequence[tuple[Int, ...]], loops: int) -> tuple[Int, ...]:
    """The trip counts of loops: every loop is an axis of some operand."""
    found: dict[int, Int] = {}
    for map_, shape in zip(maps, shapes):
        for e, n in zip(map_, shape):
            if len(e.terms) == 1 and e == Affine.of(e.terms[0][0]):
                found.setdefault(e.terms[0][0], n)
    if missing := [k for k in range(loops) if k not in found]:
        raise GroupError(f"[linalg.generic] no operand has loop {missing[0]} as an axis. Give one of its shape.")
    return tuple(found[k] for k in range(loops))


def reordering(old: Sequence[Map], new: Sequence[Map], loops: int) -> tuple[int, ...] | None:
    """Where each loop of `old` is, if `new` are the same maps over the same loops in another order."""
    orders = permutations(range(loops)) if tuple(old) != tuple(new) else iter([tuple(range(loops))])
    for places in orders:
        if [_reordered(m, places) for m in old] == list(new):
            return places
    return None


def _reordered(map_: Map, places: Sequence[int]) -> Map:
    return tuple(Affine(tuple(sorted((places[d], c) for d, c in e.terms)), e.constant) for e in map_)


def reach(count: Int, step: int) -> Int:
    """How many elements lie between the ends of a window's axis, these included. Asks nothing of unknown counts."""
    return 0 if same(count, 0) else (count - 1) * step + 1


def limits(whole: Sequence[Int], window: Sequence[Int], steps: Sequence[int]) -> Shape:
    """The greatest start along every axis: that of the last place where a window of so many elements fits."""
    return tuple(n - reach(m, step) for n, m, step in zip(whole, window, steps))


def regrouped(old: Shape, new: Shape) -> tuple[Runs, Runs] | None:
    """The least runs of old and of new axes that hold the same elements, side by side. A shape without axes has no runs.
    None where runs of unknown extents are not seen to agree."""
    if not old or not new:
        return (), ()
    olds: list[tuple[int, ...]] = []
    news: list[tuple[int, ...]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        a, b = [i], [j]
        n, m = old[i], new[j]
        i, j = i + 1, j + 1
        while not same(n, m):
            if _grows_left(n, m, i < len(old), j < len(new)):
                a.append(i)
                n, i = n * old[i], i + 1
            elif j < len(new):
                b.append(j)
                m, j = m * new[j], j + 1
            else:
                return None
        olds.append(tuple(a))
        news.append(tuple(b))
    if i < len(old) or j < len(new):  # units are left over
        olds[-1] = (*olds[-1], *range(i, len(old)))
        news[-1] = (*news[-1], *range(j, len(new)))
    return tuple(olds), tuple(news)


def _grows_left(n: Int, m: Int, more_left: bool, more_right: bool) -> bool:
    return more_left and (not more_right or at_most(n + 1, m))


def reshape(builder: GroupBuilder, value: int, shape: Shape, loc: Loc | None = None) -> int:
    """Append what gives a tensor another shape of as many elements: axes joined where the old one is finer, then split
    where the new one is. Nothing, where the shape is the same."""
    aval = builder.avals[value]
    if aval.shape == shape:
        return value
    runs = regrouped(aval.shape, shape)
    if runs is None:
        runs = (tuple(range(aval.rank)),), (tuple(range(len(shape))),)
    down, up = runs
    middle = tuple(prod(aval.shape[k] for k in run) for run in down)
    if len(middle) < aval.rank:
        joined = Aval(middle, aval.dtype)
        (value,) = builder.call("tensor.collapse_shape", (value,), (joined,), {"reassociation": down}, loc=loc)
    if len(middle) < len(shape):
        result = Aval(shape, aval.dtype)
        (value,) = builder.call("tensor.expand_shape", (value,), (result,), {"reassociation": up}, loc=loc)
    return value
