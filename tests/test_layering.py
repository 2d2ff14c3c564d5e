"""The import table of docs/architecture.md, checked on the sources."""

import ast
from pathlib import Path

import flambeau
import flambeau.compiler
import flambeau.dialects
import flambeau.runtime
import pytest

FORBIDDEN = {
    "runtime": ("flambeau.dialects", "flambeau.compiler", "flambeau.frontend"),
    "dialects": ("flambeau.compiler",),
    "compiler": (),
    "frontend": ("flambeau.compiler",),
}
LOWER = ("flambeau.dialects", "flambeau.compiler", "flambeau.runtime")
BINDINGS = ("torch_mlir", "mlir", "llvmlite")


def folder(layer: str) -> Path:
    package = flambeau if layer == "frontend" else getattr(flambeau, layer)
    return Path(package.__file__).parent


def sources(layer: str) -> list[Path]:
    root = folder(layer)
    inner = [root / name for name in ("dialects", "compiler", "runtime")] if layer == "frontend" else []
    return [p for p in root.rglob("*.py") if not any(i in p.parents for i in inner)]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_follow_the_arrows(layer):
    files = sources(layer)
    assert files, f"no sources found for {layer}"
    for path in files:
        for name in imports(path):
            assert not name.startswith(FORBIDDEN[layer]), f"{path} imports {name}"
            if layer != "frontend" and name.split(".")[0] == "flambeau":
                assert name == "flambeau" or name.startswith(LOWER), f"{path} imports the frontend: {name}"


@pytest.mark.parametrize("layer", ["runtime", "dialects", "frontend"])
def test_only_the_compiler_knows_mlir_and_llvm(layer):
    allowed = {"mlir.py"} if layer == "dialects" else set()
    for path in sources(layer):
        if path.name not in allowed:
            assert not {n.split(".")[0] for n in imports(path)} & set(BINDINGS), path
