"""Where PyTorch programs look for `torch.jit`: every operation is compiled as it is, so what is given comes back.

In: functions and modules. Out: the same. What a script could do beside running (be saved, loaded, inspected)
raises when it is asked for. Next: `exporting.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from flambeau import border as _border
from flambeau import missing as _missing


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """`obj`: everything is compiled already."""
    return obj


def trace(func: Any, example_inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`func`: everything is compiled already. Nothing is fixed to the example's branches."""
    return func


def trace_module(mod: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`mod`: everything is compiled already."""
    return mod


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """The function that is decorated, with or without arguments."""
    return drop if callable(drop) else lambda fn: fn


def unused(fn: Callable) -> Callable:
    """`fn`."""
    return fn


def export(fn: Callable) -> Callable:
    """`fn`."""
    return fn


def interface(obj: Any) -> Any:
    """`obj`."""
    return obj


def script_if_tracing(fn: Callable) -> Callable:
    """`fn`."""
    return fn


def annotate(the_type: Any, the_value: Any) -> Any:
    """`the_value`."""
    return the_value


def freeze(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """`mod`: constants are folded where they are known."""
    return mod


def optimize_for_inference(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """`mod`."""
    return mod


def is_scripting() -> bool:
    """False: functions run as Python."""
    return False


def is_tracing() -> bool:
    """False: functions run as Python."""
    return False


def _refused(name: str) -> NoReturn:
    raise NotImplementedError(
        f"[jit.{name}] there are no scripts in files. Use flambeau.export for programs, flambeau.save for state dicts."
    )


def save(m: Any, f: Any, *args: Any, **kwargs: Any) -> None:
    """Raises NotImplementedError: see `flambeau.export`."""
    _refused("save")


def load(f: Any, *args: Any, **kwargs: Any) -> Any:
    """Raises NotImplementedError: see `flambeau.export`."""
    _refused("load")


__all__ = [
    "Final", "annotate", "export", "freeze", "ignore", "interface", "is_scripting", "is_tracing", "load",
    "optimize_for_inference", "save", "script", "script_if_tracing", "trace", "trace_module", "unused",
]  # fmt: skip


_border.publish(globals(), [n for n in __all__ if n != "Final"])
__getattr__ = _missing.module_getattr("flambeau.jit")
