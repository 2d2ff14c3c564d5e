"""The way back: what stands in a module, whoever wrote or rewrote it, as `Group`s.

In: a module of structured IR, verified by MLIR (`parse`: its text). Out: a group for every `func.func`, verified by our rules;
`GroupError` for IR that is no group. Named ops are generalized first. Tensors that are filled and then written are what
results start from; constants outside of bodies become captures; loops over tiles become the `tiles` of their op. What a
group's text says comes back as an equal group. Next: `reading_types.py`, `reading_bodies.py`, `reading_tiles.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.compiler import families
from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import group_dialect, verify
from flambeau.compiler.groups.form import (
    PARALLEL,
    Body,
    Group,
    GroupBuilder,
    Map,
    identity_map,
)
from flambeau.compiler.groups.reading_bodies import BodyReader, Indices
from flambeau.compiler.groups.reading_tiles import Tiling, tiling
from flambeau.compiler.groups.reading_types import CONSTANTS, Structure, Types, location, refuse, shared_types
from flambeau.compiler.groups.slices import extents, limits, reordering, reshape
from flambeau.dialects import flambeau_ops
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int, Size, repr_of, same
from flambeau.dialects.size_text import parse as parse_size

_DYNAMIC = -(2**63)  # how MLIR marks what an operand says in a list of numbers


def parse(text: str) -> dict[str, Group]:
    """The groups of a module's text. Raises `mlir.MlirError` with MLIR's diagnostics, GroupError."""
    return read(module(text), "fastmath" in text)


def module(text: str) -> Any:
    """A module of structured IR, verified by MLIR, with our dialect. Raises `mlir.MlirError`."""
    flambeau_ops.load(mlir.context())
    for name in families.named_in(text):
        group_dialect.load(mlir.context(), name)
    return mlir.parse(text)


def parse_group(text: str) -> Group:
    """The first group of a module's text. Raises as `parse` does."""
    return next(iter(parse(text).values()))


def read(parsed: Any, has_flags: bool | None = None) -> dict[str, Group]:
    """The groups of a module, by name. Changes the module: named ops are generalized. `has_flags`: whether any op may have
    fastmath flags, if that is known. Raises GroupError."""
    types = shared_types()
    types.has_flags = "fastmath<" in str(parsed) if has_flags is None else has_flags
    with mlir.context():
        structure = Structure(parsed.operation)
        if structure.has_named_ops:
            mlir.run(parsed, "builtin.module(func.func(linalg-generalize-named-ops))")
            structure = Structure(parsed.operation)
        functions = [op for op in structure.children.get(parsed.operation, []) if op.name != "transform.named_sequence"]
        groups = {}
        for function in functions:
            if function.name != "func.func":
                raise refuse(function, "a module of groups holds func.funcs only.")
            groups[function.attributes["sym_name"].value] = _Function(structure, types).read(function)
    return groups


def schedules(parsed: Any) -> dict[str, tuple[str, ...]]:
    """The texts of schedules that the functions of a module say, by name; functions that say none are absent."""
    functions = [op.operation for op in parsed.body.operations]
    said = {f: f.attributes["flambeau.schedules"] for f in functions if "flambeau.schedules" in f.attributes}
    return {f.attributes["sym_name"].value: tuple(text.value for text in texts) for f, texts in said.items()}


