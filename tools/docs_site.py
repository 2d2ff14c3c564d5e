"""Makes the documentation site: the pages of `docs/`, and a reference that is written from docstrings.

    python tools/docs_site.py build/site          # what `make docs` runs

In: the installed package, `docs/`, `README.md`, `CHANGELOG.md`, `mkdocs.yml`. Out: HTML in `build/site/html`. A link
that leads nowhere, also to a heading, is an error. Needs the extra `docs`.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import flambeau
from flambeau.declarations import DECLARED
from functions_page import signature

ROOT = Path(__file__).resolve().parent.parent

#: Title -> pages of docs/, in the order in which they are read.
GUIDES = {
    "Guides": [
        "coming-from-pytorch", "training", "checkpoints", "torch-scripts", "onnx", "quantization", "export", "differences",
        "performance",
    ],
    "How it works": ["architecture", "compiler", "recorder"],
    "Extending": ["adding-ops-and-passes", "adding-a-pass", "adding-a-family", "adding-a-dtype", "testing"],
    "Lists": ["functions", "features"],
}  # fmt: skip

#: Modules whose public names have a page each.
MODULES = (
    "nn", "nn.init", "nn.utils", "nn.utils.parametrize", "nn.utils.prune", "nn.utils.rnn", "optim", "optim.lr_scheduler",
    "optim.swa_utils", "autograd", "autograd.functional", "func", "amp", "data", "transforms", "distributions", "checkpoints",
    "serialization", "onnx", "utils.checkpoint", "utils.stopping", "utils.tensorboard", "debug", "hub", "jit", "cuda",
    "accelerator", "metrics", "quantization", "signal.windows",
)  # fmt: skip


# ---- docstrings -----------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """A docstring as Markdown: what stands between backticks and what is indented is code, all else is plain text."""
    found = []
    for paragraph in text.split("\n\n"):
        if all(line.startswith("    ") for line in paragraph.splitlines() if line):
            found.append(f"```python\n{inspect.cleandoc(paragraph)}\n```")
            continue
        parts = paragraph.split("`")
        parts[::2] = [re.sub(r"([*_\[\]<>#|\\])", r"\\\1", part) for part in parts[::2]]
        found.append("`".join(parts))
    return "\n\n".join(found)


def entry(name: str, call: Any, anchor: str, level: int = 2) -> str:
    """One function or class: a heading, how it is called, what it is."""
    arguments = signature(call) if callable(call) else ""
    kind = "class " if isinstance(call, type) else ""
    shown = f"\n```python\n{kind}{name}{arguments}\n```\n" if callable(call) else ""
    return f"{'#' * level} {name} {{ #{anchor} }}\n{shown}\n{prose(inspect.getdoc(call) or '')}\n\n"


@cache
def _public() -> frozenset[type]:
    """Classes that have an entry of their own."""
    found = {value for name in MODULES for _, value in members(name) if isinstance(value, type)}
    return frozenset({flambeau.Tensor, *found})


def members(name: str) -> list[tuple[str, Any]]:
    """The public names of a module: those that it lists, or else those that it defines."""
    module = import_module(f"flambeau.{name}")
    if listed := getattr(module, "__all__", None):
        found = [(n, getattr(module, n)) for n in listed]
        return [(n, v) for n, v in found if (getattr(v, "__module__", None) or "flambeau").startswith("flambeau")]
    return [(n, v) for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods that a class defines itself, or has from a base that is not public."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base is not cls and (base in _public() or not base.__module__.startswith("flambeau")):
            break
        found = dict(vars(base)) | found
    for name, value in sorted(found.items()):
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if not name.startswith("_") and callable(value) and not isinstance(value, type) and inspect.getdoc(value):
            yield name, value


def class_entry(name: str, cls: type, anchor: str) -> str:
    own = "".join(entry(f"{name}.{n}", m, f"{anchor}.{n}", 3) for n, m in methods(cls) if n != "forward")
    return entry(name, cls, anchor) + own


# ---- pages ----------------------------------------------------------------------------------------------------


def module_page(name: str) -> str:
    """The public classes and functions of a module."""
    module = import_module(f"flambeau.{name}")
    text = f"# flambeau.{name}\n\n{prose(inspect.getdoc(module) or '')}\n\n"
    for each, value in sorted(members(name), key=lambda member: member[0].lower()):
        if isinstance(value, type):
            text += class_entry(each, value, f"flambeau.{name}.{each}")
        elif callable(value):
            text += entry(each, value, f"flambeau.{name}.{each}")
    return text


def functions_page(space: str) -> str:
    """The functions of a namespace, from their declarations."""
    title = space if space == "flambeau" else f"flambeau.{space}"
    text = f"# {title}: functions\n\n"
    for made in sorted((d for d in DECLARED if space in d.free), key=lambda d: d.name.lower()):
        text += entry(made.name, made.call, f"{title}.{made.name}")
        text += _forms(made)
    return text


def tensor_page() -> str:
    """The methods of tensors that are no functions."""
    text = "# flambeau.Tensor: methods that are no functions\n\n"
    found = [d for d in DECLARED if d.method and not d.free and not d.name.startswith("_")]
    return text + "".join(entry(d.name, d.call, f"flambeau.Tensor.{d.name}") + _forms(d) for d in found)


def _forms(made: Any) -> str:
    forms = [f"`x.{made.name}(...)`"] if made.method and made.free else []
    forms += [f"`x.{made.name}_(...)`"] if made.in_place else []
    forms += [f"`{alias}`" for alias in made.aliases]
    return f"Also: {', '.join(forms)}.\n\n" if forms else ""


def reference() -> dict[str, str]:
    """Page -> text."""
    for name in flambeau.__all__:
        getattr(flambeau, name)  # some are loaded, and so declared, when asked for
    spaces = sorted({space for d in DECLARED for space in d.free}, key=lambda s: (s != "flambeau", s))
    pages = {f"{space}-functions" if space in MODULES else space: functions_page(space) for space in spaces}
    return pages | {"Tensor": tensor_page()} | {name: module_page(name) for name in MODULES}


# ---- the site -------------------------------------------------------------------------------------------------

PICTURES = ROOT / "docs" / "pictures"
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def relinked(text: str, folder: Path) -> str:
    """Links as they are within the site: to pages and pictures; what lies elsewhere in the repository is named, not linked."""

    def replaced(found: re.Match[str]) -> str:
        title, target, anchor = found.groups()
        path = (folder / target).resolve()
        places = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}
        if path.parent == ROOT / "docs" and path.suffix == ".md":
            return f"[{title}]({path.name}{anchor or ''})"
        if path.parent == PICTURES:
            return f"[{title}](pictures/{path.name})"
        if path in places:
            return f"[{title}]({places[path]}{anchor or ''})"
        return f"{title} (`{path.relative_to(ROOT)}`)" if path.is_relative_to(ROOT) else title

    return LINK.sub(replaced, text)


def write_pages(folder: Path) -> list[Any]:
    """All pages into a folder; gives the table of contents."""
    (folder / "reference").mkdir(parents=True)
    for source in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        name = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}.get(source.name, source.name)
        (folder / name).write_text(relinked(source.read_text(), source.parent))
    shutil.copytree(PICTURES, folder / "pictures")
    pages = reference()
    for name, text in pages.items():
        (folder / "reference" / f"{name}.md").write_text(text)
    listed = {page for part in GUIDES.values() for page in part}
    there = {path.stem for path in (ROOT / "docs").glob("*.md")}
    if listed != there:
        raise SystemExit(f"tools/docs_site.py: GUIDES differs from docs/ in {', '.join(sorted(listed ^ there))}")
    guides: list[Any] = [{title: [f"{page}.md" for page in part]} for title, part in GUIDES.items()]
    spelled = [
        {("flambeau." + n.removesuffix("-functions") if n != "flambeau" else n): f"reference/{n}.md"} for n in pages
    ]
    return [{"Flambeau": "index.md"}, *guides, {"Reference": spelled}, {"Changes": "changelog.md"}]


def build(folder: Path) -> Path:
    """The site in a new folder; gives the folder of HTML."""
    if folder.exists():
        raise SystemExit(f"tools/docs_site.py: {folder} exists. Remove it first.")
    contents = write_pages(folder / "pages")
    settings = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(folder / "pages"),
        "site_dir": str(folder / "html"),
        "nav": contents,
    }
    (folder / "mkdocs.yml").write_text(json.dumps(settings))  # which is YAML, too
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", str(folder / "mkdocs.yml")]
    subprocess.run(command, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    return folder / "html"


# ---- links ----------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The targets and the places of links in one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def dead_links(site: Path) -> list[str]:
    """Every link within a site that leads nowhere, with the page that it is on."""
    pages = {path: _Page(path.read_text()) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = pages.get(target)
            if not target.exists() or (there and unquote(parts.fragment) not in there.places):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def main(check: Callable[[Path], list[str]] = dead_links) -> None:
    site = build(Path(sys.argv[1]).resolve())
    if dead := check(site):
        raise SystemExit("links that lead nowhere:\n" + "\n".join(dead))
    print(f"{sum(1 for _ in site.rglob('*.html'))} pages in {site}")


if __name__ == "__main__":
    main()
