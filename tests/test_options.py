"""Options: what no field, variable or machine takes is refused at once, in words that say what it takes."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import flambeau as fb
import llvmlite.binding as llvm
import pytest
from flambeau.compiler import driver, targets
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.targets import host
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.runtime import environment

ROOT = Path(__file__).parent.parent
FIELDS = {f.name: f for f in fields(Options)}
#: Values of every kind; what a field takes of them is a matter of its type.
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    "",
    "nonsense",
    "host",
    b"off",
    [],
    (),
    (1,),
    {},
    object(),
    Options,
    float("nan"),
)
#: What a field takes of these and, beside that, of its own.
TAKEN = {
    "mode": (set(), ["background", "blocking", "off"]),
    "fuse": ({True, False}, []),
    "max_cluster_ops": (set(), [1, 10**6]),
    "target": ({"host"}, list(targets.KNOWN)),
    "dump": ({None, "", "nonsense", "host"}, ["a folder/of one's own", Path("folder")]),
    "plugins": ({True, False}, []),
    "without": ({()}, [("a-pass", "another")]),
    "strict_sizes": ({True, False}, []),
    "through_mlir": ({True, False}, []),
    "devices": ({()}, [("cuda:0=sm_90",)]),
    "on_host": ({()}, [("exp", "sum")]),
    "schedules": ([(), {}], [{"*": {"lanes": 4}}, {"rows": "unroll = 2"}, (("product", "rows = 2"),)]),
}


def is_taken(name, value):
    return any(type(value) is type(taken) and value == taken for taken in TAKEN[name][0])


def small():
    builder = GraphBuilder()
    x = builder.input(Aval((3,), float32))
    builder.graph.outputs = [(x * x).id]
    return builder.graph


# ---- fields


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_takes_what_its_rule_says_and_refuses_the_rest(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in [*TAKEN[name][0], *TAKEN[name][1]]:
        replace(Options(), **{name: value})
    words = FIELDS[name].metadata["rule"].words
    refused = [value for value in VALUES if not is_taken(name, value)]
    assert len(refused) > 10
    for value in refused:
        with pytest.raises((TypeError, ValueError)) as error:
            replace(Options(), **{name: value})
        assert str(error.value).startswith(f"[options] {name} is {value!r}") and words in str(error.value)


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_is_refused_where_compiler_options_is_called(name):
    before = fb.compiler_options(fuse=False)
    with pytest.raises((TypeError, ValueError), match=rf"\[options\] {name} is b'off'"):
        fb.compiler_options(**{name: b"off"})
    with before:  # nothing is left of it
        assert (fb.tensor([1.0]) * 2).item() == 2.0


def test_an_option_that_there_is_not_is_named_with_those_there_are():
    with pytest.raises(TypeError, match=rf"no option 'mod'. The options are {', '.join(FIELDS)}"):
        fb.compiler_options(mod="blocking")


def test_a_dump_goes_to_one_folder_wherever_its_writer_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Options(dump="stages").dump == str(tmp_path / "stages")
    (tmp_path / "file").write_text("")
    for path in ("file", "file/folder"):
        with pytest.raises(ValueError, match="Give None or a folder that can be written"):
            Options(dump=path)


def test_an_error_at_the_end_of_the_block_restores_the_options(monkeypatch):
    x = fb.tensor([1], dtype=fb.int32)
    with pytest.raises(RuntimeError, match="division by zero"), fb.compiler_options(mode="off"):
        lost = x // 0
    del lost
    from flambeau import programs

    assert programs.options() is None


# ---- variables


WORDS = [name for name, words in environment.VARIABLES.items() if words]


@pytest.mark.parametrize("name", WORDS)
def test_every_variable_refuses_what_it_does_not_take(name, monkeypatch):
    for value in environment.VARIABLES[name]:
        monkeypatch.setenv(name, value)
        Options.from_environment()
    for value in ("yes", "Blocking", "true", " ", "2"):
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=rf"\[options\] {name} is '{value}'. Set it to .* or "):
            Options.from_environment()
    monkeypatch.setenv(name, "")
    assert Options.from_environment().mode == (os.environ.get("FLAMBEAU_COMPILE") or "background")


@pytest.mark.parametrize("name", WORDS)
def test_a_wrong_variable_is_told_when_flambeau_is_imported(name):
    """Nothing is recorded by then that could be lost."""
    env = {**os.environ, name: "fast"}
    found = subprocess.run(
        [sys.executable, "-c", "import flambeau"], env=env, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 1 and f"ValueError: [options] {name} is 'fast'. Set it to " in found.stderr


def test_a_variable_that_turns_wrong_later_is_told_at_the_look(monkeypatch):
    with monkeypatch.context() as inside:
        inside.setenv("FLAMBEAU_COMPILE", "fast")
        with pytest.raises(ValueError, match=r"FLAMBEAU_COMPILE is 'fast'\. Set it to background, blocking or off"):
            (fb.tensor([1.0, 2.0]) * 3 + 0.125).tolist()
    assert (fb.tensor([1.0, 2.0]) * 3 + 0.125).tolist() == [3.125, 6.125]


def test_a_dump_folder_in_the_environment_is_checked(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLAMBEAU_DUMP", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"dump is .*file"):
        Options.from_environment()


def test_misspelt_variables_are_told_and_others_left_alone():
    code = "from flambeau.compiler.options import Options; Options.from_environment(); Options.from_environment()"
    env = {**os.environ, "FLAMBEAU_COMPILER": "off", "FLAMBEAU_MINE": "1", "FLAMBEAU_TESTS": "quick"}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60).stderr
    assert said.count("RuntimeWarning") == 1
    assert "FLAMBEAU_COMPILER is set, and there is no such variable. Did you mean FLAMBEAU_COMPILE?" in said


def test_the_table_and_the_documentation_have_all_variables_that_are_read():
    found = set()
    for folder in ("runtime", "dialects", "compiler", "frontend"):
        for path in (ROOT / folder).rglob("*.[pch]*"):
            if path.suffix in (".py", ".c"):
                found.update(re.findall(r'"(FLAMBEAU_[A-Z_]*[A-Z])"', path.read_text()))
    assert found == set(environment.VARIABLES)
    table = re.findall(r"^\| `(FLAMBEAU_\w+)` \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    assert table == list(environment.VARIABLES)


# ---- machines


def foreign_targets():
    return [name for name, target in targets.KNOWN.items() if host.obstacle(target) is not None]


@pytest.mark.parametrize("mode", ["background", "blocking", "off"])
def test_code_for_another_machine_is_refused_wherever_it_would_run(mode):
    assert len(foreign_targets()) > 5
    for name in foreign_targets():
        options = Options(mode=mode, target=name)  # to export, to show, to dump: not to run
        for attempt in (
            lambda options=options: driver.compile(small(), options),
            lambda options=options: kernel_cache.shared().find(KernelSource("", ""), options),
            lambda options=options: kernel_cache.shared().insert(KernelSource("", ""), options, b""),
            lambda name=name: fb.compiler_options(target=name),
        ):
            with pytest.raises(ValueError, match=rf"\[target\] code for {name} cannot run here: .* Choose host"):
                attempt()


def test_what_a_cpu_lacks_is_named(monkeypatch):
    """On every machine, as if it were an x86-64 of the first generation, and then one that has all but one feature."""
    monkeypatch.setattr(llvm, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    for target in (targets.KNOWN["x86-64-v3"], targets.KNOWN["x86-64-v4"]):
        for lacking in (target.requires, *((name,) for name in target.requires)):
            features = {name: name not in lacking for name in target.requires}
            monkeypatch.setattr(llvm, "get_host_cpu_features", lambda features=features: features)
            assert host.obstacle(target) == f"this CPU has no {', '.join(lacking)}"
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda target=target: dict.fromkeys(target.requires, True))
        assert host.obstacle(target) is None


def test_defaults_are_checked_once_and_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FLAMBEAU_COMPILE", "off")
    first = Options.from_environment()
    assert first.mode == "off" and Options.from_environment() is first
    monkeypatch.setenv("FLAMBEAU_STRICT_SIZES", "1")
    assert Options.from_environment() == replace(first, strict_sizes=True)
    monkeypatch.setenv("FLAMBEAU_DUMP", str(tmp_path / "dump"))
    assert Options.from_environment() == replace(first, strict_sizes=True, dump=str(tmp_path / "dump"))
    monkeypatch.setenv("FLAMBEAU_COMPILE", "sometimes")
    with pytest.raises(ValueError, match="FLAMBEAU_COMPILE is 'sometimes'"):
        Options.from_environment()


def test_other_options_for_a_while_leave_what_explain_counted():
    before = fb.explain()
    x = fb.ones(3)
    with fb.compiler_options(mode="off"):
        (x.sin() + 1).tolist()
    after = fb.explain()
    assert after.hits + after.misses >= before.hits + before.misses + 3
    assert after.flushes > before.flushes
