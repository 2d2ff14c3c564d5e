"""Writes frontend/torch_names.txt: the public names of the installed PyTorch, one line per owner, for the hints of `missing.py`;
and frontend/torch_keywords.txt: those of its functions that take `out`, `layout` and `pin_memory`, for `declarations.py`.

    python tools/torch_names.py

The list was made with PyTorch 2.13.0. Names that Python modules only import (types of `typing`, other modules) are left out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from pathlib import Path
from typing import Any

import torch

OWNERS = {
    "flambeau": "torch", "flambeau.nn": "torch.nn", "flambeau.nn.functional": "torch.nn.functional",
    "flambeau.nn.init": "torch.nn.init", "flambeau.nn.utils": "torch.nn.utils", "flambeau.optim": "torch.optim",
    "flambeau.autograd": "torch.autograd", "flambeau.utils.data": "torch.utils.data", "flambeau.utils": "torch.utils",
    "flambeau.cuda": "torch.cuda", "flambeau.linalg": "torch.linalg", "flambeau.fft": "torch.fft", "flambeau.func": "torch.func",
       "flambeau.autograd.functional": "torch.autograd.functional",
    "flambeau.utils.checkpoint": "torch.utils.checkpoint", "flambeau.jit": "torch.jit",
    "flambeau.hub": "torch.hub", "flambeau.distributions": "torch.distributions",
    "flambeau.special": "torch.special", "flambeau.accelerator": "torch.accelerator", "flambeau.backends": "torch.backends",
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


#: Namespace -> where its functions are.
NAMESPACES = {
    "flambeau": torch, "special": torch.special, "linalg": torch.linalg, "fft": torch.fft,
    "nn.functional": torch.nn.functional, "Tensor": torch.Tensor,
}  # fmt: skip
WORDS = ("out", "layout", "pin_memory")


def stubs(path: str, owner: str = "") -> dict[str, set[str]]:
    """The functions of a stub file, or of a class in it, with their arguments."""
    body = ast.parse((Path(torch.__file__).parent / path).read_text()).body
    if owner:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == owner).body
    found: dict[str, set[str]] = {}
    for n in body:
        if isinstance(n, ast.FunctionDef):
            found.setdefault(n.name, set()).update(a.arg for a in (*n.args.args, *n.args.kwonlyargs))
    return found


def taking(place: str, word: str) -> list[str]:
    """The functions that take a keyword, by their signatures, PyTorch's stubs or, where both are silent, their documentation."""
    owner: Any = NAMESPACES[place]
    known = stubs("_C/_VariableFunctions.pyi") if owner is torch else {}
    known = stubs("_C/__init__.pyi", "TensorBase") if place == "Tensor" else known
    found = []
    for name in dir(owner):
        value = getattr(owner, name, None)
        if name.startswith("_") or not callable(value) or isinstance(value, type):
            continue
        try:
            takes = word in inspect.signature(value).parameters
        except (TypeError, ValueError):
            text = value.__doc__ if isinstance(value.__doc__, str) else ""
            takes = word in known[name] if name in known else f"{word}=" in text.strip().partition("\n")[0]
        found += [name] if takes else []
    return found


def keywords() -> str:
    """Which functions take the keywords, a line for each of these in each namespace."""
    lines = [(f"{place} {word}", taking(place, word)) for place in NAMESPACES for word in WORDS]
    return "".join(f"{key}: {' '.join(names)}\n" for key, names in lines if names)


def main() -> None:
    lines = [f"{ours}: {' '.join(names_of(theirs))}" for ours, theirs in OWNERS.items()]
    for name, cls in CLASSES.items():
        lines.append(f"{name}: {' '.join(n for n in dir(cls) if not n.startswith('_'))}")
    target = Path(__file__).resolve().parent.parent / "frontend" / "torch_names.txt"
    target.write_text("\n".join(lines) + "\n")
    (target.parent / "torch_keywords.txt").write_text(keywords())
    print(f"{target}: {sum(len(line.split()) - 1 for line in lines)} names, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
