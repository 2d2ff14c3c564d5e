"""Anomaly mode: a backward that looks for NaN in every gradient it computes, and says which op gave the first, and its line.

In: `detect_anomaly`. Out: `check`, which the engine that records gradients op by op is given while the mode is on. Next:
`inline.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import border as _border
from flambeau import unread
from flambeau.dialects.builder import Value
from flambeau.dialects.graph import Node
from flambeau.runtime import recorder


class _AnomalyMode(threading.local):
    on = False
    check_nan = True


_mode = _AnomalyMode()


def is_on() -> bool:
    """Whether this thread looks for NaN in gradients."""
    return _mode.on and _mode.check_nan and not unread.is_unread()


def check() -> Callable[[Node, Sequence[Value | None]], None] | None:
    """What is called with every op's gradients, if the mode is on."""
    return _check if is_on() else None


def _check(node: Node, parts: Sequence[Value | None]) -> None:
    for k, part in enumerate(parts):
        tensor: Any = None if part is None else part.id
        if isinstance(tensor, recorder.Tensor) and tensor.isnan().any().item():
            where = f", which was recorded at {node.loc}" if node.loc else ""
            raise RuntimeError(
                f"[backward] the gradient of {node.op.name} by its operand {k} has NaN{where}. Look at its operands there."
            )


class set_detect_anomaly(recorder.Context):
    """Look for NaN in gradients from now on, or not; until the end of the block when used as a context manager. With
    `check_nan=False` the mode is remembered and changes nothing: lines are known always."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (_mode.on, _mode.check_nan)
        _mode.on, _mode.check_nan = bool(mode), bool(check_nan)

    def enter(self) -> None:
        pass

    def leave(self) -> None:
        _mode.on, _mode.check_nan = self._before


class detect_anomaly(recorder.Context):
    """`with detect_anomaly():` a backward raises RuntimeError where an op's gradient has NaN, and names the op and its line. It
    looks at every gradient as it is computed, so this is slow."""

    def __init__(self, check_nan: bool = True) -> None:
        self._wanted = (True, bool(check_nan))
        self._before = (False, True)

    def enter(self) -> None:
        self._before = (_mode.on, _mode.check_nan)
        _mode.on, _mode.check_nan = self._wanted

    def leave(self) -> None:
        _mode.on, _mode.check_nan = self._before


_border.publish(globals(), ["detect_anomaly", "set_detect_anomaly"])
