"""The state of random numbers: a seed and how many were drawn, both plain ints.

In: `manual_seed`. Out: (seed, offset) pairs that enter traces as scalars, so that drawing never compiles anew. The numbers
are those of Philox4x32-10 and the same on every machine. Next: `functions/random.py`.
"""

from __future__ import annotations

import os
from typing import Any

from flambeau.declarations import Unsampled, declared
from flambeau.device import device as device_type
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Stream


def _signed(seed: int) -> int:
    """The int64 with the bits of `seed`. Raises ValueError if there is none."""
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"[manual_seed] seed {seed} does not fit 64 bits. Use -2**63 to 2**64 - 1.")
    return seed - 2**64 if seed >= 2**63 else seed


class Generator(Stream):
    """A stream of random numbers. `Generator().manual_seed(0)` starts it at a known place."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = device_type(device)
        self._start(67280421310721, 0)

    def __reduce__(self) -> Any:
        return _generator, (type(self), self._seed, self._offset)

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from `seed`."""
        self._start(_signed(int(seed)), 0)
        return self

    def seed(self) -> int:
        """Start anew from a seed of the operating system; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.initial_seed()

    def initial_seed(self) -> int:
        """The seed last set."""
        return self._seed % 2**64

    def get_state(self) -> Any:
        """The state as an int64 tensor, for `set_state`."""
        return tensor([self._seed, self._offset])

    def set_state(self, state: Any) -> None:
        """Continue from what `get_state` returned."""
        seed, offset = state.tolist()
        self._start(seed, offset)


def _generator(cls: type[Generator], seed: int, offset: int) -> Generator:
    """A copy, or what comes out of a pickle."""
    made = cls()
    made._start(seed, offset)
    return made


default_generator = Generator()


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def manual_seed(seed: int) -> Generator:
    """Start the default generator anew from `seed`; returns it."""
    return default_generator.manual_seed(seed)


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def seed() -> int:
    """Start the default generator anew from a seed of the operating system; returns it."""
    return default_generator.seed()


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def get_rng_state() -> Any:
    """The state of the default generator."""
    return default_generator.get_state()


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def set_rng_state(new_state: Any) -> None:
    """Continue the default generator from `new_state`."""
    default_generator.set_state(new_state)
