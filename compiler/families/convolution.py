"""Convolutions and their gradients: loops of their own, which are those of matrix products over patches. Elementwise ops on the
result are computed there.

In: a node. Out: flambeau.convolution, convolution_input or convolution_weight. None of these is a linalg.generic: places outside of
a map take part as zeros, and of a transposed convolution only the taps that meet a place do, which no affine map says. Next:
`contraction.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.convolutions.operands import GIVES, extents_of_result
from flambeau.compiler.families.contraction import joins_onto
from flambeau.compiler.families.rules import GroupOp, Rules, in_memory
from flambeau.compiler.groups.builder.cluster import ClusterBuilder
from flambeau.compiler.groups.checks import check_count, check_like
from flambeau.compiler.groups.form import Call, GroupError
from flambeau.compiler.groups.replay_views import GraphMaker
from flambeau.compiler.passes import cluster_prologues
from flambeau.compiler.passes.cluster_groups import Clustering
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, same
from flambeau.dialects.tape.convolution import by_role

_ATTRIBUTES = ("dilation", "groups", "padding", "stride")


def structure(b: ClusterBuilder, node: Node) -> None:
    """One op; its result's type says the attribute `sizes`."""
    attributes = {name: node.attrs[node.op.attrs.index(name)] for name in _ATTRIBUTES}
    b.call(node, f"flambeau.{node.op.name}", [b.whole(v) for v in node.operands], attributes)


def _check(name: str) -> Callable[[Call, Sequence[Aval], Aval], None]:
    def check(op: Call, given: Sequence[Aval], result: Aval) -> None:
        check_count(given, 2)
        first, second = given
        if any(aval.rank != first.rank for aval in (second, result)) or not 3 <= first.rank <= 5:
            raise GroupError(f"it takes {first.mlir} and {second.mlir}. Give two axes and one to three spatial ones.")
        groups, rank = op.attribute["groups"], first.rank - 2
        for what, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            found = op.attribute[what]
            if not isinstance(found, tuple) or len(found) != rank or any(n < least for n in found):
                raise GroupError(f"its {what} is {found}. Give {rank} ints of at least {least}.")
        if not isinstance(groups, int) or groups < 1:
            raise GroupError(f"its groups are {groups}. Give a number of at least 1.")
        check_like(second, second.shape, first)
        x, w, y = by_role(name, (first, second, result))
        ends: tuple[tuple[Int, Int], ...] = (
            (x.shape[0], y.shape[0]), (x.shape[1], w.shape[1] * groups), (y.shape[1], w.shape[0]),
        )  # fmt: skip
        if not all(same(a, b) for a, b in ends) or not same(w.shape[0] % groups, 0):
            raise GroupError(f"it takes {first.mlir} and {second.mlir} and gives {result.mlir}. Make channels agree.")
        check_like(result, result.shape, first)

    return check


def replay(maker: GraphMaker, op: Call, operands: list[int]) -> int:
    aval, how = maker.aval(op), op.attribute
    attrs = (aval.shape[2:], how["stride"], how["padding"], how["dilation"], how["groups"])
    return maker.record(op.name.removeprefix("flambeau."), operands, aval, attrs, op.loc)


def epilogue(program: Clustering, node: Node, product: int, members: set[int]) -> bool:
    """Whether `node` may be computed where the result is: as for products, over (image, group, channel, place)."""
    head = program.producers[product]
    shape, groups = program.avals[product].shape, head.attrs[head.op.attrs.index("groups")]
    return joins_onto(program, node, extents_of_result(GIVES[head.op.name], shape, groups), members)


OPS = tuple(GroupOp(f"flambeau.{name}", _ATTRIBUTES, _check(name), replay, operands=2) for name in GIVES)
RULES = Rules(
    "convolution",
    structure,
    stored=in_memory,
    generators={"cpu": "flambeau.compiler.codegen.convolutions.cut:cut"},
    epilogue=epilogue,
    producers=lambda node: cluster_prologues.widens_for_convolution if GIVES[node.op.name] == "y" else None,
    ops=OPS,
)
