"""Families of ops: what is missing in one is named when it is made, and nothing asks which family an op is of."""

import ast
from pathlib import Path

import pytest
from flambeau import compiler, dialects
from flambeau.compiler import families as halves
from flambeau.compiler.codegen.units import OwnNest
from flambeau.compiler.families import GroupOp, Rules
from flambeau.compiler.groups import generate
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.families import BUILT_IN
from flambeau.dialects.family import Family, no_family
from flambeau.dialects.record import REGISTRY, Kind, NoGradient, OpRecord, find
from test_layering import sources

NAMES = {family.name for family in BUILT_IN}


def nothing(*arguments):
    raise AssertionError("nobody calls this")


# ---- what is missing is named

FAMILY = dict(name="toy", doc="A family.", compiler="toy:RULES")
WITHOUT = [
    (dict(name=""), "a family has the name ''. Give `name`"),
    (dict(name="Toy ops"), "a family has the name 'Toy ops'. Give `name`"),
    (dict(doc=""), "'toy' has no `doc`. Say in a line"),
    (dict(demands=None), "'toy' has None for `demands`. Give a function"),
    (dict(cost=7), "'toy' has 7 for `cost`. Give a function"),
    (dict(compiler="toy"), "'toy' has 'toy' for `compiler`. Write: module:attribute"),
]


@pytest.mark.parametrize("changed, message", WITHOUT, ids=lambda x: str(x)[:30])
def test_a_family_without_a_piece_is_refused(changed, message):
    Family(**FAMILY)
    with pytest.raises(TypeError) as caught:
        Family(**{**FAMILY, **changed})
    assert str(caught.value).startswith(f"[family] {message}")


RULES = dict(family="toy", structure=nothing, generators={"cpu": nothing})
GROUP_OP = dict(name="toy.scan", attributes=("axis", "order"), check=nothing, replay=nothing)
RULES_WITHOUT = [
    (Rules, RULES, dict(structure=None), "the compiler's half of 'toy' has no `structure`. Say what structured ops"),
    (
        Rules,
        RULES,
        dict(generators={}),
        "the compiler's half of 'toy' says of no kernels how they are made. Give `nest`",
    ),
    (Rules, RULES, dict(generators={"cpu": "toy"}), "the compiler's half of 'toy' has 'toy' for cpu. Give a function"),
    (
        Rules,
        RULES,
        dict(ops=("toy.scan",)),
        "the compiler's half of 'toy' has 'toy.scan' among its `ops`. Give GroupOps",
    ),
    (GroupOp, GROUP_OP, dict(name="scan"), "the op 'scan' of a group has no dialect. Name it dialect.op"),
    (GroupOp, GROUP_OP, dict(attributes=("order", "axis")), "'toy.scan' has attributes ('order', 'axis'). Sort"),
    (GroupOp, GROUP_OP, dict(axes=("dim",)), "'toy.scan' has no attribute 'dim'. Name `axes` among"),
    (GroupOp, GROUP_OP, dict(check=None), "'toy.scan' has no `check`. Give a function"),
    (GroupOp, GROUP_OP, dict(replay=None), "'toy.scan' has no `replay`. Give a function"),
]


@pytest.mark.parametrize("made, fields, changed, message", RULES_WITHOUT, ids=lambda x: str(x)[:30])
def test_a_half_without_a_piece_is_refused(made, fields, changed, message):
    made(**fields)
    with pytest.raises(TypeError) as caught:
        made(**{**fields, **changed})
    assert str(caught.value).startswith(f"[family] {message}")


def test_a_nest_without_a_kind_of_schedules_is_refused():
    with pytest.raises(
        TypeError, match=r"\[line\] the nest's kind is None. Give a subclass of Schedule; where there is nothing"
    ):
        OwnNest(None, GraphBuilder().graph, "line", nothing)


def test_what_is_no_family_is_told_what_to_become():
    assert no_family("toy", Family(**FAMILY)) is None
    assert no_family("toy", 7) == "Make it a flambeau.dialects.family.Family with name 'toy'."
    assert no_family("other", Family(**FAMILY)) == "Make it a flambeau.dialects.family.Family with name 'other'."
    assert no_family("toy", Family(**{**FAMILY, "compiler": ""})).startswith("It has no `compiler`.")


# ---- what a family asks of its records

