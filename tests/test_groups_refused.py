"""Structured IR that is no group is refused, by MLIR's verifier or by ours, with the op, what is wrong, and what to do."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import Affine, Body, BodyOp, Call, Generic, GroupError, Order
from flambeau.compiler.groups.verify import verify
from flambeau.dialects import flambeau_ops
from flambeau.dialects.orders import ORDERS, OrderError, folded_loops
from groups import GROUPS, ONE, S0, axes

# ---- folds in text: what a pass or a person may leave -----------------------------------------------------------------

FOLD = """
#id = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>
func.func @f(%x: tensor<32x100xf32>) -> tensor<32xf32> {{
  %zero = arith.constant {init} : f32
  %e = tensor.empty() : tensor<32xf32>
  {start}
  %0 = linalg.generic {{indexing_maps = [#id, #row], iterator_types = ["parallel", "reduction"]}}
    ins(%x : tensor<32x100xf32>) outs(%i : tensor<32xf32>) {{
  ^bb0(%a: f32, %acc: f32):
    {body}
    linalg.yield %r : f32
  }} -> tensor<32xf32>
  return %0 : tensor<32xf32>
}}
"""
FILL = "%i = linalg.fill ins(%zero : f32) outs(%e : tensor<32xf32>) -> tensor<32xf32>"
ADD = "%s = arith.addf %acc, %a : f32"
INDEX = "%k = linalg.index {} : index"
MARK = '%r = "flambeau.fold"(%s, {place}) {{identity = {identity} : f32, order = "{order}"}} : (f32, index) -> f32'


def fold(*body: str, init: str = "0.0", start: str = FILL) -> str:
    return FOLD.format(init=init, start=start, body="\n    ".join(body))


def mark(order: str = "lanes", place: str = "%k", identity: str = "0.0") -> str:
    return MARK.format(place=place, identity=identity, order=order)


def through(form: str) -> str:
    return f"%j = affine.apply affine_map<(d0) -> ({form})>(%k)"


GOOD = (ADD, INDEX.format(1), mark())
ACCEPTED = {
    "lanes": fold(*GOOD),
    "chains": fold(ADD, INDEX.format(1), mark("chains")),
    "through an identity map": fold(ADD, INDEX.format(1), through("d0"), mark(place="%j")),
    "through a map that adds a constant made elsewhere": fold(
        ADD,
        INDEX.format(1),
        "%c = arith.constant 0 : index",
        "%j = affine.apply affine_map<(d0)[s0] -> (d0 + s0)>(%k)[%c]",
        mark(place="%j"),
    ),
    "a fill that is a generic": fold(
        *GOOD,
        start="""%i = linalg.generic {indexing_maps = [affine_map<(d0) -> ()>, affine_map<(d0) -> (d0)>],
    iterator_types = ["parallel"]} ins(%zero : f32) outs(%e : tensor<32xf32>) {
  ^bb0(%in: f32, %out: f32):
    linalg.yield %in : f32 } -> tensor<32xf32>""",
    ),
    "an extreme in any order": fold(
        "%s = arith.maximumf %acc, %a : f32", INDEX.format(1), mark("any", identity="-1.0"), init="-1.0"
    ),
}
REFUSED = {
    "no order at all": (fold("%r = arith.addf %acc, %a : f32"), "result 0 is reduced without an order"),
    "an unknown order": (fold(ADD, INDEX.format(1), mark("whatever")), "there is no order named 'whatever'"),
    "no attribute of an order": (
        fold(ADD, INDEX.format(1), mark().replace("order", "ordering")),
        "attribute 'order' is missing. Give one: string.",
    ),
    "an order that is no name": (
        fold(ADD, INDEX.format(1), mark().replace('"lanes"', "7 : i64")),
        "attribute 'order' is 7 : i64. Give one: string.",
    ),
    "no identity": (
        fold(ADD, INDEX.format(1), mark().replace("identity", "start")),
        "attribute 'identity' is None. Give the number, of type f32",
    ),
    "an identity of another type": (
        fold(ADD, INDEX.format(1), mark().replace("0.0 : f32", "0 : i64")),
        "attribute 'identity' is 0 : i64. Give the number, of type f32",
    ),
    "the index of a parallel loop": (
        fold(ADD, INDEX.format(0), mark()),
        "the places count loops [0], and the op reduces [1]",
    ),
    "a place that is shifted": (
        fold(ADD, INDEX.format(1), through("d0 + 32"), mark(place="%j")),
        "a place starts at 32: a reduction loop was tiled, peeled or shifted",
    ),
    "a place in steps": (
        fold(ADD, INDEX.format(1), through("d0 * 2"), mark(place="%j")),
        "a place counts loop 1 in steps of 2 instead of 1",
    ),
    "a place counted backwards": (
        fold(ADD, INDEX.format(1), through("99 - d0"), mark(place="%j")),
        "a place starts at 99",
    ),
    "a place that is no linear form": (
        fold(ADD, INDEX.format(1), through("d0 floordiv 4"), mark(place="%j")),
        "a place is no linear form of linalg.index",
    ),
    "a constant for a place": (
        fold(ADD, "%k = arith.constant 0 : index", mark()),
        "the places count loops [], and the op reduces [1]",
    ),
    "a place computed from the element": (
        fold(ADD, "%n = arith.fptosi %a : f32 to i64", "%k = arith.index_cast %n : i64 to index", mark()),
        "a place is no linear form of linalg.index",
    ),
    "a place that is made of itself": (
        fold(ADD, INDEX.format(1), "%j = affine.apply affine_map<(d0, d1) -> (d0 + d1)>(%k, %j)", mark(place="%j")),
        "a place is no linear form of linalg.index",
    ),
    "a place twice": (
        fold(ADD, INDEX.format(1), mark().replace("%k)", "%k, %k)").replace("index)", "index, index)")),
        "the places count loops [1, 1], and the op reduces [1]",
    ),
    "no place": (
        fold(ADD, mark().replace(", %k)", ")").replace(", index)", ")")),
        "the places count loops [], and the op reduces [1]",
    ),
    "a start that is a value": (
        fold(
            *GOOD,
            start="%i = tensor.extract_slice %x[0, 0] [32, 1] [1, 1] : tensor<32x100xf32> to tensor<32xf32>",
        ),
        "it starts from a value. Start from linalg.fill of a constant",
    ),
    "a start that nobody wrote": (fold(*GOOD, start=FILL.replace("%i ", "%j ")).replace("outs(%i", "outs(%e"), "value"),
    "a start that is no identity": (
        fold(*GOOD, init="5.0"),
        "result 0 starts from 0x40A00000, and every partial result from 0x00000000",
    ),
    "an identity that counts": (
        fold(ADD, INDEX.format(1), mark(identity="5.0"), init="5.0"),
        "partial results of arith.addf start from 0x40A00000, which would count once per partial result",
    ),
    "rounding in any order": (
        fold(ADD, INDEX.format(1), mark("any")),
        "arith.addf is folded in any order, and rounds",
    ),
    "work after the fold": (
        fold(ADD, INDEX.format(1), mark().replace("%r", "%q"), "%r = arith.mulf %q, %q : f32"),
        "its value goes to arith.mulf. Yield it",
    ),
    "a fold that nobody uses": (
        fold(ADD, INDEX.format(1), mark().replace("%r", "%q"), "%r = arith.mulf %a, %a : f32"),
        "its value goes to nothing. Yield it",
    ),
    "fastmath flags": (
        fold(ADD.replace(": f32", "fastmath<reassoc> : f32"), *GOOD[1:]),
        "Scalar ops mean what they say: set no fastmath flags",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_folds_that_keep_their_order_are_accepted(name):
    (op, *_) = reading.parse_group(ACCEPTED[name]).ops
    assert isinstance(op, Generic)
    assert op.extents == (32, 100)


@pytest.mark.parametrize("name", REFUSED)
def test_folds_without_an_order_that_holds_are_refused(name):
    text, words = REFUSED[name]
    with pytest.raises((mlir.MlirError, GroupError), match=re.escape(words)):
        reading.parse(text)


def test_folds_of_two_loops_that_name_one_of_them_are_refused():
    text = GROUPS_TEXT.replace('"flambeau.fold"(%s, %k, %l)', '"flambeau.fold"(%s, %l)')
    text = text.replace("(f32, index, index)", "(f32, index)")
    assert len(reading.parse_group(GROUPS_TEXT).ops) == 1
    with pytest.raises(mlir.MlirError, match=re.escape("the places count loops [2], and the op reduces [1, 2]")):
        reading.parse(text)


GROUPS_TEXT = """
func.func @f(%x: tensor<3x4x5xf32>) -> tensor<3xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<3xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<3xf32>) -> tensor<3xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0)>],
    iterator_types = ["parallel", "reduction", "reduction"]} ins(%x : tensor<3x4x5xf32>) outs(%i : tensor<3xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %s = arith.addf %acc, %a : f32
    %k = linalg.index 1 : index
    %l = linalg.index 2 : index
    %r = "flambeau.fold"(%s, %k, %l) {identity = 0.0 : f32, order = "lanes"} : (f32, index, index) -> f32
    linalg.yield %r : f32
  } -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
