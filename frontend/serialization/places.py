"""Where the storages of a file go: `map_location`, as PyTorch takes it.

In: what the user gave, and the place that a file names. Out: a place that is there. Next: `flambeau/device.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flambeau.device import device, place
from flambeau.serialization.storages import Storage


class Located:
    """A storage as a function that is given for `map_location` sees it: it says where it lies, and can be moved."""

    def __init__(self, storage: Storage, there: str) -> None:
        self._storage, self._place = storage, there

    @property
    def device(self) -> device:
        return device(self._place)

    def nbytes(self) -> int:
        return self._storage.nbytes

    def cpu(self) -> Located:
        return Located(self._storage, "cpu")

    def cuda(self, index: Any = None) -> Located:
        return Located(self._storage, place(device("cuda") if index is None else index))

    def to(self, device: Any) -> Located:
        return Located(self._storage, place(device))


def mover(map_location: Any) -> Callable[[Storage, str], None]:
    """What moves a storage that lay on a device, such as "cuda:0", when it was saved. Raises RuntimeError for devices that are
    not there, TypeError for what does not say a place."""
    if map_location is None:
        return lambda storage, there: _move(storage, _restored(there))
    if isinstance(map_location, Mapping):
        table = {str(k): v for k, v in map_location.items()}
        return lambda storage, there: _move(storage, place(table[there]) if there in table else _restored(there))
    if callable(map_location) and not isinstance(map_location, device):
        return lambda storage, there: _asked(map_location, storage, there)
    wanted = place(map_location)
    return lambda storage, there: _move(storage, wanted)


def _move(storage: Storage, there: str) -> None:
    storage.there = there


def _restored(there: str) -> str:
    if there == "cpu":
        return "cpu"
    try:
        return place(there)
    except RuntimeError:
        raise RuntimeError(
            f"[load] the file has tensors of the device '{there[:40]}', which is not there. Use map_location='cpu'."
        ) from None


def _asked(function: Callable, storage: Storage, there: str) -> None:
    answer = function(Located(storage, "cpu"), there)
    if answer is None:
        _move(storage, _restored(there))
    elif isinstance(answer, Located):
        _move(storage, answer._place)
    else:
        raise TypeError(f"[load] map_location gave a {type(answer).__name__}. Return the storage, moved, or None.")
