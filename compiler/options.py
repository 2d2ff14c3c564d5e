"""Every switch of the compiler, in one object that is part of the cache key.

In: environment variables, which only set defaults. Out: `Options`. Next: `driver.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def default_cache_dir() -> Path:
    """`FLAMBEAU_CACHE`, else the user's cache folder."""
    if path := os.environ.get("FLAMBEAU_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flambeau"


@dataclass(frozen=True)
class Options:
    """`mode`: "background" runs new programs op by op while workers compile the fused one, "blocking" compiles at first
    sight, "off" never fuses. `fuse` and `max_cluster_ops` shape the fused program; `dump` is a folder for every stage;
    `plugins` says whether passes of other packages take part;
    `strict_sizes` raises where a program cannot be compiled for all sizes, instead of compiling it for those at hand."""

    mode: str = "background"
    fuse: bool = True
    max_cluster_ops: int = 200
    target: str = "host"
    dump: str | None = None
    plugins: bool = True
    strict_sizes: bool = field(default_factory=lambda: os.environ.get("FLAMBEAU_STRICT_SIZES") == "1")

    @staticmethod
    def from_environment() -> Options:
        mode = os.environ.get("FLAMBEAU_COMPILE", "background")
        if mode not in ("background", "blocking", "off"):
            raise ValueError(f"[options] FLAMBEAU_COMPILE is '{mode}'. Set it to background, blocking or off.")
        return Options(mode=mode, dump=os.environ.get("FLAMBEAU_DUMP") or None)