"""


def test_folds_outside_of_a_nest_are_refused():
    text = """func.func @f(%x: f32, %k: index) -> f32 {
      %r = "flambeau.fold"(%x, %k) {identity = 0.0 : f32, order = "lanes"} : (f32, index) -> f32
      return %r : f32 }"""
    with pytest.raises(mlir.MlirError, match=re.escape("[flambeau.fold] it stands in func.func.")):
        reading.parse(text)


# ---- places, in the one rule that both verifiers have ------------------------------------------------------------------


def test_every_order_says_which_tree_it_is():
    assert {name for name, order in ORDERS.items() if order.exact} == {"any"}
    assert all(order.name == name and order.tree.endswith(".") for name, order in ORDERS.items())


@pytest.mark.parametrize(
    ("places", "reductions", "order"),
    [
        (((((1, 1),), 0),), {1}, (1,)),
        (((((2, 1),), 0), (((1, 1),), 0)), {1, 2}, (2, 1)),
        (((((1, 5), (2, 1)), 0),), {1, 2}, (1, 2)),
        (((((1, 1), (2, 4)), 0),), {1, 2}, (2, 1)),
        (((((0, 1),), 0), (((1, 5), (2, 1)), 0), ((), 0)), {0, 1, 2}, (0, 1, 2)),
        ((), set(), ()),
    ],
)
def test_places_name_the_loops_of_a_fold(places, reductions, order):
    assert folded_loops(places, {0: 3, 1: 4, 2: 5}, reductions) == order


@pytest.mark.parametrize(
    ("places", "reductions"),
    [
        ((None,), {1}),
        (((((1, 1),), 1),), {1}),
        (((((1, -1),), 0),), {1}),
        (((((1, 4), (2, 1)), 0),), {1, 2}),
        (((((1, 1),), 0),), {1, 2}),
        (((((1, 1),), 0), (((1, 1),), 0)), {1}),
        (((((9, 5), (2, 1)), 0), (((3, 1),), 0)), {2, 3}),
    ],
)
def test_places_that_are_no_numbering_are_refused(places, reductions):
    with pytest.raises(OrderError):
        folded_loops(places, {0: 3, 1: 4, 2: 5}, reductions)


def test_what_lies_outside_of_an_unknown_extent_has_no_known_number():
    assert folded_loops([(((1, 1),), 0), (((2, 1),), 0)], {1: 4, 2: S0}, {1, 2}) == (1, 2)
    with pytest.raises(OrderError, match="instead of None"):
        folded_loops([(((1, 5), (2, 1)), 0)], {1: 4, 2: S0}, {1, 2})


# ---- other ops in text ------------------------------------------------------------------------------------------------

SCATTER = """func.func @f(%x: tensor<5x8xf32>, %i: tensor<3x8xi64>, %u: tensor<3x8xf32>) -> tensor<5x8xf32> {
  %0 = "flambeau.scatter"(%x, %i, %u) ({
  ^bb0(%old: f32, %new: f32):
    %s = arith.addf %old, %new : f32
    "flambeau.yield"(%s) : (f32) -> ()
  }) {axis = 0 : i64, code = 1 : i64, order = "sequential"}
    : (tensor<5x8xf32>, tensor<3x8xi64>, tensor<3x8xf32>) -> tensor<5x8xf32>
  return %0 : tensor<5x8xf32>
}"""
NEST = """func.func @f(%x: tensor<8xf32>, %y: tensor<9xf32>) -> tensor<8xf32> {{
  {before}
  %e = tensor.empty() : tensor<8xf32>
  %0 = linalg.generic {{indexing_maps = [affine_map<(d0) -> ({map})>, affine_map<(d0) -> (d0)>],
    iterator_types = ["parallel"]}} ins(%x : tensor<8xf32>) outs({out} : tensor<8xf32>) {{
  ^bb0(%a: f32, %o: f32):
    {body}
    linalg.yield %r : f32
  }} -> tensor<8xf32>
  return %0 : tensor<8xf32>
}}"""


def nest(body: str = "%r = math.exp %a : f32", map: str = "d0", out: str = "%e", before: str = "") -> str:
    return NEST.format(body=body, map=map, out=out, before=before)


OTHERS = {
    "another axis": (SCATTER.replace("axis = 0", "axis = 2"), "attribute 'axis' is 2 : i64"),
    "an order of no scatter": (SCATTER.replace("sequential", "sequence"), "there is no order named 'sequence'"),
    "a combiner of other elements": (
        SCATTER.replace("%old: f32, %new: f32", "%old: f32, %new: f32, %more: f32"),
        "its region takes f32, f32, f32",
    ),
    "a result of another shape": (
        SCATTER.replace("-> tensor<5x8xf32>\n  return %0", "-> tensor<3x8xf32>\n  return %x"),
        "it takes tensor<5x8xf32>, tensor<3x8xi64>, tensor<3x8xf32> and gives tensor<3x8xf32>",
    ),
    "an operand too few": (
        SCATTER.replace("(%x, %i, %u)", "(%x, %i)").replace(
            ", tensor<3x8xi64>, tensor<3x8xf32>)", ", tensor<3x8xi64>)"
        ),
        "it has 2 operands, 1 results and 1 regions. Give 3, 1 and 1.",
    ),
    "an operand without a rank": (
        SCATTER.replace("tensor<5x8xf32>", "tensor<*xf32>"),
        "it takes tensor<*xf32>. Give tensors",
    ),
    "an index that does not agree": (
        SCATTER.replace("3x8xi64", "3x7xi64"),
        "its index is tensor<3x7xi64> for tensor<5x8xf32>",
    ),
    "a check of a number": (
        nest('"flambeau.check"(%a) {code = 1 : i64} : (f32) -> ()\n    %r = math.exp %a : f32'),
        "[flambeau.check] it takes f32 and gives nothing. Take i1 and give nothing.",
    ),
    "a check without a number": (
        nest('%c = arith.cmpf oeq, %a, %a : f32\n"flambeau.check"(%c) : (i1) -> ()\n    %r = math.exp %a : f32'),
        "attribute 'code' is missing",
    ),
    "lanes of numbers": (
        nest('%r = "flambeau.any_lane"(%a) : (f32) -> f32'),
        "[flambeau.any_lane] it takes f32 and gives f32. Take i1 and give i1.",
    ),
    "a size that is no expression": (
        nest('%s = "flambeau.size"() {size = "s0 +"} : () -> i64\n    %r = math.exp %a : f32'),
        "[flambeau.size] attribute 'size': 's0 +' is no size",
    ),
    "a size that divides by nothing": (
        nest('%s = "flambeau.size"() {size = "s0 // 0"} : () -> i64\n    %r = math.exp %a : f32'),
        "[flambeau.size] attribute 'size': integer division or modulo by zero",
    ),
    "an extent that is no expression": (
        'func.func @f(%x: tensor<?xf32, ["n"]>) -> tensor<?xf32, ["n"]> { return %x : tensor<?xf32, ["n"]> }',
        "'n' is no size",
    ),
    "an op of no group": (
        nest(before="%q = tensor.cast %x : tensor<8xf32> to tensor<?xf32>"),
        '[tensor.cast] at loc("-":2:8): it is no op of a group.',
    ),
    "an op of no body": (nest("%b = math.isnan %a : f32\n    %r = math.exp %a : f32"), "it is no scalar op of a body"),
    "control flow of no body": (
        nest(
            "%c0 = arith.constant 0 : index\n%r = scf.for %i = %c0 to %c0 step %c0 iter_args(%q = %a) -> (f32) {\n"
            "  scf.yield %q : f32\n}"
        ),
        "bodies have scf.if and scf.while only",
    ),
    "a map that is not linear": (nest(map="d0 floordiv 2"), "is not linear. Read such elements with tensor.extract."),
    "an unknown extent without an expression": (
        "func.func @f(%x: tensor<?xf32>) -> tensor<?xf32> { return %x : tensor<?xf32> }",
        "has unknown extents. Give an expression for each",
    ),
    "a type that is not ours": (
        "func.func @f(%x: tensor<3xi7>) -> tensor<3xi7> { return %x : tensor<3xi7> }",
        "i7 is no element type of ours",
    ),
    "a scalar argument": ("func.func @f(%x: f32) { return }", '[func.func] at loc("-":1:1): it takes f32.'),
    "a function of several blocks": (
        "func.func @f(%x: tensor<3xf32>) { cf.br ^bb1\n ^bb1: return }",
        "it has a region of several blocks",
    ),
    "a slice that is clamped elsewhere": (
        """func.func @f(%x: tensor<16xf32>, %s: tensor<i64>) -> tensor<3xf32> {
          %k = "flambeau.start"(%s) {limit = "12"} : (tensor<i64>) -> index
          %0 = tensor.extract_slice %x[%k] [3] [1] : tensor<16xf32> to tensor<3xf32>
          return %0 : tensor<3xf32> }""",
        "a start is moved into 0..12, and the slice fits at 0..13",
    ),
    "a start that is a scalar result": (
        """func.func @f(%x: tensor<16xf32>, %s: tensor<i64>) -> tensor<3xf32> {
          %n = tensor.extract %s[] : tensor<i64>
          %k = arith.index_cast %n : i64 to index
          %0 = tensor.extract_slice %x[%k] [3] [1] : tensor<16xf32> to tensor<3xf32>
          return %0 : tensor<3xf32> }""",
        "[arith.index_cast]",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_ir_that_is_no_group_is_refused(name):
    text, words = OTHERS[name]
    with pytest.raises((mlir.MlirError, GroupError), match=re.escape(words)):
        reading.parse(text)


def test_results_that_nobody_reads_may_lie_in_any_tensor():
    """A parallel op that only writes its result starts from nothing, wherever it writes."""
    (*_, op) = reading.parse_group(nest(out="%x")).ops
    assert isinstance(op, Generic)
    assert op.inits == (None,)


def test_verifiers_never_raise_into_mlir():
    """An exception there would leave the parser as it is, without a word of MLIR's."""
    said = []
    location = SimpleNamespace(emit_error=said.append)
    op = SimpleNamespace(operation=SimpleNamespace(location=location, operands=[], results=[], regions=[]))
    assert not flambeau_ops._verifier("flambeau.fold", lambda op: op.absent, 0, False, 0, 0)(op)
    assert said[0].startswith("[flambeau.fold] cannot be verified: AttributeError")


