"""Orders along an axis: sorting, the first of what is sorted, and the places of values in it. Loops of their own.

In: a node. Out: flambeau.argsort, flambeau.topk or flambeau.searchsorted. Next: `scatter.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.loops import sort as loops_sort
from flambeau.compiler.families.rules import GroupOp, Rules, in_memory
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_axis, check_count, check_like
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Node

_POSITION = Aval((), int64)


def structure(b: ClusterBuilder, node: Node) -> None:
    """One op, whose attributes are the node's: truth values are numbers there."""
    attributes = {name: int(value) for name, value in zip(node.op.attrs, node.attrs, strict=True)}
    b.call(node, f"flambeau.{node.op.name}", [b.whole(v) for v in node.operands], attributes)


def _check_order(op: Call, given: Sequence[Aval], flag: str) -> int:
    """The axis, where the flag is one, too."""
    axis = check_axis(op, given[0])
    if op.attribute[flag] not in (0, 1):
        raise GroupError(f"its {flag} is {op.attribute[flag]}. Give 1 or 0.")
    return axis


def _check_argsort(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    _check_order(op, given, "descending")
    check_like(result, given[0].shape, _POSITION)


def _check_topk(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 1)
    axis, k = _check_order(op, given, "largest"), op.attribute["k"]
    if not isinstance(k, int) or k < 0:
        raise GroupError(f"its k is {k}. Give a number of elements.")
    check_like(result, [k if a == axis else n for a, n in enumerate(given[0].shape)], _POSITION)


def _check_searchsorted(op: Call, given: Sequence[Aval], result: Aval) -> None:
    check_count(given, 2)
    axis, (sequence, values) = _check_order(op, given, "right"), given
    if values.rank != sequence.rank:
        raise GroupError(f"its values are {values.mlir} for {sequence.mlir}. Give them as many axes.")
    check_like(values, [values.shape[a] if a == axis else n for a, n in enumerate(sequence.shape)], sequence)
    check_like(result, values.shape, _POSITION)


def _replay(flags: Sequence[str], names: Sequence[str]) -> Callable[[GraphMaker, Call, list[int]], int]:
    def replay(maker: GraphMaker, op: Call, operands: list[int]) -> int:
        attrs = tuple(bool(op.attribute[n]) if n in flags else op.attribute[n] for n in names)
        return maker.record(op.name.removeprefix("flambeau."), operands, maker.aval(op), attrs, op.loc)

    return replay


def _op(name: str, attributes: tuple[str, ...], flag: str, check: Callable[..., None], operands: int = 1) -> GroupOp:
    return GroupOp(
        f"flambeau.{name}", attributes, check, _replay((flag,), attributes), operands=operands, axes=("axis",)
    )


OPS = (
    _op("argsort", ("axis", "descending"), "descending", _check_argsort),
    _op("topk", ("axis", "k", "largest"), "largest", _check_topk),
    _op("searchsorted", ("axis", "right"), "right", _check_searchsorted, 2),
)
RULES = Rules("sort", structure, stored=in_memory, alone=loops_sort.nests, ops=OPS)
