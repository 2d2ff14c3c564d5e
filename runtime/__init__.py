"""The C runtime: buffers, thread pool and plans, as Python sees them.

In: nothing of ours. Out: the names below, and the folders that exported programs compile and link against.
Importing starts no thread and touches no device. Next: `plan_spec.py`, `include/flambeau/runtime.h`.
"""

from __future__ import annotations

import os

from flambeau.runtime import _binding
from flambeau.runtime._binding import (
    Buffer,
    KernelFailed,
    OtherSizes,
    OutOfMemory,
    Plan,
    get_num_threads,
    memory_stats,
    reset_peak,
    set_memory_limit,
    set_num_threads,
    trim,
)
from flambeau.runtime.plan_spec import KERNEL_COPY, KERNEL_ZERO, ExprOp, OutMode, PlanSpec, RefKind, Relation

__all__ = [
    "KERNEL_COPY",
    "KERNEL_ZERO",
    "Buffer",
    "ExprOp",
    "KernelFailed",
    "OtherSizes",
    "OutMode",
    "OutOfMemory",
    "Plan",
    "PlanSpec",
    "RefKind",
    "Relation",
    "get_num_threads",
    "include_dir",
    "lib_dir",
    "memory_stats",
    "reset_peak",
    "set_memory_limit",
    "set_num_threads",
    "trim",
]


def include_dir() -> str:
    """Folder to pass to a C compiler with -I for `flambeau/runtime.h`."""
    return os.path.join(os.path.dirname(__file__), "include")


def lib_dir() -> str:
    """Folder of `libflambeau_rt`, shared and static."""
    return os.path.join(os.path.dirname(_binding.__file__), "lib")
