"""What a model is, without its numbers: so that a checkpoint is not loaded into another one.

In: a module. Out: a line for each part, and a hash of them. Next: `manager.py`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flambeau.runtime.recorder import Tensor


def architecture(model: Any) -> list[str]:
    """A line for each module (its path, its class, what it prints of its options) and each tensor of the state dict (name, shape,
    dtype). Names of classes are without their modules, so that code may move."""
    modules = [f"{path or '.'}: {type(m).__name__}({m.extra_repr()})" for path, m in model.named_modules()]
    tensors = [
        f"{name}: {tuple(t.shape)} {t.dtype.name}" for name, t in model.state_dict().items() if isinstance(t, Tensor)
    ]
    return modules + tensors


def fingerprint(lines: list[str]) -> str:
    """64 hexadecimal digits for `architecture(model)`: the same in every process."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def difference(saved: list[str], here: list[str]) -> str:
    """The first line in which two architectures differ."""
    for old, new in zip(saved, here):
        if old != new:
            return f"the checkpoint has '{old}', the model '{new}'"
    longer, whose = (saved, "the checkpoint") if len(saved) > len(here) else (here, "the model")
    return f"only {whose} has '{longer[min(len(saved), len(here))]}'"
