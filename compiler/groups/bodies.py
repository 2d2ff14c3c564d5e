"""Scalar code as data: the lowerings of records, run once on an emitter that keeps their ops.

In: a record with its attributes and element types. Out: its `Body`, made once and then shared. Control flow becomes ops
with regions, which see nothing but their arguments; a table becomes a constant tensor. Next: `play.py`, the way back
onto an emitter that writes text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flambeau.compiler.codegen.arithmetic import Arithmetic
from flambeau.compiler.codegen.values import Number, Val, spell_number
from flambeau.compiler.groups.form import Body, BodyOp, Order
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.record import OpRecord
from flambeau.dialects.size import Int, Size

# ---- recording --------------------------------------------------------------------------------------------------


@dataclass
class _UnboundOp:
    """An op whose operands are still names."""

    name: str
    operands: list[str]
    attribute: Hashable
    types: tuple[str, ...]
    results: list[str]
    regions: tuple[_OpenBlock, ...] = ()
    captured: list[str] = field(default_factory=list)  # what the regions read from outside; the last operands


@dataclass
class _OpenBlock:
    """A block under construction."""

    arguments: list[str]
    ops: list[_UnboundOp] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    def outside(self) -> list[str]:
        """The names that the block reads and does not define, in order of first use."""
        known, found = set(self.arguments), dict[str, None]()
        for op in self.ops:
            found.update(dict.fromkeys(n for n in op.operands if n not in known))
            known.update(op.results)
        found.update(dict.fromkeys(n for n in self.results if n not in known))
        return list(found)


class Recorder(Arithmetic):
    """An emitter of scalars that keeps what it is asked for. `types` are those of the body's arguments; `extents` are the
    loops' trip counts, for lowerings that ask for the element's position."""

    def __init__(self, types: Sequence[str], extents: Sequence[Int] = ()) -> None:
        self.extents = extents
        self._types: dict[str, str] = {}
        self.arguments = [self._value(type) for type in types]
        self._block = _OpenBlock([v.name for v in self.arguments])

    def body(self, *results: Val) -> Body:
        """All that was recorded."""
        self._block.results = [v.name for v in results]
        return self._finished(self._block, [])

    # ---- what lowerings call

    def op(self, name: str, operands: Sequence[Val], element: str, lanes: int = 1, attribute: str = "") -> Val:
        return self.keep(name, operands, (element,), attribute or None)[0]

    def keep(self, name: str, operands: Sequence[Val], types: tuple[str, ...], attribute: Hashable = None) -> list[Val]:
        """Append an op with any number of results."""
        return self._append(_UnboundOp(name, [v.name for v in operands], attribute, types, []))

    def const(self, number: Number, like: Val | str, lanes: int = 1) -> Val:
        """A constant of the element type, which says whether an integer is signed."""
        if isinstance(number, Size):
            return super().const(number, like, lanes)
        element = like.type if isinstance(like, Val) else like
        return self.op("arith.constant", (), element, attribute=spell_number(number, element))

    def bitcast(self, x: Val, element: str) -> Val:
        """Kept also between types that registers do not tell apart."""
        return x if x.type == element else self.op("arith.bitcast", [x], element)

    def constant_name(self, literal: str, type: str) -> str:
        return self.op("arith.constant", (), type, attribute=literal).name

    def size(self, number: Size) -> Val:
        return self.keep("flambeau.size", (), ("i64",), number)[0]

    def coordinate(self, dim: int) -> Val:
        """The element's place along a loop, of type index."""
        return self.keep("linalg.index", (), ("index",), dim)[0]

    def index(self, dim: int) -> Val:
        return self.op("arith.index_cast", [self.coordinate(dim)], "i64")

    def position(self) -> Val:
        """The row-major number of the element; loops of one iteration add nothing to it."""
        total: Val | None = None
        for dim, extent in enumerate(self.extents):
            if extent == 1:
                continue
            at = self.index(dim)
            total = at if total is None else self.add(self.mul(total, extent), at)
        return self.const(0, "i64") if total is None else total

    def any(self, x: Val) -> Val:
        """Of a scalar, itself; of vectors, whether some lane is true: whoever plays the body decides."""
        return self.op("flambeau.any_lane", [x], "i1")

    def table(self, numbers: Sequence[Number], element: str) -> Val:
        literals = ", ".join(spell_number(x, element) for x in numbers)
        return self.op("arith.constant", (), f"tensor<{len(numbers)}x{element}>", attribute=f"dense<[{literals}]>")

    def gather(self, pointer: Val, indices: Val, element: str) -> Val:
        """An element of a table."""
        return self.op("tensor.extract", [pointer, self.as_index(indices)], element)

    def as_index(self, x: Val) -> Val:
        return self.op("arith.index_cast", [x], "index")

    # ---- control flow

    def if_else(
        self, condition: Val, then: Callable[[], Sequence[Val]], otherwise: Callable[[], Sequence[Val]]
    ) -> list[Val]:
        regions = (self._region([], then), self._region([], otherwise))
        types = tuple(self._types[name] for name in regions[0].results)
        return self._structured("scf.if", [condition], types, regions)

    def while_(
        self, carried: Sequence[Val], condition: Callable[..., Val], body: Callable[..., Sequence[Val]]
    ) -> list[Val]:
        types = tuple(x.type for x in carried)
        before, inside = ([self._value(type) for type in types] for _ in range(2))
        regions = (
            self._region(before, lambda: [condition(*before), *before]),
            self._region(inside, lambda: body(*inside)),
        )
        return self._structured("scf.while", carried, types, regions)

    def _region(self, arguments: Sequence[Val], write: Callable[[], Sequence[Val]]) -> _OpenBlock:
        with self._inside(_OpenBlock([v.name for v in arguments])) as block:
            block.results = [v.name for v in write()]
        return block

    @contextmanager
    def _inside(self, block: _OpenBlock) -> Iterator[_OpenBlock]:
        outer, self._block = self._block, block
        yield block
        self._block = outer

    def _structured(
        self, name: str, operands: Sequence[Val], types: tuple[str, ...], regions: tuple[_OpenBlock, ...]
    ) -> list[Val]:
        captured = list(dict.fromkeys(n for region in regions for n in region.outside()))
        names = [*(v.name for v in operands), *captured]
        return self._append(_UnboundOp(name, names, None, types, [], regions, captured))

    # ---- names and numbers

    def _value(self, type: str) -> Val:
        name = f"%{len(self._types)}"
        self._types[name] = type
        return Val(name, type)

    def _append(self, op: _UnboundOp) -> list[Val]:
        results = [self._value(type) for type in op.types]
        op.results = [v.name for v in results]
        self._block.ops.append(op)
        return results

    def _finished(self, block: _OpenBlock, captured: list[str]) -> Body:
        arguments = [*block.arguments, *captured]
        number = {name: k for k, name in enumerate(arguments)}
        ops = []
        for op in block.ops:
            regions = tuple(self._finished(region, op.captured) for region in op.regions)
            ops.append(BodyOp(op.name, tuple(number[n] for n in op.operands), op.attribute, op.types, regions))
            for name in op.results:
                number[name] = len(number)
        results = tuple(number[n] for n in block.results)
        return Body(tuple(self._types[n] for n in arguments), tuple(ops), results)


