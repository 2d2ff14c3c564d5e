"""Orders for folds that have none: those of ops from elsewhere, such as `linalg.matmul` and `linalg.reduce`.

In: a module of structured IR. Out: the same, and every fold says in which order it goes, as those do that the compiler makes;
the rules are those of docs/architecture.md, "One semantics". Next: `groups/reading.py`, which refuses what has no order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

from flambeau.compiler.backend import mlir
from flambeau.compiler.groups.form import REDUCTION, Affine
from flambeau.compiler.groups.reading_types import Structure, Types, refuse, shared_types
from flambeau.compiler.passes.on_groups import ModulePass
from flambeau.dialects.size import Int
from flambeau.dialects.tape.reduction_order import is_inner

#: What a fold with this op starts from, given the bits of an integer.
_IDENTITIES: dict[str, Callable[[int], float | int]] = {
    "arith.addf": lambda bits: 0.0,
    "arith.mulf": lambda bits: 1.0,
    "arith.maximumf": lambda bits: -inf,
    "arith.minimumf": lambda bits: inf,
    "arith.addi": lambda bits: 0,
    "arith.muli": lambda bits: 1,
    "arith.maxsi": lambda bits: -(1 << (bits - 1)),
    "arith.minsi": lambda bits: (1 << (bits - 1)) - 1,
    "arith.andi": lambda bits: -1,
    "arith.ori": lambda bits: 0,
}


@dataclass(frozen=True)
class AssignOrders(ModulePass):
    """Give folds their orders.

    In: any module of groups, named ops too, which become generics. Out: what folds without an order gets the one that the
    compiler would give it: products of matrices are chains of fused multiply-adds in blocks; other folds go by lanes or by
    chains, as the extents say. A fold that has an order keeps it. Refused is what is no fold: a combination of more than one
    op, and one that starts from something else than its identity.
    """

    name = "assign-orders"
    after = ""
    on_modules: ClassVar[bool] = True

    def rewrite(self, module: Any) -> None:
        structure, types = Structure(module.operation), shared_types()
        if structure.has_named_ops:
            mlir.run(module, "builtin.module(func.func(linalg-generalize-named-ops))")
            structure = Structure(module.operation)
        nests = [op for ops in structure.children.values() for op in ops if op.name == "linalg.generic"]
        for op in nests:
            with op.location:
                _GenericNest(op, structure, types).assign()


class _GenericNest:
    """One linalg.generic. Loops are numbers; `arguments` are those of its body, for operands first, then for results."""

    def __init__(self, op: Any, structure: Structure, types: Types) -> None:
        self.op, self.structure, self.types = op, structure, types
        ((self.arguments, self.operations),) = structure.blocks(op)
        self.maps = types.maps(op.attributes["indexing_maps"])
        iterators = types.iterators(op.attributes["iterator_types"])
        self.reductions = [k for k, kind in enumerate(iterators) if kind == REDUCTION]
        self.extents = self._extents(len(iterators))
        self.n_inputs = len(op.operands) - len(op.results)
        self.unread: list[Any] = []  # ops that nobody reads any more, the last one first

    def assign(self) -> None:
        end = self.operations[-1]
        for k in range(len(self.op.results) if self.reductions else 0):
            made = self.structure.definitions.get(end.operands[k])
            if made is None or made.name != "flambeau.fold":
                end.operands[k] = self._folded(k, made, end)
        for op in self.unread:
            op.erase()

    def _folded(self, k: int, made: Any, end: Any) -> Any:
        """The k-th partial result, which the op `made` computes, as a fold with an order."""
        ir, so_far = mlir.ir, self.arguments[self.n_inputs + k]
        reads = list(made.operands) if made is not None else []
        if made is None or made.name not in _IDENTITIES or reads.count(so_far) != 1 or self._users(so_far) != 1:
            what = made.name if made is not None else "nothing"
            raise refuse(
                self.op, f"result {k} is combined by {what}. A fold is one of {', '.join(_IDENTITIES)}, of an element."
            )
        identity = self._identity(made)
        self._check_start(k, identity)
        (element,) = (v for v in reads if v != so_far)
        value, order = made.results[0], "lanes" if is_inner(self.extents, self.reductions) else "chains"
        with ir.InsertionPoint(end):
            if made.name == "arith.addf" and (factors := self._factors(element)):
                value = ir.Operation.create("math.fma", [value.type], [*factors, so_far]).results[0]
                product = [self.structure.definitions[element]] if self._users(element) == 1 else []
                self.unread += [made, *product]
                order = "lanes" if 1 in self.extents[-3:-1] else "blocks"
            index, wide = ir.IndexType.get(), ir.IntegerType.get_signless(64)
            places = [
                ir.Operation.create("linalg.index", [index], [], {"dim": ir.IntegerAttr.get(wide, loop)}).results[0]
                for loop in self.reductions
            ]
            attributes = {"identity": identity, "order": ir.StringAttr.get(order)}
            found = ir.Operation.create("flambeau.fold", [value.type], [value, *places], attributes).results[0]
        return found

    def _users(self, value: Any) -> int:
        return len(self.structure.users.get(value, ()))

    def _factors(self, element: Any) -> tuple[Any, Any] | None:
        """The two elements whose product is folded, where the nest is a product of matrices: loops (..., m, n, k)."""
        made = self.structure.definitions.get(element)
        if (
            made is None
            or made.name != "arith.mulf"
            or len(self.arguments) != 3
            or self.reductions != [len(self.extents) - 1]
        ):
            return None
        *batch, m, n, k = range(len(self.extents))
        wanted = [[*batch, m, k], [*batch, k, n], [*batch, m, n]]
        if [[*map(Affine.of, loops)] for loops in wanted] != [list(map_) for map_ in self.maps]:
            return None
        left, right = self.arguments[:2]
        return (left, right) if list(made.operands) in ([left, right], [right, left]) else None

    def _identity(self, made: Any) -> Any:
        ir, type_ = mlir.ir, made.results[0].type
        if isinstance(type_, ir.IntegerType):
            return ir.IntegerAttr.get(type_, int(_IDENTITIES[made.name](type_.width)))
        return ir.FloatAttr.get(type_, float(_IDENTITIES[made.name](0)))

    def _check_start(self, k: int, identity: Any) -> None:
        """The tensor that the fold starts from is filled with its identity."""
        fill = self.structure.definitions.get(self.op.operands[self.n_inputs + k])
        number = self.structure.definitions.get(fill.operands[0]) if fill is not None and self._fills(fill) else None
        if number is None or number.name != "arith.constant" or self._literal(number) != self.types.literal(identity):
            message = f"result {k} does not start from {identity}. Fill its tensor with that, and combine afterwards."
            raise refuse(self.op, message)

    def _fills(self, op: Any) -> bool:
        """Whether the op is linalg.fill, or the generic that it becomes."""
        if op.name != "linalg.generic":
            return op.name == "linalg.fill"
        ((arguments, operations),) = self.structure.blocks(op)
        return len(operations) == 1 and list(operations[0].operands) == arguments[:1]

    def _literal(self, constant: Any) -> str:
        return self.types.literal(constant.attributes["value"])

    def _extents(self, count: int) -> list[Int]:
        """The loops' trip counts, as the operands' types say."""
        found: list[Int] = [1] * count
        for value, map_ in zip(self.op.operands, self.maps, strict=True):
            for extent, place in zip(self.types.aval(value).shape, map_, strict=True):
                if len(place.terms) == 1 and place == Affine.of(place.terms[0][0]):
                    found[place.terms[0][0]] = extent
        return found
