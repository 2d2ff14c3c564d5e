"""The import table of docs/architecture.md, and how modules import each other, checked on the sources."""

import ast
from functools import cache
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


# ---- what imports within a layer keep to ----------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(folder("frontend")).with_suffix("").parts
    return ".".join(("flambeau", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def own(node: ast.AST, modules: set[str]) -> set[str]:
    """The modules of ours that an import statement names."""
    if isinstance(node, ast.Import):
        return {a.name for a in node.names} & modules
    if isinstance(node, ast.ImportFrom) and node.module:
        full = {a.name: f"{node.module}.{a.name}" for a in node.names}
        return {name if name in modules else node.module for name in full.values()} & modules
    return set()


def statements(tree: ast.AST, inside: bool = False):
    """(import statement, whether it is in a function), but for what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        else:
            yield from statements(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def parsed() -> dict[str, tuple[Path, ast.Module]]:
    return {module_name(p): (p, ast.parse(p.read_text())) for layer in FORBIDDEN for p in sources(layer)}


def test_an_import_within_a_function_says_why():
    """Imports of our own stand at the top, but for what closes a circle there or costs a start its time; a comment says which."""
    files = parsed()
    silent = []
    for path, tree in files.values():
        lines = path.read_text().splitlines()
        explained = 0  # the last line of imports that a comment has explained
        for node, inside in statements(tree):
            if inside and own(node, set(files)):
                around = lines[node.lineno - 2 : node.end_lineno]
                if "#" in "".join(around[1:]) or around[0].lstrip().startswith("#") or explained == node.lineno - 1:
                    explained = node.end_lineno
                else:
                    silent.append(f"{path}:{node.lineno}")
    assert not silent, "imports without a reason beside them:\n" + "\n".join(silent)


def circles(edges: dict[str, set[str]]) -> list[str]:
    """What is left of a graph when whatever leads nowhere is taken away, again and again, from both ends."""
    left = set(edges)
    while gone := {m for m in left if not edges[m] & left or not any(m in edges[other] for other in left)}:
        left -= gone
    return sorted(left)


def test_modules_import_each_other_in_one_direction():
    files = parsed()
    modules = set(files)
    edges: dict[str, set[str]] = {}
    for name, (_, tree) in files.items():
        edges[name] = {m for node, inside in statements(tree) if not inside for m in own(node, modules)} - {name}
    assert len(edges) > 700
    assert not circles(edges)


def test_a_circle_of_imports_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}) == ["b", "c"]


#: Classes that PyTorch and torchvision have under one name in several modules.
TWICE_THERE = {
    "autocast",
    "GradScaler",
    "Identity",
    "Lambda",
    "CIFAR10",
    "FashionMNIST",
    "ImageFolder",
    "MNIST",
    "Node",
    "profile",
}


def test_a_class_has_a_name_of_its_own():
    """One meaning per name, over all layers, also of those that only a module itself knows."""
    found: dict[str, list[str]] = {}
    for name, (_, tree) in parsed().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(name)
    several = {name: where for name, where in found.items() if len(where) > 1}
    assert set(several) == TWICE_THERE, {n: w for n, w in several.items() if n not in TWICE_THERE}


#: Files that hold one idea in more lines: a class that computes with itself, the kinds of schedules, a table.
LONG = {"size.py": 510, "kinds.py": 500, "coefficients_special.py": 560}


def test_a_file_holds_one_idea():
    """About 400 lines; with more than 450 it holds two, and is split, or stands above with what its idea is."""
    lengths = {path: len(path.read_text().splitlines()) for path, _ in parsed().values()}
    too_long = {str(path): n for path, n in lengths.items() if n > LONG.get(path.name, 450)}
    assert not too_long, too_long
