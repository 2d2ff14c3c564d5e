"""What other packages offer, read from their metadata: the entry points of the groups in `INTERFACES`.

In: `entry_points.txt` of the packages on `sys.path`, small files; nothing is imported. Out: `Offer`s by group, and `problems()`:
what could not be read, with file and line. Another kind of thing to offer is one row of `INTERFACES` and one `Registry` where
it is used. Next: `registry.py`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Interface:
    """What the plug-ins of a group are written for. `version` is this Flambeau's, `oldest` the oldest that it still serves, and
    `changes` says for each version above 1 what it changed."""

    version: int = 1
    oldest: int = 1
    changes: dict[int, str] = field(default_factory=dict)

    def refusal(self, written_for: int) -> str | None:
        """Why a plug-in written for that version is refused, and what to do; None if it is served."""
        if written_for > self.version:
            return f"is written for version {written_for} of the interface, this Flambeau has {self.version}. Upgrade Flambeau."
        if written_for < self.oldest:
            later = range(written_for + 1, self.version + 1)
            changed = " ".join(f"Version {v}: {self.changes[v]}" for v in later if v in self.changes)
            return (
                f"is written for version {written_for} of the interface, this Flambeau serves {self.oldest} to {self.version}. "
                f"{changed} Upgrade the package, or change it accordingly."
            )
        return None


OPS, PASSES, TARGETS, DIALECTS = "flambeau.ops", "flambeau.passes", "flambeau.targets", "flambeau.dialects"
FAMILIES, SCHEDULES = "flambeau.families", "flambeau.schedules"
INTERFACES = {group: Interface() for group in (OPS, PASSES, SCHEDULES, TARGETS, DIALECTS, FAMILIES)}
#: The group in which a package says which versions it is written for: `passes = "v2"`. What is not said is version 1.
VERSIONS = "flambeau.interface"


class PluginError(RuntimeError):
    """A plug-in cannot be loaded or did what none may do; the message names its package."""


@dataclass(frozen=True, order=True)
class Offer:
    """One entry point: `value` is "module:attribute", `package` the distribution's name and version, `interface` the version
    that it is written for, `file` where it is offered."""

    name: str
    package: str
    value: str
    interface: int = 1
    file: str = field(default="", compare=False)

    def load(self) -> Any:
        """The object. Raises PluginError when importing it raises, whatever it be; then no record of it stays
        registered."""
        from flambeau.dialects.record import REGISTRY  # that module imports this one

        module, _, attribute = self.value.partition(":")
        before = set(REGISTRY)
        try:
            found = import_module(module)
            for part in attribute.split(".") if attribute else ():
                found = getattr(found, part)
            return found
        except BaseException as e:
            for name in REGISTRY.keys() - before:
                del REGISTRY[name]
            if is_interrupt(e):
                raise
            offered = f" It is offered in {self.file}." if self.file else ""
            raise PluginError(
                f"[plug-in] '{self.name}' of {self.package} cannot be imported: {place(e, self)}.{offered} "
                f"Repair or uninstall the package."
            ) from e

    def source(self) -> bytes:
        """What cache keys hold of it: its name, and all Python files of the package that it lives in."""
        return f"{self.name}\0{self.package}\0{self.value}\0".encode() + _source(self.value.partition(":")[0])


def is_interrupt(error: BaseException) -> bool:
    """Whether it is the user's Ctrl-C: workers hear none, so that there it is a plug-in's own doing."""
    import signal  # as what else only some plug-ins need: importing Flambeau is to be quick

    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def place(error: BaseException, offer: Offer) -> str:
    """What a plug-in raised, for people, with the file and line of the innermost frame that is the plug-in's own."""
    what = f"{type(error).__name__}: {error}".rstrip(".: ")
    if isinstance(error, SyntaxError) and error.filename:
        return what  # it names them
    own = own_line(error, offer)
    return f"{what} ({own})" if own else what


