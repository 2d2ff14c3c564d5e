"""Rewrites the generated parts of docs/compiler.md: what the stages make of the page's own example.

Run: `python tools/compiler_page.py`. `tests/test_docs.py` fails when the page is stale.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compiler.md"
TARGET, GPU = "x86-64-v3", "sm_90"
_PART = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.S)
_FENCES = {"optimised": "llvm", "assembly": "asm", "ptx": "asm"}


def recorded(page: str) -> str:
    """The program that the page's first Python block records, as text."""
    block = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert block is not None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "example.py").write_text(block[1])
        environment = {**os.environ, "FLAMBEAU_DUMP": folder, "FLAMBEAU_COMPILE": "blocking"}
        subprocess.run([sys.executable, "example.py"], check=True, cwd=folder, env=environment, timeout=120)
        (file,) = Path(folder).glob("program-*/00-tape.mlir")
        return re.sub(r" loc\(.*\)$", "", file.read_text(), flags=re.M)


def excerpt(text: str, first: str, line: str, last: str) -> str:
    """The lines around the first that matches `line`: from the nearest `first` above to the nearest `last` below."""
    lines = text.splitlines()
    at = next(k for k, found in enumerate(lines) if re.search(line, found))
    start = max(k for k in range(at + 1) if re.search(first, lines[k]))
    end = min(k for k in range(at, len(lines)) if re.search(last, lines[k]))
    return "\n".join(lines[start : end + 1])


def renumbered(text: str) -> str:
    """The text with its numbered values and labels counted from 0, in order of appearance."""
    names: dict[str, str] = {}

    def name(match: re.Match) -> str:
        kind = match[1]
        count = sum(k.startswith(kind + " ") for k in names)
        return names.setdefault(f"{kind} {match[2]}", f"{kind}{count}")

    text = re.sub(r"^(\d+):.*", r"%\1:", text, flags=re.M)  # a block of LLVM IR
    return re.sub(r"(%c|%|\.LBB0_)(\d+)\b", name, text)


def parts(page: str) -> dict[str, str]:
    """The generated parts by name."""
    from flambeau.compiler.options import Options
    from flambeau.compiler.tools import stage_text

    tape = recorded(page)
    options = Options(mode="blocking", target=TARGET, plugins=False)

    def stage(name: str) -> str:
        return stage_text.convert(tape, [], "tape", name, options)

    def on_gpu(name: str) -> str:
        return stage_text.convert(tape, [], "tape", name, replace(options, target=GPU))

    cluster = stage("cluster").splitlines()
    plan = [
        line
        for line in stage("plan").splitlines()
        if re.search(r"plan\.(const|input|output|dims|step)\"|kernel 0:", line)
    ]
    return {
        "tape": "\n".join(tape.splitlines()[1:-1]),
        "cluster": "\n".join([*cluster[:4], "    ...", cluster[-4], *cluster[-3:]]),
        "schedule": excerpt(stage("schedule"), r"func\.func", r"rows\(", r"^    \]"),
        "kernels": renumbered(excerpt(stage("kernels"), r"scf\.for", r"arith\.divf", r"^ *}")),
        "plan": "\n".join(plan),
        "optimised": renumbered(excerpt(stage("optimised"), r"^[\w.]+:", r"fdiv", r"^  br")),
        "assembly": renumbered(excerpt(stage("assembly"), r"^\.LBB", r"vdivps", r"^\tj")).expandtabs(8),
        "gpu": renumbered(excerpt(on_gpu("kernels"), r"scf\.for", r"gpu\.barrier", r"gpu\.shuffle")),
        "ptx": excerpt(on_gpu("assembly"), r"st\.shared", r"shfl", r"max").expandtabs(8),
    }


def rewritten(page: str) -> str:
    """The page with its generated parts made anew."""
    made = parts(page)

    def fill(match: re.Match) -> str:
        name = match[1]
        return f"<!-- generated: {name} -->\n```{_FENCES.get(name, 'mlir')}\n{made[name]}\n```\n<!-- end -->"

    return _PART.sub(fill, page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
