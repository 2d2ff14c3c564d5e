"""The README and the docs: every Python block runs, in order, one namespace per page; what they quote is up to date."""

import re
from pathlib import Path

import pytest
import support
from flambeau.dialects.record import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = ("coming-from-pytorch.md", "training.md")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
QUOTED = re.compile(r"^<!-- from: (\S+) -->\n```\w+\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.fixture
def own_ops():
    """Ops that an example defines are gone after it."""
    before = set(REGISTRY)
    yield
    for name in REGISTRY.keys() - before:
        del REGISTRY[name]


def how_to(page):
    """The page as a parameter; the guides to adding ops and passes are what CLI-08 asks for, those for users CLI-07."""
    marks = pytest.mark.accept("CLI-08") if "adding" in page.name else ()
    marks = pytest.mark.accept("CLI-07") if page.name in GUIDES else marks
    return pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize("page", [how_to(page) for page in PAGES if BLOCK.search(page.read_text())])
def test_examples_run(page, tmp_path, monkeypatch, own_ops):
    blocks = BLOCK.findall(page.read_text())
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)


def test_quotes_are_what_the_files_say():
    quotes = [(name, text) for page in PAGES for name, text in QUOTED.findall(page.read_text())]
    assert len(quotes) >= 5
    for name, text in quotes:
        assert text in (ROOT / name).read_text(), f"{name} no longer has:\n{text}"


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert not missing


def test_shell_blocks_name_what_there_is():
    """Options of flambeau-opt, make targets and paths in shell blocks exist."""
    from flambeau.compiler import opt, stages
    from flambeau.compiler.passes import registry

    options = {*registry.names(), *stages.names(), *opt._OPTIONS}
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.splitlines():
                line = line.split("#")[0]
                if "flambeau-opt" in line:
                    assert set(re.findall(r"--([\w-]+)", line)) <= options, line
                assert set(re.findall(r"\bmake ([\w-]+)", line)) <= targets, line
                assert all((ROOT / path).exists() for path in re.findall(r"\bexamples/\S+", line)), line


@pytest.mark.accept("CLI-02")
def test_the_page_of_functions_is_up_to_date():
    tool = support.tool("functions_page")
    page = tool.page()
    assert page.count("\n| `") > 200 and not re.search(r"\| {1,2}\|$", page, re.M), "a function has no docstring"
    assert tool.PAGE.read_text() == page, "docs/functions.md is stale: run python tools/functions_page.py"


def test_the_walk_through_the_compiler_is_up_to_date():
    tool = support.tool("compiler_page")
    page = tool.PAGE.read_text()
    assert "vdivps" in page and "arith.divf" in page
    assert tool.rewritten(page) == page, "docs/compiler.md is stale: run python tools/compiler_page.py"


def test_softmaxes_of_other_lengths_share_the_kernel_as_the_walk_says():
    from flambeau.compiler.options import Options
    from flambeau.compiler.tools import stage_text

    page = (ROOT / "docs" / "compiler.md").read_text()
    program = re.search(r"generated: tape -->\n```mlir\n(.*?)```", page, re.S)[1]
    options = Options(mode="blocking", target="x86-64-v3", plugins=False)
    lengths = ["100", *re.search(r"softmax over rows of (\d+) or of (\d+) elements", page).groups()]
    programs = [program.replace("x100x", f"x{n}x").replace("100 :", f"{n} :") for n in lengths]
    kernels = [stage_text.convert(text, [], "tape", "kernels", options) for text in programs]
    assert kernels[0] == kernels[1] == kernels[2]
