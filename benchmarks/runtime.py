"""Latency of the runtime's primitives in nanoseconds: allocation, plan steps, parallel loops.

In: nothing. Out: one line per figure, medians. Builds `runtime.c` with `cc` against the installed runtime.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from flambeau import runtime


def measure() -> dict[str, float]:
    """Figures by name, in nanoseconds."""
    lib = runtime.lib_dir()
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "runtime")
        source = str(Path(__file__).with_suffix(".c"))
        flags = ["-std=gnu11", "-O2", "-I", runtime.include_dir(), "-L", lib, f"-Wl,-rpath,{lib}"]
        subprocess.run(["cc", *flags, source, "-o", program, "-lflambeau_rt", "-lpthread"], check=True)
        lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines)}


if __name__ == "__main__":
    for name, nanoseconds in measure().items():
        print(f"{name:42s}{nanoseconds:10.1f} ns")
