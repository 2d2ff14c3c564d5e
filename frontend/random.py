"""`random`: the default generator's seed and state by name, as `flambeau` itself has them, and `fork_rng`.

In: nothing. Out: numbers and states. Next: `generator.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flambeau import border as _border
from flambeau.generator import default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state


@contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str = "cuda",
) -> Iterator[None]:
    """A block after which the default generator goes on as if the block had drawn nothing, nor seeded it; if not `enabled`, as if
    this were not there. There is one generator for all devices, so `devices` changes nothing."""
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)


__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]

_border.publish(globals(), __all__)
