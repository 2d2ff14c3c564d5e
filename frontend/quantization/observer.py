"""What notes the ranges of a layer's inputs. In: examples. Out: a scale and a dtype. Next: `calibration.py`."""

from __future__ import annotations

import math
from typing import Any

from flambeau.autograd import no_grad
from flambeau.dialects.dtypes import DType, int8, uint8
from flambeau.functions.choose import maximum, minimum
from flambeau.functions.from_data import tensor
from flambeau.nn.module import Module
from flambeau.quantization.weights import MOST
from flambeau.runtime.recorder import Tensor


class MinMaxObserver(Module):
    """Notes the least and the greatest number that went through, in the buffers `min_val` and `max_val`, and gives back its
    input."""

    min_val: Tensor
    max_val: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("min_val", tensor(math.inf))
        self.register_buffer("max_val", tensor(-math.inf))

    def forward(self, input: Tensor) -> Tensor:
        if input.numel():
            with no_grad():
                seen = input.detach().float()
                self.min_val, self.max_val = minimum(self.min_val, seen.amin()), maximum(self.max_val, seen.amax())
        return input

    def calculate_qparams(self) -> tuple[float, DType]:
        """The scale, and the dtype: uint8 where nothing was below 0, or else int8. 1 where all was 0, or nothing was seen. Raises
        ValueError where an infinity or NaN was seen."""
        least, greatest = self.min_val.item(), self.max_val.item()
        if least > greatest:
            return 1.0, uint8
        if not math.isfinite(least) or not math.isfinite(greatest):
            raise ValueError(
                f"[MinMaxObserver] numbers from {least} to {greatest} were seen. Pass examples that give finite ones."
            )
        most, steps, dtype = (greatest, 255, uint8) if least >= 0 else (max(-least, greatest), MOST, int8)
        return most / steps or 1.0, dtype

    def extra_repr(self) -> str:
        return f"min_val={self.min_val.item()}, max_val={self.max_val.item()}"


class Observed(Module):
    """A layer, and an observer of its input."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.observer = layer, MinMaxObserver()

    @property
    def has_seen(self) -> bool:
        """Whether any example went through."""
        return self.observer.min_val.item() != math.inf

    def chosen(self) -> tuple[float, DType]:
        """Scale and dtype of the layer's input."""
        return self.observer.calculate_qparams()

    def forward(self, input: Tensor) -> Tensor:
        return self.layer(self.observer(input))
