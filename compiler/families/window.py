"""Windows over the last axes: pooling, what its gradients are made of, and the gradient of unfold. Loops of their own.

In: a node. Out: flambeau.window for folds over windows and their transposed sums, flambeau.put and flambeau.pick for elements at
places of a plane, flambeau.fold_windows. Next: `control.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.compiler.codegen.loops import window as loops_window
from flambeau.compiler.families.rules import GroupOp, Rules, in_memory
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_count, check_like
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, at_most, same
from flambeau.dialects.tape.view import held

#: By what the op says of how windows are folded: the record, of windows that are told by numbers and of adaptive ones.
_RECORDS = {
    ("max", False): "pool_max",
    ("argmax", False): "pool_argmax",
    ("sum", False): "pool_sum",
    ("spread", False): "pool_spread",
    ("max", True): "adaptive_max",
    ("argmax", True): "adaptive_argmax",
    ("sum", True): "adaptive_sum",
}
_HOW = {record: key for key, record in _RECORDS.items()}
_WINDOW = ("dilation", "low", "size", "step")


def structure(b: ClusterBuilder, node: Node) -> None:
    operands, attrs = [b.whole(v) for v in node.operands], dict(zip(node.op.attrs, node.attrs, strict=True))
    first = b.aval(node).rank - len(attrs["shape"]) if "shape" in attrs else 0
    if node.op.name in _HOW:
        how, _ = _HOW[node.op.name]
        b.call(node, "flambeau.window", operands, {"axis": first, "how": how} | {k: attrs.get(k, ()) for k in _WINDOW})
    elif node.op.name == "put":
        b.call(node, "flambeau.put", operands, {"axis": first, "how": "add" if attrs["add"] else "last"})
    elif node.op.name == "pick":
        b.call(node, "flambeau.pick", operands, {"axis": b.aval(node).rank - attrs["rank"]})
    else:
        attrs.pop("extent")
        b.call(node, "flambeau.fold_windows", operands, attrs)


# ---- what the ops of groups take ----------------------------------------------------------------------------------


def _plane_of(op: Call, x: Aval, batch: Sequence[Int]) -> tuple[Int, ...]:
    """The axes of a plane; those before it have to be these."""
    axis = op.attribute["axis"]
    if not isinstance(axis, int) or not 0 <= axis < x.rank:
        raise GroupError(f"its planes begin at axis {axis} of {x.mlir}. Name one of its axes.")
    if len(batch) != axis or not all(map(same, batch, x.shape)):
        raise GroupError(f"it takes {x.mlir}, and other axes before the planes elsewhere. Make them agree.")
    return x.shape[axis:]


def _check_window(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    attributes, axis = op.attribute, op.attribute["axis"]
    plane = _plane_of(op, given[0], result.shape[:axis] if isinstance(axis, int) and axis >= 0 else ())
    how, numbers = attributes["how"], [attributes[name] for name in _WINDOW]
    is_adaptive = not any(numbers)
    if (how, is_adaptive) not in _RECORDS:
        raise GroupError(
            f"its `how` is {how}. Give {', '.join(sorted({h for h, _ in _RECORDS}))}; spread of no adaptive ones."
        )
    for name, row, least in zip(_WINDOW, numbers, (1, 0, 1, 1)):
        if not is_adaptive and (len(row) != len(plane) or not all(isinstance(n, int) and n >= least for n in row)):
            raise GroupError(f"its {name} is {row} for {len(plane)} axes. Give a number of at least {least} for each.")
    if result.rank != given[0].rank or result.dtype is not (int64 if how == "argmax" else given[0].dtype):
        raise GroupError(f"it gives {result.mlir} of {given[0].mlir}. Keep the rank, and the dtype; positions are i64.")


def _check_places(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 2)
    x, index = given
    axis = op.attribute["axis"]
    batch = index.shape[:axis] if isinstance(axis, int) and axis >= 0 else ()
    _plane_of(op, x, batch), _plane_of(op, result, batch)
    if index.dtype is not int64 or index.rank != x.rank:
        raise GroupError(f"its index is {index.mlir} for {x.mlir}. Give i64 of the same rank.")
    if op.name == "flambeau.pick":
        check_like(result, index.shape, x)
    else:
        if op.attribute["how"] not in ("add", "last"):
            raise GroupError(f"its `how` is {op.attribute['how']}. Give add, or last.")
        check_like(x, index.shape, x)
        check_like(result, result.shape, x)


def _check_fold(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    (x,), (axis, step, dilation) = given, (op.attribute[name] for name in ("axis", "step", "dilation"))
    if not all(isinstance(n, int) for n in (axis, step, dilation)) or not 0 <= axis < x.rank - 1:
        raise GroupError(f"its axis is {axis} of {x.mlir}. Name one that is not the last.")
    if step < 1 or dilation < 1:
        raise GroupError(f"its step is {step}, its dilation {dilation}. Give at least 1.")
    extent = result.shape[axis] if axis < result.rank else 0
    check_like(result, (*x.shape[:axis], extent, *x.shape[axis + 1 : -1]), x)
    if at_most(extent + 1, held(x.shape[axis], x.shape[-1], step, dilation)):
        raise GroupError(f"it gives {result.mlir} of {x.mlir}, whose windows do not fit into it. Make it larger.")


# ---- replay -------------------------------------------------------------------------------------------------------


def _window(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    attributes, aval = op.attribute, maker.aval(op)
    numbers = [attributes[name] for name in ("size", "step", "low", "dilation")]
    name = _RECORDS[attributes["how"], not any(numbers)]
    attrs: tuple[Any, ...] = (aval.shape[attributes["axis"] :], *(numbers if any(numbers) else ()))
    return maker.record(name, operands, aval, attrs, op.loc)


def _put(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    aval = maker.aval(op)
    return maker.record(
        "put", operands, aval, (aval.shape[op.attribute["axis"] :], op.attribute["how"] == "add"), op.loc
    )


def _pick(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    aval = maker.aval(op)
    return maker.record("pick", operands, aval, (aval.rank - op.attribute["axis"],), op.loc)


def _fold(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    aval, (axis, step, dilation) = maker.aval(op), (op.attribute[name] for name in ("axis", "step", "dilation"))
    return maker.record("fold", operands, aval, (axis, aval.shape[axis], step, dilation), op.loc)


_AXIS = ("axis",)
OPS = (
    GroupOp("flambeau.window", ("axis", "dilation", "how", "low", "size", "step"), _check_window, _window, axes=_AXIS),
    GroupOp("flambeau.put", ("axis", "how"), _check_places, _put, operands=2, axes=_AXIS),
    GroupOp("flambeau.pick", _AXIS, _check_places, _pick, operands=2, axes=_AXIS),
    GroupOp("flambeau.fold_windows", ("axis", "dilation", "step"), _check_fold, _fold, axes=_AXIS),
)
RULES = Rules("window", structure, stored=in_memory, alone=loops_window.nests, ops=OPS)
