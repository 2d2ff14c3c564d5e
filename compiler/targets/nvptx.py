"""NVIDIA GPUs as LLVM's NVPTX backend knows them: one target per architecture, sm_75 to sm_120.

Out: `TARGETS` by name. The code that comes out is PTX text, which the driver compiles for the device it finds; no
toolkit takes part. Next: `codegen/gpu/loops.py`, the code generator.
"""

from __future__ import annotations

from flambeau.compiler.targets.target import Target

#: The PTX version to write per architecture: the first that knows it, or one that drivers of its time read. LLVM ends
#: the process when it is too low.
_PTX = {
    "sm_75": 63,
    "sm_80": 70,
    "sm_86": 71,
    "sm_87": 74,
    "sm_89": 78,
    "sm_90": 78,
    "sm_100": 86,
    "sm_103": 88,
    "sm_120": 87,
}

TARGETS = {
    name: Target(
        name, "nvptx64-nvidia-cuda", name, f"+ptx{version}", vector_bytes=16, registers=255, family="gpu", l1=64 << 10
    )
    for name, version in _PTX.items()
}