RECORD = dict(
    attrs=(), infer=nothing, reference=nothing, vjp=NoGradient("a test"), lower=None, dtypes=(float32,), results=("x",)
)
FAILS = dict(lower=nothing, fallible=True, failure=nothing)
ASKED = [
    ("elementwise", {}, "has no lowering. Give `lower`"),
    ("elementwise", FAILS, "may fail, and does not say where. Give `fails`"),
    ("source", {}, "has no lowering. Give `lower`"),
    ("reduction", dict(attrs=("dims",)), "has attributes ('dims',). Make the first `axes`"),
    ("reduction", dict(attrs=("axes",), lower=nothing), "has a lowering that is no Monoid. Give `lower` a Monoid"),
    ("view", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("view", dict(results=("x", "y")), "has several results. Give one"),
    ("assemble", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("contraction", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("convolution", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("gather", {}, "has attributes (). Make the first `axis`"),
    ("window", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("sort", {}, "has attributes (). Make the first `axis`"),
    ("scatter", {}, "has attributes (). Make it `axis`"),
    ("scatter", dict(attrs=("axis",)), "combines nothing. Give `lower`"),
    ("put", dict(attrs=("axis",), lower=nothing, results=("x", "y")), "has several results"),
    ("scan", {}, "has attributes (). Make them `axis` and `reverse`"),
    ("scan", dict(attrs=("axis", "reverse")), "has no step. Give `lower`"),
    ("transfer", {}, "does not say where it moves. Name the attribute that is the device"),
    ("control", {}, "has no regions. Name them: `regions`"),
    ("host_call", {}, "has no effect. Set `effect`"),
    ("linear_algebra", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("fourier", dict(lower=nothing), "has a lowering, which nobody asks for"),
    ("reference_call", {}, "cannot fail, and what it calls may raise"),
]


@pytest.mark.parametrize("family, changed, message", ASKED)
def test_a_record_that_lacks_what_its_family_asks_for_is_refused(family, changed, message):
    with pytest.raises(TypeError) as caught:
        OpRecord(name="lacking", kind=family, **{**RECORD, **changed})
    assert str(caught.value).startswith(f"[record] op 'lacking' of family '{family}' {message}")
    assert "lacking" not in REGISTRY


def test_every_family_asks_for_something():
    assert {family for family, _, _ in ASKED} == NAMES == {str(kind) for kind in Kind}


def test_a_record_of_no_family_is_refused():
    with pytest.raises(
        TypeError, match=r"op 'lost' is of a family that does not exist.*no family named 'nowhere'.*view"
    ):
        OpRecord(name="lost", kind="nowhere", **RECORD)
    assert "lost" not in REGISTRY


# ---- both halves agree


@pytest.mark.parametrize("family", BUILT_IN, ids=str)
def test_halves_agree(family):
    rules = halves.find(family.name)
    assert rules.family == family.name and family.doc.endswith(".")
    assert family.is_view == (rules.layout is not None)
    walked = family.is_pointwise or family.is_placed or family.folds or family.reads_table
    assert walked == (rules.nest is not None), "nests know how to compute an element of it, or none has one"
    for machine in rules.generators:
        assert callable(generate.code_generator(machine, family.name))


def test_a_machine_without_a_generator_is_named():
    with pytest.raises(
        ValueError, match=r"ops of family 'contraction' have no code generator for a tpu. There are: cpu, gpu"
    ):
        generate.code_generator("tpu", "contraction")


def test_a_cost_is_that_of_its_family():
    builder = GraphBuilder()
    x = builder.input(Aval((64, 64), float32))
    find("matmul")(find("permute")(x, perm=(1, 0)), x + x)
    view, add, product = (n.op.family.cost(builder.graph, n) for n in builder.graph.nodes)
    assert view == 0 < add < product


# ---- nothing asks for a family by name

#: Comparisons of something else that has the name of a family, per file.
OTHERS = {"engine.py": {"function.kind == 'view'"}}
#: Classes of machines, which a target's `family` is one of.
MACHINES = {"cpu", "gpu"}
#: Where a family is asked for by name. This list only shrinks.
ALLOWED: dict[str, set[str]] = {}


def _parents(tree):
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _asked_by_name(path: Path) -> set[str]:
    """What in a file looks at which family an op is of: `Kind.X` anywhere but as an argument; comparisons of a `kind` with the
    name of a family, and of a `family` or its name with anything but a class of machines (`Target.family`)."""
    tree = ast.parse(path.read_text())
    parents, found = _parents(tree), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Compare | ast.match_case):
            continue
        inside = list(ast.walk(node))
        texts = {n.value for n in inside if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        match node:
            case ast.Attribute(value=ast.Name(id="Kind")) if not isinstance(parents[node], ast.Call | ast.keyword):
                found.add(ast.unparse(parents[node]))
            case ast.Compare() if any(map(_is_family, [node.left, *node.comparators])) and not (
                texts and texts <= MACHINES
            ):
                found.add(ast.unparse(node))
            case ast.Compare() if texts & NAMES and any(
                isinstance(n, ast.Attribute) and n.attr == "kind" for n in inside
            ):
                found.add(ast.unparse(node))
            case ast.match_case() if texts & NAMES and "kind" in ast.unparse(parents[node].subject):
                found.add(ast.unparse(node.pattern))
    return found


def _is_family(side: ast.expr) -> bool:
    """Whether one side of a comparison is a family, or its name."""
    if isinstance(side, ast.Attribute) and side.attr == "name":
        side = side.value
    return isinstance(side, ast.Attribute) and side.attr == "family"


def test_nothing_asks_for_a_family_by_name():
    found = {}
    for layer in ("dialects", "compiler", "frontend", "runtime"):
        for path in sources(layer):
            asked = _asked_by_name(path) - OTHERS.get(path.name, set())
            if asked and "families" not in path.parent.name:
                found[path.name] = asked
    assert found == ALLOWED


def test_the_search_finds_what_it_looks_for(tmp_path):
    file = tmp_path / "asks.py"
    file.write_text(
        "a = op.kind is Kind.VIEW\nb = op.kind in (Kind.GATHER, Kind.SCATTER)\nc = op.kind == 'view'\n"
        "d = {Kind.SOURCE: 1}\ne = node.op.family is VIEW\nf = OpRecord(kind=Kind.VIEW)\ng = op.family.is_view == True\n"
    )
    assert len(_asked_by_name(file)) == 5


def test_the_layers_of_a_family_are_apart():
    """The half that recording needs does not name the compiler."""
    for module in ("family", "families"):
        text = (Path(dialects.__file__).parent / f"{module}.py").read_text()
        assert "flambeau.compiler" not in text
    assert (Path(compiler.__file__).parent / "families" / "view.py").exists()
