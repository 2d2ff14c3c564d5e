"""Whether operations get gradient history: `no_grad`, `enable_grad`, `set_grad_enabled`, as blocks and as decorators.

In: the recorder's mode of the thread. Out: the mode, until a block ends. Next: `gradients.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial, wraps
from typing import Any, Self

from flambeau.declarations import Unsampled, declared
from flambeau.engine import GRAD_MODE
from flambeau.runtime import recorder


class set_grad_enabled(recorder.GradScope):
    """Turn gradient recording on or off: at once when called, until the end of the block when used as a context
    manager, or inside a function when used as a decorator."""

    def __new__(cls, mode: bool) -> Self:
        return super().__new__(cls, mode)  # in no local: that would live on in the traceback of an interrupt

    def __call__(self, fn: Callable) -> Callable:
        self.undo()
        return decorated("set_grad_enabled", fn, partial(set_grad_enabled, bool(self._bits)))


class _GradMode(recorder.ModeScope):
    """A grad mode that takes effect on entering."""

    enabled = False

    def __new__(cls, fn: Callable | None = None) -> Any:
        made = super().__new__(cls, GRAD_MODE, GRAD_MODE if cls.enabled else 0)
        return made if fn is None else made(fn)

    def __call__(self, fn: Callable) -> Callable:
        return decorated(type(self).__name__, fn, type(self))


class no_grad(_GradMode):
    """No gradient history inside: `with no_grad():`, `@no_grad()` or `@no_grad`."""


class enable_grad(_GradMode):
    """Gradient history inside, also within `no_grad`."""

    enabled = True


class inference_mode(_GradMode):
    """As `no_grad`."""


def decorated(name: str, fn: Callable, manager: Callable) -> Callable:
    """`fn` in the mode. A generator is in it while it runs, not while it waits."""
    from inspect import isgeneratorfunction

    if not callable(fn):
        raise TypeError(
            f"[{name}] what is decorated must be a function, got {type(fn).__name__}. Pass one, or nothing."
        )

    @wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with manager():
            return fn(*args, **kwargs)

    @wraps(fn)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with manager():
            inside = fn(*args, **kwargs)
        resume: Callable[[], Any] = partial(next, inside)
        while True:
            try:
                with manager():
                    value = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = partial(inside.send, (yield value))
            except GeneratorExit:
                with manager():
                    inside.close()
                raise
            except BaseException as error:
                resume = partial(inside.throw, error)

    return generator if isgeneratorfunction(fn) else inner


@declared(free="flambeau", samples=Unsampled("tells the mode of the thread"))
def is_grad_enabled() -> bool:
    """Whether new operations get gradient history."""
    return bool(recorder.get_mode() & GRAD_MODE)
