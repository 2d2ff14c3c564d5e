"""The `flambeau` dialect: what fusion groups need and upstream's dialects lack.

In bodies:
    fold       the next partial result of a reduction, and the element's place in it: `order` names the tree that the fold
               follows (`orders.py`), `identity` is what every partial result starts from. Places are data flow on
               `linalg.index`, so that upstream's rewrites of loops rewrite them as well
    check      the op fails where the operand is true
    any_lane   "true where some lane that runs along has it true": branches and loops that all lanes take together
    size       a number known at run time only, by its expression
    number     a constant of unsigned integers, which arith has none of
On tensors:
    start      where a slice begins: a number moved into 0..limit
    convolution, convolution_input, convolution_weight   maps and a kernel, two of which give the third (`tape/convolution.py`)
    scatter    elements combined, in order, with those of a tensor at indices along an axis; a region combines two
    scan       a running fold; recurrence: of two operands
    window     folds over windows of the last axes; fold_windows: windows summed where they came from
    put        elements added at places of a plane; pick: elements there
    yield      ends the region of such an op

MLIR runs the verifiers here after every pass, so a pass that breaks a fold's numbering fails by its name. They look at
plain operations only: the bindings' op classes cost 50 to 150 ms to import. Nothing may be printed inside of a verifier,
which would verify it again, and nothing raised, which would leave the parser as it is. Importing this module needs no
MLIR. (No `from __future__ import annotations` where operation classes are made: they read their annotations.)
Next: `compiler/groups/reading.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from flambeau.dialects import mlir
from flambeau.dialects.orders import SCAN_ORDERS, OrderError, Place, check_order, folded_loops
from flambeau.dialects.size import Int
from flambeau.dialects.size_text import parse


class _Bad(ValueError):
    """What is wrong with an op of the dialect, and what to do."""


# ---- places as linear forms of the loops --------------------------------------------------------------------------


def walked(root: Any) -> Iterator[Any]:
    """The operations inside of one, itself last, as plain objects: as long as they live, `parent` gives the same ones."""
    ir = mlir.ir
    found: list[Any] = []

    def visit(op: Any) -> Any:
        found.append(op)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return iter(found)


def linear(expression: Any, dims: Sequence[Place | None], symbols: Sequence[Place | None]) -> Place | None:
    """An affine expression over linear forms, as one; None where it is not linear."""
    ir = mlir.ir
    if isinstance(expression, ir.AffineDimExpr):
        return dims[expression.position]
    if isinstance(expression, ir.AffineSymbolExpr):
        return symbols[expression.position]
    if isinstance(expression, ir.AffineConstantExpr):
        return (), expression.value
    if not isinstance(expression, (ir.AffineAddExpr, ir.AffineMulExpr)):
        return None
    x, y = linear(expression.lhs, dims, symbols), linear(expression.rhs, dims, symbols)
    if x is None or y is None:
        return None
    if isinstance(expression, ir.AffineAddExpr):
        return _sum(x, y)
    if x[0] and y[0]:
        return None
    (terms, constant), factor = (x, y[1]) if x[0] else (y, x[1])
    return tuple((d, c * factor) for d, c in terms if c * factor), constant * factor


def _sum(x: Place, y: Place) -> Place:
    terms = dict(x[0])
    for d, c in y[0]:
        terms[d] = terms.get(d, 0) + c
    return tuple(sorted((d, c) for d, c in terms.items() if c)), x[1] + y[1]


def _place(value: Any, made: dict[Any, Any], users: tuple[Any, ...] = ()) -> Place | None:
    """A place as a linear form of the loops; None if it is anything else. `users`: what is made of it (MLIR verifies ops
    before it looks whether one is made of itself)."""
    ir, op = mlir.ir, made.get(value)
    if op is None or value in users:
        return None
    if op.name == "linalg.index":
        return ((ir.IntegerAttr(op.attributes["dim"]).value, 1),), 0
    if op.name == "arith.constant":
        return (), ir.IntegerAttr(op.attributes["value"]).value
    if op.name != "affine.apply":
        return None
    map_ = op.attributes["map"].value
    given = [_place(v, made, (*users, value)) for v in op.operands]
    return linear(map_.results[0], given[: map_.n_dims], given[map_.n_dims :])


# ---- verifiers --------------------------------------------------------------------------------------------------


def _attribute(op: Any, name: str, kind: str) -> Any:
    ir = mlir.ir
    class_ = {"integer (i64)": ir.IntegerAttr, "string": ir.StringAttr}[kind]
    found = op.attributes.get(name)
    if not isinstance(found, class_):
        raise _Bad(f"attribute '{name}' is {'missing' if found is None else found}. Give one: {kind}.")
    return found.value


def check_attributes(op: Any, names: Sequence[str]) -> None:
    """Raise for an op that lacks one of these attributes."""
    if missing := [name for name in names if name not in op.attributes]:
        raise _Bad(f"attribute '{missing[0]}' is missing. Give {', '.join(names)}.")


def _check_types(op: Any, operands: Sequence[str], results: Sequence[str]) -> None:
    found = [str(v.type) for v in op.operands], [str(v.type) for v in op.results]
    if found != (list(operands), list(results)):
        shown = [", ".join(x) or "nothing" for x in (found[0], found[1], operands, results)]
        raise _Bad(f"it takes {shown[0]} and gives {shown[1]}. Take {shown[2]} and give {shown[3]}.")


def _check_expression(op: Any, name: str) -> None:
    """An attribute is a size, as text."""
    try:
        parse(_attribute(op, name, "string"))
    except (ValueError, ZeroDivisionError) as error:
        if isinstance(error, _Bad):
            raise
        raise _Bad(f"attribute '{name}': {str(error).removeprefix('[size] ')}") from None


def _check_counts(op: Any, operands: int, variadic: bool, results: int, regions: int) -> None:
    """MLIR leaves this to an op's own verifier, where it has one."""
    found = len(op.operands), len(op.results), len(op.regions)
    if found[0] < operands or (found[0] > operands and not variadic) or found[1:] != (results, regions):
        few = f"at least {operands}" if variadic else f"{operands}"
        raise _Bad(
            f"it has {found[0]} operands, {found[1]} results and {found[2]} regions. "
            f"Give {few}, {results} and {regions}."
        )
    if any(len(list(region.blocks)) != 1 for region in op.regions):
        raise _Bad("its region has no block, or several. Give one.")


