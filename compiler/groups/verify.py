"""What holds of every group. `verify(group)` raises `GroupError` with the op, what is wrong, and what to do.

* Values are numbered canonically, defined before they are used, and of the types that ops say.
* Maps have the rank of their tensor and stay inside of it; extents are those of the axes that loops run along.
* Parallel loops are axes of every result, reduction loops of none. A result of a reduction is a fold, and nothing else:
  its order is known and fits the arithmetic, it starts from its identity, its places count each reduction loop once.
* Captures are scalars and tables, each used, in the order of their first use.
The rules of bodies are in `verify_bodies.py`, those of ops that are no generics in `calls.py`.
"""

from __future__ import annotations

from flambeau.compiler.groups.calls import check_call
from flambeau.compiler.groups.form import (
    PARALLEL,
    REDUCTION,
    Affine,
    Generic,
    Group,
    GroupError,
    Map,
    StructuredOp,
    gives_scalar,
)
from flambeau.compiler.groups.verify_bodies import check_body, check_folds
from flambeau.dialects.size import Int, Size, at_most, repr_of, same


def verify(group: Group) -> None:
    """Raise GroupError unless all rules hold."""
    _check_numbers(group)
    scalar: set[int] = set()
    for op in group.ops:
        try:
            if isinstance(op, Generic):
                _check_generic(group, op, scalar)
            else:
                check_call(group, op, scalar)
                if gives_scalar(op):
                    scalar.update(op.results)
        except GroupError as error:
            raise GroupError(f"{_name(op)} {error}") from None
    if wrong := scalar.intersection(group.outputs):
        raise GroupError(f"[group] output {min(wrong)} is a scalar. Give a tensor of rank 0, made by a linalg.generic.")


def _name(op: StructuredOp) -> str:
    """The op as messages name it."""
    name = "linalg.generic" if isinstance(op, Generic) else op.name
    return f"[{name}] {f'value {op.results[0]}' if op.results else ''}{f' of {op.loc}' if op.loc else ''}:"


def _check_numbers(group: Group) -> None:
    """Inputs, then results of ops in order, each used after its definition only."""
    known = len(group.inputs)
    if group.inputs != tuple(range(known)):
        raise GroupError(f"[group] inputs are numbered {group.inputs}. Number values from 0, inputs first.")
    for op in group.ops:
        if later := [v for v in op.reads if not 0 <= v < known]:
            raise GroupError(f"{_name(op)} it takes value {later[0]}, which is not defined yet. Define it before.")
        if op.results != tuple(range(known, known + len(op.results))):
            raise GroupError(f"{_name(op)} its results are {op.results}. Number results in the order of ops.")
        known += len(op.results)
    if known != len(group.avals):
        raise GroupError(f"[group] {len(group.avals)} types are given for {known} values. Give one for each.")
    if unknown := [v for v in group.outputs if not 0 <= v < known]:
        raise GroupError(f"[group] output {unknown[0]} is no value. Name one of {known}.")


# ---- linalg.generic ---------------------------------------------------------------------------------------------


def _check_generic(group: Group, op: Generic, scalar: set[int]) -> None:
    if not op.results or len(op.inits) != len(op.results) or len(op.maps) != len(op.operands) + len(op.results):
        counts = f"{len(op.operands)} operands, {len(op.results)} results"
        raise GroupError(f"it has {len(op.maps)} maps and {len(op.inits)} starts for {counts}. Give one for each.")
    if len(op.extents) != len(op.iterators) or set(op.iterators) - {PARALLEL, REDUCTION}:
        raise GroupError(
            f"its loops are {op.iterators} of extents {_shown(op.extents)}. Give each a kind and an extent."
        )
    for v, map_ in zip((*op.operands, *op.results), op.maps):
        _check_map(group.avals[v].shape, map_, op.extents, v)
    _check_axes(group, op)
    for map_ in op.result_maps:
        _check_result(op, map_)
    _check_tiles(op)
    check_body(group, op, scalar)
    check_folds(op)


def _shown(sizes: tuple[Int, ...]) -> str:
    return f"({', '.join(map(repr_of, sizes))})"


def _check_map(shape: tuple[Int, ...], map_: Map, extents: tuple[Int, ...], value: int) -> None:
    if len(map_) != len(shape):
        raise GroupError(f"the map of value {value} has {len(map_)} results for {len(shape)} axes. Give one per axis.")
    for axis, (e, n) in enumerate(zip(map_, shape)):
        loops = [loop for loop, _ in e.terms]
        if (
            loops != sorted(set(loops))
            or not all(0 <= k < len(extents) for k in loops)
            or not all(c for _, c in e.terms)
        ):
            raise GroupError(f"axis {axis} of value {value} has terms {e.terms}. Name loops in order, each once.")
        if not _inside(e, n, extents):
            raise GroupError(f"axis {axis} of value {value}, of {repr_of(n)}, is read outside of it. Stay inside.")


def _inside(e: Affine, extent: Int, extents: tuple[Int, ...]) -> bool:
    """Whether a form stays in 0 .. extent - 1 wherever the loops are, as far as that is certain. Loops that do not run read
    nothing."""
    if any(not isinstance(extents[loop], Size) and extents[loop] == 0 for loop, _ in e.terms):
        return True
    least: Int = e.constant
    most: Int = e.constant
    for loop, c in e.terms:
        most, least = (most + (extents[loop] - 1) * c, least) if c > 0 else (most, least + (extents[loop] - 1) * c)
    if not e.terms and same(extent, 0):
        return True
    return not at_most(least + 1, 0) and not at_most(extent, most)


def _check_axes(group: Group, op: Generic) -> None:
    """Where a loop runs along an axis, it runs along all of it."""
    known: set[int] = set()
    for v, map_ in zip((*op.operands, *op.results), op.maps):
        for e, n in zip(map_, group.avals[v].shape):
            if len(e.terms) != 1 or e != Affine.of(e.terms[0][0]):
                continue
            loop = e.terms[0][0]
            known.add(loop)
            if not same(op.extents[loop], n):
                found = repr_of(op.extents[loop])
                raise GroupError(
                    f"loop {loop} runs {found} times along {repr_of(n)} elements of value {v}. Make them agree."
                )
    if missing := set(range(len(op.extents))) - known:
        raise GroupError(
            f"loop {min(missing)} runs along no axis of an operand or result. Give an operand of its extent."
        )


def _check_result(op: Generic, map_: Map) -> None:
    """Every element of a result is written once: parallel loops are its axes, reduction loops are not."""
    loops = [e.terms[0][0] if len(e.terms) == 1 and e == Affine.of(e.terms[0][0]) else None for e in map_]
    parallel = [k for k, kind in enumerate(op.iterators) if kind == PARALLEL]
    named = [k for k in loops if k is not None]
    if None in loops and any(e != Affine() for e, k in zip(map_, loops) if k is None):
        raise GroupError("a result is written at places that are no loops. Write whole results, slice what is read.")
    if sorted(named) != parallel:
        raise GroupError(
            f"a result has loops {named} as axes, and {parallel} are parallel. Give just these, each once."
        )


def _check_tiles(op: Generic) -> None:
    for loop, size in op.tiles:
        if not 0 <= loop < len(op.iterators) or op.iterators[loop] == REDUCTION or size < 1:
            raise GroupError(f"tiles of {size} along loop {loop}. Tile parallel loops, by at least 1.")
