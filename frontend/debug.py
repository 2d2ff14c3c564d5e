"""Looking into programs while they run: calls of Python functions that keep their order and stop nothing from being compiled.

In: functions and tensors. Out: nothing; the function is called when the program has run. Every thread has a token, a tensor that
each call replaces: that one call reads what the one before gave is their order, wherever traces are cut. Next:
`dialects/tape/host.py`.
"""

from __future__ import annotations

import _thread
import atexit
import builtins
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from flambeau.border import public
from flambeau.dialects.dtypes import DType, int64
from flambeau.dialects.effects import Noted
from flambeau.dialects.record import find
from flambeau.runtime import Buffer, recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor


class _HostFunction(NamedTuple):
    """What a number stands for: a function, and the types of the tensors that it gets."""

    function: Callable[..., Any]
    types: tuple[tuple[tuple[int, ...], DType], ...]


class EffectOrder:
    """A thread's token, and its calls that have not been made."""

    def __init__(self) -> None:
        self.token: Tensor | None = None
        self.calls: dict[int, _HostFunction] = {}

    def put_back(self, before: Tensor) -> None:
        self.token = before


class _Threads(threading.local):
    def __init__(self) -> None:
        self.order = EffectOrder()


_threads = _Threads()
_numbers = count(1)
_all: dict[int, dict[int, _HostFunction]] = {}  # number -> the calls of the thread that recorded it
_call = Function(
    "callback",
    (
        ("token", "tensor", REQUIRED, False),
        ("number", "operand", REQUIRED, False),
        ("values", "tensors", REQUIRED, False),
    ),
    "pure",
    lambda token, number, values: find("host_call")(token, find("reshape")(number, shape=()), *values),
)


def order() -> EffectOrder:
    """This thread's."""
    return _threads.order


def token() -> Tensor:
    """This thread's token."""
    here = order()
    if here.token is None:
        zero = Buffer.alloc(8)
        np.frombuffer(memoryview(zero), np.int64)[:] = 0
        here.token = recorder.tensor_from_buffer(zero, (), int64)
    return here.token


def follow(new: Tensor) -> None:
    """What this thread calls from now on comes after the token `new`; if that is lost with a trace that fails, after the one
    before. Tokens lie on the CPU: so calls with tensors of any device come one after the other."""
    new = new.cpu()
    here, before = order(), token()
    recorder.if_lost(new, partial(here.put_back, before))
    here.token = new


@contextmanager
def apart(start: Tensor) -> Iterator[list[Tensor]]:
    """Calls inside begin at the token `start`; where there are some, the list has the last one's token in the end. This thread's
    own is then what it was."""
    here = order()
    before, here.token = here.token, start
    last: list[Tensor] = []
    try:
        yield last
        if here.token is not start:
            last.append(here.token)
    finally:
        here.token = before


def callback(function: Callable[..., Any], *args: Tensor) -> None:
    """Call `function(*args)` when the program gets there, with the tensors' values, in the order of these calls.

    The program goes on meanwhile, and stays one: what was recorded runs later, and then the function is called, once for each time
    that it is passed, within `cond` and `while_loop` as often as that runs. What it returns is dropped. An exception in it is shown
    (`sys.unraisablehook`) and stops nothing. `effects_barrier()` waits until all calls have been made.

    Raises TypeError unless `function` is callable and `args` are tensors.
    """
    if not callable(function):
        raise TypeError(f"[callback] `function` is a {type(function).__name__}. Pass something to call.")
    _record("callback", function, args)


def _record(name: str, function: Callable[..., Any], args: Sequence[Any]) -> None:
    if wrong := [x for x in args if not isinstance(x, Tensor)]:
        raise TypeError(
            f"[{name}] {wrong[0]!r} is a {type(wrong[0]).__name__}. Pass tensors; bind other arguments before."
        )
    number = next(_numbers)
    if number == 1:
        atexit.register(recorder.flush_all)
    calls = order().calls
    calls[number] = _HostFunction(function, tuple((tuple(x.shape), x.dtype) for x in args))
    _all[number] = calls
    follow(_call(token(), number, [x.detach().cpu() for x in args]))


def print_(text: str, *args: Tensor) -> None:
    """Print `text.format(*args)` when the program gets there, as `callback` does: `print("loss {}", loss)`.

    Raises TypeError unless `text` is a string and `args` are tensors."""
    if not isinstance(text, str):
        raise TypeError(f"[print] the text is a {type(text).__name__}. Pass a string with {{}} for each tensor.")
    _record("print", lambda *xs: builtins.print(text.format(*xs)), args)


def effects_barrier() -> None:
    """Wait until the calls that this thread has recorded have been made."""
    last = order().token
    if last is not None:
        recorder.realize(last)


print = public(print_, "print")
callback, effects_barrier = public(callback, "callback"), public(effects_barrier, "effects_barrier")


def perform(noted: Sequence[Noted]) -> None:
    """Make the calls that a run has noted, in order. Those recorded before the last of them never come any more."""
    for number, operands in noted:
        known = _all.get(number, {}).get(number)
        if known is not None:
            _make(known, operands)
    if noted:
        last = noted[-1][0]
        calls = _all.get(last, {})
        for number in [n for n in calls if n <= last]:
            del calls[number], _all[number]


def _make(known: _HostFunction, operands: Sequence[bytes]) -> None:
    try:
        known.function(*(_tensor(data, *type_) for data, type_ in zip(operands, known.types, strict=True)))
    except KeyboardInterrupt:
        _thread.interrupt_main()  # once the values are where they belong
    except Exception:
        kind, value, traceback = sys.exc_info()
        assert kind is not None
        sys.unraisablehook(_Unraisable(kind, value, traceback, "Exception ignored in a callback", known.function))  # type: ignore[arg-type]


class _Unraisable(NamedTuple):
    exc_type: type[BaseException]
    exc_value: BaseException | None
    exc_traceback: Any
    err_msg: str
    object: Any


def _tensor(data: bytes, shape: tuple[int, ...], dtype: DType) -> Tensor:
    buffer = Buffer.alloc(len(data))
    if data:
        np.frombuffer(memoryview(buffer), np.uint8)[:] = np.frombuffer(data, np.uint8)
    return recorder.tensor_from_buffer(buffer, shape, dtype)
