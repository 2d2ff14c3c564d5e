"""Modules whose parameters have no values yet.

In: a class of modules and its arguments. Out: a module. Next: `../init.py`.
"""

from __future__ import annotations

import inspect
from typing import Any

from flambeau.generator import default_generator


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`module_cls(*args, **kwargs)`, whose parameters and buffers are unset: their initial values are never computed, and no random
    numbers are drawn. Raises RuntimeError for what is no class of modules, or takes no `device`."""
    from flambeau.nn.module import Module  # that module imports this one

    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise RuntimeError(f"[skip_init] {module_cls!r} is no class of modules. Pass one, such as nn.Linear.")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError(f"[skip_init] {module_cls.__name__} takes no device. Make it by calling it.")
    before = default_generator.get_state()
    try:
        made: Any = module_cls(*args, **kwargs)
    finally:
        default_generator.set_state(before)
    return made.to_empty(device=kwargs.get("device"))
