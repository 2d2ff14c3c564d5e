"""What holds of the bodies of groups: numbering, types, captures, and the rules of folds.

In: a `Generic`, or a region. Out: `GroupError` where a rule is broken. Typing of arith and math is MLIR's. Next:
`dialects/orders.py`, the rule of places, which MLIR's verifier of `flambeau.fold` shares.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.codegen.values import dtype_of, spell_number
from flambeau.compiler.groups.body_text import free_values
from flambeau.compiler.groups.form import REDUCTION, Affine, Body, BodyOp, Generic, Group, GroupError, Order
from flambeau.dialects.orders import ORDERS, OrderError, Place, check_order, folded_loops

#: Ops on floats after which another tree gives other bits.
_INEXACT = frozenset({"arith.addf", "arith.subf", "arith.mulf", "arith.divf"})
#: What a combination changes nothing by: partial results start from that.
_NEUTRAL = {"arith.addf": 0, "arith.addi": 0, "math.fma": 0, "arith.mulf": 1, "arith.muli": 1}


# ---- numbering and types ------------------------------------------------------------------------------------------


def check_body(group: Group, op: Generic, scalar: set[int]) -> None:
    """Arguments are elements of operands and results, then captures; what is yielded fits the results."""
    elements = [group.avals[v].dtype.mlir for v in (*op.operands, *op.results)]
    captured = [group.avals[v].dtype.mlir if v in scalar else group.avals[v].mlir for v in op.captures]
    if list(op.body.types) != [*elements, *captured]:
        raise GroupError(f"its body takes {_list(op.body.types)}, and is given {_list([*elements, *captured])}.")
    if len(set(op.captures)) != len(op.captures):
        raise GroupError(f"it captures {op.captures}. Capture a value once.")
    _check_first_uses(op)
    if wrong := [v for v in op.operands if v in scalar and op.maps[op.operands.index(v)]]:
        raise GroupError(f"value {wrong[0]} is a scalar. Give it a map without results.")
    types = check_block(op.body, len(op.iterators))
    yielded = [types[k] for k in op.body.results]
    if yielded != elements[len(op.operands) :]:
        raise GroupError(f"its body yields {_list(yielded)} for {_list(elements[len(op.operands) :])}. Yield these.")
    _check_starts(op)


def _list(types: Sequence[str]) -> str:
    return ", ".join(types) or "nothing"


def _uses(body: Body) -> list[int]:
    """Arguments and results of ops that the body uses, in order."""
    return [*(k for op in body.ops for k in op.operands), *body.results]


def _check_first_uses(op: Generic) -> None:
    first = len(op.body.types) - len(op.captures)
    found = list(dict.fromkeys(k for k in _uses(op.body) if first <= k < len(op.body.types)))
    if found != list(range(first, len(op.body.types))):
        used = [op.captures[k - first] for k in found]
        raise GroupError(
            f"it captures {list(op.captures)} and uses {used}. Capture what it uses, in order of first use."
        )


def _check_starts(op: Generic) -> None:
    """A result starts from a number if, and only if, the body reads what it has so far."""
    read = set(_uses(op.body))
    for k, init in enumerate(op.inits):
        is_read = len(op.operands) + k in read
        if is_read and init is None:
            raise GroupError(f"it reads result {k} before it is written. Say what its elements start from.")
        if not is_read and init is not None:
            raise GroupError(f"result {k} starts from {init}, which nothing reads. Leave it out.")


def check_block(body: Body, loops: int) -> list[str]:
    """The types of all values of a block. Each is defined before it is used; ops of ours say what they have to."""
    types = list(body.types)
    for op in body.ops:
        if later := [k for k in op.operands if not 0 <= k < len(types)]:
            raise GroupError(
                f"{op.name} takes value {later[0]} of its body, which is not defined yet. Define it before."
            )
        given = [types[k] for k in op.operands]
        _check_op(op, given, loops)
        if op.regions:
            _check_regions(op, given, loops)
        types += op.types
    if later := [k for k in body.results if not 0 <= k < len(types)]:
        raise GroupError(f"its body yields value {later[0]}, which is not defined. Define it.")
    return types


def _check_op(op: BodyOp, given: list[str], loops: int) -> None:
    if op.name == "linalg.index" and not (isinstance(op.attribute, int) and 0 <= op.attribute < loops):
        raise GroupError(f"linalg.index names loop {op.attribute} of {loops}. Name one of them.")
    if op.name == "flambeau.check" and (given != ["i1"] or not isinstance(op.attribute, int) or op.attribute < 0):
        raise GroupError(
            f"flambeau.check of {_list(given)} with number {op.attribute}. Give an i1 and a number from 0."
        )
    if op.name == "flambeau.any_lane" and (given, op.types) != (["i1"], ("i1",)):
        raise GroupError(f"flambeau.any_lane takes {_list(given)} and gives {_list(op.types)}. Both are i1.")
    if op.name == "flambeau.fold":
        if not isinstance(op.attribute, Order):
            raise GroupError(f"flambeau.fold says {op.attribute!r}. Give an order and the identity.")
        if given != [*op.types, *["index"] * (len(given) - 1)] or len(op.types) != 1:
            raise GroupError(f"flambeau.fold takes {_list(given)}. Give the next partial result, then places.")


def _check_regions(op: BodyOp, given: list[str], loops: int) -> None:
    """Regions see their arguments only, and yield what the op gives."""
    if op.name == "scf.if":
        free = tuple(given[1:])
        wanted = [(free, list(op.types))] * len(op.regions)
        right = given[:1] == ["i1"] and len(op.regions) in (1, 2) and (len(op.regions) == 2 or not op.types)
    elif op.name == "scf.while" and len(op.regions) == 2:
        carried = len(given) - free_values(op)
        free = tuple(given[carried:])
        wanted = [((*given[:carried], *free), ["i1", *op.types]), ((*op.types, *free), given[:carried])]
        right = True
    else:
        raise GroupError(f"{op.name} has {len(op.regions)} regions. Bodies have scf.if and scf.while only.")
    for region, (arguments, results) in zip(op.regions, wanted):
        types = check_block(region, loops)
        if region.types != tuple(arguments) or [types[k] for k in region.results] != results or not right:
            raise GroupError(
                f"a region of {op.name} takes {_list(region.types)} and yields {_list([types[k] for k in region.results])}. "
                f"Take {_list(arguments)}, yield {_list(results)}."
            )
    _check_free(op, len(free))


def _check_free(op: BodyOp, count: int) -> None:
    """What regions read from outside stands there once, in the order of its first use."""
    found: dict[int, None] = {}
    for region in op.regions:
        own = len(region.types) - count
        found.update(dict.fromkeys(k - own for k in _uses(region) if own <= k < len(region.types)))
    free = op.operands[len(op.operands) - count :] if count else ()
    if list(found) != list(range(count)) or len(set(free)) != count:
        raise GroupError(
            f"{op.name} hands {count} values to its regions. Hand over what they use, in order of first use."
        )


# ---- folds ------------------------------------------------------------------------------------------------------


def check_folds(op: Generic) -> None:
    """Every result of a reduction is a fold that fits the op. Raises GroupError."""
    reductions = [k for k, kind in enumerate(op.iterators) if kind == REDUCTION]
    numbers = op.body.numbers()
    folds = {n: made for n, made in zip(numbers, op.body.ops) if made.name == "flambeau.fold"}
    if _inner_folds(op.body):
        raise GroupError("a fold stands in a branch or loop. Yield it from the body of the nest.")
    if reductions and (missing := [k for k, n in enumerate(op.body.results) if n not in folds]):
        raise GroupError(
            f"result {missing[0]} is reduced without an order. Yield flambeau.fold, which names one: {', '.join(ORDERS)}."
        )
    uses = [k for made in op.body.ops for k in made.operands]
    for n, made in folds.items():
        if n in uses or op.body.results.count(n) != 1:
            raise GroupError("something else is done with a fold's value. Yield it; later arithmetic is another op's.")
        try:
            _check_fold(op, made, op.body.results.index(n), reductions)
        except OrderError as error:
            raise GroupError(f"flambeau.fold: {error}") from None


def _inner_folds(body: Body) -> bool:
    inner = [region for op in body.ops for region in op.regions]
    return any(op.name == "flambeau.fold" for region in inner for op in region.ops) or any(map(_inner_folds, inner))


def _check_fold(op: Generic, fold: BodyOp, result: int, reductions: list[int]) -> None:
    order = fold.attribute
    if not isinstance(order, Order):  # check_block has seen to it
        return
    exact = check_order(order.name).exact
    if op.inits[result] != order.identity:
        raise GroupError(
            f"result {result} starts from {op.inits[result]}, and every partial result from {order.identity}. "
            "Start from the identity, and add what else there is in another op."
        )
    places = [_place(op.body, k) for k in fold.operands[1:]]
    folded_loops(places, dict(enumerate(op.extents)), reductions)
    partial = _maker(op.body, fold.operands[0])
    if partial is None:
        return
    _check_identity(partial, order.identity, fold.types[0])
    if exact and (inexact := _inexact(op.body, len(op.operands) + result)):
        raise GroupError(f"{inexact} is folded in any order, and rounds. Name an order.")


def _maker(body: Body, value: int) -> BodyOp | None:
    for n, op in zip(body.numbers(), body.ops):
        if n <= value < n + len(op.types):
            return op
    return None


def _place(body: Body, value: int) -> Place | None:
    """A place as a linear form of loops."""
    made = _maker(body, value)
    if made is None:
        return None
    if made.name == "linalg.index" and isinstance(made.attribute, int):
        return ((made.attribute, 1),), 0
    if made.name == "arith.constant":
        return (), int(str(made.attribute))
    if made.name != "affine.apply" or not isinstance(made.attribute, Affine):
        return None
    terms: dict[int, int] = {}
    constant = made.attribute.constant
    for k, c in made.attribute.terms:
        inner = _place(body, made.operands[k])
        if inner is None:
            return None
        constant += inner[1] * c
        for loop, factor in inner[0]:
            terms[loop] = terms.get(loop, 0) + factor * c
    return tuple(sorted((loop, c) for loop, c in terms.items() if c)), constant


def _check_identity(partial: BodyOp, identity: str, element: str) -> None:
    neutral = _NEUTRAL.get(partial.name)
    if neutral is None:
        return
    right = {spell_number(neutral, element)}
    if dtype_of(element).is_floating_point and neutral == 0:
        right.add(spell_number(-0.0, element))
    if identity not in right:
        raise GroupError(
            f"partial results of {partial.name} start from {identity}, which would count once per partial result. "
            f"Start from {spell_number(neutral, element)}."
        )


def _inexact(body: Body, accumulator: int) -> str | None:
    """The op between a result so far and the next one after which another tree gives other bits."""
    depends = {accumulator}
    for n, op in zip(body.numbers(), body.ops):
        if depends.intersection(op.operands):
            if op.name in _INEXACT or op.name.startswith("math."):
                return op.name
            depends.update(range(n, n + len(op.types)))
    return None
