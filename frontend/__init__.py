"""Flambeau: an array framework with PyTorch's API in which every operation is compiled."""

import importlib
import sys

from flambeau import importing  # noqa: F401  (first: tensors work from here on)

from flambeau import border as _border  # isort: skip
from flambeau import einops_backend as _einops_backend
from flambeau import missing as _missing
from flambeau import public as _public
from flambeau.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from flambeau.engine import shadow_mode
from flambeau.runtime import OutOfMemory
from flambeau.runtime import environment as _environment

__version__ = "0.2.0"

_environment.check()

globals().update(_public.NAMES)
_border.publish_methods(_public.Tensor)
_missing.install(_public.Tensor, "Tensor")
_einops_backend.install()

#: Imported when first used: submodules, and names of submodules.
_SUBMODULES = (
    "accelerator",
    "amp",
    "array_api",
    "autograd",
    "backends",
    "checkpoints",
    "cpu",
    "cuda",
    "data",
    "debug",
    "distributions",
    "fft",
    "func",
    "hub",
    "jit",
    "linalg",
    "masked",
    "metrics",
    "multiprocessing",
    "nn",
    "onnx",
    "optim",
    "quantization",
    "random",
    "return_types",
    "serialization",
    "signal",
    "special",
    "transforms",
    "utils",
)
_LAZY = {
    "save": "flambeau.serialization",
    "load": "flambeau.serialization",
    "export": "flambeau.exporting",
    "summary": "flambeau.summaries",
    "verify": "flambeau.verifying",
    "find_nan": "flambeau.nans",
    "profile": "flambeau.profiling",
}

__all__ = [
    *_public.NAMES,
    *_SUBMODULES,
    *_LAZY,
    "OutOfMemory",
    "enable_grad",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
    "shadow_mode",
]


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return importlib.import_module(f"flambeau.{name}")
    if name in _LAZY:
        found = getattr(importlib.import_module(_LAZY[name]), name)
        return found if isinstance(found, type) else _border.public(found, name, "flambeau")
    raise _missing.error("flambeau", name, sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_border.publish(globals(), __all__)
