"""Builds and runs the C tests plain, under ASan+UBSan and under TSan, as CI does. The tests: `tests/c`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "c" / "run.sh"


@pytest.mark.accept("VER-04")
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("cc")), reason="needs cmake and a C compiler")
def test_c_tests_pass_under_sanitizers():
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("100% tests passed") == 3  # and newer ones say no more