# ---- bodies of records, made once -------------------------------------------------------------------------------

_MOST = 4096
_known: OrderedDict[tuple[Hashable, ...], Body] = OrderedDict()


def _remembered(key: tuple[Hashable, ...], make: Callable[[], Body]) -> Body:
    found = _known.get(key)
    if found is None:
        found = _known[key] = make()
        if len(_known) > _MOST:
            _known.popitem(last=False)
    return found


def elementwise(
    op: OpRecord, attrs: tuple[Hashable, ...], types: tuple[str, ...], results: tuple[str, ...], code: int | None
) -> Body:
    """The body of an elementwise op. One that may fail checks first, under its number `code`."""

    def make() -> Body:
        b = Recorder((*types, *results))
        operands = b.arguments[: len(types)]
        if op.fails is not None:
            b.keep("flambeau.check", [op.fails(b, *operands, *attrs)], (), code)
        found = op.lower(b, *operands, *attrs)
        return b.body(*([found] if isinstance(found, Val) else found))

    return _remembered((op, attrs_key(attrs), types, results, code), make)


def source(op: OpRecord, attrs: tuple[Hashable, ...], types: tuple[str, ...], result: Aval) -> Body:
    """The body of a source over the loops of its result."""

    def make() -> Body:
        b = Recorder((*types, result.dtype.mlir), result.shape)
        return b.body(op.lower(b, *b.arguments[:-1], *attrs))

    return _remembered((op, attrs_key(attrs), types, attrs_key(result.shape), result.dtype.mlir), make)


def fold(op: OpRecord, dtype: DType, order: str, dims: tuple[int, ...]) -> Body:
    """One step of a reduction, placed by the loops that it folds."""

    def make() -> Body:
        b = Recorder((dtype.mlir, dtype.mlir))
        x, total = b.arguments
        identity = spell_number(op.lower.identity(dtype), dtype.mlir)
        return folded(b, op.lower.combine(b, total, x), Order(order, identity), dims)

    return _remembered((op, dtype.mlir, order, dims), make)


def product(dtype: DType, order: str, dim: int) -> Body:
    """One step of a contraction: fused for floats, wrapping for integers."""

    def make() -> Body:
        b = Recorder((dtype.mlir,) * 3)
        x, y, total = b.arguments
        combined = b.fma(x, y, total) if dtype.is_floating_point else b.add(total, b.mul(x, y))
        return folded(b, combined, Order(order, spell_number(0, dtype.mlir)), (dim,))

    return _remembered(("product", dtype.mlir, order, dim), make)


def combined(op: Callable[..., Val], element: str, count: int = 2) -> Body:
    """What `op` makes of so many elements, such as of what is there and an update."""
    b = Recorder((element,) * count)
    return b.body(op(b, *b.arguments))


def copy(element: str) -> Body:
    """The element itself."""
    return Body((element, element), (), (0,))


def folded(b: Recorder, step: Val, order: Order, dims: Sequence[int]) -> Body:
    """A body that ends in the fold of `step`."""
    places = [b.coordinate(dim) for dim in dims]
    return b.body(*b.keep("flambeau.fold", [step, *places], (step.type,), order))
