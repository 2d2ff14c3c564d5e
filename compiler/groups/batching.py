"""A group with one more axis in front: what a batch of calls computes, each sample to the bit what it gives by itself.

In: a group, the inputs that come in batches, how many samples there are. Out: a group whose results all have the axis. It follows
from the form: nests get one more parallel loop, along which maps of what is batched run; folds keep their order, which is about
places in the fold alone. Ops on whole tensors move their axes; where neither says what becomes of a batch, samples are
computed one by one. Next: `form.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flambeau.compiler import families
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.form import (
    PARALLEL,
    Affine,
    Body,
    BodyOp,
    Call,
    Generic,
    Group,
    GroupBuilder,
    Map,
    StructuredOp,
    identity_map,
    scalars,
)
from flambeau.compiler.groups.slices import reshape
from flambeau.dialects.aval import Aval

_RESHAPES = ("tensor.collapse_shape", "tensor.expand_shape")


def batched(group: Group, which: Collection[int], extent: int) -> Group:
    """`group` for `extent` samples at once. `which` are the positions of the inputs that have a leading axis of samples; all
    results have one."""
    return _Batching(group, which, extent).run()


def _shifted(map: Map) -> Map:
    """A map over the loops that are one further in."""
    return tuple(Affine(tuple((d + 1, c) for d, c in e.terms), e.constant) for e in map)


class _Batching:
    """The group under construction: `values` numbers what the old one's values are in it, `many` are those in batches."""

    def __init__(self, group: Group, which: Collection[int], extent: int) -> None:
        self.group, self.extent = group, extent
        self.out = GroupBuilder(group.sizes)
        self.scalars = scalars(group)
        self.literals = {v for op in group.ops if op_name(op) == "arith.constant" for v in op.results}
        self.many = {v for k, v in enumerate(group.inputs) if k in which}
        self.values = {v: self.out.input(self._aval(v, v in self.many)) for v in group.inputs}

    def run(self) -> Group:
        for op in self.group.ops:
            if self.many.isdisjoint(op.reads):
                self._append(op, self.values)
                continue
            if not (self._nest(op) if isinstance(op, Generic) else self._call(op)):
                self._one_by_one(op)
            self.many.update(op.results)
        return self.out.build(tuple(self._whole(v) for v in self.group.outputs))

    def _aval(self, v: int, many: bool = True) -> Aval:
        aval = self.group.avals[v]
        return aval._replace(shape=(self.extent, *aval.shape)) if many else aval

    def _append(self, op: StructuredOp, values: dict[int, int]) -> tuple[int, ...]:
        """An op as it is, on these values."""
        avals = [self.group.avals[v] for v in op.results]
        if isinstance(op, Call):
            given = tuple(values[v] for v in op.operands)
            made = self.out.call(op.name, given, tuple(avals), op.attribute, op.regions, op.loc)
        else:
            operands = tuple((values[v], m) for v, m in zip(op.operands, op.operand_maps, strict=True))
            results = tuple(zip(avals, op.result_maps, op.inits, strict=True))
            captures = tuple(values[v] for v in op.captures)
            made = self.out.generic(
                op.iterators, op.extents, operands, results, op.body, captures, op.tiles, op.loc, op.name
            )
        values.update(zip(op.results, made, strict=True))
        return made

    def _whole(self, v: int) -> int:
        """A value in batches: one that is not, once for every sample."""
        if v in self.many:
            return self.values[v]
        aval, element = self._aval(v), self.group.avals[v].dtype.mlir
        iterators, result = (PARALLEL,) * aval.rank, ((aval, identity_map(aval.rank), None),)
        if v in self.scalars:
            body = Body((element, element), (), (1,))
            return self.out.generic(iterators, aval.shape, (), result, body, (self.values[v],), name="copy")[0]
        operand = (self.values[v], _shifted(identity_map(aval.rank - 1)))
        return self.out.generic(iterators, aval.shape, (operand,), result, bodies.copy(element), name="copy")[0]

    # ---- nests ---------------------------------------------------------------------------------------------------

    def _nest(self, op: Generic) -> bool:
        """One more parallel loop, outermost. False where a body computes with its place, or reads a table in a branch."""
        names = [o.name for o in op.body.ops]
        placed = "linalg.index" in names and not {"flambeau.fold", "tensor.extract"} & set(names)
        if placed or any(_reads_table(r) for o in op.body.ops for r in o.regions):
            return False
        moved = [v for v in op.captures if v in self.many and v in self.scalars]
        kept = [v for v in op.captures if v not in moved]
        tables = {v: self._whole(v) for v in kept if v not in self.scalars and v not in self.literals}
        operands = [
            (self.values[v], (*([Affine.of(0)] if v in self.many else []), *_shifted(m)))
            for v, m in zip(op.operands, op.operand_maps, strict=True)
        ]
        operands += [(self.values[v], (Affine.of(0),)) for v in moved]
        results = [
            (self._aval(v), (Affine.of(0), *_shifted(m)), init)
            for v, m, init in zip(op.results, op.result_maps, op.inits, strict=True)
        ]
        made = self.out.generic(
            (PARALLEL, *op.iterators),
            (self.extent, *op.extents),
            tuple(operands),
            tuple(results),
            self._body(op, moved, tables),
            tuple(tables.get(v, self.values[v]) for v in kept),
            tuple((loop + 1, size) for loop, size in op.tiles),
            op.loc,
            op.name,
        )
        self.values.update(zip(op.results, made, strict=True))
        return True

    def _body(self, op: Generic, moved: Sequence[int], tables: dict[int, int]) -> Body:
        """The body for one more loop: scalars that come in batches are operands, tables are read at their sample."""
        body, n, first = op.body, len(op.operands), len(op.operands) + len(op.results)
        arguments = [*range(n), *(first + op.captures.index(v) for v in moved), *range(n, first)]
        arguments += [k for k in range(first, len(body.types)) if k not in arguments]
        place = {old: new for new, old in enumerate(arguments)}
        wide = {place[first + op.captures.index(v)]: number for v, number in tables.items()}
        types = [
            self.out.avals[wide[new]].mlir if new in wide else body.types[old] for new, old in enumerate(arguments)
        ]
        extra = bool(wide)

        def renamed(x: int) -> int:
            return place[x] if x in place else x + extra

        ops = [BodyOp("linalg.index", (), 0, ("index",))] if extra else []
        for o in body.ops:
            given = tuple(map(renamed, o.operands))
            if o.name == "tensor.extract" and given[0] in wide:
                given = (given[0], len(types), *given[1:])
            ops.append(_one_further_in(o)._replace(operands=given))
        return Body(tuple(types), tuple(ops), tuple(map(renamed, body.results)))

    # ---- ops on whole tensors ------------------------------------------------------------------------------------

    def _call(self, op: Call) -> bool:
        """Axes one further in; False where the op says nothing of its axes, or takes a number that comes in batches."""
        (result,), attributes = op.results, op.attribute
        if op.name == "tensor.extract":
            self.values[result] = self.values[op.operands[0]]
            return True
        if op.name in _RESHAPES:
            self.values[result] = reshape(self.out, self.values[op.operands[0]], self._aval(result).shape, op.loc)
            return True
        numbers = {v for v in op.operands if v in self.scalars or not self.group.avals[v].rank}
        found = _further_in(op)
        if found is None or not self.many.isdisjoint(numbers):
            return False
        given = tuple(self.values[v] if v in numbers else self._whole(v) for v in op.operands)
        made = self.out.call(op.name, given, (self._aval(result),), {**attributes, **found}, op.regions, op.loc)
        (self.values[result],) = made
        return True

    # ---- one by one ----------------------------------------------------------------------------------------------

    def _one_by_one(self, op: StructuredOp) -> None:
        """Every sample by itself, joined along the new axis."""
        parts: list[list[int]] = []
        for sample in range(self.extent):
            own = dict(self.values)
            own.update({v: self._sample(v, sample) for v in dict.fromkeys(op.reads) if v in self.many})
            made = self._append(op, own)
            shapes = [(1, *self.group.avals[v].shape) for v in op.results]
            parts.append([reshape(self.out, x, shape) for x, shape in zip(made, shapes, strict=True)])
        for k, v in enumerate(op.results):
            joined = tuple(part[k] for part in parts)
            (self.values[v],) = self.out.call("tensor.concat", joined, (self._aval(v),), {"dim": 0}, loc=op.loc)

    def _sample(self, v: int, sample: int) -> int:
        """One sample of a value, as the value was."""
        aval = self.group.avals[v]
        window = aval._replace(shape=(1, *aval.shape))
        where = {"starts": (sample, *(0,) * aval.rank), "steps": (1,) * (aval.rank + 1)}
        (found,) = self.out.call("tensor.extract_slice", (self.values[v],), (window,), where)
        found = reshape(self.out, found, aval.shape)
        return self.out.call("tensor.extract", (found,), (aval,))[0] if v in self.scalars else found


