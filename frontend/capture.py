"""A model's call recorded without consequences, and what it would have changed.

In: a callable, inside `captured`. Out: a `Capture` that lists, as sentences, which parameters, buffers, gradients and other
tensors from outside the call changes; whatever happens, all of them, the attributes of modules and the state of
random numbers are as before when the block ends. The recorder undoes what it has logged (`runtime/recorder/capture.c`),
attributes are put back here. Next: `exporting.py`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_WHOLE_MODE = 0xFFF
_SHOWN = 4  # names in one sentence


class Capture:
    """The tensors of a model by name, and what a call does to them while it is recorded."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.attributes = [(path, module, dict(vars(module))) for path, module in modules]
        self.tensors: dict[str, Tensor] = {}
        for path, module, _ in self.attributes:
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    self.tensors.setdefault(f"{path}{name}", value)
        self._gradients = [(f"the gradient of {n}", t.grad) for n, t in self.tensors.items() if t.grad is not None]
        self._leaves = {id(leaf): n for n, t in self.tensors.items() if (leaf := recorder.leaf_of(t)) is not None}

    def problems(self, read: Callable[[Tensor], bool] = lambda t: False) -> list[str]:
        """What outlives the call, a sentence each. `read(tensor)` says whether the results depend on what it held before."""
        found: dict[tuple, list[str]] = {}
        for kind, name, place, what in recorder.capture_changes():
            if kind == "note":
                found.setdefault((name, place, "changes {} in place"), []).extend(map(self._name, what))
            elif kind == "write":
                found.setdefault((name, place, "changes {} in place"), []).append(self._name(what))
            else:
                names = found.setdefault((name, place, "sets the gradient of {}"), [])
                names.append(self._leaves.get(id(what), "a tensor"))
        sentences = [
            f"{name}{_at(place)} {verb.format(_listed(names))}, which outlives the call"
            for (name, place, verb), names in found.items()
        ]
        return sentences + self._assigned(read)

    def _name(self, tensor: Tensor) -> str:
        known = [*self.tensors.items(), *self._gradients]
        return next((n for n, t in known if recorder.same_storage(t, tensor)), "a tensor")

    def _assigned(self, read: Callable[[Tensor], bool]) -> list[str]:
        """State kept by assigning: an attribute that is another tensor now, where the results depend on what it was."""
        return [
            f"the model assigns another tensor to {path}{name}, which it also reads: that outlives the call"
            for path, module, before in self.attributes
            for name, value in before.items()
            if isinstance(value, Tensor) and vars(module).get(name) is not value and read(value)
        ]


def _at(place: tuple[str, int] | None) -> str:
    return f" at {place[0]}:{place[1]}" if place else ""


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = len(unique) - _SHOWN
    return ", ".join(unique[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def captured(model: Any) -> Iterator[Capture]:
    """Record inside the block; see the module. Raises RuntimeError within another such block of this thread."""
    modules = modules_of(model)
    capture = Capture(modules)
    containers = [_Container(value) for _, _, before in capture.attributes for value in _nested(before)]
    recorder.capture_begin()
    try:
        with recorder.ModeScope(_WHOLE_MODE, recorder.get_mode()):
            yield capture
    finally:
        for _, module, before in capture.attributes:
            _put_back(vars(module), before)
        for container in containers:
            container.put_back()
        recorder.capture_end()


# ---- modules and their attributes -----------------------------------------------------------------------------


def modules_of(model: Any) -> list[tuple[str, Any]]:
    """(prefix of its members' names, module): those of a model, a method of one, or a function that holds some."""
    found: dict[int, tuple[str, Any]] = {}
    for root in _roots(model):
        for path, module in root.named_modules():
            found.setdefault(id(module), (f"{path}." if path else "", module))
    return list(found.values())


def _roots(model: Any) -> Iterator[Any]:
    pending, seen = [model], set()
    while pending:
        x = pending.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if hasattr(x, "named_modules"):
            yield x
        elif isinstance(x, partial):
            pending += [x.func, *x.args, *x.keywords.values()]
        elif callable(x):
            pending += [x.__self__] if hasattr(x, "__self__") else []
            pending += [cell.cell_contents for cell in getattr(x, "__closure__", None) or () if _is_full(cell)]


def _is_full(cell: Any) -> bool:
    """Whether the variable it stands for has a value."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


_CONTAINERS = (list, dict, OrderedDict, set, deque)


def _nested(value: dict) -> Iterator[Any]:
    """The plain containers in a module's attributes, inner ones too."""
    pending, seen = list(value.values()), set()
    while pending:
        x = pending.pop()
        if type(x) not in _CONTAINERS or id(x) in seen:
            continue
        seen.add(id(x))
        yield x
        pending += x.values() if isinstance(x, dict) else x


class _Container:
    """A container and what was in it."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.items = dict(value) if isinstance(value, dict) else list(value)

    def put_back(self) -> None:
        value = self.value
        if isinstance(value, dict):
            _put_back(value, self.items)
        elif len(value) != len(self.items) or any(a is not b for a, b in zip(value, self.items)):
            value.clear()
            (value.update if isinstance(value, set) else value.extend)(self.items)


def _put_back(now: dict, before: Any) -> None:
    same = len(now) == len(before) and all(a is b and now[a] is before[b] for a, b in zip(now, before))
    if not same:
        now.clear()
        now.update(before)
