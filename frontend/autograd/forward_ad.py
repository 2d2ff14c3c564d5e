"""`autograd.forward_ad`: dual numbers, a tensor and its tangent at once.

In: tensors and tangents, inside `dual_level()`. Out: dual tensors, which any function takes, and what comes out of it apart again.
A dual is a tensor of its own with history; `unpack_dual` sends the tangents of its level along that (`dialects/forward.py`), so
functions need to know nothing of duals. Next: `functional.py`.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from flambeau import along_history, inline
from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.autograd.functional import _owned
from flambeau.autograd.grad_mode import is_grad_enabled
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


class UnpackedDualTensor(NamedTuple):
    """A tensor and its tangent, which is None where there is none."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """The duals made at a level: what their histories begin with, and the tangents."""

    def __init__(self) -> None:
        self.starts: list[Tensor] = []
        self.tangents: list[Tensor] = []
        self.keeps = False  # whether what was given has a history of its own


class _EnteredLevel(threading.local):
    level: _Level | None = None


_here = _EnteredLevel()


def enter_dual_level() -> int:
    """Begin a level; returns its number, 0. Raises RuntimeError within another one."""
    if _here.level is not None:
        raise RuntimeError("[forward_ad] there is a level already, and they do not nest. Use func.jvp for more.")
    _here.level = _Level()
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: its duals are ordinary tensors from now on. Raises RuntimeError where there is none."""
    _current("exit_dual_level", level)
    _here.level = None


def _current(op: str, level: int | None) -> _Level:
    if _here.level is None:
        raise RuntimeError(f"[{op}] there is no level. Use it inside `with forward_ad.dual_level():`.")
    if level not in (None, 0):
        raise RuntimeError(f"[{op}] there is no level {level}. Leave `level` out.")
    return _here.level


class dual_level(recorder.Context):
    """`with dual_level():` duals can be made inside."""

    def enter(self) -> int:
        return enter_dual_level()

    def leave(self) -> None:
        _here.level = None


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A dual: the tensor, with a tangent of its shape and dtype. It requires grad, which is how its tangent is found again.

    Raises RuntimeError outside of a level, where gradients are disabled, and for another shape; ValueError for tensors that are not
    floating.
    """
    here = _current("make_dual", level)
    if not tensor.dtype.is_inexact:
        raise ValueError(f"[make_dual] the tensor is {tensor.dtype.name}. Pass floats.")
    if tangent.shape != tensor.shape or tangent.dtype is not tensor.dtype:
        raise RuntimeError(
            f"[make_dual] the tangent is {tangent.dtype.name} of shape {tuple(tangent.shape)}, the tensor {tensor.dtype.name} of "
            f"shape {tuple(tensor.shape)}. Make them equal."
        )
    if not is_grad_enabled():
        raise RuntimeError("[make_dual] gradients are disabled here, and a dual needs its history. Enable them.")
    own = _owned(tensor)
    here.starts.append(own)
    here.tangents.append(tangent)
    here.keeps = here.keeps or tensor.requires_grad or tangent.requires_grad
    return inline.same(own)


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(tensor, its tangent), None for what does not depend on a dual of this level, and outside of any."""
    here = _here.level
    if here is None or not here.starts or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    (found,) = along_history.tangents("unpack_dual", [tensor], here.starts, here.tangents, here.keeps)
    return UnpackedDualTensor(tensor if here.keeps else tensor.detach(), found)


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.autograd.forward_ad")
