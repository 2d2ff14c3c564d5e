"""flambeau-opt: what it lists, what it refuses and how, passes of other packages, and that nothing ends its process.

What the passes and stages do to programs is tested in lit_tests/, one file for each.
"""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from flambeau.compiler import opt, stages
from flambeau.compiler.options import Options
from flambeau.compiler.passes import registry
from flambeau.compiler.tools import stage_text
from flambeau.dialects.irdl import parse_graph

LIT = Path(__file__).parent.parent / "lit_tests"
PROGRAM = """func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.neg"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.exp"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
"""
BAD = PROGRAM.replace("-> tensor<4xf32>\n  return", "-> tensor<5xf32>\n  return").replace("return %2", "return %x")


@pytest.fixture
def tool(tmp_path, capsys, monkeypatch):
    """Run the tool on a text in this process: (exit code, standard output, standard error)."""

    def run(*arguments, text=PROGRAM):
        (tmp_path / "program.mlir").write_text(text)
        monkeypatch.chdir(tmp_path)
        code = opt.main(["program.mlir", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def command(*arguments, text="", **environment):
    """Run the tool as users do."""
    return subprocess.run(
        [sys.executable, "-m", "flambeau.compiler.opt", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


# ---- what there is


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_built_in_pass_has_a_lit_file_of_its_name(name):
    text = (LIT / "passes" / f"{name}.mlir").read_text()
    assert f"--{name}" in text and "filecheck" in text and "CHECK" in text


@pytest.mark.parametrize("name", stages.names())
def test_every_stage_has_a_lit_file_of_its_name(name):
    text = (LIT / "stages" / f"{name}.mlir").read_text()
    assert f"--to {name}" in text and "filecheck" in text and "CHECK" in text


def test_passes_and_stages_are_listed(tool):
    code, out, err = tool("--list-passes")
    assert (code, err) == (0, "")
    assert dict(line.split(None, 1) for line in out.splitlines()) == dict.fromkeys(registry.BUILT_IN, "flambeau")
    assert tool("--list-stages") == (0, "\n".join(stages.names()) + "\n", "")


def test_help_names_everything(tool):
    code, out, _ = tool("--help")
    assert code == 0
    assert all(name in out for name in (*registry.names(), *stages.names(), "--from", "--to", "--target"))


def test_the_command_is_installed():
    (script,) = entry_points(group="console_scripts", name="flambeau-opt")
    assert script.load() is opt.main


# ---- what it does


def test_passes_run_in_the_order_in_which_they_are_named(tool):
    unread = 'func.func @main(%0: tensor<4xf32>) -> (tensor<4xf32>) {\n    %1 = "tape.neg"(%0)'
    simplify_last = tool("--dead-code", "--simplify")[1]
    assert unread in simplify_last
    assert unread not in tool("--simplify", "--dead-code")[1]


def test_a_pass_named_before_the_file_does_not_swallow_it(tmp_path, capsys):
    path = tmp_path / "program.mlir"
    path.write_text(PROGRAM)
    assert opt.main(["--simplify", str(path)]) == 0
    assert "tape.exp" in capsys.readouterr().out


def test_standard_input_is_read_without_a_file():
    found = command("--simplify", "--dead-code", text=PROGRAM)
    assert (found.returncode, found.stderr) == (0, "")
    assert "tape.neg" not in found.stdout and "tape.exp" in found.stdout


def test_a_part_that_is_refused_does_not_stop_the_others(tool):
    separator = "// -----\n"
    code, out, err = tool(text=separator.join([PROGRAM, BAD, "// nothing but a comment\n", PROGRAM]))
    assert code == 1
    assert out == tool()[1] + separator + tool()[1]
    line = separator.join([PROGRAM, BAD]).split("\n").index('  %2 = "tape.exp"(%1) : (tensor<4xf32>) -> tensor<5xf32>')
    assert f"program.mlir:{line + 1}:8: [exp] result is tensor<5xf32>, but the operands give tensor<4xf32>." in err


def test_line_numbers_are_those_of_the_whole_text():
    parts = stage_text.split("// first\na\n// -----\n\n// -----\nb\n; -----\nc\n# -----\nd")
    assert [part.strip() for part in parts] == ["// first\na", "b", "c", "d"]
    assert [part.count("\n", 0, part.index(name)) for part, name in zip(parts, "abcd")] == [1, 5, 7, 9]


def test_a_target_decides_the_width_of_vectors(tool):
    widths = {"x86-64-v3": "vector<8xf32>", "x86-64-v4": "vector<16xf32>"}
    found = {name: tool("--to", "kernels", "--target", name)[1] for name in widths}
    assert widths["x86-64-v3"] in found["x86-64-v3"] and widths["x86-64-v4"] not in found["x86-64-v3"]
    assert widths["x86-64-v4"] in found["x86-64-v4"]
    assert tool("--to", "kernels", "--target", "host") == tool("--to", "kernels")


def test_dumped_stages_are_read_back(tmp_path):
    graph = parse_graph((LIT / "stages" / "Inputs" / "programs.mlir").read_text())
    options = Options(mode="blocking", target="x86-64-v3", dump=str(tmp_path))
    stages.run(graph, options)
    files = sorted(next(tmp_path.iterdir()).iterdir())
    assert [f.stem.split("-", 1)[1] for f in files] == list(stages.PROGRAM)
    for file in files:
        text, stage = file.read_text(), file.stem.split("-", 1)[1]
        if stage == "kernels":  # MLIR prints them its own way
            text = _read_back(text, stage, options)
        assert _without_comments(_read_back(text, stage, options)) == _without_comments(text)


def _read_back(text, stage, options):
    parts = [stage_text.convert(part, [], stage, stage, options) for part in stage_text.split(text)]
    return stage_text.join(parts, stage)


def _without_comments(text):
    return [line for line in text.split("\n") if not line.startswith("//")]


# ---- what it refuses


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--frobnicate"], "[opt] unrecognized arguments: --frobnicate. --help says what there is"),
        (["other.mlir"], "[opt] unrecognized arguments: other.mlir."),
        (["--to"], "[opt] argument --to: expected one argument."),
        (["--to", "asm"], "[stages] there is no stage named 'asm'. The stages are tape, legalise-complex, simplify,"),
        (["--from", "asm"], "[stages] there is no stage named 'asm'."),
        (["--target", "z80"], "[target] unknown target 'z80'. Choose one of aarch64-neon, host, sm_100, "),
        (["--cse=fast=true"], "[cse] has no option 'fast'. Its options: none."),
        (["--cluster=size=3"], "[cluster] has no option 'size'. Its options: fuse, max_ops, blocks."),
        (["--cluster=max_ops"], "[cluster] option max_ops has no value. Write --cluster=max_ops=VALUE."),
        (["--cluster=max_ops=many"], "[cluster] option max_ops is 'many'. Give a value of type int."),
        (["--cluster=fuse=maybe"], "[cluster] option fuse is 'maybe'. Give a value of type bool."),
        (["--cluster", "--cse"], "[cse] there are clusters already. Name the pass that makes them last."),
        (["--cluster", "--to", "cse"], "[stages] 'cse' comes before 'cluster', which the passes already reached."),
        (["--from", "dead-code", "--to", "simplify"], "[stages] 'simplify' comes before 'dead-code'. The order is"),
        (["--from", "llvm", "--cse"], "[opt] passes work on programs, and the text is that of stage 'llvm'."),
        (
            ["--from", "cluster", "--to", "plan"],
            "[plan] the text of stage 'cluster' does not say what its parts share.",
        ),
        (["--from", "plan", "--to", "llvm"], "[plan] a plan does not hold its kernels"),
        (["--from", "linalg", "--to", "cluster"], "[stages] 'cluster' comes before 'linalg'. The order is"),
        (["--from", "linalg", "--to", "plan"], "[plan] the text of stage 'linalg' does not say what its parts share."),
        (["--from", "linalg", "--mlir-passes", "tidy"], "'tidy' does not refer to a registered pass"),
        (
            ["--mlir-passes", "canonicalize"],
            "[opt] MLIR's passes run on fusion groups, and the text is that of 'tape'.",
        ),
        (["--from", "assembly"], "[stages] assembly is the last form; nothing reads it."),
        (["--from", "plan"], "[plan] Unable to parse module assembly"),
        (["--from", "llvm", "--to", "ir"], 'program.mlir":2:18): operation being parsed with an unregistered dialect'),
        (["--from", "ir"], "program.mlir:1:1: error: expected top-level entity"),
    ],
)
def test_a_bad_command_is_refused_in_one_message(tool, arguments, message):
    code, out, err = tool(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("flambeau-opt: ") and message in err


@pytest.mark.parametrize(
    "stage, to, text, message",
    [
        ("kernels", "ir", "func.func @f(%x: f32) { return }", "ops not lowered to the llvm dialect: func.func"),
        ("kernels", "llvm", "llvm.func @kernel() {", "custom op 'llvm.func'|expected"),
        ("llvm", "ir", "llvm.func @f() -> i32 { llvm.return }", "llvm.return"),
        ("ir", "optimised", "define i32 @f() { ret void }", "value doesn't match function result type 'i32'"),
        ("ir", "assembly", "define i32 @f() { %1 = add i32 %0, 1 ret i32 %1 }", "use of undefined value|expected"),
        ("optimised", "assembly", "garbage", "expected top-level entity"),
    ],
)
def test_bad_kernels_are_refused(tool, stage, to, text, message):
    code, out, err = tool("--from", stage, "--to", to, text=text)
    assert (code, out) == (1, "")
    assert any(part in err for part in message.split("|")) and "[internal]" not in err


@pytest.mark.parametrize(
    "path, message",
    [
        ("missing.mlir", "No such file or directory: 'missing.mlir'"),
        (".", "directory"),
        ("binary", "not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert opt.main([path]) == 1
    assert message in capsys.readouterr().err


def test_a_text_that_makes_llvm_abort_is_an_error_like_others():
    text = """define <vscale x 4 x float> @f(<vscale x 4 x float> %x) {
      %y = fadd <vscale x 4 x float> %x, %x
      ret <vscale x 4 x float> %y
    }"""
    found = command("--from", "ir", "--to", "assembly", "--target", "x86-64-v3", text=text)
    assert found.returncode == 1 and found.stdout == ""
    assert "flambeau-opt: [opt] MLIR or LLVM ended its process with SIGABRT" in found.stderr


def test_a_reader_that_stops_early_is_no_error():
    programs = str(LIT / "stages" / "Inputs" / "programs.mlir")
    arguments = [sys.executable, "-m", "flambeau.compiler.opt", programs, "--to", "kernels", "--target", "x86-64-v4"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("// kernel 0 of @chain")
        process.stdout.close()  # far less than what there is to write
        assert (process.stderr.read(), process.wait()) == ("", 0)


# ---- passes of other packages

PLUGIN = '''
from dataclasses import dataclass
from flambeau.compiler.passes import Pass


@dataclass(frozen=True)
class Repeat(Pass):
    """Say something about a graph. In: any graph. Out: the same graph."""

    name = "repeat"
    times: int = 1
    scale: float = 1.0
    loud: bool = False
    word: str = "ops"

    def __call__(self, graph):
        line = f"// {len(graph.nodes) * self.scale} {self.word}"
        print("\\n".join([line.upper() if self.loud else line] * self.times))
        return graph


class Nothing(Pass):
    name = "nothing"

    def __call__(self, graph):
        return None


class Broken(Pass):
    name = "broken"

    def __call__(self, graph):
        return 1 // 0


class Misnamed(Pass):
    name = "another-name"
'''
ENTRIES = """[flambeau.passes]
repeat = a_plugin_of_the_tests:Repeat
nothing = a_plugin_of_the_tests:Nothing
broken = a_plugin_of_the_tests:Broken
misnamed = a_plugin_of_the_tests:Misnamed
absent = a_plugin_of_the_tests:Absent
unimportable = no_module_of_this_name:Pass
cse = a_plugin_of_the_tests:Broken
to = a_plugin_of_the_tests:Broken
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package that offers passes: a module and its metadata in a folder of sys.path."""
    site = tmp_path / "site"
    metadata = site / "a_plugin_of_the_tests-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "a_plugin_of_the_tests.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin-of-the-tests\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(site))
    yield str(site)
    sys.modules.pop("a_plugin_of_the_tests", None)


def test_a_pass_of_another_package_is_listed_and_run_with_typed_options(plugin, tool):
    listed = dict(line.split(None, 1) for line in tool("--list-passes")[1].splitlines())
    assert list(listed)[-7:] == ["absent", "broken", "misnamed", "nothing", "repeat", "to", "unimportable"]
    assert listed["repeat"] == "a-plugin-of-the-tests 1.0" and listed["cse"] == "flambeau"
    assert tool("--repeat")[1].startswith("// 3.0 ops\nmodule {")
    out = tool("--simplify", "--dead-code", "--repeat=times=2,scale=0.5,loud=true,word=nodes")[1]
    assert out.startswith("// 0.5 NODES\n// 0.5 NODES\nmodule {")


def test_a_pass_of_another_package_is_found_by_the_command(plugin):
    found = command("--repeat=word=found", text=PROGRAM, PYTHONPATH=plugin)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("// 3.0 found\n")


def test_built_in_passes_and_options_keep_their_names(plugin, tool):
    assert tool("--cse") == (0, tool()[1], "")
    code, out, err = tool("--to", "cluster")
    assert (code, out[:16]) == (0, "// loops cluster")
    assert "'absent' of a-plugin-of-the-tests 1.0 cannot be imported" in err and "The stages run without it." in err


@pytest.mark.parametrize(
    "name, message",
    [
        ("misnamed", "'misnamed' of a-plugin-of-the-tests 1.0 is <class 'a_plugin_of_the_tests.Misnamed'>. Make it a"),
        ("absent", "[plug-in] 'absent' of a-plugin-of-the-tests 1.0 cannot be imported: AttributeError: module"),
        ("unimportable", "cannot be imported: ModuleNotFoundError: No module named 'no_module_of_this_name'."),
        ("nothing", "[nothing] the pass gave NoneType. A pass gives a Graph or clusters."),
        ("broken", "raised ZeroDivisionError: integer division or modulo by zero (a_plugin_of_the_tests.py:"),
    ],
)
def test_a_bad_pass_of_another_package_is_refused(plugin, tool, name, message):
    code, out, err = tool(f"--{name}")
    assert (code, out) == (1, "")
    assert message in err
