"""What a module's operations, types and attributes mean, worked out once each.

In: a module of MLIR's. Out: `Structure` (ops by parent, definitions, users) and `Types` (avals, maps, literals). Operations
are met by walking only: `block.operations`, `value.owner` and elements of some attributes would wrap them in the
bindings' op classes, whose import takes 50 to 150 ms. Next: `reading.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flambeau.compiler.backend import mlir
from flambeau.compiler.codegen.values import dtype_of, is_element, is_unsigned, spell_number
from flambeau.compiler.groups.form import PARALLEL, REDUCTION, Affine, GroupError, Map
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import by_mlir, carrier_of
from flambeau.dialects.flambeau_ops import linear, walked
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int
from flambeau.dialects.size_text import parse


def refuse(op: Any, message: str) -> GroupError:
    """An error that names the op and where it stands."""
    return GroupError(f"[{op.name}] at {op.location}: {message}")


class Structure:
    """The operations of a module: in blocks, by the values that they define, and by those that they use."""

    def __init__(self, root: Any) -> None:
        self.children: dict[Any, list[Any]] = {}
        self.definitions: dict[Any, Any] = {}
        self.users: dict[Any, list[tuple[Any, int]]] = {}
        self.has_named_ops = False
        for op in walked(root):
            name = op.name
            self.has_named_ops |= name.startswith("linalg.") and name not in _PLAIN
            self.children.setdefault(op.parent, []).append(op)
            for r in op.results:
                self.definitions[r] = op
            for k, v in enumerate(op.operands):
                self.users.setdefault(v, []).append((op, k))

    def blocks(self, op: Any) -> list[tuple[list[Any], list[Any]]]:
        """The arguments and operations of each region that has a block. Raises GroupError where one has several."""
        counts = [len(list(region.blocks)) for region in op.regions]
        if max(counts, default=0) > 1:
            raise refuse(op, "it has a region of several blocks. Use structured control flow.")
        regions = [region for region, count in zip(op.regions, counts) if count]
        parts = self._parts(op, len(regions))
        return [(list(region.blocks[0].arguments), part) for region, part in zip(regions, parts)]

    def _parts(self, op: Any, regions: int) -> list[list[Any]]:
        """The operations inside of `op`, region by region: all but the last end with their terminators."""
        parts: list[list[Any]] = [[]]
        for child in self.children.get(op, []):
            parts[-1].append(child)
            if child.name in _TERMINATORS and len(parts) < regions:
                parts.append([])
        return parts

    def used(self, op: Any) -> list[Any]:
        """The values that an op reads from outside of it, in the order of their first use."""
        inside: set[Any] = set()
        found: dict[Any, None] = {}
        self._collect(op, inside, found)
        return [v for v in found if v not in inside]

    def is_constant(self, value: Any) -> bool:
        """Whether a value is a number or a table that stands in the text."""
        made = self.definitions.get(value)
        return made is not None and made.name in CONSTANTS

    def is_table(self, value: Any, types: Types) -> bool:
        """Whether a value is a constant tensor."""
        return self.is_constant(value) and types.is_tensor(value)

    def _collect(self, op: Any, inside: set[Any], found: dict[Any, None]) -> None:
        for arguments, operations in self.blocks(op) if len(op.regions) else ():
            inside.update(arguments)
            for child in operations:
                found.update(dict.fromkeys(child.operands))
                self._collect(child, inside, found)
                inside.update(child.results)


_PLAIN = ("linalg.generic", "linalg.index", "linalg.yield", "linalg.fill")
_TERMINATORS = frozenset(
    {"scf.yield", "scf.condition", "scf.forall.in_parallel", "linalg.yield", "tensor.yield", "flambeau.yield"}
)


def _size(text: str) -> Int:
    try:
        return parse(text)
    except (ValueError, ZeroDivisionError) as error:
        raise GroupError(f"[linalg] an extent or a number: {str(error).removeprefix('[size] ')}") from None


class Types:
    """What the types and attributes of a context mean. `has_flags`: whether any op has fastmath flags; they are looked at
    only then, since the bindings wrap such an attribute in a class of arith's."""

    def __init__(self) -> None:
        self.ir, self.has_flags = mlir.ir, False
        self._texts: dict[Any, str] = {}
        self._avals: dict[Any, Aval] = {}
        self._maps: dict[Any, Map] = {}

    def forget(self, limit: int = 4096) -> None:
        """Start anew once there is much to remember."""
        for known in (self._texts, self._avals, self._maps):
            if len(known) > limit:
                known.clear()  # type: ignore[attr-defined]

    def text(self, value: Any) -> str:
        """A value's type, as MLIR spells it."""
        type_ = value.type
        found = self._texts.get(type_)
        if found is None:
            found = self._texts[type_] = str(type_)
        return found

    # ---- types ---------------------------------------------------------------------------------------------------

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value.type, self.ir.RankedTensorType)

    def aval(self, value: Any) -> Aval:
        """The type of a tensor, or of a scalar. Raises GroupError for others."""
        type_ = value.type
        if type_ not in self._avals:
            self._avals[type_] = self._aval(type_)
        return self._avals[type_]

    def _aval(self, type_: Any) -> Aval:
        ir = self.ir
        if not isinstance(type_, ir.RankedTensorType):
            return Aval((), self._dtype(type_))
        tensor = ir.RankedTensorType(type_)
        unknown = [k for k in range(tensor.rank) if tensor.is_dynamic_dim(k)]
        texts = list(ir.ArrayAttr(tensor.encoding)) if isinstance(tensor.encoding, ir.ArrayAttr) else []
        if unknown and len(texts) != len(unknown):  # without any, passes may leave those of another type there
            raise GroupError(
                f'[linalg] {type_} has unknown extents. Give an expression for each, as in tensor<?xf32, ["s0"]>.'
            )
        shape: list[Any] = [0 if k in unknown else d for k, d in enumerate(tensor.shape)]
        for k, text in zip(unknown, texts):
            shape[k] = _size(ir.StringAttr(text).value if isinstance(text, ir.StringAttr) else str(text))
        return Aval(tuple(shape), self._dtype(tensor.element_type))

    def _dtype(self, type_: Any) -> Any:
        try:
            return by_mlir(str(type_))
        except KeyError:
            raise GroupError(
                f"[linalg] {type_} is no element type of ours. Use tensors and scalars of i1, i8 to i64, f16 to f64."
            ) from None

    # ---- attributes ----------------------------------------------------------------------------------------------

    def maps(self, attribute: Any) -> tuple[Map, ...]:
        return tuple(self.map(a) for a in self.ir.ArrayAttr(attribute))

    def map(self, attribute: Any) -> Map:
        if attribute not in self._maps:
            map_ = attribute.value
            if map_.n_symbols:
                raise GroupError(f"[linalg] {attribute} has symbols. Indexing maps are linear forms of loops.")
            dims = [(((k, 1),), 0) for k in range(map_.n_dims)]
            self._maps[attribute] = tuple(self._affine(e, dims) for e in map_.results)
        return self._maps[attribute]

    def _affine(self, expression: Any, dims: list) -> Affine:
        found = linear(expression, dims, ())
        if found is None:
            raise GroupError(f"[linalg] {expression} is not linear. Read such elements with tensor.extract.")
        return Affine(*found)

    def iterators(self, attribute: Any) -> tuple[str, ...]:
        """By the attribute's text: its elements would be wrapped in a class of linalg's."""
        kinds = [k for k in str(attribute).split(",") if "<" in k]
        if wrong := [k for k in kinds if "reduction" not in k and "parallel" not in k]:
            raise GroupError(f"[linalg] {wrong[0].strip(' []')} is neither parallel nor a reduction. Use these two.")
        return tuple(REDUCTION if "reduction" in k else PARALLEL for k in kinds)

    def integers(self, attribute: Any) -> tuple[int, ...]:
        """A dense array of i64 or i32."""
        kind = self.ir.DenseI64ArrayAttr if "i64" in str(attribute) else self.ir.DenseI32ArrayAttr
        return tuple(kind(attribute))

    def decoded(self, attribute: Any) -> Any:
        """An attribute of an op of ours: an integer, a string, a size, or a list of these."""
        ir = self.ir
        if isinstance(attribute, ir.ArrayAttr):
            return tuple(self.decoded(a) for a in ir.ArrayAttr(attribute))
        if isinstance(attribute, ir.DictAttr) and "size" in attribute:
            return _size(str(attribute["size"]).strip('"'))
        if isinstance(attribute, (ir.IntegerAttr, ir.StringAttr, ir.BoolAttr)):
            return attribute.value
        raise GroupError(f"[flambeau] attribute {attribute} is of no kind that ops use. Use numbers, strings, lists.")

    # ---- numbers -------------------------------------------------------------------------------------------------

    def literal(self, attribute: Any) -> str:
        """A constant as `values.spell_number` spells it; a table as "dense<[...]>"."""
        ir = self.ir
        if isinstance(attribute, ir.BoolAttr):
            return "true" if attribute.value else "false"
        if isinstance(attribute, ir.IntegerAttr):
            type_ = str(attribute.type)
            return spell_number(attribute.value, type_) if is_unsigned(type_) else str(attribute.value)
        if isinstance(attribute, ir.FloatAttr):
            return self._float(str(attribute), attribute)
        if isinstance(attribute, ir.DenseElementsAttr):
            return f"dense<[{', '.join(self._elements(attribute))}]>"
        raise GroupError(f"[arith.constant] {attribute} is no number. Use scalars, and tables of rank 1.")

    def _float(self, text: str, attribute: Any) -> str:
        type_ = str(attribute.type)
        if not text.startswith("0x"):
            return spell_number(attribute.value, type_)
        bits, carrier = text.partition(" ")[0], carrier_of(type_)
        return spell_number(int(bits, 0), carrier) if carrier else bits

    def _elements(self, attribute: Any) -> list[str]:
        type_ = self.ir.RankedTensorType(attribute.type)
        element = str(type_.element_type)
        if type_.rank != 1 or not is_element(element):
            raise GroupError(f"[arith.constant] a table of type {attribute.type}. Tables have rank 1.")
        if attribute.is_splat:
            return [self.literal(attribute.get_splat_value())] * type_.get_dim_size(0)
        data = memoryview(attribute).tobytes()
        width = len(data) // max(type_.get_dim_size(0), 1) or 1
        return [_spelled(data[k : k + width], element) for k in range(0, len(data), width)]


#: Ops that are a number: `Types.literal` of their attribute `value`.
CONSTANTS = frozenset({"arith.constant", "flambeau.number"})


@cache
def _types() -> Types:
    return Types()


def shared_types() -> Types:
    """Those of the compiler's context."""
    types = _types()
    types.forget()
    return types


def _spelled(data: bytes, element: str) -> str:
    if dtype_of(element).is_floating_point:
        return f"0x{int.from_bytes(data, 'little'):0{2 * len(data)}X}"
    return spell_number(int.from_bytes(data, "little"), element)


def location(op: Any) -> Loc | None:
    """The first line of user code that an op's location names; "-" is the text that was parsed."""
    return _line(op.location)


def _line(location: Any) -> Loc | None:
    ir = mlir.ir
    if isinstance(location, ir.FileLineColLoc):
        return Loc(location.filename, location.start_line) if location.filename != "-" else None
    if isinstance(location, ir.FusedLoc):
        return next((found for part in location.locations if (found := _line(part))), None)
    if isinstance(location, ir.NameLoc):
        return _line(location.child_loc)
    if isinstance(location, ir.CallSiteLoc):
        return _line(location.callee)
    return None
