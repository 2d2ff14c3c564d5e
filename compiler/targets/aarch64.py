"""64-bit Arm with NEON, the floor of the architecture: 32 registers of 16 bytes, FMA always there.

Next: `x86_64.py`; `platforms.py`, which says what programs for it are linked against.
"""

from __future__ import annotations

from flambeau.compiler.targets.target import Target

NEON = Target("aarch64-neon", "aarch64-unknown-linux-gnu", "generic", "+neon", vector_bytes=16, registers=32)

TARGETS = {NEON.name: NEON}
