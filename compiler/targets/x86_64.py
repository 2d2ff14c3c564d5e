"""x86-64 microarchitecture levels: v3 (AVX2 and FMA) and v4 (AVX-512).

Next: `host.py`, which describes the machine this runs on.
"""

from __future__ import annotations

from flambeau.compiler.targets.target import Target

_LINUX = "x86_64-unknown-linux-gnu"

_V3 = ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

V3 = Target("x86-64-v3", _LINUX, "x86-64-v3", "", vector_bytes=32, registers=16, requires=_V3)
# LLVM's own tuning of this level halves the vectors; ours are explicit and meant to stay whole.
V4 = Target("x86-64-v4", _LINUX, "x86-64-v4", "-prefer-256-bit", vector_bytes=64, registers=32, requires=_V4)

TARGETS = {t.name: t for t in (V3, V4)}
