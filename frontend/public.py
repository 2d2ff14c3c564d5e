"""The names of the package `flambeau` itself, gathered from the modules that define them.

In: the functions. Out: `NAMES`, what `from flambeau import *` gives and `flambeau.<name>` finds. Next: `__init__.py`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from flambeau import generator, methods, promotion
from flambeau.device import device
from flambeau.dialects import dtypes
from flambeau.functions import (
    activation,
    arithmetic,
    assemble,
    compare,
    create,
    gathering,
    indexing,
    linear,
    math,
    random,
    reduce,
    shape,
)
from flambeau.printing import set_printoptions
from flambeau.runtime.recorder import Size, Tensor

_MODULES: dict[ModuleType, str] = {
    arithmetic: "add sub rsub mul div floor_divide remainder fmod neg positive abs sign square reciprocal pow maximum "
    "minimum clamp clamp_min clamp_max where masked_fill lerp addcmul addcdiv",
    compare: "eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift "
    "logical_and logical_or logical_xor logical_not isnan isinf isfinite isclose",
    math: "exp expm1 log log1p log2 log10 exp2 sqrt rsqrt sin cos tan erf floor ceil trunc frac round heaviside",
    activation: "relu sigmoid tanh softmax log_softmax",
    reduce: "sum mean prod amax amin max min argmax argmin any all count_nonzero var std logsumexp norm",
    shape: "reshape flatten unflatten squeeze unsqueeze permute transpose t movedim broadcast_to",
    assemble: "cat stack flip roll tile tril triu",
    linear: "matmul mm bmm mv dot outer addmm",
    gathering: "index_select gather scatter_add index_add",
    indexing: "select narrow split chunk unbind",
    create: "tensor as_tensor asarray from_numpy from_dlpack frombuffer from_buffer zeros ones full empty zeros_like "
    "ones_like full_like empty_like arange linspace eye clone",
    random: "rand randn rand_like randn_like randint randint_like randperm bernoulli dropout",
    methods: "allclose equal numel",
    generator: "Generator manual_seed seed initial_seed get_rng_state set_rng_state default_generator",
    promotion: "get_default_dtype set_default_dtype result_type promote_types can_cast",
}

_ALIASES: dict[str, Any] = {
    "Tensor": Tensor,
    "Size": Size,
    "device": device,
    "dtype": dtypes.DType,
    "set_printoptions": set_printoptions,
    "concat": assemble.cat,
    "concatenate": assemble.cat,
    "clip": arithmetic.clamp,
    "absolute": arithmetic.abs,
    "negative": arithmetic.neg,
    "multiply": arithmetic.mul,
    "subtract": arithmetic.sub,
    "divide": arithmetic.div,
    "true_divide": arithmetic.div,
    "swapaxes": shape.transpose,
    "float": dtypes.float32,
    "double": dtypes.float64,
    "half": dtypes.float16,
    "long": dtypes.int64,
    "int": dtypes.int32,
    "short": dtypes.int16,
    "bool": dtypes.bool_,
    "inf": float("inf"),
    "nan": float("nan"),
    "pi": 3.141592653589793,
    "e": 2.718281828459045,
    **{d.name: d for d in dtypes.ALL},
}

NAMES: dict[str, Any] = {
    **{name: getattr(module, name) for module, names in _MODULES.items() for name in names.split()},
    **_ALIASES,
}
