"""Loops over tiles of an op, as a transform script leaves them: the whole op, and the sizes of its tiles.

In: a scf.for or scf.forall. Out: `Tiling`, if the loops compute just what the op without them does; `GroupError` if not,
or if that is not seen. Loops are followed whose only work is one linalg.generic on slices of whole tensors, one inside of the
other or at once. What is shown: the slice of every operand begins where its map puts the tile's begin; a tile ends where the
next one begins, or with the loop; the result is put back where it was taken. Next: `reading.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, cast

from flambeau.compiler.groups.form import Map
from flambeau.compiler.groups.reading_types import Structure, Types, refuse
from flambeau.dialects.flambeau_ops import linear
from flambeau.dialects.orders import Place
from flambeau.dialects.size import Int

_DYNAMIC = -(2**63)
_NOTHING: Place = ((), 0)
#: The least of some linear forms of induction variables; their constants may be sizes, on which arithmetic is that of ints.
Least = frozenset[Place]


@dataclass(frozen=True)
class Tiling:
    """What an op in tiling loops is without them: the whole tensors behind its operands (`whole`) and its results
    (`results`), where the tile at hand begins along each tiled loop (`begins`), induction variables by number, and the
    sizes of tiles, outermost first."""

    op: Any = None
    whole: Mapping[Any, Any] = field(default_factory=dict)
    results: Mapping[Any, Any] = field(default_factory=dict)
    begins: Mapping[int, Place] = field(default_factory=dict)
    variables: Mapping[Any, int] = field(default_factory=dict)
    tiles: tuple[tuple[int, int], ...] = ()


class _Loop(NamedTuple):
    """One induction variable: it goes from 0 to `end` in steps of `step`."""

    variable: int
    end: Least
    step: int


class _Slice(NamedTuple):
    """A part of a whole tensor: where it begins, and how many elements it has along each axis."""

    whole: Any
    begins: tuple[Place, ...]
    counts: tuple[Least, ...]


def tiling(loop: Any, structure: Structure, types: Types, index: Callable[[Any], Int | None]) -> Tiling:
    """What a nest of tiling loops is. `index`: a number of type index that is known before the group runs."""
    return _TiledNest(structure, types, index).read(loop)


class _TiledNest:
    def __init__(self, structure: Structure, types: Types, index: Callable[[Any], Int | None]) -> None:
        self.structure, self.types, self.index = structure, types, index
        self.variables: dict[Any, int] = {}
        self.loops: list[_Loop] = []
        self.slices: dict[Any, _Slice] = {}
        self.carried: dict[Any, Any] = {}  # an argument of a loop -> the whole tensor that it is a state of

    def read(self, loop: Any) -> Tiling:
        op = self._enter(loop)
        count = len(op.results)
        maps = self.types.maps(op.attributes["indexing_maps"])
        parts = [self._slice(v) for v in op.operands]
        begins, levels = self._levels(op, maps, parts)
        for part, map_ in zip(parts, maps):
            if part is not None:
                self._check_slice(op, part, map_, begins)
        whole = {v: part.whole for v, part in zip(op.operands, parts) if part is not None}
        results = dict(zip(op.results, loop.results)) if count == len(loop.results) else {}
        if not results:
            raise refuse(loop, "its results are not those of the one op inside. Give each op loops of its own.")
        return Tiling(op, whole, results, begins, self.variables, self._tiles(op, levels))

    # ---- the loops, from the outermost one -----------------------------------------------------------------------

    def _enter(self, loop: Any) -> Any:
        """The op in the innermost loop."""
        ((arguments, operations),) = self.structure.blocks(loop)
        count = len(loop.results)
        variables, states = (arguments[:-count], arguments[-count:]) if count else (arguments, [])
        outer = list(loop.operands)[-count:] if count else []
        self._bounds(loop, variables)
        for state, value in zip(states, outer):
            part = self.slices.get(value)
            self.carried[state] = self.carried.get(value, value)
            if part is not None:
                self.slices[state] = part
        work = []
        for op in operations:
            if op.name == "tensor.extract_slice":
                self._take(op)
            elif op.name not in _AROUND:
                work.append(op)
        if len(work) != 1 or work[0].name not in ("linalg.generic", "scf.for", "scf.forall"):
            names = ", ".join(op.name for op in work) or "nothing"
            raise refuse(loop, f"it holds {names}. Tiling loops hold one linalg.generic, or one more such loop.")
        op = self._enter(work[0]) if work[0].name != "linalg.generic" else work[0]
        self._put_back(loop, operations, work[0], states)
        return op

    def _bounds(self, loop: Any, variables: Sequence[Any]) -> None:
        if loop.name == "scf.for":
            lower, upper, step = list(loop.operands)[:3]
            self._add(loop, variables[0], self._least(lower), self._least(upper), self._least(step))
            return
        if "mapping" in loop.attributes:
            raise refuse(loop, "its mapping is not followed. Leave it out.")
        given = iter(loop.operands)
        lists = [
            [self._least(next(given)) if n == _DYNAMIC else frozenset({((), n)}) for n in self.types.integers(found)]
            for found in (loop.attributes[f"static{side}"] for side in ("LowerBound", "UpperBound", "Step"))
        ]
        for variable, lower, upper, step in zip(variables, *lists):
            self._add(loop, variable, lower, upper, step)

    def _add(self, loop: Any, variable: Any, lower: Least | None, upper: Least | None, step: Least | None) -> None:
        number = None if step is None or len(step) != 1 else next(iter(step))
        if (
            lower != frozenset({_NOTHING})
            or upper is None
            or number is None
            or number[0]
            or not isinstance(number[1], int)
        ):
            raise refuse(loop, "it does not go from 0 in known steps. Tile with constant sizes.")
        self.variables[variable] = -1 - len(self.variables)
        self.loops.append(_Loop(self.variables[variable], upper, number[1]))

    def _put_back(self, loop: Any, operations: Sequence[Any], work: Any, states: Sequence[Any]) -> None:
        """What a loop carries on is its state with the results of the work where they were taken from."""
        written = {}
        for op in operations:
            if op.name == "tensor.insert_slice":
                written[op.results[0]] = op
        if loop.name == "scf.forall":
            ends = [
                o for o in self.structure.children.get(operations[-1], []) if o.name == "tensor.parallel_insert_slice"
            ]
        else:
            ends = [written.get(v, v) for v in operations[-1].operands]
        for k, (end, result) in enumerate(zip(ends, work.results)):
            if end == result:  # the inner loop goes over the whole state
                taken = list(work.operands)[len(work.operands) - len(work.results) + k]
                same = taken == states[k]
            else:
                taken = list(work.operands)[len(work.operands) - len(work.results) + k]
                same = self._put(end, result, states[k], self.structure.definitions.get(taken))
            if not same:
                raise refuse(loop, "it does not put its results where they were taken from. Write whole tiles back.")
        if len(ends) != len(work.results) or len(ends) != len(states):
            raise refuse(loop, "it does not put all of its results back. Write whole tiles back.")

    def _put(self, end: Any, result: Any, state: Any, taken: Any) -> bool:
        """Whether `end` inserts `result` into `state` just where `taken` took it from there."""
        if not hasattr(end, "attributes") or taken is None or taken.name != "tensor.extract_slice":
            return False
        source, target = list(end.operands)[:2]
        lists = ("static_offsets", "static_sizes", "static_strides")
        alike = all(self._numbers(end, name, 2) == self._numbers(taken, name, 1) for name in lists)
        return bool(source == result and target == state and taken.operands[0] == state and alike)

    def _numbers(self, op: Any, name: str, tensors: int) -> list[Least | None]:
        """One list of a slice's numbers."""
        given = iter(list(op.operands)[tensors:])
        found: list[Least | None] = []
        for each in ("static_offsets", "static_sizes", "static_strides"):
            found = [
                self._least(next(given)) if n == _DYNAMIC else frozenset({((), n)})
                for n in self.types.integers(op.attributes[each])
            ]
            if each == name:
                return found
        return found

    # ---- slices --------------------------------------------------------------------------------------------------

    def _take(self, op: Any) -> None:
        source = self.slices.get(op.operands[0])
        whole = source.whole if source else self.carried.get(op.operands[0], op.operands[0])
        begins, counts, steps = (self._numbers(op, f"static_{n}", 1) for n in ("offsets", "sizes", "strides"))
        known = [n for n in (*begins, *counts) if n is not None]
        single = all(b is not None and len(b) == 1 for b in begins)
        rank = len(self.types.ir.RankedTensorType(op.results[0].type).shape)
        if not single or len(known) < 2 * len(begins) or set(steps) - {frozenset({((), 1)})} or rank != len(begins):
            raise refuse(op, "it is no tile: its begin and sizes are no linear forms of loops, or it has steps.")
        places = [next(iter(b)) for b in begins if b is not None]
        if source is not None:
            places = [_sum(x, y) for x, y in zip(places, source.begins)]
        self.slices[op.results[0]] = _Slice(whole, tuple(places), tuple(c for c in counts if c is not None))

    def _slice(self, value: Any) -> _Slice | None:
        """The part of a tensor that an operand is; all of it, where it is none."""
        if value in self.slices:
            return self.slices[value]
        if not self.types.is_tensor(value):
            return None
        whole = self.carried.get(value, value)
        shape = self.types.aval(whole).shape
        return _Slice(whole, (_NOTHING,) * len(shape), tuple(frozenset({((), cast(int, n))}) for n in shape))

    # ---- what is shown -------------------------------------------------------------------------------------------

    def _levels(
        self, op: Any, maps: Sequence[Map], parts: Sequence[_Slice | None]
    ) -> tuple[dict[int, Place], dict[int, list[_Loop]]]:
        """Where the tile begins along each loop of the op, and the tiling loops that go over it, outermost first. Each goes to
        the end of what the ones around it leave."""
        begins: dict[int, Place] = {}
        counts: dict[int, Least] = {}
        ends: dict[int, Int] = {}
        for part, map_ in zip(reversed(parts), reversed(maps)):  # results first: they say what a tile is
            for k, e in enumerate(map_ if part is not None else ()):
                if part is not None and len(e.terms) == 1 and e.terms[0][1] == 1 and e.constant == 0:
                    loop = e.terms[0][0]
                    begins.setdefault(loop, part.begins[k])
                    counts.setdefault(loop, part.counts[k])
                    ends.setdefault(loop, self.types.aval(part.whole).shape[k])
        found = {}
        for loop, begin in begins.items():
            found[loop] = self._covering(op, loop, begin, ends[loop], counts[loop])
        used = [each.variable for loops in found.values() for each in loops]
        if sorted(used) != sorted(each.variable for each in self.loops):
            raise refuse(op, "a loop around it goes over none of its loops, or over several. Tile each by itself.")
        return {loop: begin for loop, begin in begins.items() if begin != _NOTHING}, found

    def _covering(self, op: Any, loop: int, begin: Place, end: Int, count: Least) -> list[_Loop]:
        """The tiling loops that go over one loop of the op, whose trip count is `end`: each element is in a tile."""
        terms, constant = begin
        factors = dict(terms)
        left: Least = frozenset({((), cast(int, end))})
        steps: list[int] = []
        levels = []
        for each in self.loops:
            if each.variable not in factors:
                continue
            each = self._scaled(each, factors[each.variable], left)
            if not _alike(each.end, left, steps):
                raise refuse(op, f"a loop around it does not go to the end of loop {loop}. Tile all of it.")
            steps.append(each.step)
            rest = frozenset(_sum(n, (((each.variable, -factors[each.variable]),), 0)) for n in left)
            left = _needed(frozenset({((), each.step), *rest}), steps)
            levels.append(each)
        if constant or not _alike(count, left, steps):
            raise refuse(op, f"tiles of loop {loop} do not end where the next one begins. Tile all of it.")
        return levels

    def _scaled(self, loop: _Loop, factor: int, left: Least) -> _Loop:
        """A loop that counts tiles, as one that counts elements."""
        if factor == 1:
            return loop
        (end,) = loop.end if len(loop.end) == 1 else (_NOTHING,)
        (whole,) = left if len(left) == 1 else (_NOTHING,)
        fits = not end[0] and not whole[0] and isinstance(whole[1], int) and loop.step == 1 and factor > 0
        if fits and end[1] == -(-whole[1] // factor):
            return _Loop(loop.variable, left, factor)
        return loop._replace(end=frozenset())

    def _check_slice(self, op: Any, part: _Slice, map_: Map, begins: Mapping[int, Place]) -> None:
        """A slice begins where the map puts the tile's begin, without the map's constant, which the op adds itself."""
        for place, e in zip(part.begins, map_):
            expected = _NOTHING
            for loop, factor in e.terms:
                terms, constant = begins.get(loop, _NOTHING)
                expected = _sum(expected, (tuple((v, c * factor) for v, c in terms), constant * factor))
            if place != expected:
                raise refuse(op, "a slice does not begin where its map puts the tile. Tile all operands alike.")

    def _tiles(self, op: Any, levels: Mapping[int, list[_Loop]]) -> tuple[tuple[int, int], ...]:
        by_variable = {each.variable: (loop, each.step) for loop, loops in levels.items() for each in loops}
        return tuple(by_variable[each.variable] for each in self.loops)

    # ---- numbers as the least of linear forms --------------------------------------------------------------------

    def _least(self, value: Any) -> Least | None:
        """A number of type index, in terms of induction variables; None where it is anything else."""
        if value in self.variables:
            return frozenset({(((self.variables[value], 1),), 0)})
        known = self.index(value) if not self._is_dim_of_tile(value) else None
        if known is not None:
            return frozenset({((), cast(int, known))})
        made = self.structure.definitions.get(value)
        if made is None or made.name not in ("affine.apply", "affine.min"):
            return None
        map_ = made.attributes["map"].value
        given = [self._least(v) for v in made.operands]
        if made.name == "affine.apply" and any(g is not None and len(g) > 1 for g in given):
            return None  # what else is made of the least of several numbers is not needed
        found: set[Place] = set()
        for e in map_.results:
            own = linear(e, *_split([(((k, 1),), 0) for k in range(len(given))], map_.n_dims))
            if own is None or any(c < 0 and len(given[k] or ()) > 1 for k, c in own[0]):
                return None
            for choice in product(*(g or (None,) for g in given)):
                form = linear(e, *_split(choice, map_.n_dims))
                if form is None:
                    return None
                found.add(form)
        return frozenset(found)

    def _is_dim_of_tile(self, value: Any) -> bool:
        made = self.structure.definitions.get(value)
        return made is not None and made.name == "tensor.dim" and made.operands[0] in self.slices


def _split(given: Sequence[Place | None], dims: int) -> tuple[Sequence[Place | None], Sequence[Place | None]]:
    return given[:dims], given[dims:]


def _sum(x: Place, y: Place) -> Place:
    terms = dict(x[0])
    for v, c in y[0]:
        terms[v] = terms.get(v, 0) + c
    return tuple(sorted((v, c) for v, c in terms.items() if c)), x[1] + y[1]


def _alike(one: Least, two: Least, steps: Sequence[int]) -> bool:
    """Whether two numbers are the same, given that induction variables are multiples of `steps`."""
    return bool(one) and _needed(one, steps) == _needed(two, steps)


def _needed(least: Least, steps: Sequence[int]) -> Least:
    """Without forms that are never less than a tile: what is left of a loop is a multiple of its steps."""
    tile = steps[-1] if steps else 0
    if ((), tile) not in least:
        return least
    whole = all(n % tile == 0 for n in steps)
    return frozenset(n for n in least if n == ((), tile) or not (whole and isinstance(n[1], int) and n[1] % tile == 0))


#: Ops around the work: index arithmetic, and what puts results back.
_AROUND = frozenset(
    {
        "affine.apply",
        "affine.min",
        "arith.constant",
        "flambeau.number",
        "tensor.dim",
        "tensor.insert_slice",
        "scf.yield",
        "scf.forall.in_parallel",
    }
)
