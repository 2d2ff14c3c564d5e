"""Convolutions and their gradients: one call, with the elementwise ops on the result.

In: a cluster (one convolution of operands in memory, elementwise ops on its result); then its schedule. Out: `Cut`, and the
call. Kernel text depends on element type, epilogue, which tensor is computed, how many spatial axes there are, and what the
schedule says of loops; extents, strides and blocks of C are dims. Next: `conv_operands.py` (what is computed),
`conv_blocks.py` (the kernel).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

from flambeau.compiler.codegen import loops
from flambeau.compiler.codegen.conv_blocks import convolution_kernel
from flambeau.compiler.codegen.conv_operands import Convolution, read
from flambeau.compiler.codegen.conv_tile import ConvSpec
from flambeau.compiler.codegen.gemm_kernel import Epilogue, in_order, make_leaf
from flambeau.compiler.codegen.gemm_operands import Access, NoProduct
from flambeau.compiler.codegen.gemm_results import in_place, place_sums
from flambeau.compiler.codegen.units import Cut, OwnNest, Parts, joined
from flambeau.compiler.kernel import Cluster, KernelCall, Operand
from flambeau.compiler.schedules import convolutions, kinds
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, ceil_div, maximum, minimum


def cut(cluster: Cluster) -> Cut:
    """The convolution of a cluster; what is more than one with its epilogue is cut apart."""
    try:
        c = read(cluster.graph)
    except NoProduct:
        return loops.cut(cluster)
    if 0 in (c.copies, c.rows, c.pixels):
        return Cut()
    label = "".join([f"{_NAMES[c.gives]} {c.dtype.mlir}", *(f" + {s.op.name}" for s in c.steps if s.args)])
    nest = OwnNest(kinds.Convolution, cluster.graph, label, convolutions.choose, convolutions.obstacle)
    return Cut([nest], _emit, joined)


_NAMES = {"y": "convolution", "x": "convolution by input", "w": "convolution by weight"}


def _emit(nest: OwnNest, schedule: kinds.Convolution, target: Target) -> Parts:
    return _Call(read(nest.graph), nest.graph, schedule).parts()


@dataclass
class _Call:
    c: Convolution
    graph: Graph
    schedule: kinds.Convolution
    temps: list[Int] = field(default_factory=list)

    def parts(self) -> Parts:
        c, schedule = self.c, self.schedule
        size = c.copies * c.groups * c.rows * c.pixels
        accumulator, sums = place_sums(c.outputs, c.dtype, c.k, size, self.temps)
        leaves = tuple(make_leaf(x, x.column) for x in c.leaves)
        epilogue = Epilogue(leaves, c.steps, tuple((ref, dtype.mlir) for _, ref, dtype in c.outputs))
        step = 1 if c.gives == "x" else c.axes[-1].stride
        spec = ConvSpec(
            c.dtype.mlir, schedule, epilogue, accumulator, c.gives, len(c.axes), step if step <= 2 else 0, c.phases > 1
        )
        source, names = convolution_kernel(spec)
        outputs = [Operand("value", v) for v, _, _ in c.outputs]
        if accumulator is not None:
            del outputs[accumulator]
        operands = (Operand("value", c.a), Operand("value", c.b), sums, *map(_operand, c.leaves), *outputs)
        numbers = self._numbers()
        n = c.groups * c.phases * numbers["n_blocks"] * numbers["m_blocks"]
        width = ceil_div(schedule.n_block, schedule.lanes)
        work = minimum(schedule.m_block, c.rows) * width * maximum(ceil_div(c.k, c.phases), 1)
        grain = minimum(n, maximum(1, schedule.grain // work))
        writes = (spec.sums, *range(spec.sums + 1 + len(c.leaves), len(operands)))
        over = in_place(self.graph, operands, spec.sums, c.leaves, c.k, c.is_dense)
        dims = in_order(names, numbers)
        return Parts([KernelCall(source, operands, dims, n, grain, writes, spec.scratch, over)], self.temps)

    # ---- dims ----------------------------------------------------------------------------------------------

    def _numbers(self) -> dict[str, Int]:
        """The kernel's dims by name."""
        c, schedule = self.c, self.schedule
        columns = convolutions.columns_of(c)
        numbers: dict[str, Int] = {
            "m": c.rows, "n": columns, "k": c.k, "images": c.images, "phases": c.phases, "channels": c.o,
            "m_block": schedule.m_block, "n_block": schedule.n_block,
            "m_blocks": ceil_div(c.rows, schedule.m_block), "n_blocks": ceil_div(columns, schedule.n_block),
            "pitch": c.pixels, "c.group": c.rows * c.pixels, "c.image": c.groups * c.rows * c.pixels,
        }  # fmt: skip
        numbers.update(self._of_operands())
        for d, one in enumerate(self._of_axes()):
            numbers.update({f"{name}{d}": number for name, number in one.items()})
        for k, leaf in enumerate(c.leaves):
            image, group = leaf.batch
            row = {"image": image, "group": group, "row": leaf.row, "column": leaf.column}
            numbers.update({f"leaf{k}.{name}": stride for name, stride in row.items()})
        return numbers

    def _of_operands(self) -> dict[str, Int]:
        """Distances in A, and between channels, images and groups of the map that patches are of."""
        c = self.c
        kernel, x, y = c.c * c.ws, c.xs, c.ys
        if c.gives == "w":
            return {
                "a.row": y, "a.group": c.o * y, "a.image": c.groups * c.o * y,
                "channel": x, "image": c.groups * c.c * x, "b.group": c.c * x,
            }  # fmt: skip
        if c.gives == "y":
            return {
                "a.row": kernel, "a.group": c.o * kernel,
                "channel": x, "image": c.groups * c.c * x, "b.group": c.c * x,
            }  # fmt: skip
        return {
            "a.row": c.ws, "a.group": c.o * kernel, "w.channel": kernel,
            "channel": y, "image": c.groups * c.o * y, "b.group": c.o * y,
        }  # fmt: skip

    def _of_axes(self) -> list[dict[str, Int]]:
        """What is said of every spatial axis: of the map that is read, of how places and taps meet, of the kernel."""
        c, found = self.c, list[dict[str, Int]]()
        x: Int = 1
        y: Int = 1
        w: Int = 1
        for a in reversed(c.axes):
            one: dict[str, Int] = {"taps": a.w, "w.stride": w, "c.stride": x, "step": a.stride}
            if c.gives == "x":
                common = gcd(a.stride, a.dilation)
                one |= {"size": a.y, "stride": y, "pixels": a.x, "base": a.padding, "shift": -(a.dilation // common)}
                one |= {"dilation": a.dilation, "hop": a.stride // common}
            else:
                one |= {"size": a.x, "stride": x, "pixels": a.y, "base": -a.padding, "shift": a.dilation}
            found.insert(0, one)
            x, y, w = x * a.x, y * a.y, w * a.w
        return found


def _operand(x: Access) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)
