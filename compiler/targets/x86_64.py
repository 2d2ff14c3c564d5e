"""x86-64 microarchitecture levels: v3 (AVX2 and FMA) and v4 (AVX-512).

Next: `host.py`, which describes the machine this runs on.
"""

from __future__ import annotations

from flambeau.compiler.targets import Target

_LINUX = "x86_64-unknown-linux-gnu"

V3 = Target("x86-64-v3", _LINUX, "x86-64-v3", "", vector_bytes=32, registers=16)
# LLVM's own tuning of this level halves the vectors; ours are explicit and meant to stay whole.
V4 = Target("x86-64-v4", _LINUX, "x86-64-v4", "-prefer-256-bit", vector_bytes=64, registers=32)