def _check_fold(op: Any) -> None:
    ir = mlir.ir
    nest = op.parent
    if nest.name != "linalg.generic":
        raise _Bad(f"it stands in {nest.name}. A fold is in the body of a linalg.generic: generalize named ops first.")
    check_order(_attribute(op, "order", "string"))
    identity, type_ = op.attributes.get("identity"), op.operands[0].type
    if not isinstance(identity, (ir.FloatAttr, ir.IntegerAttr, ir.BoolAttr)) or identity.type != type_:
        raise _Bad(
            f"attribute 'identity' is {identity}. Give the number, of type {type_}, that partial results start from."
        )
    _check_types(op, [str(type_), *["index"] * (len(op.operands) - 1)], [str(type_)])
    inner = list(walked(nest))
    made = _makers(op, nest, inner)
    # By its text: an element of the array would be wrapped in a class of linalg's.
    kinds = str(nest.attributes["iterator_types"]).split(",")
    reductions = [k for k, kind in enumerate(kinds) if "reduction" in kind]
    folded_loops([_place(v, made) for v in list(op.operands)[1:]], _extents(nest), reductions)
    _check_yielded(op, inner)


def _makers(op: Any, nest: Any, inner: Sequence[Any]) -> dict[Any, Any]:
    """The ops that places are made by. A pass may have moved some out of the body."""
    names = ("linalg.index", "affine.apply", "arith.constant")
    made = {r: o for o in inner if o.name in names for r in o.results}
    if all(v in made for v in list(op.operands)[1:]) and not any(o.name == "affine.apply" for o in made.values()):
        return made
    function = nest
    while function.parent is not None and function.name != "func.func":
        function = function.parent
    return {r: o for o in walked(function) if o.name in names for r in o.results}


def _extents(nest: Any) -> dict[int, Int]:
    """The trip counts of a generic's loops, as far as its operands' types say them."""
    ir = mlir.ir
    found: dict[int, Int] = {}
    for value, attribute in zip(nest.operands, ir.ArrayAttr(nest.attributes["indexing_maps"])):
        if not isinstance(value.type, ir.RankedTensorType):
            continue
        type_ = ir.RankedTensorType(value.type)
        for k, e in enumerate(attribute.value.results):
            if isinstance(e, ir.AffineDimExpr) and not type_.is_dynamic_dim(k):
                found.setdefault(e.position, type_.get_dim_size(k))
    return found


