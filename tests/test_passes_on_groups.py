"""Passes of other packages on fusion groups: as functions on our objects, over MLIR's bindings, as pipelines and as scripts of
MLIR's. What they leave is what runs; what they break is refused, and the program runs without them."""

import dataclasses
import sys
import warnings

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.form import Generic, GroupError
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.opt import main
from flambeau.compiler.options import Options
from flambeau.compiler.passes import on_groups
from flambeau.compiler.passes.assign_orders import AssignOrders
from flambeau.compiler.tools import stage_text
from flambeau.compiler.workers import pool
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from flambeau.nn import functional as F
from groups import GROUPS
from test_plugin import offer

PLUGIN = '''
from dataclasses import dataclass, replace
from flambeau.compiler.groups.form import Generic, Group
from flambeau.compiler.passes.on_groups import GroupPass, ModulePass, PipelinePass


@dataclass(frozen=True)
class Objects(GroupPass):
    """x + y becomes x - y: wrong, so that it shows."""

    name = "objects"

    def __call__(self, group: Group) -> Group:
        ops = [self.changed(op) if isinstance(op, Generic) else op for op in group.ops]
        return replace(group, ops=tuple(ops))

    def changed(self, op):
        inside = [o._replace(name="arith.subf") if o.name == "arith.addf" else o for o in op.body.ops]
        return replace(op, body=op.body._replace(ops=tuple(inside)))


@dataclass(frozen=True)
class Bindings(ModulePass):
    """The same over the bindings."""

    name = "bindings"

    def rewrite(self, module) -> None:
        from flambeau.compiler.backend import mlir

        found = []

        def visit(op):
            if op.name == "arith.addf":
                found.append(op)
            return mlir.ir.WalkResult.ADVANCE

        module.operation.walk(visit)
        for op in found:
            with mlir.ir.InsertionPoint(op), op.location:
                new = mlir.ir.Operation.create("arith.subf", [op.results[0].type], list(op.operands))
            op.results[0].replace_all_uses_with(new.results[0])
            op.erase()


@dataclass(frozen=True)
class Pipeline(PipelinePass):
    """Everything elementwise in one nest."""

    name = "pipeline"
    pipeline = "func.func(linalg-fuse-elementwise-ops,canonicalize)"


@dataclass(frozen=True)
class Script(PipelinePass):
    """Loops in the other order."""

    name = "script"
    pipeline = "transform-interpreter"
    script = """
transform.named_sequence @__transform_main(%root: !transform.any_op {transform.readonly}) {
  %nests = transform.structured.match ops{["linalg.generic"]} in %root : (!transform.any_op) -> !transform.any_op
  transform.structured.interchange %nests iterator_interchange = [1, 0] : (!transform.any_op) -> !transform.any_op
  transform.yield
}"""


@dataclass(frozen=True)
class Tiles(PipelinePass):
    """Tiles that the nest, which is one loop, does not have."""

    name = "tiles"
    pipeline = "transform-interpreter"
    script = """
transform.named_sequence @__transform_main(%root: !transform.any_op {transform.readonly}) {
  %nests = transform.structured.match ops{["linalg.generic"]} in %root : (!transform.any_op) -> !transform.any_op
  %tiled, %loops:2 = transform.structured.tile_using_for %nests tile_sizes [2, 2]
    : (!transform.any_op) -> (!transform.any_op, !transform.any_op, !transform.any_op)
  transform.yield
}"""


@dataclass(frozen=True)
class Nothing(GroupPass):
    name = "nothing"

    def __call__(self, group):
        return None


@dataclass(frozen=True)
class Short(GroupPass):
    name = "short"

    def __call__(self, group):
        return replace(group, outputs=())


@dataclass(frozen=True)
class Raising(GroupPass):
    name = "raising"

    def __call__(self, group):
        raise KeyError("no such nest")


@dataclass(frozen=True)
class Untyped(GroupPass):
    name = "untyped"

    def __call__(self, group):
        first = replace(group.ops[-1], body=group.ops[-1].body._replace(results=(99,)))
        return replace(group, ops=(*group.ops[:-1], first))
'''


