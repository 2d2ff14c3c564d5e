"""One of several functions: `switch`, by an index that is not read.

In: an index and functions of the same operands. Out: what the chosen one gives. A tree of choices between two (`cond`), so one of
n functions takes log2(n) comparisons; of the others none runs. For an index per row of a batch there are three meanings, and the
caller says which. Next: `control.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.declarations import declared
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.graph import Region
from flambeau.dialects.record import Sample, find
from flambeau.dialects.region import build, inlined
from flambeau.functions.assemble import cat
from flambeau.functions.choose import where
from flambeau.functions.control import same_nesting
from flambeau.functions.vmap import vmap
from flambeau.regions import joined, rebuilt, record, tensors, trace
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _halves(regions: Sequence[Region], first: int) -> tuple[int, Region, Region]:
    """A number, and what is done for an index below it, and else, where regions are numbered from `first` on."""
    half = len(regions) // 2
    return first + half, _choice(regions[:half], first), _choice(regions[half:], first + half)


def _choice(regions: Sequence[Region], first: int) -> Region:
    """What the region numbered by the first operand gives; the ends stand for what is beyond."""
    if len(regions) == 1:
        return regions[0]
    limit, then, otherwise = _halves(regions, first)

    def rule(index: Value, *operands: Value) -> list[Value]:
        return list(find("cond")(index < limit, index, *operands, then=then, otherwise=otherwise))

    return build(regions[0].inputs, rule)


def _index(index: Any, of_rows: bool) -> Tensor:
    wanted = "one for each row: [N]" if of_rows else "an int, or a tensor with one element"
    is_right = index.ndim == 1 if of_rows else index.numel() == 1
    if not is_right or index.dtype.is_floating_point or index.dtype is bool_:
        shown = f"{index.dtype.name} of shape {tuple(index.shape)}"
        raise RuntimeError(f"[switch] the index is {shown}. Pass {wanted}, of ints.")
    return index.long()


def _one(number: Tensor, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    traced = [trace("switch", branch, operands) for branch in branches]
    first = traced[0]
    for k, other in enumerate(traced[1:], 1):
        if not same_nesting(first.returned, other.returned):
            raise RuntimeError(
                f"[switch] branches 0 and {k} return different structures. Return as many tensors from all, nested alike."
            )
        kinds = [[(tuple(r.shape), r.dtype) for r in t.results] for t in (first, other)]
        if kinds[0] != kinds[1]:
            shown = [", ".join(f"{dtype.name} {list(shape)}" for shape, dtype in kind) for kind in kinds]
            raise RuntimeError(
                f"[switch] branch 0 gives {shown[0]}, branch {k} {shown[1]}. Make them give equal shapes and dtypes."
            )
    if any(t.has_effect for t in traced):
        raise RuntimeError("[switch] a branch calls the host. Do that around it, or use cond.")
    if not first.results:
        return first.returned
    values, regions = joined(traced)
    limit, then, otherwise = _halves([_numbered(region) for region in regions], 0)
    number = number.reshape(())
    found = record(find("cond"), [number < limit, number, *values], [then, otherwise])
    return rebuilt(first.returned, iter(found))


def _numbered(region: Region) -> Region:
    """The region with the index as its first input, which it does not read."""
    types = [Aval((), int64), *region.inputs]
    return build(types, lambda number, *xs: inlined(region, xs, number.builder))


# ---- an index per row -----------------------------------------------------------------------------------------


def _each(index: Tensor, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    """Branches are functions of one row."""
    return vmap(lambda i, *xs: _one(i, branches, xs))(index, *operands)


def _all(index: Tensor, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    """Branches are functions of all rows, of whose results rows are taken."""
    found = [branch(*operands) for branch in branches]
    return _merged(found, lambda results: _taken(index, results))


def _taken(index: Tensor, results: Sequence[Tensor]) -> Tensor:
    chosen = results[0]
    for k, other in enumerate(results[1:], 1):
        is_here = (index >= k).reshape(-1, *[1] * (other.ndim - 1))
        chosen = where(is_here, other, chosen)
    return chosen


def _rows(index: Tensor, branches: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    """Branches are functions of their rows."""
    places = [index.eq(k).nonzero().reshape(-1) for k in range(len(branches))]
    there = [(branch, at) for branch, at in zip(branches, places, strict=True) if at.shape[0]]
    if not there:
        there = [(branches[0], places[0])]
    found = [branch(*[x.index_select(0, at) for x in operands]) for branch, at in there]
    back = cat([at for _, at in there]).argsort()
    return _merged(found, lambda results: cat(list(results)).index_select(0, back))


def _merged(found: Sequence[Any], merge: Callable[[Sequence[Tensor]], Tensor]) -> Any:
    if not all(same_nesting(found[0], other) for other in found[1:]):
        raise RuntimeError(
            "[switch] branches return different structures. Return as many tensors from all, nested alike."
        )
    columns = zip(*[list(tensors("switch", x)) for x in found], strict=True)
    return rebuilt(found[0], iter([merge(column) for column in columns]))


_OF_ROWS = {"each": _each, "all": _all, "rows": _rows}


# ---- what users call ------------------------------------------------------------------------------------------


def _samples() -> list[Sample]:
    x, y, one = data(4, 3), data(4, 3, low=0.5), np.array(1, np.int64)
    rows = np.array([2, 0, 1, 2], np.int64)
    branches = [lambda x, y: x * y, lambda x, y: x / y, lambda x, y: (x + y).sin()]

    return [
        call(one, branches, x, y),
        call(np.array([7], np.int64), branches, x, y),
        call(-1, branches, x, y),
        call(rows, branches, x, y, per_sample="each"),
        call(rows, branches, x, y, per_sample="all"),
        call(rows, branches, x, y, per_sample="rows"),
        call(
            rows,
            branches,
            x,
            y,
            error=(RuntimeError, "[switch] the index is int64 of shape (4,). Pass an int, or a tensor"),
        ),
        call(one, [], x, error=(RuntimeError, "[switch] there are no branches. Pass at least one.")),
        call(x, branches, x, y, error=(RuntimeError, "[switch] the index is float32 of shape (4, 3). Pass an int")),
        call(
            one, [lambda x: x, lambda x: (x, x)], x, error=(RuntimeError, "[switch] branches 0 and 1 return different")
        ),
        call(
            one,
            [lambda x: x, lambda x: x.sum()],
            x,
            error=(RuntimeError, "[switch] branch 0 gives float32 [4, 3], branch 1"),
        ),
        call(
            rows,
            branches,
            x,
            y,
            per_sample="some",
            error=(ValueError, "[switch] per_sample is 'some'. Use"),
        ),
        call(
            one,
            branches,
            x,
            y,
            per_sample="all",
            error=(RuntimeError, "[switch] the index is int64 of shape (). Pass one"),
        ),
    ]


@declared(free="flambeau", samples=calls(_samples))
def switch(
    index: int | Tensor, branches: Sequence[Callable[..., Any]], *operands: Any, per_sample: str | None = None
) -> Any:
    """What the branch of number `index` gives for the operands; the others do not run. JAX's `lax.switch`: an
    index beyond an end means the branch at that end.

    `index` is an int, or an integer tensor with one element, which is not read: all branches are recorded, and the program chooses.
    They return tensors of equal shapes and dtypes, alone or nested, and gradients flow through the one that ran.

    With an index for each row of the operands, [N], `per_sample` says what a branch is a function of: "each", of one row, as under
    `vmap` (all are computed, of all rows); "all", of the whole batch, so that statistics over it are those of all rows (computed by
    all branches, rows taken from their results); "rows", of the rows that chose it, and of no others (each row is computed once;
    how many there are is read from the index, and branches that nobody chose are not called).

    Raises RuntimeError for another index, where results differ in structure or type, and where a function does more than compute.
    """
    branches = list(branches)
    if not branches:
        raise RuntimeError("[switch] there are no branches. Pass at least one.")
    if per_sample is not None and per_sample not in _OF_ROWS:
        raise ValueError(f"[switch] per_sample is {per_sample!r}. Use 'each', 'all' or 'rows', or None for one index.")
    last = len(branches) - 1
    if isinstance(index, int) and not isinstance(index, bool):
        return branches[min(max(index, 0), last)](*operands)
    number = _index(index, per_sample is not None)
    if last == 0 and per_sample != "each":
        return branches[0](*operands)
    if per_sample is None:
        return _one(number, branches, operands)
    return _OF_ROWS[per_sample](number.clamp(0, last), branches, operands)
