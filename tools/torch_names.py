"""Writes frontend/torch_names.txt: the public names of the installed PyTorch, one line per owner, for the hints of `missing.py`;
and frontend/torch_out.txt: those of its functions that take `out`, for `declarations.py`.

    python tools/torch_names.py

The list was made with PyTorch 2.13.0. Names that Python modules only import (types of `typing`, other modules) are left out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
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


#: Namespace -> the module whose functions say in their documentation that they take `out`.
STORING = {
    "flambeau": "torch", "special": "torch.special", "linalg": "torch.linalg", "fft": "torch.fft",
    "nn.functional": "torch.nn.functional",
}  # fmt: skip


def takes_out(value: object, stubs: dict[str, bool], name: str) -> bool:
    """Whether a function takes `out`, by its signature, PyTorch's stubs or, where both are silent, its documentation."""
    try:
        return "out" in inspect.signature(value).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        text = getattr(value, "__doc__", None)
        return stubs.get(name, isinstance(text, str) and "out=" in text.strip().partition("\n")[0])


def stubbed() -> dict[str, bool]:
    """The functions of `torch` in the stubs, with whether they have an overload with `out`."""
    tree = ast.parse((Path(torch.__file__).parent / "_C" / "_VariableFunctions.pyi").read_text())
    made = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    found: dict[str, bool] = {}
    for n in made:
        found[n.name] = found.get(n.name, False) or any(a.arg == "out" for a in (*n.args.args, *n.args.kwonlyargs))
    return found


def storing() -> str:
    """Which functions take `out`, a line for each namespace."""
    lines = []
    for ours, theirs in STORING.items():
        owner, stubs = importlib.import_module(theirs), stubbed() if theirs == "torch" else {}
        found = [n for n in names_of(theirs) if takes_out(getattr(owner, n), stubs, n)]
        lines.append(f"{ours}: {' '.join(found)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    lines = [f"{ours}: {' '.join(names_of(theirs))}" for ours, theirs in OWNERS.items()]
    for name, cls in CLASSES.items():
        lines.append(f"{name}: {' '.join(n for n in dir(cls) if not n.startswith('_'))}")
    target = Path(__file__).resolve().parent.parent / "frontend" / "torch_names.txt"
    target.write_text("\n".join(lines) + "\n")
    (target.parent / "torch_out.txt").write_text(storing())
    print(f"{target}: {sum(len(line.split()) - 1 for line in lines)} names, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
