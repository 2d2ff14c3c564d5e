"""What a fusion group is: immutable objects, one to one with a `func.func` on tensors.

    Group      the function: numbered values, structured ops, what comes in and what goes out
    Generic    linalg.generic: one loop nest, the indexing map of every operand and result, a body
    Call       any other op on whole tensors: tensor.*, a scalar constant, ops of the `flambeau` dialect
    Body       the scalar code for one point of a nest: arith, math, linalg.index, structured control flow

Values and the values of a body are numbers; each is defined before it is used, by one op or as an argument. Nothing here
imports MLIR. Next: `bodies.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int

PARALLEL, REDUCTION = "parallel", "reduction"


class GroupError(ValueError):
    """Structured ops that are no group. Names the op, says what is wrong with it, and what to do."""


class Affine(NamedTuple):
    """`sum(coefficient * d[loop]) + constant`: one result of an indexing map. Terms are sorted by loop, none is 0.

    Numbers are ints: maps have no symbols. What lies at a size known at run time only is a slice, or an index computed in
    the body.
    """

    terms: tuple[tuple[int, int], ...] = ()
    constant: int = 0

    @classmethod
    def of(cls, loop: int) -> Affine:
        """The coordinate along a loop."""
        return cls(((loop, 1),))


Map = tuple[Affine, ...]


@cache
def identity_map(rank: int) -> Map:
    return tuple(Affine.of(k) for k in range(rank))


# ---- scalar code ------------------------------------------------------------------------------------------------


class BodyOp(NamedTuple):
    """One op of a body.

    `operands` number the body's arguments first, then the results of its ops in order. `types` are those of the results,
    as MLIR spells them. `attribute` is what else the op says:

        arith.constant          its literal (`values.spell_number`); of a table "dense<[literal, ...]>"
        arith.cmpf, arith.cmpi  the predicate
        linalg.index            the loop
        affine.apply            an `Affine` over its operands
        flambeau.fold           an `Order`
        flambeau.check          the number of the failure
        flambeau.size           a `Size`

    `regions` are the bodies of structured control flow. A region sees nothing but its arguments: those of its block, then
    what the op's regions read from outside, in the order of its first use. That also stands among the op's operands, after
    those that the op itself takes (`scf.if`: the condition; `scf.while`: one initial value per carried one). The first
    region of `scf.while` yields the condition, then what is carried on.
    """

    name: str
    operands: tuple[int, ...] = ()
    attribute: Hashable = None
    types: tuple[str, ...] = ()
    regions: tuple[Body, ...] = ()


class Body(NamedTuple):
    """A block of scalar code: the types of its arguments, ops, and the numbers that it yields.

    Arguments of a generic's body are the elements of its operands, then those that its results have so far, then the
    captures, in the order of their first use: each is used, and none is there twice. The type of a captured table is that
    of the tensor (`Aval.mlir`).
    """

    types: tuple[str, ...]
    ops: tuple[BodyOp, ...]
    results: tuple[int, ...]

    def numbers(self) -> list[int]:
        """The number of every op's first result."""
        found, at = [], len(self.types)
        for op in self.ops:
            found.append(at)
            at += len(op.types)
        return found

    def value_types(self) -> list[str]:
        """The type of every value, by number."""
        return [*self.types, *(t for op in self.ops for t in op.types)]


class Order(NamedTuple):
    """The attribute of a `flambeau.fold`: the order's name, and the number (spelled) that every partial result starts
    from. The op's operands are the next partial result, then the element's place in the fold."""

    name: str
    identity: str


# ---- structured ops ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generic:
    """linalg.generic.

    `maps` are those of `operands`, then of `results`, over the loops in order; `extents` are the loops' trip counts.
    `inits` are, per result, the number (spelled) that its elements start from, or None where they are only written.
    `captures` are scalars, and tables read with tensor.extract, that the body takes from outside of the nest. `tiles` are
    (loop, size) pairs that somebody chose for it: hints for its schedule. `name` is for people: what it was made of.
    """

    iterators: tuple[str, ...]
    extents: tuple[Int, ...]
    operands: tuple[int, ...]
    maps: tuple[Map, ...]
    results: tuple[int, ...]
    inits: tuple[str | None, ...]
    body: Body
    captures: tuple[int, ...] = ()
    tiles: tuple[tuple[int, int], ...] = ()
    loc: Loc | None = field(default=None, compare=False)
    name: str = field(default="", compare=False)

    @property
    def operand_maps(self) -> tuple[Map, ...]:
        return self.maps[: len(self.operands)]

    @property
    def result_maps(self) -> tuple[Map, ...]:
        return self.maps[len(self.operands) :]

    @property
    def reads(self) -> tuple[int, ...]:
        """Every value that the op depends on."""
        return (*self.operands, *self.captures)


