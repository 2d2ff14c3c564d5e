"""Groups as MLIR: their text is parsed and verified by MLIR, and read back it is the same group."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import Generic, Group
from flambeau.compiler.groups.text import print_group, print_groups
from flambeau.compiler.groups.verify import verify
from flambeau.dialects.graph import Loc
from groups import GROUPS, LINE

named = pytest.mark.parametrize("name", GROUPS)


@named
def test_groups_come_back_from_their_text(name):
    group = GROUPS[name]()
    verify(group)
    assert reading.parse_group(print_group(group)) == group


@named
def test_groups_come_back_from_what_mlir_prints(name):
    """Names of values, hoisted maps and spellings of numbers are MLIR's own there."""
    group = GROUPS[name]()
    reading.parse(print_group(group))  # loads the dialect
    assert reading.parse_group(str(mlir.parse(print_group(group)))) == group


@named
def test_the_text_says_all_that_makes_a_difference(name):
    """Equal groups have equal texts, and the text of what is read is the text."""
    text = print_group(GROUPS[name]())
    assert print_group(GROUPS[name]()) == text
    assert print_group(reading.parse_group(text)) == text


def test_different_groups_have_different_texts():
    assert len({print_group(make()) for make in GROUPS.values()}) == len(GROUPS)


def lines(group: Group) -> list[Loc | None]:
    return [op.loc for op in group.ops]


@named
def test_dumps_say_lines_and_sizes_and_mean_the_same(name):
    group = GROUPS[name]()
    read = reading.parse_group(print_group(group, notes=True))
    assert read == group
    assert (read.sizes, lines(read)) == (group.sizes, lines(group))


def test_lines_and_values_of_sizes_are_no_part_of_the_text():
    group = GROUPS["sum over an unknown extent"]()
    (op,) = group.ops
    other = replace(group, ops=(replace(op, loc=Loc("elsewhere.py", 8)),), sizes=(77,))
    assert print_group(other) == print_group(group)
    assert print_group(other, notes=True) != print_group(group, notes=True)


@pytest.mark.parametrize(
    "loc",
    [
        'fused["user.py":3:1, "b.py":4:0]',
        'fused<"a pass">[unknown, fused["user.py":3:1, "b.py":4:0]]',
        '"a name"("user.py":3:0)',
        'callsite("user.py":3:2 at "b.py":4:0)',
    ],
)
def test_locations_that_passes_join_name_the_first_line(loc):
    text = print_group(GROUPS["sum in lanes"](), notes=True)
    (op,) = reading.parse_group(text.replace('loc("user.py":3:0)', f"loc({loc})")).ops
    assert op.loc == LINE


def test_files_with_any_name_are_named():
    group = GROUPS["scatter"]()
    odd = replace(group, ops=(replace(group.ops[0], loc=Loc('a"b\\c.py', 1)),))
    assert lines(reading.parse_group(print_group(odd, notes=True))) == lines(odd)


def test_a_module_of_several_groups():
    groups = {"one": GROUPS["softmax"](), "two": GROUPS["scatter"]()}
    assert reading.parse(print_groups(groups)) == groups


def test_tiles_are_part_of_a_group():
    group = GROUPS["softmax"]()
    first = group.ops[0]
    assert isinstance(first, Generic)
    tiled = replace(group, ops=(replace(first, tiles=((0, 8), (0, 4))), *group.ops[1:]))
    assert tiled != group
    assert reading.parse_group(print_group(tiled)) == tiled


def test_the_page_shows_a_group_as_it_is_printed():
    page = (Path(__file__).parent.parent / "docs" / "compiler.md").read_text()
    (text,) = re.findall(r"^```mlir\n(module \{\n  func\.func @group.*?)^```", page, re.M | re.S)
    assert print_group(reading.parse_group(text)) == text
    fused = mlir.parse(text)
    mlir.run(fused, "builtin.module(func.func(linalg-fuse-elementwise-ops,canonicalize,cse))")
    (op,) = [op for op in reading.read(fused)["group"].ops if isinstance(op, Generic)]
    assert [o.name for o in op.body.ops][1] == "math.exp"


IMPORTS = """
import sys
from flambeau.compiler.groups import reading
sys.path.insert(0, {tests!r})
from flambeau.compiler.groups.text import print_group
from groups import GROUPS
from flambeau.compiler.backend import mlir
reading.parse("module {{func.func @f(%x: tensor<1xf32>) -> tensor<1xf32> {{ return %x : tensor<1xf32> }}}}")
mlir.module("dialects.builtin")
texts = [print_group(make()) for make in GROUPS.values()]
before = set(sys.modules)
for text in texts:
    reading.parse(text)
    try:
        reading.parse(text.replace("order", "ordering"))
    except mlir.MlirError:
        pass
print(*sorted(name for name in set(sys.modules) - before if "dialects" in name), sep="\\n")
"""


def test_reading_imports_no_op_classes():
    """They cost 50 to 150 ms. What a dialect defined in Python needs, and builtin, which types are of, are loaded before."""
    code = IMPORTS.format(tests=str(__file__).rpartition("/")[0])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


PRINTS = """
import sys
sys.path.insert(0, {tests!r})
from groups import GROUPS
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.groups.verify import verify
for make in GROUPS.values():
    group = make()
    verify(group)
    print_group(group)
print(*sorted({{"torch_mlir", "mlir", "llvmlite"}} & {{name.partition(".")[0] for name in sys.modules}}))
"""


def test_groups_are_made_verified_and_printed_without_mlir():
    code = PRINTS.format(tests=str(__file__).rpartition("/")[0])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
