"""Weights as int8 with one scale for each output, and the walk that puts other layers in the place of some.

In: float weights [out, ...], a model. Out: int8 weights and scales [out]; the model, changed. Next: `weight_only.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.autograd import no_grad
from flambeau.functions.quantization import quantize
from flambeau.nn.module import Module
from flambeau.runtime.recorder import Tensor

#: The largest weight is this times its scale: -128 is not used, so that weights are symmetric.
MOST = 127

Filter = Callable[[Module, str], bool]


@no_grad()
def quantized_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 weight, scales [out]) of a float weight [out, ...]: its largest magnitude in a row becomes 127. A row of zeros has
    scale 1. Raises ValueError for weights that are no finite numbers."""
    most = weight.detach().float().abs().flatten(1).amax(1)
    if not most.isfinite().all().item():
        raise ValueError("[quantize] a weight is infinite or NaN. Quantize a model whose weights are finite.")
    scale = (most / MOST).where(most > 0, 1.0)
    return quantize(weight.detach().float(), scale, axis=0), scale


def replace_layers(model: Module, wanted: Filter, make: Callable[[Any], Module]) -> int:
    """Put `make(layer)` in the place of every layer below `model` for which `wanted(layer, path)` holds, one for each layer where
    it is there several times. Returns how many."""
    made: dict[Module, Module] = {}
    for path, parent in list(model.named_modules(remove_duplicate=False)):
        for name, child in list(parent.named_children()):
            if child in made or wanted(child, f"{path}.{name}".lstrip(".")):
                if child not in made:
                    made[child] = make(child)
                setattr(parent, name, made[child])
    return len(made)