class _Function:
    """One function on its way to a group."""

    def __init__(self, structure: Structure, types: Types) -> None:
        self.structure, self.types, self.bodies = structure, types, BodyReader(structure, types)
        self.numbers: dict[Any, int] = {}
        self.inits: dict[Any, str | None] = {}  # tensors that results start from
        self.literals: dict[Any, str] = {}
        self.starts: dict[Any, tuple[Any, Int]] = {}  # of slices: the number, and its limit

    def read(self, function: Any) -> Group:
        ((arguments, operations),) = self.structure.blocks(function)
        entries = function.attributes
        sizes = self.types.decoded(entries["flambeau.sizes"]) if "flambeau.sizes" in entries else ()
        self.builder = GroupBuilder(sizes)
        for argument in arguments:
            if not self.types.is_tensor(argument):
                raise refuse(function, f"it takes {argument.type}. Groups take tensors.")
            self.numbers[argument] = self.builder.input(self.types.aval(argument))
        for op in operations[:-1]:
            self._op(op)
        group = self.builder.build(tuple(self._number(operations[-1], v) for v in operations[-1].operands))
        verify.verify(group)
        return group

    def _op(self, op: Any) -> None:
        handle = _HANDLERS.get(op.name)
        if handle is not None:
            handle(self, op)
        elif op.name.startswith("flambeau.") or families.group_op(op.name) is not None:
            self._ours(op)
        elif op.name not in _INDEX_OPS:
            raise refuse(op, "it is no op of a group. Use linalg.generic, tensor ops, and ops of ours.")

    # ---- values --------------------------------------------------------------------------------------------------

    def _number(self, op: Any, value: Any) -> int:
        """A value's number in the group. Constants that only fill tensors get one where they are needed after all."""
        if value not in self.numbers and value in self.literals and self.types.text(value) != "index":
            self._add_constant(value, None)
        if value not in self.numbers:
            raise refuse(op, f"it takes {value}, which is no value of the group.")
        return self.numbers[value]

    def _call(self, name: str, op: Any, operands: Sequence[Any], attributes: dict[str, Any] | None = None) -> None:
        """An op with one result, whose type is the result's."""
        given = tuple(self._number(op, v) for v in operands)
        (result,) = op.results
        (self.numbers[result],) = self.builder.call(
            name, given, (self.types.aval(result),), attributes, loc=location(op)
        )

    def index(self, value: Any) -> Int | None:
        """A number of type index that is known before the group runs."""
        made = self.structure.definitions.get(value)
        if made is None:
            return None
        if made.name in CONSTANTS:
            return int(self.types.literal(made.attributes["value"]))
        if made.name == "flambeau.size":
            return parse_size(made.attributes["size"].value)
        if made.name == "tensor.dim":
            axis = self.index(made.operands[1])
            return self.types.aval(made.operands[0]).shape[axis] if isinstance(axis, int) else None
        return None

    # ---- numbers, and tensors that only say what results start from -----------------------------------------------

    def _constant(self, op: Any) -> None:
        (result,) = op.results
        self.literals[result] = self.types.literal(op.attributes["value"])
        users = self.structure.users.get(result, [])
        if not self.bodies.is_put_in(result) and not (users and all(self._is_init(user) for user, _ in users)):
            self._add_constant(result, location(op))

    def _add_constant(self, value: Any, loc: Loc | None) -> None:
        literal, aval = {"value": self.literals[value]}, self.types.aval(value)
        (self.numbers[value],) = self.builder.call("arith.constant", (), (aval,), literal, loc=loc)

    def _size(self, op: Any) -> None:
        if self.types.text(op.results[0]) != "index":
            self._call("flambeau.size", op, (), {"size": parse_size(op.attributes["size"].value)})

    def _empty(self, op: Any) -> None:
        (result,) = op.results
        self.inits[result] = None
        if not self._only_begins(result):
            self._call("tensor.empty", op, ())

    def _fill(self, op: Any) -> None:
        """linalg.fill, before it is a generic."""
        (result,) = op.results
        if op.operands[0] in self.literals:
            self.inits[result] = self.literals[op.operands[0]]
        if not self._is_init(op):
            self._filled(op)

    def _filled(self, op: Any) -> None:
        """A tensor that holds one number everywhere, as a value."""
        (result,) = op.results
        aval, element = self.types.aval(result), str(op.operands[0].type)
        if element != aval.dtype.mlir:
            raise refuse(op, f"it fills {aval.mlir} with {element}. Cast the number first.")
        body = Body((element, element), (), (0,))
        (self.numbers[result],) = self.builder.generic(
            (PARALLEL,) * aval.rank,
            aval.shape,
            ((self._number(op, op.operands[0]), ()),),
            ((aval, identity_map(aval.rank), None),),
            body,
            loc=location(op),
        )

    def _is_init(self, op: Any) -> bool:
        """Whether an op fills a tensor with a constant, and others only write into that."""
        filling = self._filling(op)
        return filling is not None and self._only_begins(op.results[0])

    def _filling(self, op: Any) -> Any | None:
        """The constant that an op fills its result with."""
        if op.name == "linalg.fill":
            value = op.operands[0]
        elif op.name == "linalg.generic" and len(op.results) == 1:
            value = self._yielded(op)
        else:
            return None
        made = self.structure.definitions.get(value)
        return value if made is not None and made.name in CONSTANTS and not self.types.is_tensor(value) else None

    def _yielded(self, op: Any) -> Any | None:
        """What a generic yields that does nothing else: one of its operands, or a value from outside."""
        ((arguments, operations),) = self.structure.blocks(op)
        if len(operations) != 1:
            return None
        (value,) = operations[0].operands
        return op.operands[arguments.index(value)] if value in arguments else value

    def _only_begins(self, value: Any) -> bool:
        """Whether a tensor is only what results start from."""
        users = self.structure.users.get(value, [])
        return bool(users) and all(_begins(user, k, len(user.results)) for user, k in users)

    # ---- linalg.generic ------------------------------------------------------------------------------------------

    def _generic(self, op: Any) -> None:
        filled = self._filling(op) if op.name == "linalg.generic" else None
        if filled is not None:
            self.inits[op.results[0]] = self.types.literal(self.structure.definitions[filled].attributes["value"])
            if self._is_init(op):
                return
        self.nest(op, Tiling())

    def _tiled(self, loop: Any) -> None:
        found = tiling(loop, self.structure, self.types, self.index)
        self.nest(found.op, found)

    def nest(self, op: Any, tiles: Tiling) -> None:
        """A linalg.generic; in tiling loops `tiles` says which whole tensors it works on."""
        count = len(op.results)
        if not count:
            raise refuse(op, "it checks and gives nothing. Keep the nest that reads what is checked.")
        given = [tiles.whole.get(v, v) for v in op.operands]
        ins, outs = given[:-count], given[-count:]
        results = [tiles.results.get(r, r) for r in op.results]
        maps = self.types.maps(op.attributes["indexing_maps"])
        body, captured = self.bodies.body(op, Indices(self.index, tiles.begins, tiles.variables))
        operands = tuple((self._number(op, v), m) for v, m in zip(ins, maps))
        captures = tuple(self._number(op, v) for v in captured)
        read = {k for made in body.ops for k in made.operands}.union(body.results)
        inits = [self._init(op, v, len(ins) + k in read) for k, v in enumerate(outs)]
        avals = [self.types.aval(r) for r in results]
        shapes = [*(self.builder.avals[v].shape for v, _ in operands), *(a.shape for a in avals)]
        iterators = self.types.iterators(op.attributes["iterator_types"])
        numbers = self.builder.generic(
            iterators,
            extents(maps, shapes, len(iterators)),
            operands,
            tuple(zip(avals, maps[len(ins) :], inits)),
            body,
            captures,
            (*tiles.tiles, *self._hints(op, maps, len(iterators))),
            location(op),
            str(self.types.decoded(op.attributes["flambeau.name"])) if "flambeau.name" in op.attributes else "",
        )
        self.numbers.update(zip(results, numbers))

    def _init(self, op: Any, value: Any, is_read: bool) -> str | None:
        """What a result starts from, as far as the body reads that."""
        if not is_read:
            return None
        init = self.inits.get(value)
        if init is None:
            raise refuse(op, "it starts from a value. Start from linalg.fill of a constant, or do not read the result.")
        return init

    def _hints(self, op: Any, maps: Sequence[Map], loops: int) -> tuple[tuple[int, int], ...]:
        """The tiles that an op's attribute names, for its loops as they are now."""
        if "flambeau.tiles" not in op.attributes:
            return ()
        tiles = self.types.decoded(op.attributes["flambeau.tiles"])
        given = op.attributes.get("flambeau.tiled_maps")
        places = reordering(self.types.maps(given) if given else maps, maps, loops)
        if places is None or not all(_is_tile(tile, loops) for tile in tiles):
            raise refuse(op, f"its tiles are {tiles} for other loops than it has. Leave both attributes out.")
        return tuple((places[loop], size) for loop, size in tiles)

    # ---- ops on whole tensors ------------------------------------------------------------------------------------

    def _collapse(self, op: Any) -> None:
        runs = self.types.decoded(op.attributes["reassociation"])
        self._call(op.name, op, op.operands[:1], {"reassociation": runs})

    def _extract(self, op: Any) -> None:
        if len(op.operands) != 1:
            raise refuse(op, "it reads one element outside of a nest. Read it in the body that needs it.")
        self._call(op.name, op, op.operands)

    def _concat(self, op: Any) -> None:
        self._call(op.name, op, op.operands, {"dim": op.attributes["dim"].value})

    def _pad(self, op: Any) -> None:
        ((_, operations),) = self.structure.blocks(op)
        given = iter(list(op.operands)[1:])
        low, high = (self._sizes(op, op.attributes[f"static_{side}"], given) for side in ("low", "high"))
        value = operations[-1].operands[0]
        inner = self.structure.definitions.get(value)
        if inner is not None and inner.name in CONSTANTS:
            self.literals.setdefault(value, self.types.literal(inner.attributes["value"]))
        self._call(op.name, op, (op.operands[0], value), {"low": low, "high": high})

    def _sizes(self, op: Any, static: Any, given: Any) -> tuple[Int, ...]:
        """A list of numbers, some of them operands."""
        return tuple(self._known(op, next(given)) if n == _DYNAMIC else n for n in self.types.integers(static))

    def _known(self, op: Any, value: Any) -> Int:
        number = self.index(value)
        if number is None:
            raise refuse(op, f"it takes {value}, which is no constant and no flambeau.size. Give one of these.")
        return number

    def _start(self, op: Any) -> None:
        self.starts[op.results[0]] = op.operands[0], parse_size(op.attributes["limit"].value)

    def _slice(self, op: Any) -> None:
        x, aval = op.operands[0], self.types.aval(op.results[0])
        starts, clamped, window, steps = self._window(op, 1)
        self._check_limits(op, self.types.aval(x).shape, window, steps, starts, [limit for _, limit in clamped])
        given = (self._number(op, x), *(self._number(op, v) for v, _ in clamped))
        attributes = {"starts": starts, "steps": steps}
        (number,) = self.builder.call(op.name, given, (Aval(window, aval.dtype),), attributes, loc=location(op))
        self.numbers[op.results[0]] = reshape(self.builder, number, aval.shape, location(op))

    def _insert(self, op: Any) -> None:
        part, x = list(op.operands)[:2]
        starts, clamped, window, steps = self._window(op, 2)
        aval = self.types.aval(op.results[0])
        self._check_limits(op, aval.shape, window, steps, starts, [limit for _, limit in clamped])
        source = reshape(self.builder, self._number(op, part), window, location(op))
        given = (source, self._number(op, x), *(self._number(op, v) for v, _ in clamped))
        attributes = {"starts": starts, "steps": steps}
        (self.numbers[op.results[0]],) = self.builder.call(op.name, given, (aval,), attributes, loc=location(op))

    def _window(self, op: Any, tensors: int) -> tuple[tuple[Int | str, ...], list, tuple[Int, ...], tuple[int, ...]]:
        """(starts, (number, limit) of those moved to where the window fits, sizes, steps) of a slice."""
        given, clamped, starts = iter(list(op.operands)[tensors:]), list[tuple[Any, Int]](), list[Int | str]()
        for n in self.types.integers(op.attributes["static_offsets"]):
            value = next(given) if n == _DYNAMIC else None
            if value is not None and value in self.starts:
                clamped.append(self.starts[value])
                starts.append("clamped")
            else:
                starts.append(n if value is None else self._known(op, value))
        sizes = self._sizes(op, op.attributes["static_sizes"], given)
        steps = self._sizes(op, op.attributes["static_strides"], given)
        if any(isinstance(n, Size) for n in steps):
            raise refuse(op, f"its steps are {steps}. Steps are numbers.")
        return tuple(starts), clamped, sizes, tuple(int(n) for n in steps)

    def _check_limits(
        self, op: Any, whole: tuple, window: tuple, steps: tuple, starts: tuple, given: Sequence[Int]
    ) -> None:
        """Run-time starts are moved to where just this window fits."""
        expected = [n for n, start in zip(limits(whole, window, steps), starts) if start == "clamped"]
        for limit, fits in zip(given, expected):
            if not same(limit, fits):
                found, right = repr_of(limit), repr_of(fits)
                raise refuse(
                    op, f"a start is moved into 0..{found}, and the slice fits at 0..{right}. Give that limit."
                )

    def _ours(self, op: Any) -> None:
        attributes = {name: self.types.decoded(op.attributes[name]) for name in op.attributes}
        regions = []
        for arguments, operations in self.structure.blocks(op) if len(op.regions) else ():
            if self.bodies.reads_outside(op):
                raise refuse(op, "its region reads values from outside. Give it all that it needs as arguments.")
            regions.append(self.bodies.block(arguments, operations, Indices(self.index)))
        given = tuple(self._number(op, v) for v in op.operands)
        avals = tuple(self.types.aval(r) for r in op.results)
        numbers = self.builder.call(op.name, given, avals, attributes, tuple(regions), location(op))
        self.numbers.update(zip(op.results, numbers))


