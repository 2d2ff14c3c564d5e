"""Process replay: what two runs lowered is compared cluster by cluster."""

import gzip
import importlib
import json
import subprocess
import sys
from pathlib import Path

import symbolic
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol

TOOL = Path(__file__).parent.parent / "tools" / "process_replay.py"
PROGRAM = """
import flambeau as fb

def test_programs():
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (x.exp() + 1).sum().item() > 0 and (x @ x).sum().item() == 54
"""


def tool(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=200)


def test_a_difference_is_found_and_shown(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_programs.py").write_text(PROGRAM)
    before, after = tmp_path / "before", tmp_path / "after"
    done = tool("record", before, "--", tmp_path, "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    (recorded,) = before.glob("*.jsonl.gz")
    with gzip.open(recorded, "rt") as file:
        rows = [json.loads(line) for line in file]
    assert any("exp" in ops for _, ops, _ in rows) and any("matmul" in ops for _, ops, _ in rows)

    after.mkdir()
    changed = next(row for row in rows if "exp" in row[1])
    text = changed[2].replace("arith.addf", "arith.subf")
    assert text != changed[2]
    with gzip.open(after / "1.jsonl.gz", "wt") as file:
        file.writelines(
            json.dumps([name, ops, text if name == changed[0] else made]) + "\n" for name, ops, made in rows
        )
    assert tool("compare", before, before).returncode == 0
    done = tool("compare", before, after)
    assert done.returncode == 1 and f"{len(rows)} clusters in both runs, 1 lowered otherwise" in done.stdout
    assert changed[0] in done.stdout
    shown = tool("show", before, after, changed[0]).stdout
    assert "+" in shown and "arith.subf" in shown
    assert tool("compare", before, tmp_path).returncode == 1  # nothing in common is no proof


def test_what_is_recorded_asks_nothing_of_sizes(tmp_path, monkeypatch):
    """A size that is printed asks for its value: then the program would be compiled for that alone."""
    monkeypatch.syspath_prepend(TOOL.parent)
    replay = importlib.import_module("process_replay")
    graph = symbolic.record(lambda x: find("exp")(x) + 1.0, ((symbol(0), 5), float32), hints=(40,))
    before = stages.run(graph, Options())
    monkeypatch.setitem(stages.PROGRAM, "kernels", replay.recording(stages.kernels, tmp_path / "0.jsonl.gz", set()))
    after = stages.run(graph, Options())
    assert list(replay.rows(tmp_path / "0.jsonl.gz"))
    assert after.asked.guards == before.asked.guards
