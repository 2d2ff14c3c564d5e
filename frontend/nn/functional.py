"""`flambeau.nn.functional`: activations, losses, normalization and layers as functions."""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.functions.activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from flambeau.functions.assemble import pad
from flambeau.functions.create import one_hot
from flambeau.functions.linear import linear
from flambeau.functions.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from flambeau.functions.normalize import layer_norm, normalize
from flambeau.functions.random import dropout
from flambeau.nn.embedding import embedding

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.functional")
