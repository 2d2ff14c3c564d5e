"""Writes `docs/functions.md`: every public function by namespace, from the functions' own declarations and docstrings.

In: `flambeau.declarations`. Run it after declaring a function; `tests/test_docs.py` compares.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flambeau
import flambeau.nn.functional  # declares what is there
from flambeau.declarations import DECLARED, Declaration

PAGE = Path(__file__).resolve().parent.parent / "docs" / "functions.md"
HEAD = """# Functions

Every function, written by `python tools/functions_page.py` from the functions' own declarations and docstrings
(`help(flambeau.add)` shows a whole one). `m`: also a method of tensors; `_`: with a form that stores the result in the first
operand (`x.add_(y)`); `o`: takes `out=`, a tensor, or a tuple of as many as there are results, to store them in.
"""


def signature(call: Callable[..., Any]) -> str:
    """The arguments with their defaults, without types."""
    call = call if isinstance(call, type) else getattr(call, "rule", call)
    try:
        found = inspect.signature(call)
    except (TypeError, ValueError):  # of C, which says it in the docstring
        return "(...)"
    plain = [p.replace(annotation=p.empty, default=_plain(p.default)) for p in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=found.empty))


class _Ellipsis:
    def __repr__(self) -> str:
        return "..."


def _plain(default: Any) -> Any:
    """A default as it is written, `...` for an object that has no such form."""
    return default if default is inspect.Parameter.empty or not repr(default).startswith("<") else _Ellipsis()


def sentence(call: Callable[..., Any]) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join((inspect.getdoc(call) or "").split("\n\n")[0].split()).replace("|", "\\|")


def line(made: Declaration) -> str:
    marks = " ".join(
        filter(
            None,
            ["m" if made.method and made.free else "", "_" if made.in_place else "", "o" if made.takes_out else ""],
        )
    )
    others = f" Also: {', '.join(f'`{a}`' for a in made.aliases)}." if made.aliases else ""
    arguments = signature(made.call).replace("|", "\\|")
    return f"| `{made.name}{arguments}` | {marks} | {sentence(made.call)}{others} |\n"


def page() -> str:
    """The whole page."""
    for name in flambeau.__all__:
        getattr(flambeau, name)  # some are loaded, and so declared, when asked for
    text = HEAD
    spaces = {f"`flambeau.{s}`" if s != "flambeau" else "`flambeau`": s for d in DECLARED for s in d.free}
    for title, space in spaces.items():
        text += _table(title, [d for d in DECLARED if space in d.free])
    methods = [d for d in DECLARED if not d.free and not d.name.startswith("_")]
    return text + _table("Methods of tensors that are no functions", methods)


def _table(title: str, found: list[Declaration]) -> str:
    lines = "".join(line(d) for d in sorted(found, key=lambda d: d.name))
    return f"\n## {title}\n\n| function | forms | what it gives |\n|---|---|---|\n{lines}"


if __name__ == "__main__":
    PAGE.write_text(page())
