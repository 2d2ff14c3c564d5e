"""Memory formats of the kernels of convolutions, which say nothing here: a layer chooses the order it works in.

In: a module. Out: the same one. Next: `../convolution.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.memory_format import checked


def convert_conv2d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """The module as it is. Raises TypeError for what is no memory format."""
    checked("convert_conv2d_weight_memory_format", memory_format)
    return module


def convert_conv3d_weight_memory_format(module: Any, memory_format: Any) -> Any:
    """The module as it is. Raises TypeError for what is no memory format."""
    checked("convert_conv3d_weight_memory_format", memory_format)
    return module
