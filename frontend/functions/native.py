"""Functions of ATen's that PyTorch shows: native_layer_norm, native_group_norm, native_batch_norm, grid_sampler and its two kinds.

In: what the functions take that users call (`layer_norm`, `grid_sample`, ...), in ATen's order, modes as numbers. Out: results, and
the statistics that they go by, which have a gradient for groups only, as in PyTorch. Next: `channel_norm.py`, `sampling.py`.
"""

from __future__ import annotations

from typing import Any, cast

from flambeau.declarations import Unsampled, declared
from flambeau.dialects.dtypes import DType
from flambeau.functions.channel_norm import batch_norm, group_norm
from flambeau.functions.normalize import layer_norm
from flambeau.functions.sampling import grid_sample
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


def _statistics(x: Any, dims: Any, eps: float, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Means, and one over the roots of variances plus `eps`, over `dims`."""
    mean = x.mean(dims, keepdim=keepdim)
    return mean, (x.var(dims, correction=0, keepdim=keepdim) + eps).rsqrt()


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 3, 4), (3, 4), data(3, 4), data(3, 4), 1e-5),
            call(data(2, 3), (4,), None, None, 1e-5, error=(RuntimeError, "layer_norm")),
        ]
    ),
)
def native_layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(what `layer_norm` gives, the means, one over the roots of the variances plus `eps`). Raises RuntimeError for shapes that do
    not fit."""
    found = layer_norm(input, tuple(normalized_shape), weight, bias, eps)
    dims = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    return (found, *_statistics(input.detach(), dims, eps, keepdim=True))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 4, 3), data(4), data(4), 2, 4, 3, 2, 1e-5),
            call(data(2, 4, 3), None, None, 2, 4, 3, 3, 1e-5, error=(RuntimeError, "group_norm")),
        ]
    ),
)
def native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(what `group_norm` gives, the means [N, group], one over the roots of the variances plus `eps`). Raises RuntimeError for
    shapes that do not fit."""
    found = group_norm(input, group, weight, bias, eps)
    return (found, *_statistics(input.reshape(N, group, C * HxW // group), -1, eps))


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(3, 2, 4), data(2), data(2), None, None, True, 0.1, 1e-5),
            call(data(3, 2), None, None, data(2), data(2, low=0.5, high=1), False, 0.1, 1e-5),
            call(data(3, 2), data(3), None, None, None, True, 0.1, 1e-5, error=(RuntimeError, "batch_norm")),
        ]
    ),
)
def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(what `batch_norm` gives, the means of the batch, one over the roots of its variances plus `eps`); the latter two are empty
    unless `training`. Raises RuntimeError for shapes that do not fit."""
    found = batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        return found, input.new_empty((0,)), input.new_empty((0,))
    return (found, *_statistics(input.detach(), tuple(d for d in range(input.ndim) if d != 1), eps))


_MODES, _PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def _sampler(name: str, rank: int | None) -> None:
    def sampler(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
        for what, given in (("interpolation_mode", interpolation_mode), ("padding_mode", padding_mode)):
            if given not in (0, 1, 2):
                raise RuntimeError(f"[{name}] {what} is {given!r}. Use 0, 1 or 2.")
        if rank is not None and input.ndim != rank:
            raise RuntimeError(f"[{name}] input has shape {tuple(input.shape)}. Pass {rank} dimensions.")
        return grid_sample(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = """`grid_sample`, modes as numbers: 0 bilinear, 1 nearest, 2 bicubic; 0 zeros, 1 border, 2 reflection. Raises
    RuntimeError for others."""
    size, at = ((2, 1, 3, 4), (2, 2, 3, 2)) if rank != 5 else ((1, 1, 2, 3, 3), (1, 2, 2, 2, 3))
    declared(
        free="flambeau",
        samples=calls(
            lambda: [
                call(data(*size), data(*at, low=-0.9, high=0.9), 0, 1, False),
                call(data(*size), data(*at), 3, 0, False, error=(RuntimeError, "Use 0, 1 or 2")),
                *(
                    []
                    if rank is None
                    else [call(data(2, 2), data(*at), 0, 0, False, error=(RuntimeError, "dimensions"))]
                ),
            ]
        ),
    )(sampler)
    globals()[name] = sampler


for _name, _rank in (("grid_sampler", None), ("grid_sampler_2d", 4), ("grid_sampler_3d", 5)):
    _sampler(_name, _rank)


# ---- private names that programs call -------------------------------------------------------------------------------

_PRIVATE = Unsampled("private in PyTorch: tests/test_frames.py calls it")


@declared(free="flambeau", samples=_PRIVATE)
def _softmax_backward_data(grad_output: Tensor, output: Tensor, dim: int, input_dtype: DType) -> Tensor:
    """The gradient of `softmax` along `dim`, whose result is `output`, in `input_dtype`."""
    g, y = (cast("Any", x) for x in (grad_output, output))
    return ((g - (g * y).sum(dim, keepdim=True)) * y).to(input_dtype)


def _held(input: Tensor, indices: Any) -> list[Any]:
    """Positions moved into the tensor, which a mask leaves out where they were outside."""
    return [slice(None) if at is None else at.clamp(-n, n - 1) for at, n in zip(indices, input.shape)]


@declared(free="flambeau", samples=_PRIVATE)
def _unsafe_masked_index(input: Tensor, mask: Tensor, indices: Any, fill: float) -> Tensor:
    """`input[indices]` where `mask` holds, elsewhere `fill`."""
    found: Any = cast("Any", input)[tuple(_held(input, indices))]
    return found.masked_fill(cast("Any", mask).logical_not(), fill)


@declared(free="flambeau", samples=_PRIVATE)
def _unsafe_masked_index_put_accumulate(input: Tensor, mask: Tensor, indices: Any, values: Tensor) -> Tensor:
    """`input` with `values` added at `indices` where `mask` holds."""
    kept: Any = cast("Any", values).masked_fill(cast("Any", mask).logical_not(), 0)
    return cast("Any", input).index_put(tuple(_held(input, indices)), kept, accumulate=True)


def _divided(self: Tensor, other: Any) -> Tensor:
    """`other / self`, by the name that Python 2 had for it."""
    if not isinstance(self, Tensor):
        raise AttributeError(f"[__rdiv__] {self!r} is no tensor, which the method is one of. Write other / self.")
    return other / self


Tensor.__rdiv__ = _divided  # type: ignore[attr-defined]
