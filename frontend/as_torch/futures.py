"""`torch.futures`: values that will be there, of one process.

In: a value or an exception that somebody sets. Out: the value, and callbacks that are called with the future. Next: `stand_ins.py`.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import Any


class Future:
    """A value that is set once. `wait` gives it or raises what was set instead; callbacks get the future."""

    def __init__(self, *, devices: Any = None) -> None:
        self._inner: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def __class_getitem__(cls, item: Any) -> type[Future]:
        return cls

    def done(self) -> bool:
        return self._inner.done()

    def wait(self) -> Any:
        return self._inner.result()

    value = wait

    def set_result(self, result: Any) -> None:
        """Raises RuntimeError where there is a value already."""
        if self.done():
            raise RuntimeError("[Future.set_result] the future has its value already. Set it once.")
        self._inner.set_result(result)

    def set_exception(self, result: BaseException) -> None:
        """Let `wait` raise `result`. Raises RuntimeError where there is a value already."""
        if self.done():
            raise RuntimeError("[Future.set_exception] the future has its value already. Set it once.")
        self._inner.set_exception(result)

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        self._inner.add_done_callback(lambda _: callback(self))

    def then(self, callback: Callable[[Future], Any]) -> Future:
        """A future of what `callback` gives for this one."""
        after = Future()

        def call(future: Future) -> None:
            try:
                after.set_result(callback(future))
            except BaseException as error:  # whoever waits gets it
                after.set_exception(error)

        self.add_done_callback(call)
        return after


def collect_all(futures: list[Future]) -> Future:
    """A future of the list, which has its value once all of them have."""
    all_of_them, left = Future(), len(futures)

    def one(_: Future) -> None:
        nonlocal left
        left -= 1
        if not left:
            all_of_them.set_result(futures)

    for future in futures:
        future.add_done_callback(one)
    if not futures:
        all_of_them.set_result(futures)
    return all_of_them


def wait_all(futures: Iterable[Future]) -> list[Any]:
    """The values of all of them, in their order."""
    return [future.wait() for future in futures]


def names() -> dict[str, Any]:
    """What stands in the module."""
    return {"Future": Future, "collect_all": collect_all, "wait_all": wait_all}
