"""The kinds of random programs that the fuzzer draws from, by name.

`kinds` gives those asked for, `surroundings` what none may notice. Next: `fuzz_programs.py`, `fuzz_calls.py`,
`fuzz_samples.py`, `fuzz_functions.py`, `fuzz_sweeps.py` and `fuzz_upsets.py`, which have them, and `fuzz.py`, which runs them.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence

import fuzz_calls
import fuzz_functions
import fuzz_mutations
import fuzz_programs
import fuzz_samples
import fuzz_sweeps
import fuzz_upsets
from flambeau.runtime import _binding as runtime
from fuzz_programs import Kind

BESIDE_PYTORCH = fuzz_programs.BESIDE_PYTORCH | fuzz_samples.BESIDE_PYTORCH
EVERY: dict[str, Kind] = (
    fuzz_programs.KINDS
    | fuzz_calls.KINDS
    | fuzz_functions.KINDS
    | fuzz_mutations.KINDS
    | fuzz_sweeps.KINDS
    | fuzz_upsets.KINDS
    | BESIDE_PYTORCH
)


def kinds(names: Sequence[str]) -> dict[str, Kind]:
    """Those of the names. Without names all, or, where PyTorch is not installed, those that need none."""
    if unknown := set(names) - set(EVERY):
        raise SystemExit(f"there is no kind {', '.join(unknown)}. Choose from {', '.join(EVERY)}.")
    is_there = importlib.util.find_spec("torch") is not None
    return {
        name: kind
        for name, kind in EVERY.items()
        if (name in names or not names) and (is_there or name not in BESIDE_PYTORCH)
    }


def surroundings(seed: int) -> None:
    """What a program must not notice: threads, and where its buffers lie."""
    rng = random.Random(seed)
    runtime.set_num_threads(rng.choice((1, 1, 2, 3)))
    runtime.set_memory_guard(rng.choice(("off", "off", "end", "start")))
