"""Names of trained weights, `ResNet18_Weights.DEFAULT`, which scripts import: there are none to download, and `refuse` says so.

In: what a model was given for `weights`. Out: RuntimeError, unless that is nothing. Next: `resnet.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any


def refuse(name: str, weights: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    """What else a model was given. Raises RuntimeError where trained weights are asked for."""
    options = dict(more)
    asked = options.pop("pretrained", False) or options.pop("pretrained_backbone", False)
    options.pop("progress", None)
    if weights is not None or asked:
        raise RuntimeError(
            f"[{name}] trained weights are not downloaded. Leave them out, and load a file of them: "
            "model.load_state_dict(torch.load(path))."
        )
    return options


class Names:
    """Classes of weights by the names of models: `ResNet18_Weights` beside `resnet18`."""

    def __init__(self, module: Mapping[str, Any], models: Iterable[str]) -> None:
        self.models = {name.replace("_", "").lower() for name in models}

    def find(self, name: str) -> Any:
        """The `__getattr__` of a module."""
        model, _, last = name.rpartition("_")
        if last != "Weights" or model.replace("_", "").lower() not in self.models:
            raise AttributeError(f"module 'torchvision.models' has no attribute '{name}'")
        return Enum(name, {"IMAGENET1K_V1": 1, "IMAGENET1K_V2": 2, "DEFAULT": 2})