@pytest.fixture
def offers(tmp_path, monkeypatch):
    """Install a package that offers the passes of these classes."""

    def install(*classes: str) -> None:
        site = tmp_path / "site"
        entries = {name.lower(): f"passes_on_groups_of_tests:{name}" for name in classes}
        offer(site, "passes-on-groups", "1.0", {"flambeau.passes": entries})
        (site / "passes_on_groups_of_tests.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(str(site))

    pool.shutdown()  # workers keep what they have imported
    yield install
    pool.shutdown()
    sys.modules.pop("passes_on_groups_of_tests", None)


X, Y = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[10, 20, 30], [40, 50, 60]])


def run(**options) -> np.ndarray:
    """-(x + y) * x, compiled."""
    b = GraphBuilder()
    x, y = b.input(Aval(X.shape, float32)), b.input(Aval(X.shape, float32))
    result = find("mul")(find("neg")(find("add")(x, y)), x)
    b.graph.outputs = [result.id]
    executable = driver.compile(b.graph, Options(mode="blocking", **options))
    (found,) = executable([X, Y])
    assert executable.report.tier == "fused"
    return to_array(found, result.aval)


@pytest.mark.parametrize("name", ["Objects", "Bindings"])
def test_what_a_pass_leaves_is_what_runs(offers, name):
    offers(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run().tolist() == (-(X - Y) * X).tolist()
    assert run(without=(name.lower(),)).tolist() == (-(X + Y) * X).tolist()


@pytest.mark.parametrize("name", ["Pipeline", "Script"])
def test_pipelines_and_scripts_of_mlirs_keep_the_bits(offers, name):
    offers(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run()
    assert found.tolist() == (-(X + Y) * X).tolist()


def drawn() -> list:
    """Random numbers of some sizes, used elementwise, in a choice and in a fold."""
    fb.manual_seed(3)
    found = []
    for rows in (33, 34, 35):
        x = fb.rand(rows, 7) * 2.0 + 1.0
        found += [x.tolist(), F.dropout(x * 3.0, 0.5).tolist(), fb.randn(rows, 5).exp().sum(0).tolist()]
    return found


def test_random_numbers_are_fused_by_mlirs_pass(offers):
    """It moves the constants out of bodies, those that number an element among them."""
    offers("Pipeline")
    with fb.compiler_options(mode="blocking", without=("pipeline",)):
        wanted = drawn()
    with warnings.catch_warnings(), fb.compiler_options(mode="blocking"):
        warnings.simplefilter("error")
        assert drawn() == wanted


@pytest.mark.parametrize(
    "name, message",
    [
        ("Nothing", "gave an invalid group: [group] a pass gave NoneType. A pass on groups gives a Group."),
        ("Short", "gave an invalid group: [group] its outputs were tensor<2x3xf32> and are none. Keep them."),
        ("Raising", "raised KeyError: 'no such nest'"),
        ("Untyped", "gave an invalid group: [linalg.generic] value"),
        (
            "Tiles",
            "gave a group that the code generators do not follow: [schedule] its op is tiled by 2 along loop 0, 2 along",
        ),
    ],
)
def test_what_a_pass_breaks_is_refused_with_its_name_and_the_group_before(offers, name, message):
    offers(name)
    with pytest.warns(RuntimeWarning) as caught:
        assert run().tolist() == (-(X + Y) * X).tolist()
    (warning,) = [str(w.message) for w in caught if "passes-on-groups" in str(w.message)]
    assert f"pass '{name.lower()}' of passes-on-groups 1.0 {message}" in warning
    assert name == "Raising" or "It was given\nmodule {\n  func.func @group(" in warning


def test_the_tool_runs_passes_on_groups_and_goes_on(offers, tmp_path, capsys):
    offers("Objects", "Raising")
    path = tmp_path / "program.mlir"
    path.write_text(
        "func.func @main(%x: tensor<5xf32>) -> tensor<5xf32> {\n"
        '  %0 = "tape.add"(%x, %x) : (tensor<5xf32>, tensor<5xf32>) -> tensor<5xf32>\n  return %0 : tensor<5xf32>\n}\n'
    )
    assert main([str(path), "--objects"]) == 1
    assert "[objects] the pass works on groups. Give it those: --to linalg writes them." in capsys.readouterr().err
    assert main([str(path), "--to", "linalg"]) == 0
    out = capsys.readouterr().out
    groups = tmp_path / "groups.mlir"
    groups.write_text(out.replace("arith.subf", "arith.addf"))
    assert main([str(groups), "--objects", "--to", "kernels"]) == 0
    out = capsys.readouterr().out
    assert "arith.subf" in out and "arith.addf" not in out
    assert main([str(groups), "--simplify"]) == 1
    assert "[simplify] the pass works on programs, and the text is that of groups." in capsys.readouterr().err
    assert main([str(groups), "--raising"]) == 1
    assert "pass 'raising' of passes-on-groups 1.0 raised KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_checks_keep_their_numbers(name):
    """By them the runtime tells which op failed."""
    group = GROUPS[name]()
    on_groups.check(group, group)
    other = dataclasses.replace(group, ops=tuple(map(renumbered, group.ops)))
    if on_groups.failures(other) == on_groups.failures(group):
        assert other == group
        return
    with pytest.raises(GroupError, match=r"its checks were those of .* Keep every check"):
        on_groups.check(group, other)


def renumbered(op):
    if not isinstance(op, Generic):
        return op
    ops = tuple(o._replace(attribute=7) if o.name == "flambeau.check" else o for o in op.body.ops)
    return dataclasses.replace(op, body=op.body._replace(ops=ops))


def test_some_group_checks():
    assert any(on_groups.failures(make()) for make in GROUPS.values())


# ---- orders for what has none

NAMED = {
    "matmul": (
        "linalg.matmul ins(%x, %y : tensor<40x50xf32>, tensor<50x60xf32>)",
        [(40, 50), (50, 60)],
        (40, 60),
        lambda x, y: find("matmul")(x, y),
    ),
    "batches": (
        "linalg.batch_matmul ins(%x, %y : tensor<3x1x50xf32>, tensor<3x50x60xf32>)",
        [(3, 1, 50), (3, 50, 60)],
        (3, 1, 60),
        lambda x, y: find("matmul")(x, y),
    ),
    "columns": (
        "linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>], "
        'iterator_types = ["reduction", "parallel"]} ins(%x : tensor<40x50xf32>)',
        [(40, 50)],
        (50,),
        lambda x: find("sum")(x, axes=(0,)),
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_ops_with_orders_are_the_groups_of_our_own(name, tmp_path, capsys):
    """`assign-orders` gives them what the compiler itself would: the same group, so the same kernels."""
    op, shapes, shape, make = NAMED[name]
    types = ["x".join(map(str, s)) for s in (*shapes, shape)]
    arguments = ", ".join(f"%{n}: tensor<{t}xf32>" for n, t in zip("xy", types[:-1]))
    whole = f"tensor<{types[-1]}xf32>"
    body = (
        "{ ^bb0(%a: f32, %s: f32):\n %t = arith.addf %s, %a : f32\n linalg.yield %t : f32\n }"
        if "generic" in op
        else ""
    )
    (tmp_path / "named.mlir").write_text(
        f"func.func @f({arguments}) -> {whole} {{\n  %zero = arith.constant 0.0 : f32\n  %e = tensor.empty() : {whole}\n"
        f"  %i = linalg.fill ins(%zero : f32) outs(%e : {whole}) -> {whole}\n"
        f"  %0 = {op} outs(%i : {whole}) {body} -> {whole}\n  return %0 : {whole}\n}}\n"
    )
    assert main([str(tmp_path / "named.mlir"), "--assign-orders"]) == 0
    found = reading.parse_group(capsys.readouterr().out)
    builder = GraphBuilder()
    builder.graph.outputs = [make(*(builder.input(Aval(s, float32)) for s in shapes)).id]
    assert found == from_cluster(builder.graph)


def test_passes_on_what_is_no_group_yet_come_first(tmp_path, capsys):
    (tmp_path / "f.mlir").write_text(print_group(GROUPS["elementwise"]()))
    assert main([str(tmp_path / "f.mlir"), "--assign-orders"]) == 0
    assert reading.parse_group(capsys.readouterr().out) == GROUPS["elementwise"]()
    module = reading.module((tmp_path / "f.mlir").read_text())
    with pytest.raises(ValueError, match=r"\[assign-orders\] the pass works on what is no group yet. Name it before"):
        stage_text._after_modules(module, [on_groups.GroupPass(), AssignOrders()])
