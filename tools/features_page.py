"""Writes the last column of `docs/features.md`: the tests that prove each row, or `open` with a reason; and its last part: which of
PyTorch's own samples do not pass, and why.

A row is proved by the tests that are tagged with it (`@pytest.mark.accept`), and, where it says nothing but names of functions, by
the cases of `special_points.py` that are made for each of these: `test_special_points.py` marks them by `rows_of`.
In: the page, whose rows, words and reasons of open rows are written by hand, the tests, and their lists of samples with
`parity_reasons.txt`. Run it after tagging a test or making a list; `tests/test_features.py` compares.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, TESTS = ROOT / "docs" / "features.md", ROOT / "tests"
ROW = re.compile(r"^\| ([A-Z]+-\d\d) \| (.*?) \| (.*?) \|$", re.M)
OPEN = "open"  #: of rows without a test; the reason follows after a colon
SHOWN = 3  #: tests named for one row
NAMES = re.compile(r"`\w+`(?:(?:,| and) `\w+`)*")  #: what a row says that names functions and nothing else
LISTS = ("info_parity.txt", "opinfo_parity.txt")
SAMPLES = "\n## PyTorch's own samples\n"  #: what follows this is written here


def rows(page: str) -> dict[str, str]:
    """Row -> what its last column says."""
    return {row: proof for row, _, proof in ROW.findall(page)}


@cache
def cases() -> dict[str, list[str]]:
    """Function -> the cases of `special_points.py` that are made for it."""
    spec = importlib.util.spec_from_file_location("special_points", TESTS / "special_points.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
    found: dict[str, list[str]] = {}
    for name, case in made.CASES.items():
        for function in case.covers:
            found.setdefault(function, []).append(name)
    return found


def functions(page: str) -> dict[str, list[str]]:
    """Row -> the functions that are all it names, if there are cases for each of them."""
    named = {row: re.findall(r"`(\w+)`", words) for row, words, _ in ROW.findall(page) if NAMES.fullmatch(words)}
    return {row: names for row, names in named.items() if all(name in cases() for name in names)}


def rows_of(page: str) -> dict[str, list[str]]:
    """Case of `special_points.py` -> the rows that it helps to prove."""
    found: dict[str, list[str]] = {}
    for row, names in functions(page).items():
        for case in dict.fromkeys(case for name in names for case in cases()[name]):
            found.setdefault(case, []).append(row)
    return found


@cache
def tags(folder: Path = TESTS) -> dict[str, list[str]]:
    """Row -> `file::test` of the tests that are tagged with it, in order."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("test_*.py")):
        for row, test in _tags_in(ast.parse(file.read_text())):
            name = f"{file.stem}::{test}" if test else file.stem
            if name not in found.setdefault(row, []):
                found[row].append(name)
    return found


def _tags_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    """(row, test) of a file's tags; no test's name for tags of single parameters that stand in a list."""
    dicts = {
        node.targets[0].id: [v.value for v in node.value.values if isinstance(v, ast.Constant)]
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name)
    }
    for statement in module.body:
        name = getattr(statement, "name", "")
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "accept":
                for row in _rows_of(node.args, dicts):
                    yield row, name if name.startswith("test_") else ""


def _rows_of(arguments: list[ast.expr], dicts: dict[str, list[str]]) -> Iterator[str]:
    for each in arguments:
        if isinstance(each, ast.Constant):
            yield each.value
        elif isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name):
            yield from dicts[each.value.id]


def rewritten(page: str) -> str:
    """The page with the last column of every row as the tags say."""
    tagged, named = tags(), functions(page)

    def row(match: re.Match[str]) -> str:
        generated = [f"test_special_points[{case}]" for name in named.get(match[1], ()) for case in cases()[name]]
        tests = [*tagged.get(match[1], ()), *dict.fromkeys(generated)]
        shown = ", ".join(f"`{t}`" for t in tests[:SHOWN])
        more = f" and {len(tests) - SHOWN} more" if len(tests) > SHOWN else ""
        still = match[3] if match[3].startswith(OPEN) else OPEN
        return f"| {match[1]} | {match[2]} | {shown + more if tests else still} |"

    return ROW.sub(row, page.partition(SAMPLES)[0]) + SAMPLES + samples()


def _reasons(folder: Path) -> list[tuple[str, str]]:
    """(pattern of names, reason), in order."""
    lines = [line for line in (folder / "parity_reasons.txt").read_text().splitlines() if not line.startswith("#")]
    return [(pattern, why) for names, _, why in (line.partition(": ") for line in lines) for pattern in names.split()]


def lost(folder: Path = TESTS) -> dict[str, list[str]]:
    """Reason -> entries of the lists that do not pass for it. One that no pattern names has what was found for a reason."""
    found: dict[str, list[str]] = {}
    reasons = _reasons(folder)
    for line in (line for name in LISTS for line in (folder / name).read_text().splitlines()):
        if line.startswith(("fail ", "missing ")):
            name, _, text = line.partition(" ")[2].partition(": ")
            why = next((why for pattern, why in reasons if fnmatchcase(name, pattern)), text)
            found.setdefault(why, []).append(name)
    return found


def samples(folder: Path = TESTS) -> str:
    """How many of PyTorch's samples pass, and for each reason those that do not."""
    heads = [line for name in LISTS for line in (folder / name).read_text().splitlines() if line.startswith("[")]
    counts = "".join(f"* {head[1:].replace(']', ':', 1)}\n" for head in heads)
    rest = "".join(f"* {', '.join(f'`{n}`' for n in sorted(names))}: {why}\n" for why, names in lost(folder).items())
    lines = (line for name in LISTS for line in (folder / name).read_text().splitlines())
    near = sorted({name for line in lines if line.startswith("nearer ") for name in line.split()[1:]})
    nearer = (
        f"{', '.join(f'`{n}`' for n in near)} count as passing although\n"
        "something is beyond PyTorch's tolerance: it is as near to what PyTorch computes in float64 as PyTorch's own.\n"
        f"By PyTorch's tolerances alone {len(near)} more would fail.\n\n"
    )
    return (
        "\nOpInfo, ModuleInfo and OptimizerInfo hold the samples of PyTorch's own tests; `tests/opinfo_parity.py` and\n"
        "`tests/info_parity.py` call them there and here ([testing.md](testing.md)). Of entries there are\n\n"
        f"{counts}\n{nearer if near else ''}What does not pass, and why:\n\n{rest}"
    )


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
