"""Texts made small as long as a command says so: what `flambeau-opt --reduce` does, as `llvm-reduce` does with LLVM IR.

In: a program in the `tape` dialect or a module of fusion groups, and a command. Out: the text of a part of it for which the
command, given a file with it, still exits with 0. Next: `compiler/groups/reducing.py`, `dialects/reducing.py`.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flambeau.compiler.groups import reading, reducing
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_groups
from flambeau.compiler.tools import stage_text
from flambeau.dialects import reducing as of_programs
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.irdl import parse_functions, print_function

#: Whether a text still has what is looked for.
Holds = Callable[[str], bool]


def reduced(text: str, stage: str, holds: Holds) -> tuple[str, str]:
    """The smallest text found, and what separates it from another. Of several functions the first is reduced for which `holds`
    says yes alone.

    `stage` is `linalg`, or one whose form is a program. Raises ValueError for another, where the text is refused, and where
    `holds` says no from the beginning.
    """
    if stage == stage_text.LINALG:
        return _groups(text, holds), stage_text.separator(stage)
    if stage in stage_text.TAPE:
        return _programs(text, holds), stage_text.separator(stage)
    raise ValueError(f"[reduce] the text is that of '{stage}'. Give a program, or fusion groups without schedules.")


def _groups(text: str, holds: Holds) -> str:
    groups = reading.parse(text)
    name = _first({n: _group_text(n, g) for n, g in groups.items()}, holds)
    return _group_text(name, reducing.reduced(groups[name], lambda group: holds(_group_text(name, group))))


def _programs(text: str, holds: Holds) -> str:
    graphs = parse_functions(text)
    name = _first({n: _program_text(n, g) for n, g in graphs.items()}, holds)

    def pieces(graph: Graph) -> tuple[Sequence[Node], Sequence[int]]:
        return graph.nodes, graph.outputs

    made = of_programs.smallest(graphs[name], pieces, of_programs.part, lambda g: holds(_program_text(name, g)))
    return _program_text(name, made)


def by_command(command: str, limit: float) -> Holds:
    """Whether `command`, with a file of the text as its last argument, exits with 0 within `limit` seconds."""
    words = shlex.split(command)
    if not words:
        raise ValueError('[reduce] there is no command. Write it as in --reduce "sh check.sh".')

    def holds(text: str) -> bool:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "reduced.mlir"
            path.write_text(text, encoding="utf-8")
            try:
                quiet = subprocess.DEVNULL
                done = subprocess.run([*words, str(path)], stdin=quiet, stdout=quiet, stderr=quiet, timeout=limit)
            except subprocess.TimeoutExpired:
                return False
            except OSError as e:
                raise ValueError(f"[reduce] '{words[0]}' does not run: {e.strerror}. Name a command.") from None
            return done.returncode == 0

    return holds


def _first(texts: dict[str, str], holds: Holds) -> str:
    for name, text in texts.items():
        if holds(text):
            return name
    raise ValueError(
        f"[reduce] the command does not exit with 0 for any of {', '.join(texts) or 'no functions'}. "
        "It must do so as long as the text has what you look for."
    )


def _group_text(name: str, group: Group) -> str:
    return print_groups({name: group}, notes=True)


def _program_text(name: str, graph: Graph) -> str:
    return f"module {{\n{print_function(graph, name)}\n}}\n"
