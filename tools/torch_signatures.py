"""Writes `tests/pytorch_signatures.txt`: how PyTorch's documented functions, methods, modules and optimizers are called, so that
the test suite needs no PyTorch. With `--lacks` it removes from `tests/pytorch_lacks.txt` what is no longer lacking.

    python tools/torch_signatures.py            # needs torch; the file was made with PyTorch 2.13.0
    python tools/torch_signatures.py --lacks    # needs no torch

A line is one way to call: names, kinds and defaults as in Python, without types. What C defines is read from PyTorch's stubs.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests"

#: Area -> (the module or class, where its stubs are, the class in the stubs).
AREAS = {
    "torch": ("torch", "_C/_VariableFunctions.pyi", ""),
    "Tensor": ("torch.Tensor", "_C/__init__.pyi", "TensorBase"),
    "nn": ("torch.nn", "", ""),
    "Module": ("torch.nn.Module", "", ""),
    "nn.functional": ("torch.nn.functional", "nn/functional.pyi", ""),
    "nn.init": ("torch.nn.init", "", ""),
    "nn.utils": ("torch.nn.utils", "", ""),
    "optim": ("torch.optim", "", ""),
    "Optimizer": ("torch.optim.Optimizer", "", ""),
    "autograd": ("torch.autograd", "", ""),
    "utils.data": ("torch.utils.data", "", ""),
}


def stubs(path: Path, owner: str) -> dict[str, list[str]]:
    """Name -> signatures of the functions of a stub file, or of a class in it."""
    tree = ast.parse(path.read_text())
    body = (
        tree.body if not owner else next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner)
    )
    found: dict[str, list[str]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            for arg in (
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ):
                if arg is not None:
                    arg.annotation = None
            text = ast.unparse(node.args)
            if text not in found.setdefault(node.name, []):
                found[node.name].append(text)
    return found


def shown(value: Any) -> str:
    simple = value is None or isinstance(value, bool | int | float | str)
    simple = simple or (isinstance(value, tuple | list) and all(isinstance(v, bool | int | float) for v in value))
    return repr(value) if simple and "inf" not in repr(value) and "nan" not in repr(value) else "..."


def signature(value: Any) -> str | None:
    """What `inspect` knows; None where that is nothing."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return None
    if [p.kind for p in parameters] == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        return None
    plain = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _Text(p.default)) for p in parameters
    ]
    return str(inspect.Signature(plain))[1:-1]


class _Text:
    """A default as it is written."""

    def __init__(self, value: Any) -> None:
        self.text = shown(value)

    def __repr__(self) -> str:
        return self.text


def documented(area: str, owner: Any) -> Iterator[tuple[str, Any]]:
    """The names of an area that are documented, with what they are."""
    for name in sorted(dir(owner)):
        value = getattr(owner, name, None)
        if name.startswith("_") or not callable(value) or not getattr(value, "__doc__", None):
            continue
        home = getattr(value, "__module__", None) or "torch"
        is_class = isinstance(value, type)
        is_kept = (
            area in ("nn", "optim", "utils.data") and not issubclass(value, BaseException) if is_class else area != "nn"
        )
        if home.startswith("torch") and is_kept:
            yield name, value


def is_old(area: str, text: str) -> bool:
    """Forms that the stubs have and no page documents any more: `add(input, alpha, other)`."""
    names = [part.split("=")[0] for part in text.partition("*")[0].split(", ")]
    return (
        (area == "torch" and "self" in names)
        or "alpha" in names
        or ("value, " in text.partition("*")[0] and "tensor1" in names)
    )


def facts() -> list[str]:
    import torch

    lines, root = [], Path(torch.__file__).parent
    functions = {**stubs(root / "_C/_VariableFunctions.pyi", ""), **stubs(root / "_C/_nn.pyi", "")}
    for area, (path, stub, owner) in AREAS.items():
        known = {**functions, **(stubs(root / stub, owner) if stub else {})}
        place: Any = torch
        for part in path.split(".")[1:]:
            place = getattr(place, part)
        for name, value in documented(area, place):
            made = signature(value)
            found = [made] if made is not None else known.get(name, [])
            if not found:  # known by name only, but for modules without arguments
                bare = getattr(value, "__init__", None) is torch.nn.Module.__init__
                found = ["" if bare else "*args, **kwargs"]
            skip = "self, " if isinstance(place, type) else ""
            for text in found:
                if is_old(area, text):
                    continue
                text = text.replace("self, /, ", "self, ").removeprefix(skip) if skip else text
                text = "" if text in ("self", "self, /") and skip else text
                lines.append(f"{area} {name}({text})")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lacks", action="store_true", help="shrink tests/pytorch_lacks.txt")
    if not parser.parse_args().lacks:
        (TESTS / "pytorch_signatures.txt").write_text("\n".join(facts()) + "\n")
        return
    sys.path.insert(0, str(TESTS))
    import signatures

    target = TESTS / "pytorch_lacks.txt"
    found = signatures.lacks()
    before = signatures.read(target.read_text()) if target.exists() else found
    here_now = {item[:2] for item in before - found if item[2] == "absent"}  # may lack arguments
    known = {item for item in found if item in before or item[:2] in here_now}
    target.write_text(signatures.written(known))
    for item in sorted(found - known):
        print("new, so not written:", *item)


if __name__ == "__main__":
    main()
