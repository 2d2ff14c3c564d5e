"""Calls of the kernel of convolutions of 8-bit integers: what its dims are.

In: a nest and its schedule. Out: the call. Next: `quads.py`, the kernel; `cut.py`, which cuts such a nest.
"""

from __future__ import annotations

from flambeau.compiler.codegen.convolutions.operands import read
from flambeau.compiler.codegen.convolutions.quads import QuadSpec, quad_kernel
from flambeau.compiler.codegen.products.kernel import Epilogue, in_order, make_leaf
from flambeau.compiler.codegen.products.operands import MatrixAccess
from flambeau.compiler.codegen.units import OwnNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules import kinds, quads
from flambeau.compiler.targets import Target
from flambeau.dialects.dtypes import int8
from flambeau.dialects.size import Int, ceil_div


def emit_quads(nest: OwnNest, schedule: kinds.Quads, target: Target) -> Parts:
    """The call of a convolution of 8-bit integers."""
    c = read(nest.graph)
    assert c.small is not None
    down, right = c.axes
    leaves = tuple(make_leaf(x, x.column) for x in c.leaves)
    epilogue = Epilogue(leaves, c.steps, tuple((ref, dtype.mlir) for _, ref, dtype in c.outputs))
    spec = QuadSpec(
        schedule, epilogue, target.has_dots(schedule.lanes), c.small.map is int8, int(c.c) % 4, right.stride != 1
    )
    source, names = quad_kernel(spec, f"convolution {c.small.map.mlir} x {c.small.kernel.mlir}{epilogue.label}")
    sizes, bands = quads.regions(c, schedule), ceil_div(down.y, schedule.band)
    row, _, *taps = c.small.strides
    numbers: dict[str, Int] = {
        "groups": c.groups, "bands": bands, "band": schedule.band, "m": c.o, "quads": c.c // 4,
        "height": down.y, "width": right.y, "size0": down.x, "size1": right.x, "channel": c.xs,
        "b.group": c.c * c.xs, "image": c.groups * c.c * c.xs, "a.row": row, "a.group": c.o * row,
        "a.tap0": taps[0] if len(taps) > 1 else 0, "a.tap1": taps[-1], **sizes,
    }  # fmt: skip
    for d, axis in enumerate(c.axes):
        numbers.update(
            {f"stride{d}": axis.stride, f"padding{d}": axis.padding, f"dilation{d}": axis.dilation, f"taps{d}": axis.w}
        )
    for k, leaf in enumerate(c.leaves):
        image, group = leaf.batch
        numbers.update(
            {f"leaf{k}.image": image, f"leaf{k}.group": group, f"leaf{k}.row": leaf.row, f"leaf{k}.column": leaf.column}
        )
    operands = (
        Operand("value", c.a, c.small.offset), Operand("value", c.b), *map(_operand, c.leaves),
        *(Operand("value", v) for v, _, _ in c.outputs),
    )  # fmt: skip
    n = c.images * c.groups * bands
    scratch = 16 * c.ws + 4 * (sizes["packed"] + schedule.rows * sizes["places"])
    writes = tuple(range(2 + len(c.leaves), len(operands)))
    return Parts(
        [KernelCall(source, operands, in_order(names, numbers), n, quads.grain(c, schedule, n), writes, scratch)]
    )


def _operand(x: MatrixAccess) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)
