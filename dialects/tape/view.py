"""Views: every element of the result is one element of the operand, at a place the attributes tell.

In: one operand (`dynamic_slice`: starts too). Next: `assemble.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import SUPPORTED, from_numpy, int64
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_axis, check_dtype, check_length, check_scalar, ops, random
from flambeau.dialects.tape.source import check_shape


def _view(name: str, attrs: tuple[str, ...], infer, reference, vjp, samples, doc: str) -> OpRecord:
    def checked(x: Aval, *rest) -> Aval:
        check_dtype(name, x, SUPPORTED)
        return Aval(infer(x, *rest), x.dtype)

    return OpRecord(
        name=name,
        kind=Kind.VIEW,
        attrs=attrs,
        infer=checked,
        reference=reference,
        vjp=vjp,
        lower=None,
        dtypes=SUPPORTED,
        samples=samples,
        doc=doc,
    )


def _infer_reshape(x: Aval, shape: tuple[int, ...]) -> tuple[int, ...]:
    check_shape("reshape", shape)
    if math.prod(shape) != x.size:
        raise RuntimeError(
            f"[reshape] shape {shape} has {math.prod(shape)} elements, the operand of shape {x.shape} has {x.size}. "
            "Give a shape with as many."
        )
    return shape


reshape = _view(
    "reshape",
    ("shape",),
    _infer_reshape,
    lambda x, shape: x.reshape(shape),
    lambda ct, r, x, shape: (ops.reshape(ct, shape=x.shape),),
    lambda: [
        *(Sample((random((3, 4)),), {"shape": shape}) for shape in ((12,), (4, 3), (1, 12, 1), (3, 4), (2, 3, 2))),
        Sample((random(()),), {"shape": (1, 1)}),
        Sample((random((1,)),), {"shape": ()}),
        Sample((random((0, 3)),), {"shape": (5, 0)}),
        Sample((random((5,)),), {"shape": (2, 2)}, error=(RuntimeError, "[reshape] shape (2, 2) has 4 elements, the")),
        Sample((random((4,)),), {"shape": (-1, 2)}, error=(RuntimeError, "[reshape] shape (-1, 2) is not a tuple of")),
    ],
    "The same elements, row-major, in another shape.",
)


def _infer_permute(x: Aval, perm: tuple[int, ...]) -> tuple[int, ...]:
    check_length("permute", "perm", perm, x.rank)
    for axis in perm:
        check_axis("permute", axis, x.rank)
    if len(set(perm)) != x.rank:
        raise RuntimeError(f"[permute] perm {perm} names an axis twice. Name every axis once.")
    return tuple(x.shape[axis] for axis in perm)


def _inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(perm.index(axis) for axis in range(len(perm)))


permute = _view(
    "permute",
    ("perm",),
    _infer_permute,
    lambda x, perm: x.transpose(perm),
    lambda ct, r, x, perm: (ops.permute(ct, perm=_inverse(perm)),),
    lambda: [
        *(Sample((random((3, 4)),), {"perm": perm}) for perm in ((0, 1), (1, 0))),
        *(Sample((random((2, 3, 5)),), {"perm": perm}) for perm in ((2, 0, 1), (0, 2, 1), (2, 1, 0))),
        Sample((random((67, 131)),), {"perm": (1, 0)}, gradient=False),
        Sample((random(()),), {"perm": ()}),
        Sample((random((0, 3)),), {"perm": (1, 0)}),
        Sample((random((2, 3)),), {"perm": (0, 2)}, error=(IndexError, "[permute] axis 2 is out of range")),
        Sample((random((2, 3)),), {"perm": (0, 0)}, error=(RuntimeError, "[permute] perm (0, 0) names an axis twice.")),
        Sample(
            (random((2, 3)),), {"perm": (0,)}, error=(RuntimeError, "[permute] `perm` is (0,) for an operand of rank 2")
        ),
    ],
    "Axis i of the result is axis perm[i] of the operand.",
)


def _infer_broadcast(x: Aval, shape: tuple[int, ...]) -> tuple[int, ...]:
    check_shape("broadcast", shape)
    check_length("broadcast", "shape", shape, x.rank)
    for axis, (old, new) in enumerate(zip(x.shape, shape, strict=True)):
        if old not in ((1, new) if isinstance(old, int) else (new, 1)):
            raise RuntimeError(
                f"[broadcast] axis {axis} has extent {old} in shape {x.shape} and {new} in {shape}. "
                "Only axes of extent 1 can be stretched."
            )
    return shape


def _vjp_broadcast(ct, r, x, shape):
    stretched = tuple(axis for axis, (old, new) in enumerate(zip(x.shape, shape, strict=True)) if old != new)
    return (ops.reshape(ops.sum(ct, axes=stretched), shape=x.shape) if stretched else ct,)


broadcast = _view(
    "broadcast",
    ("shape",),
    _infer_broadcast,
    np.broadcast_to,
    _vjp_broadcast,
    lambda: [
        *(Sample((random((3, 1)),), {"shape": shape}) for shape in ((3, 4), (3, 1), (3, 0))),
        Sample((random((1, 1, 5)),), {"shape": (2, 3, 5)}),
        Sample((random((1,)),), {"shape": (4099,)}, gradient=False),
        Sample((random(()),), {"shape": ()}),
        Sample(
            (random((3, 2)),),
            {"shape": (3, 4)},
            error=(RuntimeError, "[broadcast] axis 1 has extent 2 in shape (3, 2)"),
        ),
        Sample(
            (random((3,)),), {"shape": (2, 3)}, error=(RuntimeError, "[broadcast] `shape` is (2, 3) for an operand of")
        ),
    ],
    "Axes of extent 1 stretched to `shape`, which has the operand's rank.",
)


def check_window(op: str, shape: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> None:
    """A window of `sizes` elements, `steps` apart, fits into `shape`."""
    check_length(op, "sizes", sizes, len(shape))
    check_length(op, "steps", steps, len(shape))
    for axis, (extent, size, step) in enumerate(zip(shape, sizes, steps, strict=True)):
        if size < 0 or step < 1:
            raise RuntimeError(
                f"[{op}] axis {axis} has size {size} and step {step}. Sizes are at least 0, steps at least 1."
            )
        if size and (size - 1) * step + 1 > extent:
            raise RuntimeError(
                f"[{op}] {size} elements {step} apart do not fit into axis {axis} of shape {shape}. "
                "Make the window smaller."
            )


def reach(size: Any, step: int) -> Any:
    """How many elements lie between the ends of a window's axis, these included."""
    return (size - 1) * step + 1 if size else 0