# ---- objects ----------------------------------------------------------------------------------------------------------


def changed(group_name: str, position: int, **fields):
    """A group with an op changed."""
    group = GROUPS[group_name]()
    ops = list(group.ops)
    ops[position] = replace(ops[position], **fields)
    return replace(group, ops=tuple(ops))


def body_of(name: str, position: int) -> Body:
    op = GROUPS[name]().ops[position]
    assert isinstance(op, Generic)
    return op.body


def call(name: str, position: int) -> Call:
    op = GROUPS[name]().ops[position]
    assert isinstance(op, Call)
    return op


def with_attributes(name: str, position: int, **attributes):
    known = {**call(name, position).attribute, **attributes}
    return changed(name, position, attributes=tuple(sorted(known.items())))


def with_op(name: str, position: int, k: int, **fields):
    """A group with an op of a body changed."""
    body = body_of(name, position)
    ops = list(body.ops)
    ops[k] = ops[k]._replace(**fields)
    return changed(name, position, body=body._replace(ops=tuple(ops)))


#: A region that does not use the second value that it is handed.
UNUSED = Body(("f64", "i1"), (BodyOp("arith.constant", (), "3", ("i64",)),), (0, 2))
BROKEN = {
    "a value before its definition": (lambda: changed("softmax", 1, operands=(0, 3)), "which is not defined yet"),
    "results out of order": (lambda: changed("scatter", 0, results=(7,)), "Number results in the order of ops"),
    "inputs out of order": (lambda: replace(GROUPS["scatter"](), inputs=(1, 0, 2)), "inputs first"),
    "a type too few": (lambda: replace(GROUPS["scatter"](), avals=GROUPS["scatter"]().avals[:-1]), "Give one for each"),
    "an output that is no value": (lambda: replace(GROUPS["scatter"](), outputs=(9,)), "output 9 is no value"),
    "an output that is a scalar": (lambda: replace(GROUPS["elementwise"](), outputs=(2,)), "output 2 is a scalar"),
    "a map too few": (lambda: changed("softmax", 1, maps=(axes(0, 1), axes(0))), "Give one for each"),
    "a map of another rank": (
        lambda: changed("softmax", 1, maps=(axes(0), axes(0), axes(0, 1))),
        "has 1 results for 2 axes",
    ),
    "a map that leaves its tensor": (
        lambda: changed("softmax", 1, maps=(axes(0, 1), (Affine(((0, 1),), 1),), axes(0, 1))),
        "is read outside of it",
    ),
    "a map that begins before its tensor": (
        lambda: changed("softmax", 1, maps=(axes(0, 1), (Affine(((0, 1),), -1),), axes(0, 1))),
        "is read outside of it",
    ),
    "a map with a loop twice": (
        lambda: changed("softmax", 1, maps=((Affine(((0, 1), (0, 1))), Affine.of(1)), axes(0), axes(0, 1))),
        "Name loops in order, each once",
    ),
    "a loop of another extent": (lambda: changed("softmax", 1, extents=(31, 100)), "loop 0 runs 31 times along 32"),
    "a kind of loop too few": (lambda: changed("softmax", 1, iterators=("parallel",)), "Give each a kind and an extent"),
    "a result that is reduced along its axis": (
        lambda: changed("softmax", 1, iterators=("parallel", "reduction")),
        "a result has loops [0, 1] as axes, and [0] are parallel",
    ),
    "a loop that is no axis of the result": (
        lambda: changed("softmax", 0, iterators=("parallel", "parallel")),
        "a result has loops [0] as axes, and [0, 1] are parallel",
    ),
    "a result that is written with steps": (
        lambda: changed("softmax", 1, maps=(axes(0, 1), axes(0), (Affine(((0, -1),), 31), Affine.of(1)))),
        "a result is written at places that are no loops",
    ),
    "tiles of a folded loop": (lambda: changed("softmax", 0, tiles=((1, 8),)), "Tile parallel loops"),
    "tiles of nothing": (lambda: changed("softmax", 0, tiles=((0, 0),)), "by at least 1"),
    "a body of other types": (
        lambda: changed("softmax", 1, body=body_of("softmax", 1)._replace(types=("f32", "f64", "f32"))),
        "its body takes f32, f64, f32, and is given f32, f32, f32",
    ),
    "a body that yields less": (
        lambda: changed("softmax", 1, body=body_of("softmax", 1)._replace(results=())),
        "its body yields nothing for f32",
    ),
    "a body that uses what comes later": (lambda: with_op("softmax", 1, 0, operands=(0, 4)), "is not defined yet"),
    "a body that names a loop too many": (lambda: with_op("softmax", 0, 1, attribute=2), "names loop 2 of 2"),
    "a start that nothing reads": (lambda: changed("softmax", 1, inits=(ONE,)), "which nothing reads"),
    "a result that is read and starts from nothing": (
        lambda: changed("softmax", 0, inits=(None,)),
        "it reads result 0 before it is written",
    ),
    "a capture that nobody uses": (
        lambda: with_op("elementwise", 1, 0, operands=(0, 0)),
        "Capture what it uses, in order of first use",
    ),
    "a value captured twice": (
        lambda: changed(
            "elementwise", 1, captures=(2, 2), body=body_of("elementwise", 1)._replace(types=("f32",) * 5)
        ),
        "Capture a value once",
    ),
    "a fold that says no order": (lambda: with_op("softmax", 2, 2, attribute="lanes"), "Give an order and the identity"),
    "a fold of another identity": (
        lambda: with_op("softmax", 2, 2, attribute=Order("lanes", ONE)),
        "every partial result from 0x3F800000",
    ),
    "a place of another type": (lambda: with_op("softmax", 2, 2, operands=(2, 2)), "then places"),
    "regions that see more than their arguments": (
        lambda: with_op("a branch and a table", 0, 3, operands=(4, 0)),
        "a region of scf.if takes f64, i1",
    ),
    "regions that are handed what they do not use": (
        lambda: with_op("a branch and a table", 0, 3, regions=(UNUSED, UNUSED)),
        "Hand over what they use",
    ),
    "an op with an attribute too many": (
        lambda: with_attributes("scatter", 0, unique=1),
        "its attributes are axis, code, order, unique. Give axis, code, order.",
    ),
    "an op that is not ours": (lambda: changed("scatter", 0, name="flambeau.stow"), "it is no op of a group"),
    "a constant of another rank": (
        lambda: changed("elementwise", 0, attributes=(("value", "dense<[1, 2]>"),)),
        "Constants are scalars, and tables of rank 1",
    ),
    "a pad that does not fit": (
        lambda: with_attributes("pad, concat and reshape", 1, low=(1, 1)),
        "it gives tensor<5x6xf32>, and its operands tensor<5x7xf32>",
    ),
    "a concat along no axis": (lambda: with_attributes("pad, concat and reshape", 2, dim=2), "along axis 2"),
    "axes grouped out of order": (
        lambda: with_attributes("pad, concat and reshape", 3, reassociation=((1, 0),)),
        "Name each once, in order",
    ),
    "a slice that does not fit": (lambda: with_attributes("slices", 0, steps=(3, 3)), "does not fit into"),
    "a slice with a start too few": (lambda: with_attributes("slices", 0, starts=("clamped",)), "Give one per axis"),
    "a slice without its start": (lambda: with_attributes("slices", 0, starts=("clamped", "clamped")), "Give 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_groups_that_break_a_rule_are_refused(name):
    make, words = BROKEN[name]
    with pytest.raises(GroupError, match=re.escape(words)):
        verify(make())


def test_errors_name_the_op_its_line_and_what_to_do():
    with pytest.raises(GroupError) as caught:
        verify(changed("softmax", 2, iterators=("parallel", "parallel")))
    assert str(caught.value).startswith("[linalg.generic] value 3 of user.py:3: a result has loops [0] as axes")
