"""Skipped tests are accounted for: known reasons only, named in the closing lines, and run again when asked."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need

TESTS = """
import pytest

def test_torch():
    pytest.importorskip({module!r}, reason="could not import 'torch'")

def test_runs():
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest on a folder with this suite's conftest and one small file."""
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(text: str, *options: str) -> subprocess.CompletedProcess:
        (tmp_path / "test_some.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", *options, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    return run


MISSING, THERE = TESTS.format(module="no_such_module"), TESTS.format(module="json")


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_known_reason_is_named_in_the_closing_lines(run, workers):
    done = run(MISSING, *workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped: 1 for want of torch" in done.stdout.splitlines()[-2]
    done = run(MISSING, "--require", "ptxas,torch", *workers)
    assert done.returncode == 1 and "NOT TO BE SKIPPED test_some.py::test_torch" in done.stdout


def test_an_unknown_reason_is_a_failure(run):
    done = run(MISSING.replace("could not import 'torch'", "no time"))
    assert done.returncode == 1 and "NOT TO BE SKIPPED test_some.py::test_torch: Skipped: no time" in done.stdout


def test_what_was_skipped_runs_by_itself(run):
    assert run(MISSING).returncode == 0
    done = run(THERE, "--skipped-before", "--require", "torch")
    assert done.returncode == 0 and "1 passed, 1 deselected" in done.stdout, done.stdout
    assert run(THERE, "--skipped-before").returncode == 5  # nothing was skipped any more


def test_a_run_of_other_tests_forgets_none(run):
    assert run(MISSING).returncode == 0
    assert run(MISSING, "-k", "test_runs").returncode == 0
    done = run(THERE, "--skipped-before", "--require", "torch")
    assert done.returncode == 0 and "1 passed, 1 deselected" in done.stdout, done.stdout


def test_without_pytests_cache_nothing_is_remembered(run):
    done = run(MISSING, "-p", "no:cacheprovider")
    assert done.returncode == 0 and "skipped: 1 for want of torch" in done.stdout, done.stdout + done.stderr


def test_only_needs_that_are_known_can_be_required(run):
    done = run(THERE, "--require", "pytorch")
    assert done.returncode == 4 and "--require knows torch" in done.stderr


def test_every_module_that_a_test_may_do_without_is_a_known_need():
    """Seen here and not only where the module is missing: of a package's own module as of the package."""
    calls = [
        (file.name, node)
        for file in sorted(Path(__file__).parent.glob("**/*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("importorskip")
    ]
    modules = [
        (f"{name}:{node.lineno}", node.args[0].value)
        for name, node in calls
        if isinstance(node.args[0], ast.Constant) and "reason" not in {key.arg for key in node.keywords}
    ]
    assert len(modules) > 20
    for place, module in modules:
        assert need(f"could not import {module!r}: No module named {module!r}"), f"{place} {module}"
