"""Static quantization: weights and maps of int8, with scales that are chosen once, from examples of what a layer is given.

In: a model in eval mode. `prepare` gives a copy that notes the range of every input, after batch normalizations went into the
layers before them; examples go through it; `convert` gives the model whose products are of integers. Next: `layers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

from flambeau.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from flambeau.nn.container import Sequential
from flambeau.nn.linear import Identity, Linear
from flambeau.nn.module import Module
from flambeau.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from flambeau.quantization.layers import QuantizedConv, QuantizedLinear, is_convolution
from flambeau.quantization.observer import Observed
from flambeau.quantization.weight_only import is_linear
from flambeau.quantization.weights import Filter, replace_layers

_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)


def _is_quantizable(module: Module, path: str) -> bool:
    return is_linear(module, path) or is_convolution(module)


def prepare(model: Module, filter_fn: Filter | None = None, inplace: bool = False) -> Module:
    """A copy of a model (or, `inplace`, the model) whose `nn.Linear` and convolutions note the range of what they are given;
    those for which `filter_fn(module, path)` holds, by default all.

    Batch normalizations that follow a layer in a `Sequential` go into it; see `fuse_modules` for others. Convolutions with another
    padding mode than "zeros" stay as they are. Raises ValueError for models in training mode, for those that are one layer
    themselves, and where there is no layer.
    """
    if model.training:
        raise ValueError(
            "[prepare] the model is in training mode, and what is quantized is not trained. Call eval() first."
        )
    if _is_quantizable(model, ""):
        raise ValueError(
            f"[prepare] the model itself is a {type(model).__name__}, which cannot be replaced. Put it into a Sequential."
        )
    model = model if inplace else deepcopy(model)
    for parent in [m for m in model.modules() if isinstance(m, Sequential)]:
        for pair in _normalized(parent):
            _fuse(parent, pair)
    wanted = _is_quantizable if filter_fn is None else lambda m, path: _is_quantizable(m, path) and filter_fn(m, path)
    if not replace_layers(model, wanted, Observed):
        raise ValueError("[prepare] the model has no layer that can be quantized. Pass one with Linear or Conv layers.")
    return model.eval()


def convert(model: Module, calibrated: bool = True, inplace: bool = False) -> Module:
    """A copy of a prepared model (or, `inplace`, the model) that computes with int8, by the ranges that its layers noted.

    Inputs of a layer that were never below 0 become uint8, others int8; their zero point is 0. With `calibrated=False` scales are
    1, for the sake of `load_state_dict`. Raises ValueError for models that are not prepared, and layers that no example went
    through.
    """
    model = model if inplace else deepcopy(model)
    if calibrated:
        for path, module in model.named_modules():
            if isinstance(module, Observed) and not module.has_seen:
                raise ValueError(
                    f"[convert] no example went through '{path}'. Call the prepared model with some, or choose other layers "
                    "in prepare."
                )
    if not replace_layers(model, lambda m, path: isinstance(m, Observed), _converted):
        raise ValueError("[convert] the model has no layer that notes ranges. Call prepare first.")
    return model


def _converted(observed: Any) -> Module:
    scale, dtype = observed.chosen()
    made = QuantizedLinear if is_linear(observed.layer, "") else QuantizedConv
    return made.from_float(observed.layer, scale, dtype)


# ---- batch normalizations ---------------------------------------------------------------------------------------


def fuse_modules(model: Module, modules_to_fuse: Sequence[Any], inplace: bool = False) -> Module:
    """A copy of a model in eval mode (or, `inplace`, the model) in which batch normalizations went into the layers before them:
    `modules_to_fuse` is a list of paths, ["conv1", "bn1", "relu1"], or several such lists. An `Identity` takes their place; what
    follows them (ReLU) stays as it is: it is computed where the layer's result is. Raises ValueError for other lists,
    AssertionError in training mode.
    """
    model = model if inplace else deepcopy(model)
    several = [modules_to_fuse] if modules_to_fuse and isinstance(modules_to_fuse[0], str) else modules_to_fuse
    for paths in several:
        parents, names = zip(*(path.rpartition(".")[::2] for path in paths), strict=True)
        if len({*parents}) > 1 or len(paths) < 2:
            raise ValueError(f"[fuse_modules] {list(paths)} are not two or more modules of one parent. Name these.")
        parent = model.get_submodule(parents[0])
        first, second = (getattr(parent, name) for name in names[:2])
        if not _is_quantizable(first, "") or not isinstance(second, _NORMS):
            raise ValueError(
                f"[fuse_modules] {list(paths)} are {type(first).__name__} and {type(second).__name__}. Name a Linear or Conv "
                "layer, and the batch normalization behind it."
            )
        _fuse(parent, (names[0], names[1]))
    return model


def _normalized(parent: Sequential) -> Iterator[tuple[str, str]]:
    """Names of layers of a Sequential that a batch normalization with statistics follows."""
    children = list(parent.named_children())
    for (name, layer), (behind, norm) in pairwise(children):
        if _is_quantizable(layer, "") and isinstance(norm, _NORMS) and norm.running_mean is not None:
            yield name, behind


def _fuse(parent: Module, names: tuple[str, str]) -> None:
    layer, norm = (getattr(parent, name) for name in names)
    fused = (fuse_linear_bn_eval if isinstance(layer, Linear) else fuse_conv_bn_eval)(layer, norm)
    setattr(parent, names[0], fused)
    setattr(parent, names[1], Identity())
