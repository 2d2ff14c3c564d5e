"""Stopping a training loop by Ctrl-C at the end of a step, with what was learned saved.

In: signals. Out: a flag that the loop looks at, and a call that saves. Next: `flambeau.save`; `docs/training.md`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from flambeau import border as _border
from flambeau import missing as _missing

T = TypeVar("T")


class StopOnInterrupt:
    """While this is entered, the first Ctrl-C is only noted: `stop.requested` is True from then on, and `stop.over(items)` ends
    after the step at hand. A second one raises KeyboardInterrupt at once, as without this.

    When a block ends after a request, or by KeyboardInterrupt, `save()` is called, during which further ones wait. After a
    request the block ends like any other: the program goes on after it, with `stop.requested` to tell. After KeyboardInterrupt
    that goes on its way. Other exceptions save nothing. `signals` may name more, such as SIGTERM, by which clusters take
    machines back.

    Raises ValueError outside of the main thread, where Python takes no signals. Example:

        with StopOnInterrupt(lambda: fb.save(model.state_dict(), "model.safetensors")) as stop:
            for batch in stop.over(loader):
                step(batch)
    """

    def __init__(self, save: Callable[[], Any] | None = None, signals: Sequence[int] = (signal.SIGINT,)) -> None:
        self.save, self.signals, self.requested = save, tuple(signals), False
        self._before: dict[int, Any] = {}
        self._saving, self._late = False, False

    def __enter__(self) -> StopOnInterrupt:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("[StopOnInterrupt] signals reach the main thread only. Enter this there.")
        for number in self.signals:
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self._saving:
            self._late = True
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        name = signal.Signals(number).name
        print(f"[stopping] {name}: this step ends first. Once more stops at once.", file=sys.stderr, flush=True)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until a stop is requested. What they came from (a loader's workers) is let go of at once then."""
        source = iter(items)
        try:
            while not self.requested:
                try:
                    item = next(source)
                except StopIteration:
                    return
                yield item
        finally:
            if (close := getattr(source, "close", None)) is not None:
                close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._saving = True
        try:
            is_interrupt = kind is not None and issubclass(kind, KeyboardInterrupt)
            if self.save is not None and (is_interrupt or (kind is None and self.requested)):
                self.save()
        finally:
            for number, before in self._before.items():
                signal.signal(number, before)
            self._saving = False
        if self._late and kind is None:
            raise KeyboardInterrupt


__all__ = ["StopOnInterrupt"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.utils.stopping")