def windows_in(extent: Any, size: Any, step: int, dilation: int) -> Any:
    """How many windows of `size` elements, `dilation` apart, begin every `step` of `extent` elements."""
    return (extent - reach(size, dilation)) // step + 1


def held(count: Any, size: Any, step: int, dilation: int) -> Any:
    """How many elements lie between the ends of `count` such windows: no others are in one."""
    return reach(count, step) + reach(size, dilation) - 1 if count and size else 0


def window(starts, sizes: tuple[int, ...], steps: tuple[int, ...]) -> tuple[slice, ...]:
    """The NumPy index of a window."""
    spans = zip(starts, sizes, steps, strict=True)
    return tuple(slice(int(start), int(start) + reach(size, step), step) for start, size, step in spans)


def clamp_starts(starts, shape: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[int]:
    """Starts moved to where the window fits."""
    last = [extent - reach(size, step) for extent, size, step in zip(shape, sizes, steps, strict=True)]
    return [min(max(int(start), 0), most) for start, most in zip(starts, last, strict=True)]


def _infer_slice(x: Aval, starts, sizes, steps) -> tuple[int, ...]:
    check_length("slice", "starts", starts, x.rank)
    check_window("slice", x.shape, sizes, steps)
    spans = zip(starts, x.shape, sizes, steps, strict=True)
    if not all(0 <= start <= extent - reach(size, step) for start, extent, size, step in spans):
        raise IndexError(
            f"[slice] starts {starts}, sizes {sizes}, steps {steps} leave the shape {x.shape}. Keep the window inside."
        )
    return sizes


def place(update, into, starts: tuple[int, ...], steps: tuple[int, ...]):
    """`into` with the elements at static `starts`, `steps` apart, replaced by `update`."""
    offsets = [into.builder.constant(start, int64) for start in starts]
    return ops.update_slice(into, update, *offsets, steps=steps)


def _vjp_slice(ct, r, x, starts, sizes, steps):
    if any(step != 1 for step in steps):
        return (place(ct, x.like(0), starts, steps),)
    high = tuple(n - start - size for n, start, size in zip(x.shape, starts, sizes, strict=True))
    return (ops.pad(ct, ct.builder.constant(0, ct.dtype), low=starts, high=high),)


def _window_attrs(starts, sizes, steps) -> dict:
    return {"starts": starts, "sizes": sizes, "steps": steps}


slice_ = _view(
    "slice",
    ("starts", "sizes", "steps"),
    _infer_slice,
    lambda x, starts, sizes, steps: x[window(starts, sizes, steps)],
    _vjp_slice,
    lambda: [
        Sample((random((7,)),), _window_attrs((2,), (3,), (1,))),
        Sample((random((7,)),), _window_attrs((0,), (4,), (2,))),
        Sample((random((7,)),), _window_attrs((7,), (0,), (1,))),
        Sample((random((5, 6)),), _window_attrs((1, 0), (2, 3), (2, 2))),
        Sample((random((5, 6)),), _window_attrs((4, 2), (1, 4), (9, 1))),
        Sample((random((5, 6)),), _window_attrs((0, 3), (5, 1), (1, 1))),
        Sample((random(()),), _window_attrs((), (), ())),
        Sample(
            (random((7,)),),
            _window_attrs((5,), (3,), (1,)),
            error=(IndexError, "[slice] starts (5,), sizes (3,), steps"),
        ),
        Sample(
            (random((7,)),), _window_attrs((0,), (9,), (1,)), error=(RuntimeError, "[slice] 9 elements 1 apart do not")
        ),
        Sample(
            (random((7,)),),
            _window_attrs((0,), (2,), (0,)),
            error=(RuntimeError, "[slice] axis 0 has size 2 and step 0"),
        ),
        Sample(
            (random((7,)),),
            _window_attrs((0, 0), (2,), (1,)),
            error=(RuntimeError, "[slice] `starts` is (0, 0) for an"),
        ),
    ],
    "A window: `sizes` elements from `starts`, `steps` apart.",
)


def check_starts(op: str, starts: tuple[Aval, ...], rank: int) -> None:
    if len(starts) != rank:
        raise RuntimeError(f"[{op}] got {len(starts)} starts for an operand of rank {rank}. Pass one per dimension.")
    for axis, start in enumerate(starts):
        check_scalar(op, start, int64, f"start {axis}")


def _infer_dynamic_slice(x: Aval, *rest) -> tuple[int, ...]:
    *starts, sizes, steps = rest
    check_starts("dynamic_slice", tuple(starts), x.rank)
    check_window("dynamic_slice", x.shape, sizes, steps)
    return sizes


def _dynamic_slice(x: np.ndarray, *rest) -> np.ndarray:
    *starts, sizes, steps = rest
    return x[window(clamp_starts(starts, x.shape, sizes, steps), sizes, steps)]


def _vjp_dynamic_slice(ct, r, x, *rest):
    *starts, _, steps = rest
    return (ops.update_slice(x.like(0), ct, *starts, steps=steps), *[None] * len(starts))


def scalars(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(v, np.int64) for v in values)


dynamic_slice = _view(
    "dynamic_slice",
    ("sizes", "steps"),
    _infer_dynamic_slice,
    _dynamic_slice,
    _vjp_dynamic_slice,
    lambda: [
        *(Sample((random((7,)), *scalars(start)), {"sizes": (3,), "steps": (1,)}) for start in (0, 2, 4, 5, -1, 2**40)),
        *(Sample((random((7,)), *scalars(start)), {"sizes": (3,), "steps": (2,)}) for start in (0, 2, 3)),
        Sample((random((5, 6)), *scalars(3, 1)), {"sizes": (1, 2), "steps": (1, 3)}),
        Sample((random((5, 6)), *scalars(9, 0)), {"sizes": (0, 6), "steps": (1, 1)}),
        Sample((random(()),), {"sizes": (), "steps": ()}),
        Sample(
            (random((7,)), np.zeros(())),
            {"sizes": (3,), "steps": (1,)},
            error=(RuntimeError, "[dynamic_slice] start 0 is float64 of shape (). Pass a 0-d int64."),
        ),
        Sample(
            (random((7,)),), {"sizes": (3,), "steps": (1,)}, error=(RuntimeError, "[dynamic_slice] got 0 starts for an")
        ),
        Sample(
            (random((7,)), *scalars(0)),
            {"sizes": (8,), "steps": (1,)},
            error=(RuntimeError, "[dynamic_slice] 8 elements 1 apart do not fit into axis 0 of shape (7,)."),
        ),
    ],
    "A window whose starts are operands; starts that leave the operand are moved to where the window fits.",
)


def _infer_flip(x: Aval, axes: tuple[int, ...]) -> tuple[int, ...]:
    for axis in axes:
        check_axis("flip", axis, x.rank)
    if list(axes) != sorted(set(axes)):
        raise RuntimeError(f"[flip] axes {axes} are not sorted and distinct. Name each axis once, in order.")
    return x.shape


flip = _view(
    "flip",
    ("axes",),
    _infer_flip,
    lambda x, axes: np.flip(x, axes),
    lambda ct, r, x, axes: (ops.flip(ct, axes=axes),),
    lambda: [
        *(Sample((random((3, 5)),), {"axes": axes}) for axes in ((), (0,), (1,), (0, 1))),
        Sample((random((67,)),), {"axes": (0,)}, gradient=False),
        Sample((random((0, 2)),), {"axes": (0,)}),
        Sample((random((3,)),), {"axes": (1,)}, error=(IndexError, "[flip] axis 1 is out of range")),
        Sample(
            (random((3, 2)),), {"axes": (0, 0)}, error=(RuntimeError, "[flip] axes (0, 0) are not sorted and distinct.")
        ),
    ],
    "The elements in reverse order along `axes`.",
)


def check_unfold(op: str, extent: Any, size: int, step: int, dilation: int) -> Any:
    """`windows_in`. Raises where there can be none."""
    if size < 0 or step < 1 or dilation < 1:
        raise RuntimeError(
            f"[{op}] windows have size {size}, step {step} and dilation {dilation}. Give at least 0, and 1, and 1."
        )
    if reach(size, dilation) > extent:
        raise RuntimeError(
            f"[{op}] {size} elements {dilation} apart do not fit into an axis of {extent}. Make the window smaller."
        )
    return windows_in(extent, size, step, dilation)


def _infer_unfold(x: Aval, axis: int, size: int, step: int, dilation: int) -> tuple[int, ...]:
    check_axis("unfold", axis, x.rank)
    count = check_unfold("unfold", x.shape[axis], size, step, dilation)
    return (*x.shape[:axis], count, *x.shape[axis + 1 :], size)


def _unfold(x: np.ndarray, axis: int, size: int, step: int, dilation: int) -> np.ndarray:
    shape = _infer_unfold(Aval(x.shape, from_numpy(x.dtype)), axis, size, step, dilation)
    moved = tuple(n * step if k == axis else n for k, n in enumerate(x.strides))
    bytes_ = x.view(np.uint8) if x.itemsize == 1 else x  # NumPy knows no names of 8-bit floats here
    return np.lib.stride_tricks.as_strided(bytes_, shape, (*moved, x.strides[axis] * dilation)).view(x.dtype)


def _unfold_attrs(axis: int, size: int, step: int, dilation: int) -> dict:
    return {"axis": axis, "size": size, "step": step, "dilation": dilation}


unfold = _view(
    "unfold",
    ("axis", "size", "step", "dilation"),
    _infer_unfold,
    _unfold,
    lambda ct, r, x, axis, size, step, dilation: (
        ops.fold(ct, axis=axis, extent=x.shape[axis], step=step, dilation=dilation),
    ),
    lambda: [
        *(
            Sample((random((9,)),), _unfold_attrs(0, *window))
            for window in ((3, 1, 1), (3, 2, 2), (2, 5, 1), (9, 1, 1))
        ),
        Sample((random((4, 7)),), _unfold_attrs(1, 3, 2, 1)),
        Sample((random((4, 7)),), _unfold_attrs(0, 1, 2, 3)),
        Sample((random((70, 3)),), _unfold_attrs(0, 4, 1, 1), gradient=False),
        Sample((random((3, 0)),), _unfold_attrs(0, 2, 1, 1)),
        Sample((random((3,)),), _unfold_attrs(0, 0, 2, 1), gradient=False),
        Sample(
            (random((3,)),), _unfold_attrs(0, 4, 1, 1), error=(RuntimeError, "[unfold] 4 elements 1 apart do not fit")
        ),
        Sample(
            (random((3,)),), _unfold_attrs(0, 2, 0, 1), error=(RuntimeError, "[unfold] windows have size 2, step 0")
        ),
        Sample((random((3,)),), _unfold_attrs(1, 2, 1, 1), error=(IndexError, "[unfold] axis 1 is out of range")),
    ],
    "Windows of `size` elements, `dilation` apart, that begin every `step` along `axis`; their elements are a new last axis.",
)
