"""`flambeau.nn.modules`: the layers under the module names that PyTorch's files have, as public code imports them.

In: `from torch.nn.modules.batchnorm import _BatchNorm` and the like. Out: the layers of `flambeau.nn`, and of those that begin with
`_` the ones that others build on. Every name is found in every one of these modules. Next: `../module.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from flambeau import missing as _missing

#: Base classes that public code names, and where they are.
_BASES = {
    "_BatchNorm": "batch_norm",
    "_NormBase": "batch_norm._Tracked",
    "_InstanceNorm": "batch_norm",
    "_ConvNd": "convolution._Convolution",
    "_ConvTransposeNd": "convolution._Transposed",
    "_DropoutNd": "dropout.Dropout",
    "_Loss": "loss",
    "_WeightedLoss": "loss",
    "RNNBase": "rnn",
    "RNNCellBase": "rnn._Cell",
    "LazyModuleMixin": "lazy",
    "_MaxPoolNd": "pooling._MaxPool",
}
_FILES = (
    *(
        "activation",
        "adaptive",
        "batchnorm",
        "channelshuffle",
        "container",
        "conv",
        "distance",
        "dropout",
        "flatten",
        "fold",
    ),
    *("instancenorm", "lazy", "linear", "loss", "module", "normalization", "padding", "pixelshuffle", "pooling", "rnn"),
    *("sparse", "transformer", "upsampling"),
)


def _found(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of one of these modules."""

    def __getattr__(name: str) -> Any:
        nn = import_module("flambeau.nn")
        if name in _BASES:
            home, _, called = _BASES[name].partition(".")
            return getattr(import_module(f"flambeau.nn.{home}"), called or name)
        if name.startswith("register_module_"):
            return getattr(import_module("flambeau.nn.hooks"), name)
        if not name.startswith("__") and isinstance(getattr(nn, name, None), type):
            return getattr(nn, name)
        raise _missing.error("flambeau.nn", name, sys.modules.get(module), module)

    return __getattr__


for _file in _FILES:
    _made = ModuleType(f"{__name__}.{_file}", f"The layers, under the name of PyTorch's file {_file}.py.")
    vars(_made)["__getattr__"] = _found(_made.__name__)
    sys.modules[_made.__name__] = globals()[_file] = _made

__getattr__ = _found(__name__)
