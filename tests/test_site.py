"""The documentation site (`tools/docs_site.py`): what becomes of docstrings and links. `make docs` builds it, and follows every
link."""

import importlib.util
import re
import sys
from pathlib import Path

import flambeau as fb
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location("site_tool", ROOT / "tools" / "docs_site.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def test_docstrings_are_plain_text_around_code(site):
    text = "Gives [N, C] of `x[i] * y`; *args_, and x < y.\n\n    y = f(x)\n    z = y\n\nMore."
    assert site.prose(text) == (
        "Gives \\[N, C\\] of `x[i] * y`; \\*args\\_, and x \\< y.\n\n```python\ny = f(x)\nz = y\n```\n\nMore."
    )


@pytest.mark.accept("CLI-02")
def test_the_reference_has_every_function_and_layer(site):
    pages = site.reference()
    assert "## add { #flambeau.add }\n\n```python\nadd(input, other, *, alpha=1" in pages["flambeau"]
    assert "Also: `x.add(...)`, `x.add_(...)`." in pages["flambeau"]
    assert "class Linear(in_features, out_features, bias=True" in pages["nn"]
    assert "### Module.state_dict { #flambeau.nn.Module.state_dict }" in pages["nn"]
    for owner, page in ((fb.nn, "nn"), (fb.optim, "optim"), (fb.distributions, "distributions"), (fb.onnx, "onnx")):
        missing = [
            n for n in owner.__all__ if isinstance(getattr(owner, n), type) and f"\n## {n} {{" not in pages[page]
        ]
        assert not [n for n in missing if getattr(owner, n).__module__.startswith("flambeau")]
    anchors = {name: re.findall(r"\{ #(\S+) \}", text) for name, text in pages.items()}
    assert sum(map(len, anchors.values())) > 1500
    assert all(len(found) == len(set(found)) for found in anchors.values())


def test_links_lead_within_the_site(site):
    text = "[a](training.md#saving) [b](../README.md) [c](../examples/cnn.py) [d](https://x.y) [e](#here)"
    wanted = "[a](training.md#saving) [b](index.md) c (`examples/cnn.py`) [d](https://x.y) [e](#here)"
    assert site.relinked(text, ROOT / "docs") == wanted
    picture = "![Times](pictures/nets.svg)"
    assert (site.PICTURES / "nets.svg").exists() and site.relinked(picture, ROOT / "docs") == picture


def test_dead_links_are_found(site, tmp_path):
    (tmp_path / "more").mkdir()
    first = '<a href="more/b.html#x">x</a> <a href="more/b.html#y">y</a> <img src="gone.png">'
    (tmp_path / "index.html").write_text(first)
    (tmp_path / "more" / "b.html").write_text(
        '<h2 id="x">X</h2> <a href="../index.html">i</a> <a href="c.html">c</a> <a href="#z">z</a>'
    )
    assert sorted(site.dead_links(tmp_path)) == [
        "index.html: gone.png",
        "index.html: more/b.html#y",
        "more/b.html: #z",
        "more/b.html: c.html",
    ]


def test_every_page_is_in_the_table_of_contents(site):
    assert {page for part in site.GUIDES.values() for page in part} == {p.stem for p in (ROOT / "docs").glob("*.md")}


def test_the_version_is_the_newest_of_the_changelog():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    assert newest == declared == fb.__version__ and re.fullmatch(r"\d+\.\d+\.\d+", newest)
