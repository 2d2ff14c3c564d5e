"""Writes frontend/torch_names.txt: the public names of the installed PyTorch, one line per owner, for the hints of `missing.py`.

    python tools/torch_names.py

The list was made with PyTorch 2.13.0. Names that Python modules only import (types of `typing`, other modules) are left out.
"""

from __future__ import annotations

import importlib
import types
from pathlib import Path

import torch

OWNERS = {
    "flambeau": "torch", "flambeau.nn": "torch.nn", "flambeau.nn.functional": "torch.nn.functional",
    "flambeau.nn.init": "torch.nn.init", "flambeau.nn.utils": "torch.nn.utils", "flambeau.optim": "torch.optim",
    "flambeau.autograd": "torch.autograd", "flambeau.utils.data": "torch.utils.data", "flambeau.utils": "torch.utils",
    "flambeau.cuda": "torch.cuda", "flambeau.linalg": "torch.linalg", "flambeau.func": "torch.func",
       "flambeau.autograd.functional": "torch.autograd.functional",
    "flambeau.utils.checkpoint": "torch.utils.checkpoint", "flambeau.jit": "torch.jit",
    "flambeau.hub": "torch.hub", "flambeau.accelerator": "torch.accelerator", "flambeau.backends": "torch.backends",
}  # fmt: skip
CLASSES = {"Tensor": torch.Tensor, "Module": torch.nn.Module, "Optimizer": torch.optim.Optimizer}


def is_public(module: str, name: str, value: object) -> bool:
    """Whether a name belongs to a module's interface, and is not something that the module imports for itself."""
    if name.startswith("_"):
        return False
    if isinstance(value, types.ModuleType):
        return value.__name__ == f"{module}.{name}"
    home = getattr(value, "__module__", None) or "torch"
    listed = getattr(importlib.import_module(module), "__all__", ())
    return home.startswith("torch") and (name in listed or not isinstance(value, type) or module != "torch")


def names_of(module: str) -> list[str]:
    owner = importlib.import_module(module)
    return [n for n in dir(owner) if is_public(module, n, getattr(owner, n, None))]


def main() -> None:
    lines = [f"{ours}: {' '.join(names_of(theirs))}" for ours, theirs in OWNERS.items()]
    for name, cls in CLASSES.items():
        lines.append(f"{name}: {' '.join(n for n in dir(cls) if not n.startswith('_'))}")
    target = Path(__file__).resolve().parent.parent / "frontend" / "torch_names.txt"
    target.write_text("\n".join(lines) + "\n")
    print(f"{target}: {sum(len(line.split()) - 1 for line in lines)} names, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
