"""Plug-ins: the example is installed from its own folder and tested out of tree; bad ones are named and do no harm."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "plugin"


def install(source: Path, site: Path) -> None:
    """Install the plug-in in `source` into the folder `site`, without a network: by pip, or by hand where that is missing."""
    if find_spec("pip") and find_spec("setuptools"):
        options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        return
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    for name in tomllib.loads((source / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]:
        shutil.copytree(source / name, site / name)
    offer(site, project["name"], project["version"], project["entry-points"])


def offer(site: Path, name: str, version: str, groups: dict[str, dict[str, str]]) -> None:
    """The metadata of an installed package with entry points."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in those.items()) for group, those in groups.items()]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def python(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A fresh process that has what is installed in `site`, with a cache beside it."""
    defaults = {"PYTHONPATH": str(site), "FLAMBEAU_CACHE": str(site.parent / "cache"), "FLAMBEAU_COMPILE": "blocking"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **defaults, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=site.parent,
    )


def installed_from(example: Path, root: Path) -> Path:
    """The folder that an example is installed in, beside a copy of its sources."""
    shutil.copytree(example, root / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    install(root / "source", root / "site")
    return root / "site"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return installed_from(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture
def example(installed, tmp_path):
    """An installed example of one's own, to edit."""
    shutil.copytree(installed, tmp_path / "site")
    return tmp_path / "site"


# ---- the example


@pytest.mark.accept("CLI-08")
def test_the_example_passes_its_own_tests_out_of_tree(installed):
    tests = installed.parent / "source" / "tests"
    found = python(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests))
    assert found.returncode == 0, found.stdout
    found = python(installed, "-c", "from lit.main import main; main()", "-v", str(tests))
    assert found.returncode == 0 and "Passed: 2" in found.stdout, found.stdout


def test_list_passes_says_where_each_comes_from(installed):
    lines = python(installed, "-m", "flambeau.compiler.opt", "--list-passes").stdout.splitlines()
    origins = dict(line.split(None, 1) for line in lines)
    assert origins["drop-negations"] == "flambeau-example 0.1.0" and origins["simplify"] == "flambeau"


def test_nothing_of_a_plugin_is_imported_before_it_is_used(installed):
    code = """
import sys, flambeau as fb
fb.tensor([1.0])
print(sorted(m for m in sys.modules if m.startswith(("flambeau_example", "importlib.metadata"))))
from flambeau.dialects.record import find
print(find("fma").doc)
"""
    assert python(installed, "-c", code).stdout.splitlines() == ["[]", "x * y + z, rounded once."]


PROGRAM = """
import json
import flambeau as fb
from flambeau.compiler.tools import report
from flambeau_example import fma
x = fb.tensor([1.000244140625] * 3)
values = fma(x, x, -x * x).tolist()
print(json.dumps([values, [p.origin for p in report.programs()], [p.tier for p in report.programs()]]))
"""


def test_sources_of_plugins_are_part_of_cache_keys(example):
    def run():
        found = python(example, "-c", PROGRAM)
        assert (found.returncode, found.stderr) == (0, "")
        values, origins, tiers = json.loads(found.stdout)
        assert set(tiers) == {"fused"}
        return values, origins

    def edit(name, old, new):
        file = example / "flambeau_example" / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    once = 1.000244140625**2 - 1.00048828125
    assert run() == ([once] * 3, ["worker"])
    assert run() == ([once] * 3, ["disk"])
    edit("ops.py", "lower=lambda b, x, y, z: b.fma(x, y, z)", "lower=lambda b, x, y, z: b.add(b.mul(x, y), z)")
    assert run() == ([0.0] * 3, ["worker"])
    edit("passes.py", "In: any graph.", "In: any graph at all.")
    assert run()[1] == ["worker"]
    assert run()[1] == ["disk"]


# ---- bad plug-ins

PLUGIN = """
import os
from dataclasses import dataclass, replace
import numpy as np
from flambeau.compiler.passes import Pass
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import NoGradient
from flambeau.dialects.tape.common import elementwise


class Base(Pass):
    after = "simplify"

class Raises(Base):
    name = "raises"
    def __call__(self, graph):
        graph.nodes.clear()  # half done
        raise ZeroDivisionError("by nobody")

class Nothing(Base):
    name = "nothing"
    def __call__(self, graph):
        return None

class Undefined(Base):
    name = "undefined"
    def __call__(self, graph):
        graph.nodes.reverse()
        return graph

class Retyped(Base):
    name = "retyped"
    def __call__(self, graph):
        graph.outputs.append(graph.outputs[0])
        return graph

class Aborts(Base):
    name = "aborts"
    def __call__(self, graph):
        if "TRIED" in os.environ:
            with open(os.environ["TRIED"], "a") as file:
                file.write("x")
        os.abort()

class Leaves(Base):
    name = "leaves"
    def __call__(self, graph):
        raise SystemExit(4)

class Quits(Base):
    name = "quits"
    def __call__(self, graph):
        os._exit(0)

class Interrupts(Base):
    name = "interrupts"
    def __call__(self, graph):
        raise KeyboardInterrupt

class Endless(Base):
    name = "endless"
    def __call__(self, graph):
        while True:
            pass

class Counts(Base):
    name = "counts"
    def __call__(self, graph):
        with open(os.environ["MARK"], "a") as file:
            file.write("x")
        return graph

class Misplaced(Base):
    name = "misplaced"
    after = "kernels"

def op(name, lower):
    return elementwise(name, 1, dtypes=(float32,), reference=lambda x: x + x, lower=lower, exact=False,
                       vjp=NoGradient("a test"), samples=list, doc="x + x")

def op_raises(b, x):
    raise ZeroDivisionError("by nobody")

def op_aborts(b, x):
    os.abort()

def op_invalid(b, x):
    return b.cast(b.add(x, x), "i32")
"""
PASSES = {
    "raises": "raised ZeroDivisionError: by nobody (bad_plugin.py:",
    "leaves": "raised SystemExit: 4 (bad_plugin.py:",
    "interrupts": "raised KeyboardInterrupt (bad_plugin.py:",
    "quits": "exited with code 0",
    "endless": "took too long at bad_plugin.py:",
    "nothing": "gave an invalid program: it is NoneType, not a Graph",
    "undefined": "gave an invalid program: node 0 (",
    "retyped": "gave an invalid program: its outputs are",
    "aborts": "was killed by SIGABRT",
    "misplaced": "runs after 'kernels'. Choose of tape, legalise-complex, simplify,",
    "absent": "cannot be imported: AttributeError",
}
USE = """
import json, time
import flambeau as fb
from flambeau.compiler.tools import report
from flambeau.function import Tensor_, function
from flambeau.dialects.record import find
from flambeau import walk

@function()
def double(x: Tensor_):
    return find(NAME)(x) if NAME else x + x

walk.SHARE = 0.0
while PAUSE and not report.programs():  # in the background none is asked for at once
    double((-fb.tensor([0.0, 0.0])).exp()).tolist()
for _ in range(3):
    values = double((-fb.tensor([0.0, 0.0])).exp()).tolist()
    time.sleep(PAUSE)  # for workers
print(json.dumps([values, report.programs()[-1].tier]))
"""


def bad(tmp_path, group, name, value=None):
    """A package that offers one thing that does not work."""
    site = tmp_path / "site"
    offer(site, "bad-plugin", "2.0", {group: {name: f"bad_plugin:{value or name.capitalize()}"}})
    (site / "bad_plugin.py").write_text(PLUGIN)
    return site


def nothing_half_written(site):
    cache = site.parent / "cache"
    return not [p for p in cache.rglob("*") if p.is_file() and ("tmp" in p.name or p.stat().st_size == 0)]


def use(site, name, **environment):
    pause = 0.5 if environment else 0
    found = python(site, "-c", f"NAME, PAUSE = {name!r}, {pause}\n{USE}", **environment)
    assert found.returncode == 0, found.stderr
    values, tier = json.loads(found.stdout)
    assert values == [2.0, 2.0] and nothing_half_written(site)
    return tier, found.stderr


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_that_does_not_work_is_named_and_left_out(tmp_path, name):
    tier, said = use(bad(tmp_path, "flambeau.passes", name), "")
    assert tier == "fused"
    assert f"'{name}' of bad-plugin 2.0" in said and PASSES[name] in said
    assert "The program is compiled without." in said and ".. " not in said


@pytest.mark.parametrize("name", ["raises", "aborts", "unimportable"])
def test_a_pass_that_does_not_work_switches_off_no_other(tmp_path, name):
    """And one that ended its worker is tried once in a process, not once for each program."""
    site = bad(tmp_path, "flambeau.passes", name)
    offer(site, "good", "1.0", {"flambeau.passes": {"counts": "bad_plugin:Counts"}})
    mark = tmp_path / "mark"
    code = "import flambeau as fb\nx = fb.ones(3)\nprint((x * 2).exp().sum().item(), (x * 3).tanh().sum().item())"
    tried = tmp_path / "tried"
    found = python(site, "-c", code, MARK=str(mark), TRIED=str(tried))
    assert found.returncode == 0 and len(mark.read_text()) >= 2, found.stderr
    assert "PluginError" not in found.stderr and f"'{name}' of bad-plugin 2.0" in found.stderr
    assert name != "aborts" or tried.read_text() == "x"


@pytest.mark.parametrize(
    "group, name", [("flambeau.passes", "cse"), ("flambeau.ops", "exp"), ("flambeau.passes", "counts")]
)
def test_a_name_that_another_has_is_told_once(tmp_path, group, name):
    site = bad(tmp_path, group, name, "Counts")
    if name == "counts":
        offer(site, "another", "1.0", {group: {name: "bad_plugin:Counts"}})
    code = "import flambeau as fb\nx = fb.ones(3)\nprint((x * 2).exp().sum().item(), (x * 3).tanh().sum().item())"
    found = python(site, "-c", code, MARK=str(tmp_path / "mark"))
    assert found.returncode == 0
    other = "'counts' of another 1.0" if name == "counts" else "one of Flambeau's own"
    assert found.stderr.count(f"'{name}' of bad-plugin 2.0 is not used: {other} has its name.") == 1


@pytest.mark.parametrize("name", ["raises", "undefined", "retyped", "leaves"])
def test_the_tool_refuses_what_a_named_pass_does(tmp_path, name):
    site = bad(tmp_path, "flambeau.passes", name)
    (tmp_path / "f.mlir").write_text(
        "func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {\n"
        '  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>\n'
        '  %1 = "tape.exp"(%0) : (tensor<4xf32>) -> tensor<4xf32>\n  return %1 : tensor<4xf32>\n}\n'
    )
    found = python(site, "-m", "flambeau.compiler.opt", "f.mlir", f"--{name}")
    assert (found.returncode, found.stdout) == (1, "")
    assert f"'{name}' of bad-plugin 2.0" in found.stderr and PASSES[name] in found.stderr


@pytest.mark.parametrize("name", ["raises", "aborts", "invalid"])
def test_an_op_that_does_not_compile_is_named_and_runs_on_its_reference(tmp_path, name):
    site = bad(tmp_path, "flambeau.ops", name, "RECORD")
    with (site / "bad_plugin.py").open("a") as file:
        file.write(f"\nRECORD = op({name!r}, op_{name})\n")
    for again in (False, True):
        tier, said = use(site, name)
        assert tier == "fused" and "op by op" not in said
        if not again or name == "aborts":  # what ended a worker may have come from outside: it is tried again
            assert said.count(f"'{name}' of bad-plugin 2.0 does not compile") == 1
            assert "Its NumPy reference runs instead." in said
        else:
            assert said == ""


@pytest.mark.parametrize("kind, name", [("flambeau.passes", "aborts"), ("flambeau.ops", "aborts")])
def test_the_same_in_the_background(tmp_path, kind, name):
    is_op = kind.endswith("ops")
    site = bad(tmp_path, kind, name, "RECORD" if is_op else None)
    with (site / "bad_plugin.py").open("a") as file:
        file.write("\nRECORD = op('aborts', op_aborts)\n" if is_op else "")
    use(site, name if is_op else "", FLAMBEAU_COMPILE="background")


@pytest.mark.parametrize(
    "value, message",
    [
        ("no_such_module:x", "'lost' of bad-plugin 2.0 cannot be imported: ModuleNotFoundError"),
        ("bad_plugin:PLUGIN", "'lost' of bad-plugin 2.0 cannot be imported: AttributeError"),
        ("bad_plugin:op", "op 'lost' of bad-plugin 2.0 is <function op"),
        ("half:second", "'lost' of bad-plugin 2.0 cannot be imported: TypeError: [record] op 'second' has no vjp."),
    ],
)
def test_a_record_that_cannot_be_imported_is_an_error_that_names_it(tmp_path, value, message):
    site = tmp_path / "site"
    offer(site, "bad-plugin", "2.0", {"flambeau.ops": {"lost": value}})
    (site / "bad_plugin.py").write_text(PLUGIN)
    (site / "half.py").write_text(
        "from flambeau.dialects.tape.common import elementwise\n"
        "def op(name, vjp): return elementwise(name, 1, dtypes=(), reference=abs, lower=abs, vjp=vjp, samples=list, doc='')\n"
        "first = op('first', abs)\nsecond = op('second', None)\n"
    )
    code = """
import flambeau as fb
from flambeau.dialects.record import REGISTRY, find
try:
    find("lost")
except RuntimeError as e:
    print(e)
print("first" in REGISTRY, fb.tensor([1.0]).exp().log().tolist())
"""
    found = python(site, "-c", code)
    assert found.stderr == "" and message in found.stdout
    assert found.stdout.splitlines()[-1] == "False [1.0]"
    text = "func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> { return %x : tensor<4xf32> }"
    (site.parent / "f.mlir").write_text(text)
    tool = python(site, "-m", "flambeau.compiler.opt", "f.mlir", "--to", "dead-code")
    assert tool.returncode == 0 and "func.func @f" in tool.stdout and message in tool.stderr


# ---- lowerings, the tool and exports: the same care

LOWERINGS = {
    "raises": "the lowering of 'raises' of bad-plugin 2.0 raised ZeroDivisionError: by nobody (bad_plugin.py:",
    "leaves": "the lowering of 'leaves' of bad-plugin 2.0 raised SystemExit: 4 (bad_plugin.py:",
    "endless": "took too long at bad_plugin.py:",
    "aborts": "was killed by SIGABRT",
}
MORE = """
def op_leaves(b, x):
    raise SystemExit(4)

def op_endless(b, x):
    if "TRIED" in os.environ:
        with open(os.environ["TRIED"], "a") as file:
            file.write("x")
    while True:
        pass
"""


def bad_op(tmp_path, name):
    """A package whose op has a lowering that does not work."""
    site = bad(tmp_path, "flambeau.ops", name, "RECORD")
    with (site / "bad_plugin.py").open("a") as file:
        file.write(f"{MORE}\nRECORD = op({name!r}, op_{name})\n")
    return site


@pytest.mark.parametrize("name", LOWERINGS)
def test_a_lowering_that_does_not_work_is_named_with_its_line(tmp_path, name):
    tried = tmp_path / "tried"
    tier, said = use(bad_op(tmp_path, name), name, TRIED=str(tried), FLAMBEAU_COMPILE="blocking")
    assert tier == "fused"
    assert f"'{name}' of bad-plugin 2.0" in said and LOWERINGS[name] in said
    assert name != "endless" or tried.read_text() == "x"  # its five seconds are waited for once in a process


EXPORT = """
import sys, flambeau as fb
from flambeau.function import Tensor_, function
from flambeau.dialects.record import find

@function()
def double(x: Tensor_):
    return find(NAME)(x) if NAME else x + x

w = fb.ones(2)
model = lambda x: double((-x).exp()) * w
try:
    fb.export(model, fb.zeros(2), sys.argv[1])
except RuntimeError as error:
    print("refused", error)
print("alive", w.tolist())
"""


@pytest.mark.parametrize("name", ["leaves", "aborts", "endless", "quits"])
def test_an_export_leaves_out_a_pass_that_does_not_work(tmp_path, name):
    site = bad(tmp_path, "flambeau.passes", name)
    found = python(site, "-c", f"NAME = ''\n{EXPORT}", str(tmp_path / "model"), FLAMBEAU_COMPILE="off")
    assert found.returncode == 0 and found.stdout == "alive [1.0, 1.0]\n", found.stderr
    assert f"compiled without '{name}' of bad-plugin 2.0" in found.stderr and PASSES[name] in found.stderr
    assert list((tmp_path / "model").glob("*.o"))


@pytest.mark.parametrize("name", LOWERINGS)
def test_an_export_refuses_an_op_that_does_not_compile(tmp_path, name):
    found = python(bad_op(tmp_path, name), "-c", f"NAME = {name!r}\n{EXPORT}", str(tmp_path / "model"))
    assert found.returncode == 0 and found.stdout.endswith("alive [1.0, 1.0]\n"), found.stderr
    assert found.stdout.startswith("refused [export]") and LOWERINGS[name] in found.stdout
    assert f"'{name}' of bad-plugin 2.0" in found.stdout and not (tmp_path / "model").exists()


TEXT = 'func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {\n  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>\n'
TEXT += "  return %0 : tensor<4xf32>\n}\n"


@pytest.mark.parametrize("where", ["--endless", "--to=simplify"])
def test_the_tool_ends_a_pass_that_loops(tmp_path, where):
    site = bad(tmp_path, "flambeau.passes", "endless")
    (tmp_path / "f.mlir").write_text(TEXT)
    found = python(site, "-m", "flambeau.compiler.opt", "f.mlir", where, "--limit", "0.2")
    assert "pass 'endless' of bad-plugin 2.0 took longer than 0.2 s (bad_plugin.py:" in found.stderr
    assert found.returncode == (1 if where == "--endless" else 0) and bool(found.stdout) == (where != "--endless")


@pytest.mark.parametrize("limit", ["0", "nan", "-1", "soon"])
def test_the_tool_refuses_a_limit_that_is_none(tmp_path, limit):
    found = python(tmp_path / "site", "-m", "flambeau.compiler.opt", "--list-stages", f"--limit={limit}")
    assert found.returncode == 1 and "--limit" in found.stderr
