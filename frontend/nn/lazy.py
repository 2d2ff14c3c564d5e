"""Layers that find their sizes: LazyLinear, LazyConv*, LazyConvTranspose*, LazyBatchNorm*, LazyInstanceNorm*.

In: what the usual layers take but the number of inputs. Out: layers whose first call, or loading of a state dict, makes the
parameters, and which then are the usual layers. Next: `parameters.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.device import Device
from flambeau.dialects.dtypes import int64
from flambeau.functions.create import zeros
from flambeau.nn.batch_norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from flambeau.nn.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from flambeau.nn.linear import Linear
from flambeau.nn.uninitialized import UninitializedBuffer, UninitializedParameter, is_lazy
from flambeau.runtime.recorder import Tensor


class LazyModuleMixin:
    """What layers that find their sizes have beside those: `class LazyLayer(LazyModuleMixin, Layer)`. They define
    `initialize_parameters`, which gets the arguments of the first call, and may name the class that they become then."""

    cls_to_become: ClassVar[type | None] = None

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._shapes_of_state)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def initialize_parameters(self: Any, *args: Any, **kwargs: Any) -> None:
        """Give the parameters their shapes and values. Layers define it."""
        raise NotImplementedError(f"[{type(self).__name__}] there is no initialize_parameters(). Define it.")

    def has_uninitialized_params(self: Any) -> bool:
        """Whether a parameter or buffer has no shape yet."""
        return any(map(is_lazy, [*self._parameters.values(), *self._buffers.values()]))

    def _shapes_of_state(self: Any, state_dict: Any, prefix: str, *args: Any) -> None:
        """Before a state dict is loaded: what has no shape takes that of the state."""
        for name, value in [*self._parameters.items(), *self._buffers.items()]:
            found = state_dict.get(prefix + name)
            if is_lazy(value) and found is not None and not is_lazy(found):
                with no_grad():
                    value.materialize(found.shape)

    def _infer_parameters(self: Any, module: Any, args: Any, kwargs: Any = None) -> None:
        """Before the first call."""
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(
                f"[{type(module).__name__}] initialize_parameters() left some without a shape. Materialize all."
            )
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become


class LazyLinear(LazyModuleMixin, Linear):
    """A `Linear` whose number of inputs is that of the first input."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Device = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False, device, dtype)
        self.out_features = out_features
        self.weight: Any = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, once they are there."""
        if not self.has_uninitialized_params() and self.in_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:  # type: ignore[override]
        """Make the parameters for an input."""
        if self.has_uninitialized_params():
            with no_grad():
                self.in_features = input.shape[-1]
                self.weight.materialize((self.out_features, self.in_features))  # type: ignore[attr-defined]
                if self.bias is not None:
                    self.bias.materialize((self.out_features,))  # type: ignore[attr-defined]
                self.reset_parameters()
        if not self.in_features:  # a state dict was loaded
            self.in_features = self.weight.shape[-1]


# ---- convolutions -----------------------------------------------------------------------------------------------


class _LazyConvolution(LazyModuleMixin):
    """What the six have beside the usual layers: parameters that wait for the number of channels."""

    def _waiting(self: Any, out_channels: int, bias: bool, device: Device, dtype: Any) -> None:
        self._check((0, out_channels), self.groups, self.stride, self.padding, self.padding_mode)
        self.out_channels = out_channels
        for name in ("weight", "bias") if bias else ("weight",):
            self.register_parameter(name, UninitializedParameter(device=device, dtype=dtype))

    def reset_parameters(self: Any) -> None:
        """Draw weight and bias anew, once they are there."""
        if not self.has_uninitialized_params() and self.in_channels:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self: Any, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make the parameters for an input."""
        name, rank = type(self).__name__, len(self.kernel_size)
        if input.ndim not in (rank + 1, rank + 2):
            raise RuntimeError(f"[{name}] input has {input.ndim} dimensions. Pass [(N,) C, {rank} spatial dims].")
        channels = input.shape[input.ndim - rank - 1]
        if self.has_uninitialized_params():
            self._check((channels, self.out_channels), self.groups, self.stride, self.padding, self.padding_mode)
            outer, inner = (channels, self.out_channels) if self.transposed else (self.out_channels, channels)
            with no_grad():
                self.in_channels = channels
                self.weight.materialize((outer, inner // self.groups, *self.kernel_size))
                if self.bias is not None:
                    self.bias.materialize((self.out_channels,))
                self.reset_parameters()
        self.in_channels = self.in_channels or channels  # after a state dict was loaded


class _LazyForward(_LazyConvolution):
    def __init__(
        self: Any,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)
        self._waiting(out_channels, bias, device, dtype)


class _LazyTransposed(_LazyConvolution):
    def __init__(
        self: Any,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype
        )
        self._waiting(out_channels, bias, device, dtype)


class LazyConv1d(_LazyForward, Conv1d):
    """A `Conv1d` whose `in_channels` are those of the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyForward, Conv2d):
    """A `Conv2d` whose `in_channels` are those of the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyForward, Conv3d):
    """A `Conv3d` whose `in_channels` are those of the first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """A `ConvTranspose1d` whose `in_channels` are those of the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """A `ConvTranspose2d` whose `in_channels` are those of the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """A `ConvTranspose3d` whose `in_channels` are those of the first input."""

    cls_to_become = ConvTranspose3d


# ---- normalization ----------------------------------------------------------------------------------------------


class _LazyNorm(LazyModuleMixin):
    """What the six have beside the usual layers: parameters and statistics that wait for the number of features."""

    _is_batch: bool  # whether an input always has a batch

    def _waiting(self: Any, affine: bool, track_running_stats: bool, device: Device, dtype: Any, bias: bool) -> None:
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.weight = UninitializedParameter(device=device, dtype=dtype)
            if bias:
                self.bias = UninitializedParameter(device=device, dtype=dtype)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var = UninitializedBuffer(device=device, dtype=dtype)
            self.num_batches_tracked = zeros((), dtype=int64, device=device)

    def reset_running_stats(self: Any) -> None:
        """Running mean 0, running variance 1, once they are there."""
        if not self.has_uninitialized_params() and self.num_features:
            super().reset_running_stats()  # type: ignore[misc]

    def reset_parameters(self: Any) -> None:
        """Scale 1, shift 0, once they are there."""
        if not self.has_uninitialized_params() and self.num_features:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self: Any, input: Tensor) -> None:
        """Make the parameters and statistics for an input."""
        self._check(input)
        features = input.shape[1 if self._is_batch or input.ndim == max(self._ranks) else 0]
        if self.has_uninitialized_params():
            self.num_features = features
            with no_grad():
                for value in [*self._parameters.values(), *self._buffers.values()]:
                    if is_lazy(value):
                        value.materialize((features,))
                self.reset_parameters()
        self.num_features = self.num_features or features


class _LazyBatchNorm(_LazyNorm):
    _is_batch = True

    def __init__(
        self: Any,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, False, False, device, dtype, bias=bias)
        self._waiting(affine, track_running_stats, device, dtype, bias)


class _LazyInstanceNorm(_LazyBatchNorm):
    _is_batch = False


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A `BatchNorm1d` whose `num_features` are those of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A `BatchNorm2d` whose `num_features` are those of the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """A `BatchNorm3d` whose `num_features` are those of the first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """An `InstanceNorm1d` whose `num_features` are those of the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """An `InstanceNorm2d` whose `num_features` are those of the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """An `InstanceNorm3d` whose `num_features` are those of the first input."""

    cls_to_become = InstanceNorm3d
