"""Types for users' checkers: the stubs are up to date, and basedpyright says of a program (`typed_program.py`) what it should."""

import json
import re
import subprocess
import sys
import warnings
from collections import defaultdict
from importlib.metadata import files
from pathlib import Path

import pytest
import support

PROGRAM = Path(__file__).with_name("typed_program.py")


def expected():
    """Line number -> what is to be said of it."""
    lines = PROGRAM.read_text().splitlines()
    return {k: m[1] for k, line in enumerate(lines) if (m := re.search(r"  # (\S.*)$", line))}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Line number -> kinds of errors and types that were revealed, by basedpyright, of the program outside of our folders."""
    program = tmp_path_factory.mktemp("typed") / "program.py"
    program.write_text(PROGRAM.read_text())
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, program.name]
    ran = subprocess.run(command, cwd=program.parent, capture_output=True, text=True)
    assert ran.stdout, ran.stderr
    found = defaultdict(set)
    for d in json.loads(ran.stdout)["generalDiagnostics"]:
        if d["severity"] == "error":
            found[d["range"]["start"]["line"]].add(d["rule"])
        elif revealed := re.match(r'Type of ".*" is "(.*)"$', d["message"], re.S):
            found[d["range"]["start"]["line"]].add(revealed[1])
    return found


def test_types_are_revealed_and_errors_are_found(said):
    wanted = expected()
    assert len(wanted) > 60 and sum(kind.startswith("report") for kind in wanted.values()) > 10
    wrong = {k + 1: (kind, said[k]) for k, kind in wanted.items() if kind not in said[k]}
    assert not wrong


def test_nothing_is_said_of_lines_that_are_right(said):
    right = {k: kinds for k, kinds in said.items() if k not in expected()}
    assert not {k + 1: kinds for k, kinds in right.items() if kinds}


def test_the_stubs_are_up_to_date():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older names are called, too
        stubs = support.tool("stubs").stubs()
    stale = [path.name for path, text in stubs.items() if not path.exists() or path.read_text() != text]
    assert not stale, f"run python tools/stubs.py: {stale}"
    methods = next(text for path, text in stubs.items() if path.name == "tensor_methods.pyi")
    assert methods.count("    def ") > 600


def test_the_wheel_has_them():
    names = {str(file) for file in files("flambeau") or ()}
    assert {"flambeau/py.typed", "flambeau/__init__.pyi", "flambeau/tensor_methods.pyi"} <= names
    assert "flambeau/nn/functional.pyi" in names
