"""Builds and runs the C tests plain, under ASan+UBSan and under TSan. The tests: `tests/c`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "c" / "run.sh"
SANITIZERS = {"plain": None, "asan": "address,undefined", "tsan": "thread"}


def can_link(sanitizers: str, folder: Path) -> bool:
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    command = ["cc", f"-fsanitize={sanitizers}", "-o", str(folder / "empty"), str(source)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.mark.accept("VER-04")
@pytest.mark.parametrize("build", SANITIZERS)
def test_c_tests_pass(build, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    if SANITIZERS[build] and not can_link(SANITIZERS[build], tmp_path):
        pytest.skip(f"the C compiler cannot link with -fsanitize={SANITIZERS[build]}")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # cmake, if installed as a package
    done = subprocess.run(
        [str(SCRIPT), build], capture_output=True, text=True, timeout=300, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("100% tests passed") == 1  # and newer ones say no more