@dataclass(frozen=True)
class Call:
    """An op on whole tensors that is no generic. `attributes` are (name, value) pairs, sorted by name; values are ints,
    sizes, strings, and tuples of these. `regions` hold a user's functions: combiners, comparators.

    What they are called and take (results' types say the rest, `calls.py` checks it):

        arith.constant          {value}  a scalar, by its literal; a table by "dense<[...]>"
        flambeau.size           {size}  a scalar
        tensor.extract          a scalar: the element of a tensor of rank 0
        tensor.empty            a tensor whose elements nobody reads
        tensor.collapse_shape   {reassociation}  axes joined: for every axis of the result those of the operand
        tensor.expand_shape     {reassociation}  an axis split: for every axis of the operand those of the result
        tensor.extract_slice    {starts, steps}  starts are ints, sizes, or "clamped": the next operand, a scalar or tensor of
                                rank 0 (i64), moved to where the slice fits
        tensor.insert_slice     {starts, steps}  the slice, the tensor that it replaces a part of, then starts
        tensor.concat           {dim}
        tensor.pad              {low, high}  a tensor, and the scalar around it
        flambeau.scatter        {axis, code, order}  tensor, index, updates; region: (old, new) -> combined

    Scalars are results of the first three: they stand where a scalar may (captures, operands of generics, starts, pads), and
    are no outputs. All else of rank 0 is a tensor.
    """

    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    attributes: tuple[tuple[str, Hashable], ...] = ()
    regions: tuple[Body, ...] = ()
    loc: Loc | None = field(default=None, compare=False)

    @property
    def reads(self) -> tuple[int, ...]:
        return self.operands

    @property
    def attribute(self) -> Mapping[str, Any]:
        return dict(self.attributes)


StructuredOp = Generic | Call


@dataclass(frozen=True)
class Group:
    """A fusion group: `avals[v]` is the type of value `v`.

    Values are numbered canonically: inputs, then the results of the ops in order. Groups are equal when they are the same
    program; lines of user code and the values that symbols had (`sizes`) make no difference.
    """

    avals: tuple[Aval, ...]
    inputs: tuple[int, ...]
    ops: tuple[StructuredOp, ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...] = field(default=(), compare=False)

    def producers(self) -> dict[int, StructuredOp]:
        """The op that defines each value; inputs are absent."""
        return {v: op for op in self.ops for v in op.results}


def scalars(group: Group) -> frozenset[int]:
    """The values that are numbers, not tensors of rank 0."""
    return frozenset(v for op in group.ops if isinstance(op, Call) and gives_scalar(op) for v in op.results)


def gives_scalar(op: Call) -> bool:
    if op.name == "arith.constant":
        return not str(op.attribute["value"]).startswith("dense")
    return op.name in ("flambeau.size", "tensor.extract")


class GroupBuilder:
    """A group under construction: values are numbered as they are added, so inputs come first."""

    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        self.avals: list[Aval] = []
        self.inputs: list[int] = []
        self.ops: list[StructuredOp] = []
        self.sizes = sizes

    def input(self, aval: Aval) -> int:
        if self.ops:
            raise ValueError("[group] an input after the first op. Add inputs first.")
        self.inputs.append(self._value(aval))
        return self.inputs[-1]

    def generic(
        self,
        iterators: tuple[str, ...],
        extents: tuple[Int, ...],
        operands: tuple[tuple[int, Map], ...],
        results: tuple[tuple[Aval, Map, str | None], ...],
        body: Body,
        captures: tuple[int, ...] = (),
        tiles: tuple[tuple[int, int], ...] = (),
        loc: Loc | None = None,
        name: str = "",
    ) -> tuple[int, ...]:
        """Append a linalg.generic: operands with their maps; results as types, maps and what they start from."""
        maps = (*(m for _, m in operands), *(m for _, m, _ in results))
        inits = tuple(init for _, _, init in results)
        numbers = tuple(self._value(aval) for aval, _, _ in results)
        values = tuple(v for v, _ in operands)
        op = Generic(iterators, extents, values, maps, numbers, inits, body, captures, tiles, loc, name)
        self.ops.append(op)
        return numbers

    def call(
        self,
        name: str,
        operands: tuple[int, ...],
        results: tuple[Aval, ...],
        attributes: Mapping[str, Hashable] | None = None,
        regions: tuple[Body, ...] = (),
        loc: Loc | None = None,
    ) -> tuple[int, ...]:
        """Append any other op."""
        numbers = tuple(self._value(aval) for aval in results)
        self.ops.append(Call(name, operands, numbers, tuple(sorted((attributes or {}).items())), regions, loc))
        return numbers

    def build(self, outputs: tuple[int, ...]) -> Group:
        return Group(tuple(self.avals), tuple(self.inputs), tuple(self.ops), outputs, self.sizes)

    def _value(self, aval: Aval) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1
