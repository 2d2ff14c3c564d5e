"""Every switch of the compiler, in one object that is part of the cache key.

In: environment variables, which only set defaults. Out: `Options`, whose fields are checked when it is made. Next:
`driver.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from flambeau.compiler import targets
from flambeau.dialects.aval import CPU
from flambeau.runtime import environment


def default_cache_dir() -> Path:
    """`FLAMBEAU_CACHE`, else the user's cache folder. Raises RuntimeError where there is neither."""
    if path := environment.path("FLAMBEAU_CACHE"):
        return Path(path)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "flambeau"


class OptionRule(NamedTuple):
    """What a field accepts, as a test and in words; values of other types than `types` raise TypeError."""

    types: tuple[type, ...]
    words: str
    accepts: Callable[[Any], bool] = lambda value: True


def _option(rule: OptionRule, default: Any = None, make: Callable[[], Any] | None = None) -> Any:
    metadata = {"rule": rule}
    return field(default_factory=make, metadata=metadata) if make else field(default=default, metadata=metadata)


def _one_of(words: tuple[str, ...]) -> OptionRule:
    return OptionRule((str,), environment.either(tuple(f"'{w}'" for w in words)), lambda value: value in words)


_BOOL = OptionRule((bool,), "True or False")
_COUNT = OptionRule((int,), "an int of at least 1", lambda value: value >= 1)
_NAMES = OptionRule((tuple,), "a tuple of names", lambda value: all(isinstance(v, str) for v in value))
_OPS = OptionRule((tuple,), "a tuple of names of primitive ops", lambda value: all(map(_only_computes, value)))
_SCHEDULES = OptionRule((tuple,), "a dict from patterns to fields", lambda value: _are_entries(value))
_TARGET = OptionRule((str,), _one_of(("host", *targets.KNOWN)).words, targets.is_known)
_FOLDER = OptionRule(
    (str, type(None)), "None or a folder that can be written", lambda value: not value or _writable(value)
)


@dataclass(frozen=True)
class Options:
    """`mode`: "background" runs new programs op by op while workers compile the fused one, "blocking" compiles at first
    sight, "off" never fuses. `fuse` and `max_cluster_ops` shape the fused program; `target` is the machine to compile
    for; `dump` is a folder for every stage; `plugins` says whether passes of other packages take part, but for those that
    `without` names; `strict_sizes` raises where a program cannot be compiled for all sizes, instead of compiling it for
    those at hand; `through_mlir` makes every kernel from what MLIR hands back of its fusion group, printed, parsed and
    verified, instead of from the group itself (the kernels are the same); `on_host` names primitive ops that run by their
    NumPy references, as steps of the compiled program around them; `devices` says what the program's devices other than the
    CPU are, as in `cuda:0=sm_90`: the driver fills it in; `schedules` replaces fields of kernels' schedules,
    as in `{"matmul*": {"rows": 6, "vectors": 2}}` (docs/compiler.md).

    Raises TypeError or ValueError for a value that a field does not take."""

    mode: str = _option(_one_of(environment.VARIABLES["FLAMBEAU_COMPILE"] or ()), "background")
    fuse: bool = _option(_BOOL, True)
    max_cluster_ops: int = _option(_COUNT, 200)
    target: str = _option(_TARGET, "host")
    dump: str | None = _option(_FOLDER, None)
    plugins: bool = _option(_BOOL, True)
    without: tuple[str, ...] = _option(_NAMES, ())
    strict_sizes: bool = _option(_BOOL, make=lambda: environment.flag("FLAMBEAU_STRICT_SIZES"))

    through_mlir: bool = _option(_BOOL, False)
    on_host: tuple[str, ...] = _option(_OPS, ())
    devices: tuple[str, ...] = _option(_NAMES, ())
    schedules: tuple[tuple[str, str], ...] = _option(_SCHEDULES, ())

    def __post_init__(self) -> None:
        if isinstance(self.dump, os.PathLike):
            object.__setattr__(self, "dump", os.fspath(self.dump))
        if isinstance(self.schedules, dict) or (
            isinstance(self.schedules, tuple) and self.schedules and _SCHEDULES.accepts(self.schedules)
        ):
            object.__setattr__(self, "schedules", _entries(self.schedules))
        for each in fields(self):
            _check(each.name, getattr(self, each.name), each.metadata["rule"])
        if self.dump:  # whoever writes there may have another working folder
            object.__setattr__(self, "dump", os.path.abspath(self.dump))

    def target_of(self, device: str) -> str:
        """The target that code for a device is compiled for. Raises RuntimeError for one that `devices` does not name."""
        found = dict(row.split("=", 1) for row in self.devices)
        if device == CPU:
            return self.target
        if device not in found:
            raise RuntimeError(f"[device] '{device}' is not among {self.devices or 'no devices'}. Say what it is.")
        return found[device]

    @staticmethod
    def from_environment() -> Options:
        """The defaults. Raises ValueError for a variable whose value means nothing."""
        environment.warn_of_misspelt()
        mode, strict = environment.value("FLAMBEAU_COMPILE"), environment.flag("FLAMBEAU_STRICT_SIZES")
        if dump := environment.path("FLAMBEAU_DUMP"):  # whether it can be written may change
            return Options(mode=mode or "background", dump=dump, strict_sizes=strict)
        return _defaults(mode or "background", strict)

    def changed(self, **changes: Any) -> Options:
        """These options with some fields changed, to run programs with. Raises TypeError or ValueError for fields that
        there are not, values that they do not take, and targets whose code cannot run here."""
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"[options] there is no option '{name}'. The options are {', '.join(known)}.")
        found = replace(self, **changes)
        targets.check_runs_here(found.target)
        return found


@lru_cache(maxsize=8)
def _defaults(mode: str, strict_sizes: bool) -> Options:
    """Checked once, not for every new program."""
    return Options(mode=mode, strict_sizes=strict_sizes)


def _check(name: str, value: Any, rule: OptionRule) -> None:
    if type(value) not in rule.types:
        raise TypeError(f"[options] {name} is {value!r}, of type {type(value).__name__}. Give {rule.words}.")
    if not rule.accepts(value):
        raise ValueError(f"[options] {name} is {value!r}. Give {rule.words}.")


def _are_entries(value: tuple[Any, ...]) -> bool:
    if not value:
        return True
    from flambeau.compiler.schedules import overrides  # a start without schedules of the user's loads no kinds of them

    return all(map(overrides.is_entry, value))


def _entries(value: Any) -> tuple[tuple[str, str], ...]:
    from flambeau.compiler.schedules import overrides  # `import flambeau` does without

    return overrides.entries(value)


def _only_computes(name: Any) -> bool:
    """Whether a primitive op is called so, and may run on the host."""
    from flambeau.dialects.record import find  # a start from the caches loads no records

    try:
        op = find(name)
    except KeyError:
        return False
    return not op.effect and not op.regions


def _writable(path: str) -> bool:
    """Whether `path` is a folder that files can be made in, or could be made one."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)
