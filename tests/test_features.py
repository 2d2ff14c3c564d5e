"""`docs/features.md` says which test proves each row, as the tags of the tests say; passes have lit files.

A tag is `@pytest.mark.accept("CRE-01")`, one string per row, all in one mark. Functions without samples: `test_functions.py`.
"""

from pathlib import Path

import pytest
import support
from flambeau.compiler.passes import registry

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool():
    return support.tool("features_page")


@pytest.fixture(scope="module")
def rows(tool):
    return tool.rows(tool.PAGE.read_text())


def test_the_page_is_up_to_date(tool):
    page = tool.PAGE.read_text()
    assert tool.rewritten(page) == page, "docs/features.md is stale: run python tools/features_page.py"


def test_every_row_has_a_test_or_is_open(tool, rows):
    assert len(rows) > 400
    text = tool.PAGE.read_text()
    proved = tool.tags().keys() | tool.functions(text).keys()
    assert {row for row, proof in rows.items() if not proof.startswith(tool.OPEN)} == proved
    assert not [row for row, proof in rows.items() if proof == tool.OPEN], "say after a colon what these wait for"
    assert len(tool.ROW.findall(text)) == len(rows), "a row is there twice"
    assert sum(line.startswith("| ") and line[2:3].isupper() for line in text.splitlines()) == len(rows), (
        "a row is malformed"
    )


def test_every_tag_is_of_a_row(tool, rows, request):
    assert not set(tool.tags()) - set(rows)
    marks = [(item.nodeid, mark) for item in request.session.items for mark in item.iter_markers("accept")]
    assert not [(test, mark) for test, mark in marks if not mark.args or mark.kwargs]
    assert not [(test, row) for test, mark in marks for row in mark.args if row not in rows]


def test_rows_of_functions_are_proved_by_their_cases(tool):
    page = "| PW-29 | `relu` | open |\n| PW-31 | `sigmoid`, `tanh` | x |\n| PW-99 | `relu` and much more | open |\n"
    page += "| PW-98 | `relu`, `unheard_of` | open: later |\n"
    assert tool.functions(page) == {"PW-29": ["relu"], "PW-31": ["sigmoid", "tanh"]}
    cases = tool.rows_of(page)
    assert (
        cases["relu"] == cases["relu functional"] == ["PW-29"]
        and cases["tanh"] == ["PW-31"]
        and "gelu tanh" not in cases
    )
    lines = tool.rewritten(page).splitlines()
    assert "test_special_points[relu]" in lines[0] and lines[3].endswith("| open: later |")


def test_what_does_not_pass_has_a_reason(tool, tmp_path):
    (tmp_path / "parity_reasons.txt").write_text("# why\nmasked.* stft: not there\n")
    (tmp_path / "info_parity.txt").write_text(
        "[modules] 1 pass, 1 fail, 0 missing of 2\nfail nn.A: off by 1: much\npass nn.B\n"
    )
    (tmp_path / "opinfo_parity.txt").write_text(
        "[rest] 0 pass, 1 fail, 2 missing of 3\nfail stft: x\nmissing masked.sum: y\n"
    )
    assert tool.lost(tmp_path) == {"off by 1: much": ["nn.A"], "not there": ["stft", "masked.sum"]}
    text = tool.samples(tmp_path)
    assert "* modules: 1 pass, 1 fail, 0 missing of 2\n" in text and "* `masked.sum`, `stft`: not there\n" in text
    entries = sum(len(names) for names in tool.lost().values())
    assert tool.PAGE.read_text().partition(tool.SAMPLES)[2].count("`") >= 2 * entries


def test_what_is_wrong_is_noticed(tool, tmp_path):
    (tmp_path / "test_some.py").write_text(
        'import pytest\nROWS = {"a": "CRE-02"}\n\n@pytest.mark.accept("CRE-01", "XYZ-01")\ndef test_one():\n    pass\n\n'
        '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.accept(ROWS["a"]))])\ndef test_two(x):\n    pass\n'
    )
    found = tool.tags(tmp_path)
    assert found == {
        "CRE-01": ["test_some::test_one"],
        "XYZ-01": ["test_some::test_one"],
        "CRE-02": ["test_some::test_two"],
    }
    assert tool.rows("| CRE-01 | a | open |\n| CRE-1 | b | open |\n") == {"CRE-01": "open"}


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_pass_has_a_lit_file(name):
    file = ROOT / "lit_tests" / "passes" / f"{name}.mlir"
    assert file.exists() and f"--{name}" in file.read_text(), f"add lit_tests/passes/{name}.mlir"
