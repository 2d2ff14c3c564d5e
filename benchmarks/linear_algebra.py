"""Batches of 1,000 matrices of 8 x 8: solve, cholesky and svd, Flambeau beside PyTorch and beside LAPACK's own time in a C loop.

    python benchmarks/linear_algebra.py [--batch N] [--size N] [name ...]

All are in one process, on one thread, and take turns; medians in milliseconds, and how many times as long as the C loop each takes.
The loop calls the same LAPACK, SciPy's, on copies of the matrices. Blocking compilation; float64.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flambeau as fb
import numpy as np
from scipy.linalg import cython_lapack
from turns import count, find_torch, flushed, medians

TURN, TURNS = 0.02, 15
CALLS: dict[str, tuple[str, Callable[[ModuleType, Any, Any], Any]]] = {
    "solve": ("dgesv", lambda m, a, b: m.linalg.solve(a, b)),
    "cholesky": ("dpotrf", lambda m, a, b: m.linalg.cholesky(a)),
    "svd": ("dgesdd", lambda m, a, b: m.linalg.svd(a, full_matrices=False)),
}


def address(routine: str) -> int:
    capsule = cython_lapack.__pyx_capi__[routine]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, pointer.restype = ctypes.c_char_p, ctypes.c_void_p
    name.argtypes, pointer.argtypes = [ctypes.py_object], [ctypes.py_object, ctypes.c_char_p]
    return pointer(capsule, name(capsule))


def built(folder: str) -> ctypes.CDLL:
    library = str(Path(folder) / "loops.so")
    source = str(Path(__file__).with_suffix(".c"))
    subprocess.run(["cc", "-std=gnu11", "-O3", "-shared", "-fPIC", source, "-o", library], check=True)
    return ctypes.CDLL(library)


def loop(library: ctypes.CDLL, name: str, a: np.ndarray, b: np.ndarray) -> Callable[[], None]:
    """One round of the C loop. The matrices are symmetric, so that it does not matter in which order LAPACK finds them."""
    batch, n = a.shape[:2]
    found, scratch = np.zeros(batch * n * (2 * n + 1)), np.zeros(16 * n * n + 200 * n)
    arrays = [x.ctypes.data_as(ctypes.c_void_p) for x in (a, b, found, scratch)]
    call, routine = getattr(library, name), ctypes.c_void_p(address(CALLS[name][0]))

    def run() -> None:
        if call(routine, *arrays, batch, n):
            raise RuntimeError("LAPACK failed.")

    return run


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--batch", type=int, default=1000)
    arguments.add_argument("--size", type=int, default=8)
    arguments.add_argument("names", nargs="*")
    given = arguments.parse_args()
    fb.set_num_threads(1)
    torch = find_torch()
    if torch:
        torch.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=(given.batch, given.size, given.size))
    a, b = x @ x.swapaxes(-1, -2) + np.eye(given.size), x[..., :1].copy()
    modules = {"Flambeau": fb, **({"PyTorch": torch} if torch else {})}
    with tempfile.TemporaryDirectory() as folder, fb.compiler_options(mode="blocking"):
        library = built(folder)
        for name in given.names or CALLS:
            steps = {k: flushed(m, _step(m, name, a, b)) for k, m in modules.items()} | {
                "LAPACK": loop(library, name, a, b)
            }
            found = medians(steps, {k: count(step, TURN, tries=2) for k, step in steps.items()}, TURNS)
            shown = [f"{k} {t / 1e3:8.3f} ms ({t / found['LAPACK']:.2f})" for k, t in found.items()]
            print(f"{name:10}{'  '.join(shown)}", flush=True)


def _step(m: ModuleType, name: str, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
    x, y = m.tensor(a), m.tensor(b)
    return lambda: CALLS[name][1](m, x, y)


if __name__ == "__main__":
    main()
