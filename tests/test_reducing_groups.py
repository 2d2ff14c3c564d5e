"""Fusion groups, and texts, are made small as long as they fail: what is left is valid, and no op of it can be left out."""

import sys

import pytest
from flambeau.compiler import opt
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import Call, Generic
from flambeau.compiler.groups.reducing import part, reduced
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.options import Options
from flambeau.compiler.tools import stage_text
from groups import GROUPS


def scalar_ops(group):
    return [o for op in group.ops if isinstance(op, Generic) for o in op.body.ops]


def names(group):
    return [op.name for op in group.ops if isinstance(op, Call)] + [o.name for o in scalar_ops(group)]


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_looked_for_stays_and_nothing_that_can_go(name):
    group = GROUPS[name]()
    for wanted in dict.fromkeys(names(group)):
        made = part(group, group.ops, group.outputs)
        if wanted not in names(made):
            continue
        small = reduced(group, lambda g, wanted=wanted: wanted in names(g))
        verify(small)
        assert reading.parse_group(print_group(small)) == small
        assert wanted in names(small) and len(small.ops) <= len(made.ops) and len(small.outputs) == 1
        for op in small.ops:
            less = part(small, [o for o in small.ops if o is not op], small.outputs)
            assert less is None or len(less.ops) == len(small.ops) or wanted not in names(less)


def test_bodies_lose_what_is_not_needed():
    group = reading.parse_group(SUM)
    small = reduced(group, lambda g: "math.exp" in names(g) and "flambeau.fold" in names(g))
    (op,) = small.ops
    assert [o.name for o in op.body.ops] == ["math.exp", "arith.addf", "linalg.index", "flambeau.fold"]
    assert op.operands == (0,) and len(small.inputs) == 1
    assert reduced(group, lambda g: True).ops == small.ops[:0] or len(reduced(group, lambda g: True).ops) == 1


SUM = """func.func @group(%x: tensor<7x100xf32>, %y: tensor<7x100xf32>) -> tensor<7xf32> {
  %zero = arith.constant 0.0 : f32
  %two = arith.constant 2.0 : f32
  %f = tensor.empty() : tensor<7xf32>
  %i = linalg.fill ins(%zero : f32) outs(%f : tensor<7xf32>) -> tensor<7xf32>
  %1 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>,
    affine_map<(d0, d1) -> (d0)>], iterator_types = ["parallel", "reduction"]}
    ins(%x, %y : tensor<7x100xf32>, tensor<7x100xf32>) outs(%i : tensor<7xf32>) {
  ^bb0(%a: f32, %b: f32, %acc: f32):
    %m = arith.mulf %a, %two : f32
    %n = arith.addf %m, %b : f32
    %e = math.exp %n : f32
    %s = arith.addf %acc, %e : f32
    %k = linalg.index 1 : index
    %t = "flambeau.fold"(%s, %k) {identity = 0.0 : f32, order = "lanes"} : (f32, index) -> f32
    linalg.yield %t : f32
  } -> tensor<7xf32>
  return %1 : tensor<7xf32>
}
"""


def test_a_pass_that_changes_kernels_is_left_with_the_op_that_it_changes():
    options = Options(mode="blocking", target="x86-64-v3")

    def differs(group):
        text = print_group(group)
        spoiled = text.replace("arith.maximumf", "arith.minimumf")
        kernels = [stage_text.convert(t, [], "linalg", "kernels", options) for t in (text, spoiled)]
        return kernels[0] != kernels[1]

    small = reduced(GROUPS["views as maps"](), differs)
    assert names(small) == ["arith.maximumf"]


# ---- the command


@pytest.fixture
def tool(tmp_path, capsys, monkeypatch):
    def run(text, *arguments):
        (tmp_path / "group.mlir").write_text(text)
        monkeypatch.chdir(tmp_path)
        code = opt.main(["group.mlir", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


PROGRAM = """func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.sqrt"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.exp"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
"""


def test_programs_are_reduced_as_groups_are_each_part_by_itself(tool):
    code, out, err = tool(f"{PROGRAM}// -----\n{SUM}", "--reduce", "grep -q -e tape.sqrt -e math.exp")
    program, group = stage_text.split(out)
    assert (code, err) == (0, "")
    assert program.count("tape.") == 1 and "tape.sqrt" in program
    assert "math.exp" in group and "mulf" not in group


def test_a_command_that_hangs_says_no(tool):
    wait = f"{sys.executable} -c 'import time; time.sleep(60)'"
    code, out, err = tool(PROGRAM, "--reduce", wait, "--limit", "0.2")
    assert (code, out) == (1, "") and "[reduce] the command does not exit with 0 for any of main." in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--reduce", "false"], "[reduce] the command does not exit with 0 for any of main. It must do so as long as"),
        (["--reduce", "no-such-command"], "[reduce] 'no-such-command' does not run: No such file or directory."),
        (["--reduce", ""], '[reduce] there is no command. Write it as in --reduce "sh check.sh".'),
        (["--reduce", "true", "--cse"], "[opt] --reduce works on the text as it is."),
        (["--reduce", "true", "--to", "llvm"], "[opt] --reduce works on the text as it is."),
        (
            ["--reduce", "true", "--from", "kernels"],
            "[reduce] the text is that of 'kernels'. Give a program, or fusion",
        ),
    ],
)
def test_what_cannot_be_reduced_is_refused(tool, arguments, message):
    code, out, err = tool(PROGRAM, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("flambeau-opt: ") and message in err
