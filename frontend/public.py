"""The names of the package `flambeau` itself: what the modules of `functions` declare, constants, dtypes and types.

In: the declarations. Out: `NAMES`, what `from flambeau import *` gives and `flambeau.<name>` finds. A module that is put into the
folder `functions` is loaded here, and what it declares is public. Next: `__init__.py`.
"""

from __future__ import annotations

import math
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from flambeau import declarations, functions, out, tensor_types, type_info
from flambeau.device import device
from flambeau.dialects import dtypes
from flambeau.generator import Generator, default_generator
from flambeau.memory_format import FORMATS, memory_format
from flambeau.runtime import get_num_threads, memory_stats, reset_peak, set_memory_limit, set_num_threads, trim
from flambeau.runtime.recorder import Size, Tensor, flush, set_limits

for _module in iter_modules(functions.__path__, "flambeau.functions."):
    import_module(_module.name)

for _name in ("flambeau.methods", "flambeau.autograd", "flambeau.explain", "flambeau.amp.autocast_mode"):
    import_module(_name)

for _function in (
    *(get_num_threads, set_num_threads, memory_stats, reset_peak, set_memory_limit, trim),
    *(flush, set_limits),
):
    declarations.declare(
        _function,
        _function.__name__,
        free=declarations.TOP,
        samples=declarations.Unsampled("of threads and memory, not of tensors"),
    )

#: What is no function: types, dtypes and numbers, with PyTorch's short names of dtypes.
_VALUES: dict[str, Any] = {
    "Tensor": Tensor,
    "Size": Size,
    "Generator": Generator,
    "default_generator": default_generator,
    "device": device,
    "autocast": import_module("flambeau.amp.autocast_mode").autocast,
    "dtype": dtypes.DType,
    **tensor_types.TENSOR_TYPES,
    "finfo": type_info.finfo,
    "iinfo": type_info.iinfo,
    "memory_format": memory_format,
    "strided": out.strided,
    **out.others,
    **{f.name: f for f in FORMATS},
    **{name: getattr(math, name) for name in ("inf", "nan", "pi", "e")},
    **{name: d for d in dtypes.ALL for name in (d.name, *d.aliases)},
}

NAMES: dict[str, Any] = {**declarations.names(declarations.TOP), **_VALUES}