def op_name(op: StructuredOp) -> str:
    return op.name if isinstance(op, Call) else "linalg.generic"


def _reads_table(region: Body) -> bool:
    inner = any(_reads_table(r) for o in region.ops for r in o.regions)
    return inner or any(o.name == "tensor.extract" for o in region.ops)


def _one_further_in(op: BodyOp) -> BodyOp:
    """An op of a body whose loops are one further in."""
    regions = tuple(r._replace(ops=tuple(map(_one_further_in, r.ops))) for r in op.regions)
    if op.name != "linalg.index" or not isinstance(op.attribute, int):
        return op._replace(regions=regions)
    return op._replace(attribute=op.attribute + 1)


def _further_in(op: Call) -> dict[str, object] | None:
    """The attributes that change where all axes are one further in; None for an op that does not say."""
    attributes = op.attribute
    if op.name in ("tensor.extract_slice", "tensor.insert_slice"):
        return {"starts": (0, *attributes["starts"]), "steps": (1, *attributes["steps"])}
    if op.name == "tensor.pad":
        return {"low": (0, *attributes["low"]), "high": (0, *attributes["high"])}
    if op.name == "tensor.concat":
        return {"dim": attributes["dim"] + 1}
    own = families.group_op(op.name)
    return None if own is None or not own.axes else {name: attributes[name] + 1 for name in own.axes}