def _check_yielded(op: Any, inner: Sequence[Any]) -> None:
    """The nest yields the fold and does nothing else with it: later arithmetic would act on partial results."""
    (result,) = op.results
    users = [o.name for o in inner if result in list(o.operands)]
    if users != ["linalg.yield"]:
        raise _Bad(
            f"its value goes to {', '.join(users) or 'nothing'}. Yield it; what is done with the result is another op's."
        )


def _check_check(op: Any) -> None:
    if _attribute(op, "code", "integer (i64)") < 0:
        raise _Bad(f"attribute 'code' is {op.attributes['code']}. Give the number of a failure, from 0.")
    _check_types(op, ["i1"], [])


def _check_any_lane(op: Any) -> None:
    _check_types(op, ["i1"], ["i1"])


def _check_size(op: Any) -> None:
    _check_expression(op, "size")
    if str(op.results[0].type) not in ("index", "i64"):
        raise _Bad(f"it gives {op.results[0].type}. Sizes are of type index or i64.")


def _check_number(op: Any) -> None:
    value = op.attributes["value"] if "value" in op.attributes else None  # noqa: SIM401  (no dict, and has no `get`)
    if value is None or not str(value).endswith(f" : {op.results[0].type}"):
        raise _Bad(f"it gives {op.results[0].type} and says {value}. Say `value`, a number of that type.")


def _check_start(op: Any) -> None:
    _check_expression(op, "limit")
    if str(op.operands[0].type) not in ("i64", "tensor<i64>"):
        raise _Bad(f"it takes {op.operands[0].type}. Give an i64, or a tensor of one.")
    _check_types(op, [str(op.operands[0].type)], ["index"])


def _check_axis(op: Any) -> Any:
    """The type of the first operand, of which `axis` has to number an axis; all operands have a rank."""
    ir = mlir.ir
    if wrong := [str(v.type) for v in op.operands if not isinstance(v.type, ir.RankedTensorType)]:
        raise _Bad(f"it takes {wrong[0]}. Give tensors with a rank.")
    type_ = ir.RankedTensorType(op.operands[0].type)
    if not 0 <= _attribute(op, "axis", "integer (i64)") < type_.rank:
        raise _Bad(f"attribute 'axis' is {op.attributes['axis']}, and {type_} has {type_.rank} axes. Name one of them.")
    return type_


def _check_scatter(op: Any) -> None:
    type_ = _check_axis(op)
    tensor, index, updates = (str(v.type) for v in op.operands)
    if _attribute(op, "code", "integer (i64)") < 0:
        raise _Bad(f"attribute 'code' is {op.attributes['code']}. Give the number of a failure, from 0.")
    check_order(_attribute(op, "order", "string"))
    _check_types(op, [tensor, index, updates], [tensor])
    _check_region(op, [str(type_.element_type)] * 2, "It combines the old element and an update")


def _check_region(op: Any, types: Sequence[str], what: str) -> None:
    (block,) = op.regions[0].blocks
    given = [str(a.type) for a in block.arguments]
    if given != list(types):
        raise _Bad(f"its region takes {', '.join(given)}. {what}: {', '.join(types)}.")


def _check_scan(op: Any) -> None:
    type_ = _check_axis(op)
    if _attribute(op, "reverse", "integer (i64)") not in (0, 1):
        raise _Bad(f"attribute 'reverse' is {op.attributes['reverse']}. Give 1 to go from the last element on, or 0.")
    check_order(_attribute(op, "order", "string"), SCAN_ORDERS)
    _check_types(op, [str(type_)] * len(op.operands), [str(type_)])
    _check_region(op, [str(type_.element_type)] * (len(op.operands) + 1), "It makes a step of the result so far")


def _check_sorting(op: Any) -> None:
    """argsort, topk and searchsorted: positions along an axis. What else they say is for the groups' verifier."""
    _check_axis(op)


def _check_convolution(op: Any) -> None:
    ir = mlir.ir
    values = [*op.operands, *op.results]
    if wrong := [str(v.type) for v in values if not isinstance(v.type, ir.RankedTensorType)]:
        raise _Bad(f"it takes or gives {wrong[0]}. Give tensors with a rank.")
    types = [ir.RankedTensorType(v.type) for v in values]
    if len({t.rank for t in types}) > 1 or not 3 <= types[0].rank <= 5:
        raise _Bad(f"its tensors are {', '.join(map(str, types))}. Give all two axes and one to three spatial ones.")
    if len({str(t.element_type) for t in types}) > 1:
        raise _Bad(f"its tensors are {', '.join(map(str, types))}. Give them one element type.")
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        found = op.attributes.get(name)
        given = [ir.IntegerAttr(x).value for x in ir.ArrayAttr(found)] if isinstance(found, ir.ArrayAttr) else []
        if len(given) != types[0].rank - 2 or min(given) < least:
            raise _Bad(f"attribute '{name}' is {found}. Give {types[0].rank - 2} integers of at least {least}.")
    if _attribute(op, "groups", "integer (i64)") < 1:
        raise _Bad(f"attribute 'groups' is {op.attributes['groups']}. Give at least 1.")


