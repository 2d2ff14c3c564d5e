"""Flambeau: an array framework with PyTorch's API in which every operation is compiled."""

from flambeau import hooks  # noqa: F401  (first: tensors work from here on)
from flambeau import operators  # noqa: F401  isort: skip
from flambeau import public as _public
from flambeau.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__version__ = "0.1.0"

globals().update(_public.NAMES)
__all__ = [*_public.NAMES, "enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]
