"""What other packages offer: op records (entry point group `flambeau.ops`) and passes (`flambeau.passes`).

In: the metadata of the packages on `sys.path`. Out: `Offer`s by name. Looking reads small files only; a plug-in is
imported when something of it is used. Next: `compiler/foreign.py`, what the compiler makes of them.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flambeau.dialects.record import REGISTRY, OpRecord

OPS, PASSES = "flambeau.ops", "flambeau.passes"


class PluginError(RuntimeError):
    """A plug-in cannot be loaded or did what none may do; the message names its package."""


@dataclass(frozen=True, order=True)
class Offer:
    """One entry point: `value` is "module:attribute", `package` the distribution's name and version."""

    name: str
    package: str
    value: str

    def load(self) -> Any:
        """The object. Raises PluginError when importing it raises, whatever it be; then no record of it stays
        registered."""
        module, _, attribute = self.value.partition(":")
        before = set(REGISTRY)
        try:
            return getattr(import_module(module), attribute)
        except BaseException as e:
            for name in REGISTRY.keys() - before:
                del REGISTRY[name]
            if is_interrupt(e):
                raise
            raise PluginError(
                f"[plug-in] '{self.name}' of {self.package} cannot be imported: {place(e, self)}. "
                f"Repair or uninstall the package."
            ) from e

    def source(self) -> bytes:
        """What cache keys hold of it: its name, and all Python files of the package that it lives in."""
        return f"{self.name}\0{self.package}\0{self.value}\0".encode() + _source(self.value.partition(":")[0])


def is_interrupt(error: BaseException) -> bool:
    """Whether it is the user's Ctrl-C: workers hear none, so that there it is a plug-in's own doing."""
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def place(error: BaseException, offer: Offer) -> str:
    """What a plug-in raised, for people, with the file and line of the innermost frame that is the plug-in's own."""
    what = f"{type(error).__name__}: {error}".rstrip(".: ")
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    try:
        spec = find_spec(offer.value.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    root = spec.origin.removesuffix("__init__.py") if spec is not None and spec.origin else ""
    own = [f for f in frames if root and f[0].startswith(root)]
    if isinstance(error, SyntaxError) and error.filename:
        return what  # it names them
    return f"{what} ({os.path.basename(own[-1][0])}:{own[-1][1]})" if own else what


def offers(group: str) -> tuple[Offer, ...]:
    """What installed packages offer in `group`, in order of name, then package."""
    found = _offers(tuple(sys.path))
    return found.get(group, ())


def op_offer(name: str) -> Offer | None:
    """The offer of the op called `name`, if a plug-in has it."""
    return next((o for o in offers(OPS) if o.name == name), None)


def load_op(name: str) -> None:
    """Register the record of the op called `name` if a plug-in offers it. Raises PluginError."""
    offer = op_offer(name)
    if offer is None:
        return
    record = offer.load()
    if not isinstance(record, OpRecord) or record.name != name:
        raise PluginError(
            f"[plug-in] '{name}' of {offer.package} gives {record!r}. Make it an OpRecord with name '{name}'."
        )


def load_ops() -> list[PluginError]:
    """Register the records of all plug-ins; returns what went wrong."""
    errors = []
    for offer in offers(OPS):
        if offer.name in REGISTRY:
            continue
        try:
            load_op(offer.name)
        except PluginError as e:
            errors.append(e)
    return errors


# ---- looking --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _offers(path: tuple[str, ...]) -> dict[str, tuple[Offer, ...]]:
    """All offers of the packages on `path`. Most programs have none, and then nothing slow is imported to say so."""
    if not any(b"[flambeau." in text for text in _entry_point_files(path)):
        return {}
    from importlib.metadata import distributions

    found: dict[str, set[Offer]] = {OPS: set(), PASSES: set()}
    for package in distributions(path=list(path)):
        for entry in package.entry_points:
            if entry.group in found:
                label = f"{package.metadata['Name']} {package.version}"
                found[entry.group].add(Offer(entry.name, label, entry.value))
    return {group: tuple(sorted(those)) for group, those in found.items()}


def _entry_point_files(path: tuple[str, ...]) -> Iterator[bytes]:
    for folder in dict.fromkeys(path):
        try:
            names = [n for n in os.listdir(folder or ".") if n.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for name in names:
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    yield file.read()
            except OSError:
                continue


@cache
def _source(module: str) -> bytes:
    """The Python files of the top-level package of `module`, or that one file. Nothing is imported."""
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
