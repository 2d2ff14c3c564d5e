"""Written by `python tools/stubs.py` from the declarations of public functions."""

from builtins import bool as _bool, complex as _complex, float as _float, int as _int, type as _type
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, overload

import numpy as np
from flambeau import return_types
from flambeau.device import Device, device as _device
from flambeau.dialects.dtypes import DType as _DType
from flambeau.generator import Generator
from flambeau.runtime.recorder import Size, Tensor
from flambeau.quantization.weight_only import Int8Linear as Int8Linear
from flambeau.quantization.weight_only import Int8WeightOnlyConfig as Int8WeightOnlyConfig
from flambeau.quantization.observer import MinMaxObserver as MinMaxObserver
from flambeau.quantization.observer import Observed as Observed
from flambeau.quantization.layers import QuantizedConv as QuantizedConv
from flambeau.quantization.layers import QuantizedLinear as QuantizedLinear
from flambeau.quantization.calibration import convert as convert
from flambeau.quantization.calibration import fuse_modules as fuse_modules
from flambeau.quantization.calibration import prepare as prepare
from flambeau.quantization.weight_only import quantize_ as quantize_

def dequantize(input: Tensor, scale: Tensor | _complex | np.generic, zero_point: Tensor | _complex | np.generic = 0, axis: _int | str | Sequence[_int] | Sequence[str] | None = None) -> Tensor: ...
def int8_linear(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor: ...
def quantize(input: Tensor, scale: Tensor | _complex | np.generic, zero_point: Tensor | _complex | np.generic = 0, dtype: _DType | _type[_bool] | _type[_int] | _type[_float] | _type[_complex] | None = ..., axis: _int | str | Sequence[_int] | Sequence[str] | None = None) -> Tensor: ...
def quantized_conv(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None, stride: _int | Sequence[_int] = 1, padding: _int | Sequence[_int] | str = 0, dilation: _int | Sequence[_int] = 1, groups: _int = 1) -> Tensor: ...
def quantized_linear(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor: ...
