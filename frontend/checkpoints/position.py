"""Where a training is in its data, so that it goes on with the batch after the last one.

In: a `DataLoader`. Out: its batches, and a state dict that says which come next. Next: `manager.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from flambeau import generator as generators


class ResumableLoader:
    """The batches of a `DataLoader`, which go on where `state_dict()` was taken: `for batch in loader` is the rest of the epoch
    that it was taken in, in the order that it had.

    What came before in that epoch is loaded again and left out. The order is that of the loader's generator, or the default
    one, at the beginning of the epoch; afterwards random numbers go on as if nothing had been loaded.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.epoch = self.batch = 0
        self._begun: Any = None  # the generator's state at the beginning of the epoch

    @property
    def _generator(self) -> Any:
        return getattr(self.loader, "generator", None) or generators.default_generator

    def __iter__(self) -> Iterator[Any]:
        done, stream = self.batch, self._generator
        now = stream.get_state().tolist()
        if done and self._begun is not None:
            self._set(stream, self._begun)
        else:
            self._begun = now
        self.loader._epochs = count(self.epoch)
        batches = iter(self.loader)
        for _ in range(done):
            next(batches, None)
        if done:
            self._set(stream, now)
        for batch in batches:
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    @staticmethod
    def _set(stream: Any, state: list[int]) -> None:
        stream._start(*state)

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Which batch comes next."""
        return {"epoch": self.epoch, "batch": self.batch, "begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a state was taken."""
        self.epoch, self.batch, self._begun = state_dict["epoch"], state_dict["batch"], state_dict["begun"]