def _is_tile(tile: Any, loops: int) -> bool:
    return isinstance(tile, tuple) and [type(n) for n in tile] == [int, int] and 0 <= tile[0] < loops


def _begins(user: Any, position: int, results: int) -> bool:
    """Whether an op takes a tensor at `position` as what a result of its starts from."""
    return (
        user.name in ("linalg.generic", "linalg.fill", "scf.for", "scf.forall")
        and position >= len(user.operands) - results
    )


_HANDLERS: dict[str, Callable[[_Function, Any], None]] = {
    "linalg.generic": _Function._generic,
    "linalg.fill": _Function._fill,
    **dict.fromkeys(CONSTANTS, _Function._constant),
    "tensor.empty": _Function._empty,
    "tensor.extract": _Function._extract,
    "tensor.collapse_shape": _Function._collapse,
    "tensor.expand_shape": _Function._collapse,
    "tensor.extract_slice": _Function._slice,
    "tensor.insert_slice": _Function._insert,
    "tensor.concat": _Function._concat,
    "tensor.pad": _Function._pad,
    "scf.for": _Function._tiled,
    "scf.forall": _Function._tiled,
    "flambeau.size": _Function._size,
    "flambeau.start": _Function._start,
}
#: Arithmetic on indices: looked at where something needs it.
_INDEX_OPS = frozenset({"affine.apply", "affine.min", "tensor.dim"})