def _having(*names: str) -> Callable[[Any], None]:
    """Of an op whose family says the rest, when the group is read."""
    return lambda op: check_attributes(op, names)


# ---- the dialect ------------------------------------------------------------------------------------------------


def _verifier(name: str, check: Callable[[Any], None], *counts: Any) -> Callable[[Any], bool]:
    def verify_invariants(self: Any) -> bool:
        op = self.operation
        try:
            _check_counts(op, *counts)
            check(op)
        except (_Bad, OrderError) as error:
            message = f"[{name}] {error}"
        except Exception as error:  # the bindings, on types that no check expects; it would leave the parser as it is
            message = f"[{name}] cannot be verified: {type(error).__name__}: {error}. Give it other operands."
        else:
            return True
        op.location.emit_error(message)
        return False

    return verify_invariants


#: (operands, whether any number of operands follows, results, regions, whether it is pure, verifier)
Declared = tuple[int, bool, int, int, bool, Callable[[Any], None]]
_OPS: dict[str, Declared] = {
    "fold": (1, True, 1, 0, True, _check_fold),
    "check": (1, False, 0, 0, False, _check_check),  # an effect: dead code elimination has to keep it
    "any_lane": (1, False, 1, 0, True, _check_any_lane),
    "size": (0, False, 1, 0, True, _check_size),
    "number": (0, False, 1, 0, True, _check_number),
    "start": (1, False, 1, 0, True, _check_start),
    "scan": (1, False, 1, 1, True, _check_scan),
    "recurrence": (2, False, 1, 1, True, _check_scan),
    "argsort": (1, False, 1, 0, True, _check_sorting),
    "topk": (1, False, 1, 0, True, _check_sorting),
    "searchsorted": (2, False, 1, 0, True, _check_sorting),
    "convolution": (2, False, 1, 0, True, _check_convolution),
    "convolution_input": (2, False, 1, 0, True, _check_convolution),
    "convolution_weight": (2, False, 1, 0, True, _check_convolution),
    "window": (1, False, 1, 0, True, _having("axis", "dilation", "how", "low", "size", "step")),
    "put": (2, False, 1, 0, True, _having("axis", "how")),
    "pick": (2, False, 1, 0, True, _having("axis")),
    "fold_windows": (1, False, 1, 0, True, _having("axis", "dilation", "step")),
    "scatter": (3, False, 1, 1, False, _check_scatter),  # an effect: an index out of range is an error
}


def declare(namespace: str, ops: Mapping[str, Declared]) -> Any:
    """A dialect of MLIR's with these ops."""
    ext: Any = mlir.ext
    dialect: Any = type(namespace.title(), (ext.Dialect,), {}, name=namespace)
    for name, (operands, variadic, results, regions, pure, check) in ops.items():
        fields: dict[str, Any] = {f"operand{k}_": ext.Operand[Any] for k in range(operands)}
        if variadic:
            fields["rest_"] = Sequence[ext.Operand[Any]]
        fields |= {f"result{k}_": ext.Result[Any] for k in range(results)}
        fields |= {f"region{k}_": ext.Region for k in range(regions)}
        verifier = _verifier(f"{namespace}.{name}", check, operands, variadic, results, regions)
        members = {"__annotations__": fields, "__module__": __name__, "verify_invariants": verifier}
        type(f"{namespace.title()}_{name}", (dialect.Operation,), members, name=name, traits=[ext.Pure] if pure else [])
    return dialect


@cache
def _dialect() -> Any:
    ext: Any = mlir.ext
    dialect = declare("flambeau", _OPS)
    fields = {"values_": Sequence[ext.Operand[Any]]}
    members = {"__annotations__": fields, "__module__": __name__}
    type("Flambeau_yield", (dialect.Operation,), members, name="yield", traits=[ext.Pure, mlir.ir.IsTerminatorTrait])
    return dialect


def unknown_location() -> Any:
    """The location of what stands in no file."""
    return mlir.ir.Location.unknown()


@cache
def load(context: Any) -> None:
    """Load the dialect into a context of MLIR's."""
    with context, unknown_location():
        _dialect().load()
