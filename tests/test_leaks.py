"""What a process remembers is bounded: shapes and models that come once leave next to nothing."""

import os
import subprocess
import sys
from pathlib import Path

import leaking
import pytest
from support import rounds


def left_by(what, count, mode):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no fork on this system")
    script = Path(__file__).parent / "leaking.py"
    env = {**os.environ, "FLAMBEAU_COMPILE": mode}
    done = subprocess.run(
        [sys.executable, str(script), what, str(count)],
        env=env,
        capture_output=True,
        text=True,
        timeout=3600,
        check=True,
    )
    return map(int, done.stdout.split())


@pytest.mark.accept("VER-06")
def test_shapes_that_come_once_are_forgotten():
    count = rounds(2000, 10_000, 100_000)
    added, files, states, programs, *interned = left_by("shapes", count, "blocking")
    assert added <= 8 << 20, f"{added / (count // 2):.0f} bytes a shape"
    assert files <= 2 and states <= 500 and programs <= 150
    assert max(interned) <= 4 * leaking.TYPES


@pytest.mark.accept("VER-06")
def test_models_that_come_once_are_forgotten():
    count = rounds(40, 200, 10_000)
    added, files, states, programs, *_ = left_by("models", count, "background")
    assert added <= 40 << 20, f"{added >> 20} MB"
    assert files <= 6 and programs <= leaking.PROGRAMS + 1 and states <= 100 * leaking.PROGRAMS