def own_line(error: BaseException, offer: Offer) -> str:
    """The innermost frame that is the plug-in's own, as "file:line"; "" without one."""
    import traceback
    from importlib.util import find_spec

    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    try:
        spec = find_spec(offer.value.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    root = spec.origin.removesuffix("__init__.py") if spec is not None and spec.origin else ""
    own = [f for f in frames if root and f[0].startswith(root)]
    return f"{os.path.basename(own[-1][0])}:{own[-1][1]}" if own else ""


@cache
def _source(module: str) -> bytes:
    """The Python files of the top-level package of `module`, or that one file. Nothing is imported."""
    from importlib.util import find_spec
    from pathlib import Path

    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return b""
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    files = [f for folder in folders for f in sorted(folder.rglob("*.py"))]
    if not folders and spec.origin and Path(spec.origin).is_file():
        files = [Path(spec.origin)]
    return b"\0".join(part for f in files for part in (f.name.encode(), f.read_bytes()))


# ---- looking --------------------------------------------------------------------------------------------------


def offers(group: str) -> tuple[Offer, ...]:
    """What installed packages offer in `group`, in order of name, then package."""
    return _all(tuple(sys.path))[0].get(group, ())


def problems() -> tuple[str, ...]:
    """What installed packages say of Flambeau that cannot be read; each names the package, the file and the line."""
    return _all(tuple(sys.path))[1]


@lru_cache(maxsize=16)
def _all(path: tuple[str, ...]) -> tuple[dict[str, tuple[Offer, ...]], tuple[str, ...]]:
    found: dict[str, set[Offer]] = {}
    wrong: list[str] = []
    for file in _files(path):
        for group, offer in _read(file, wrong):
            found.setdefault(group, set()).add(offer)
    return {group: tuple(sorted(those)) for group, those in found.items()}, tuple(dict.fromkeys(wrong))


def _files(path: tuple[str, ...]) -> Iterator[str]:
    for folder in dict.fromkeys(path):
        try:
            names = [n for n in os.listdir(folder or ".") if n.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        yield from (os.path.join(folder, name, "entry_points.txt") for name in sorted(names))


_SECTION = re.compile(r"\[([^\]]+)\]$")
_ENTRY = re.compile(r"(?P<name>[^=]+?)\s*=\s*(?P<value>[\w.]+(?:\s*:\s*[\w.]+)?)\s*(?:\[[^\]]*\])?$")


def _read(file: str, wrong: list[str]) -> list[tuple[str, Offer]]:
    """(group, offer) of one package. What cannot be read is added to `wrong` and left out; all else counts."""
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError:
        return []
    if b"flambeau." not in data:
        return []
    package = _package(os.path.dirname(file))
    entries: list[tuple[str, str, str]] = []
    group = ""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        line = line.strip()
        said = f"[plug-in] {package}: {file}, line {number}: "
        if section := _SECTION.match(line):
            group = section[1].strip()
            if group.startswith("flambeau.") and group not in INTERFACES and group != VERSIONS:
                wrong.append(f"{said}there is no group '{group}'. Use one of {', '.join([*INTERFACES, VERSIONS])}.")
        elif (group not in INTERFACES and group != VERSIONS) or not line or line[0] in "#;":
            continue
        elif entry := _ENTRY.match(line):
            entries.append((group, entry["name"], re.sub(r"\s", "", entry["value"])))
        else:
            wrong.append(f"{said}'{line}' is no entry point. Write: name = module:attribute.")
    versions = _versions(package, file, [(n, v) for g, n, v in entries if g == VERSIONS], wrong)
    return [(g, Offer(n, package, v, versions.get(g, 1), file)) for g, n, v in entries if g != VERSIONS]


def _versions(package: str, file: str, said: list[tuple[str, str]], wrong: list[str]) -> dict[str, int]:
    """Group -> the version that a package is written for, where it says so."""
    found = {}
    for name, value in said:
        group, version = f"flambeau.{name}", re.fullmatch(r"v(\d+)", value)
        if group in INTERFACES and version:
            found[group] = int(version[1])
        else:
            known = ", ".join(g.removeprefix("flambeau.") for g in INTERFACES)
            wrong.append(
                f"[plug-in] {package}: {file}: '{name} = {value}' of {VERSIONS} says no version. "
                f"Write one of {known}, and v1, v2, ..."
            )
    return found


def _package(folder: str) -> str:
    """Name and version of the package whose metadata lie in `folder`."""
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                header = dict(line.split(": ", 1) for line in file.read().split("\n\n")[0].splitlines() if ": " in line)
        except OSError:
            continue
        if "Name" in header:
            return f"{header['Name'].strip()} {header.get('Version', '').strip()}".strip()
    return os.path.basename(folder).rpartition(".")[0].replace("-", " ", 1)
