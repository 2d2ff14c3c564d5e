"""Every cache of the process has a limit, which docs/architecture.md states, or is bounded by code, which this file says."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest
from flambeau.compiler.backend import literals
from flambeau.runtime import recorder

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| `([\w/.]+)` `(\w+)` \| [^|]+ \| (\d+) \|$", PAGE, re.M)
FOLDERS = ("frontend", "compiler", "dialects", "runtime")

#: Caches that grow with the code of this package, of plug-ins and of users, by file; not with programs, shapes or numbers.
BY_CODE = {
    "compiler/groups/form.py": "ranks",
    "compiler/backend/mlir.py": "pipelines of passes",
    "compiler/host_calls/reference_kernel.py": "forms of calls of ops that run by their reference; plans hold their addresses",
    "dialects/dtypes.py": "dtypes of NumPy",
    "frontend/data/blocks.py": "loans, which end",
    "frontend/debug.py": "callbacks, which end with their programs",
    "frontend/distributions/kl.py": "pairs of classes",
    "frontend/functions/sharing.py": "shared memory in use: what goes takes itself out",
    "frontend/tensor_hooks.py": "weak references, which take themselves out",
}


@lru_cache(1)
def caches() -> dict[str, set[str]]:
    """By file: dicts of modules that begin empty and are found by more than names, and functions of values cached for ever."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = set(_dicts(path)) | set(_functions(path))
            if names:
                found[path.relative_to(ROOT).as_posix()] = names
    return found


def _dicts(path):
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if ast.unparse(node.value) == "OrderedDict()" and isinstance(target, ast.Name):
            yield target.id
        keyed = ast.unparse(node.value) == "{}" and isinstance(node, ast.AnnAssign)
        if keyed and re.match(r"dict\[(tuple\[Any|int|str, Any|np\.)", ast.unparse(node.annotation)):
            yield target.id


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef) or not node.args.args:
            continue
        said = [ast.unparse(d) for d in node.decorator_list]
        values = {ast.unparse(a.annotation) for a in node.args.args if a.annotation}
        if any(re.fullmatch(r"(functools\.)?(cache|lru_cache\((maxsize=)?None\))", d) for d in said) and (
            values & {"str", "int", "float", "Any", "tuple[int, ...]", "Size"}
        ):
            yield node.name


#: Functions cached for ever whose arguments are names of code.
NAMES_OF_CODE = {
    "compiler/groups/group_dialect.py",
    "compiler/groups/weights.py",
    "compiler/targets/__init__.py",
    "dialects/entry_points.py",
    "dialects/flambeau_ops.py",
    "frontend/function.py",
    "frontend/named_calls.py",
    "frontend/named_rules.py",
}


def test_a_cache_is_in_the_table_or_bounded_by_code():
    stated = {file for file, _, _ in ROWS}
    unknown = {f: n for f, n in caches().items() if f not in stated | BY_CODE.keys() | NAMES_OF_CODE}
    assert not unknown, f"state their limits in docs/architecture.md, or here why code bounds them: {unknown}"
    assert not (BY_CODE.keys() | NAMES_OF_CODE) - caches().keys()


@pytest.mark.accept("VER-06")
@pytest.mark.parametrize("file, name, limit", [row for row in ROWS if "/" in row[0]])
def test_a_limit_is_the_stated_one(file, name, limit):
    text = (ROOT / file).read_text()
    (said,) = re.findall(rf"^(?:#define )?{name} (?:= )?(\d[\d_]*)", text, re.M)
    assert int(said) == int(limit)
    assert len(re.findall(rf"\b{name}\b", text)) > 1, "nothing asks for it"


def test_limits_that_users_set_are_the_stated_ones():
    text = (ROOT / "runtime" / "recorder" / "recorder.c").read_text()
    found = dict(re.findall(r"\.(max_states|max_programs|max_types) = ([^,]+),", text))
    for name, said in found.items():
        shifted = re.fullmatch(r"1u << (\d+)", said)
        assert ("set_limits", name, str(1 << int(shifted[1]) if shifted else int(said))) in ROWS
    assert len(found) == 3 and {"states", "programs", "types", "statics"} <= recorder.stats().keys()


def test_numbers_of_kernels_are_spelled_by_a_bounded_cache():
    limit = literals._spell.cache_info().maxsize
    for number in range(limit + 100):
        literals._spell("double", f"{number}.5")
    assert literals._spell.cache_info().currsize == limit
