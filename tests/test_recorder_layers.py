"""The recorder's layers (docs/recorder.md), checked on its sources: what a file includes, and where a function is."""

import re
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "runtime" / "recorder"

#: From the bottom. A file includes its own layer and those below; a header's functions are defined in its layer.
LAYERS = {
    "values": "values sizes function types views selections recalled statics shape buffers owners",
    "traces": "patterns trie trace threads recorder mode period locate log export",
    "cells": "program flatten history ended watches cells holders capture region places tensor view layout stream marks undo "
    "reset pending become",
    "calls": "call record enter fit learn memo import slots index recall forwarded function intercept",
    "runs": "runs flush failure",
    "module": "module handles arrays forward backward inline public together trees look literal",
}
#: function.h says what a function is, for all; calling one (function.c) belongs to calls.
HEADERS_OF_VALUES = ("values.h", "sizes.h", "function.h")
#: Declared below what defines it.
UPCALL = "fb_flush"


def layer(path: Path) -> int:
    names = list(LAYERS)
    if path.name in HEADERS_OF_VALUES:
        return names.index("values")
    if path.name == "function.c":
        return names.index("calls")
    return next(i for i, name in enumerate(names) if path.stem in LAYERS[name].split())


def sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".c", ".h"))


def included(path: Path) -> list[Path]:
    own = [path.parent / name for name in re.findall(r'^#include "([\w.]+)"', path.read_text(), re.M)]
    return [p for p in own if p.exists()]


def upward_includes(folder: Path) -> list[str]:
    return [f"{p.name} includes {q.name}" for p in sources(folder) for q in included(p) if layer(q) > layer(p)]


def names(pattern: str, path: Path) -> set[str]:
    return set(re.findall(pattern, path.read_text(), re.M))


def upcalls(folder: Path) -> dict[str, str]:
    """Functions that a header declares and a source above its layer defines."""
    defined = {
        name: p
        for p in sources(folder)
        if p.suffix == ".c"
        for name in names(r"^(?!static)[A-Za-z][\w *]*?\b(fb_\w+)\([^;]*?\) \{", p)
    }
    declared = {
        name: p for p in sources(folder) if p.suffix == ".h" for name in names(r"^[A-Za-z][\w *]*?\b(fb_\w+)\(", p)
    }
    assert len(declared.keys() & defined.keys()) > 150
    return {
        name: f"{declared[name].name} declares it, {defined[name].name} defines it"
        for name in declared.keys() & defined.keys()
        if layer(defined[name]) > layer(declared[name])
    }


def test_every_file_has_a_layer():
    assert len(sources(FOLDER)) > 40
    placed = {layer(p) for p in sources(FOLDER)}
    assert placed == set(range(len(LAYERS)))


def test_includes_go_down():
    assert upward_includes(FOLDER) == []


def test_headers_of_one_layer_do_not_include_each_other_in_a_circle():
    for start in (p for p in sources(FOLDER) if p.suffix == ".h"):
        seen, left = set(), included(start)
        while left:
            path = left.pop()
            assert path != start, f"{start.name} includes itself by way of others"
            left += [] if path in seen else included(path)
            seen.add(path)


def test_there_is_one_call_upwards():
    assert set(upcalls(FOLDER)) == {UPCALL}, upcalls(FOLDER)


@pytest.mark.parametrize(("file", "line"), [("trie.c", '#include "runs.h"'), ("values.h", '#include "trace.h"')])
def test_an_include_upwards_is_found(tmp_path, file, line):
    copy = Path(shutil.copytree(FOLDER, tmp_path / "recorder"))
    (copy / file).write_text(f"{line}\n{(copy / file).read_text()}")
    assert upward_includes(copy) == [f"{file} includes {line.split(chr(34))[1]}"]


def test_a_call_upwards_is_found(tmp_path):
    copy = Path(shutil.copytree(FOLDER, tmp_path / "recorder"))
    for header in ("runs.h", "trie.h"):
        path = copy / header
        text = path.read_text().replace("int fb_flush_all(void);", "")
        path.write_text(text if header == "runs.h" else text + "int fb_flush_all(void);\n")
    assert set(upcalls(copy)) == {UPCALL, "fb_flush_all"}
