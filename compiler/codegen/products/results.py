"""Where the results of a tiled product lie, and its partial sums.

In: what a cluster computes (`products.operands.Contraction`, `convolutions.operands.Convolution`), its operands as the kernel
gets them. Out: the output that holds partial sums between k-blocks, and outputs that may overwrite what the epilogue reads. Next:
`kernel.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.products.chains import K_BLOCK
from flambeau.compiler.codegen.products.operands import MatrixAccess, TermRef
from flambeau.compiler.kernel import Operand
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, at_most


def place_sums(
    outputs: Sequence[tuple[int, TermRef, DType]], dtype: DType, k: Int, size: Int, temps: list[Int]
) -> tuple[int | None, Operand]:
    """Where partial sums lie: the output that is the product itself, else one of its dtype, else a temporary of `size` elements if
    there are several k-blocks. Gives the output's number, or None."""
    wanted = [i for i, (_, ref, _) in enumerate(outputs) if ref.kind == "acc"]
    wanted += [i for i, (_, _, of_output) in enumerate(outputs) if of_output is dtype]
    if wanted:
        return wanted[0], Operand("value", outputs[wanted[0]][0])
    temps.append((0 if at_most(k, K_BLOCK) else size) * dtype.itemsize)
    return None, Operand("temp", 0)


def in_place(
    graph: Graph,
    operands: Sequence[Operand],
    sums: int,
    leaves: Sequence[MatrixAccess],
    k: Int,
    is_dense: Callable[[MatrixAccess], bool],
) -> tuple[tuple[int, int], ...]:
    """Outputs may overwrite dense epilogue operands, which come after partial sums; where these lie, only if there are none."""
    written = list(range(sums + 1 + len(leaves), len(operands)))
    if at_most(k, K_BLOCK) and operands[sums].kind == "value":
        written.append(sums)
    sizes = {p: graph.avals[operands[p].index].dtype.itemsize for p in written}
    return tuple(
        (p, sums + 1 + i)
        for p, size in sizes.items()
        for i, leaf in enumerate(leaves)
        if leaf.dtype.itemsize == size and is_dense(leaf)
    )
