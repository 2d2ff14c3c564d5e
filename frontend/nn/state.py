"""State dicts of modules: collecting them, and loading them all or nothing.

In: a `Module` (duck-typed). Out: names and tensors, or a report of what does not fit. Next: `flambeau.serialization`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flambeau.autograd import no_grad
from flambeau.runtime.recorder import Tensor


class IncompatibleKeys(NamedTuple):
    """Names that the module has and the state dict lacks, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _live(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Dotted names and live tensors of what is saved, shared ones under each of their names."""
    for table in (module._parameters, module._saved_buffers):
        for name, value in table.items():
            if value is not None:
                yield prefix + name, value
    for name, child in module._modules.items():
        if child is not None:
            yield from _live(child, f"{prefix}{name}.")


def module_state(module: Any, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
    """What `Module.state_dict` returns."""
    return OrderedDict((name, value if keep_vars else value.detach()) for name, value in _live(module, prefix))


def _report(module: Any, missing: list[str], unexpected: list[str], misfits: list[str]) -> str:
    lines = [f"[load_state_dict] the state dict does not fit {type(module).__name__}; nothing was loaded."]
    if missing:
        lines.append("Missing key(s): " + ", ".join(map(repr, missing)) + ".")
    if unexpected:
        lines.append("Unexpected key(s): " + ", ".join(map(repr, unexpected)) + ".")
    lines += misfits
    if not misfits:
        lines.append("Load a matching checkpoint, or pass strict=False to load only what matches.")
    return "\n    ".join(lines)


def load_state(module: Any, state: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """What `Module.load_state_dict` does."""
    from flambeau.functions.from_data import as_tensor

    if not isinstance(state, Mapping):
        raise TypeError(f"[load_state_dict] expected a dict of names and tensors, got {type(state).__name__}.")
    live = dict(_live(module, ""))
    found = {name: as_tensor(state[name]) for name in live if name in state}
    keys = IncompatibleKeys([n for n in live if n not in state], [n for n in state if n not in live])
    misfits = [
        f"Size mismatch for {name}: the state dict has {tuple(value.shape)}, the module has {tuple(live[name].shape)}."
        for name, value in found.items()
        if tuple(value.shape) != tuple(live[name].shape)
    ]
    if misfits or (strict and any(keys)):
        raise RuntimeError(_report(module, *(keys if strict else ([], [])), misfits))
    with no_grad():
        for name, value in found.items():
            live[name].copy_(value)
    return keys
