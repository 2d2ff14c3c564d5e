"""What upstream's passes and transform scripts leave of groups: the same group, one with hints, or nothing at all."""

import re
from dataclasses import replace

import group_interpreter
import pytest
from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import PARALLEL, REDUCTION, Affine, Generic, Group, GroupError, Map, Order
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from groups import GROUPS

SCRIPT = """
  transform.named_sequence @__transform_main(%m: !transform.any_op {{transform.readonly}}) {{
    %g = transform.structured.match ops{{["linalg.generic"]}} attributes {{iterator_types = [{kinds}]}}
      in %m : (!transform.any_op) -> !transform.any_op
    {body}
    transform.yield
  }}
}}
"""
ANY = "!transform.any_op"


def passed(group: Group, pipeline: str) -> Group:
    """What a pipeline of upstream's leaves of a group."""
    reading.parse("module {}")  # loads the dialect
    module = mlir.parse(print_group(group))
    mlir.run(module, f"builtin.module({pipeline})")
    return reading.read(module)["group"]


def scripted(group: Group, kinds: tuple[str, ...], body: str) -> Group:
    """What a transform script leaves of the ops with such loops."""
    reading.parse("module {}")
    listed = ", ".join(f"#linalg.iterator_type<{kind}>" for kind in kinds)
    text = print_group(group).replace("module {", "module attributes {transform.with_named_sequence} {", 1)
    module = mlir.parse(text.rstrip()[:-1] + SCRIPT.format(kinds=listed, body=body))
    mlir.run(module, "builtin.module(transform-interpreter)")
    return reading.read(module)["group"]


def tiling(given: str, sizes: str, how: str = "for", results: str = "") -> str:
    """A script's line that tiles `given` (by the name `%1` or another one)."""
    count = 1 if how != "for" else sum(n.strip() != "0" for n in sizes.split(","))
    handles = f":{count}" if count > 1 else ""
    name, loops = (results or "%1"), f"%l{(results or '%1')[1:]}"
    types = ", ".join([ANY] * (count + 1))
    kind = f"tile_using_{how}"
    return f"{name}, {loops}{handles} = transform.structured.{kind} {given} tile_sizes [{sizes}] : ({ANY}) -> ({types})"


def interchange(order: str) -> str:
    return f"%1 = transform.structured.interchange %g iterator_interchange = [{order}] : ({ANY}) -> {ANY}"


def with_tiles(group: Group, kinds: tuple[str, ...], tiles: tuple[tuple[int, int], ...]) -> Group:
    """The group with hints at every op with such loops."""
    ops = [
        replace(op, tiles=(*tiles, *op.tiles)) if isinstance(op, Generic) and op.iterators == kinds else op
        for op in group.ops
    ]
    return replace(group, ops=tuple(ops))


def test_tables_that_a_pipeline_moves_out_of_a_body_are_put_back_into_it():
    """As canonicalize moves all constants. A table beside a nest is nothing that code generators take."""
    group = GROUPS["a branch and a table"]()
    moved = passed(group, "func.func(canonicalize)")
    assert not any(op.name == "arith.constant" and moved.avals[op.results[0]].rank for op in moved.ops)
    assert group_interpreter.same(group, moved)
    assert replay(moved).graph.outputs


# ---- loops over tiles -------------------------------------------------------------------------------------------------

ROW, MAP, PRODUCT = (PARALLEL, REDUCTION), (PARALLEL, PARALLEL), (PARALLEL, PARALLEL, REDUCTION)
TILED = (
    ("softmax", ROW, (tiling("%g", "8"),), ((0, 8),)),
    ("softmax", ROW, (tiling("%g", "7"),), ((0, 7),)),
    ("softmax", ROW, (tiling("%g", "40"),), ((0, 40),)),
    ("softmax", ROW, (tiling("%g", "8", "forall"),), ((0, 8),)),
    ("softmax", ROW, (tiling("%g", "7", "forall"),), ((0, 7),)),
    ("softmax", ROW, (tiling("%g", "12"), tiling("%1", "5", results="%2")), ((0, 12), (0, 5))),
    ("softmax", ROW, (tiling("%g", "16", "forall"), tiling("%1", "4", results="%2")), ((0, 16), (0, 4))),
    ("softmax", ROW, (tiling("%g", "16", "forall"), tiling("%1", "5", results="%2")), ((0, 16), (0, 5))),
    ("argmax", ROW, (tiling("%g", "3"),), ((0, 3),)),
    ("product in blocks", PRODUCT, (tiling("%g", "4, 3"),), ((0, 4), (1, 3))),
    ("product in blocks", PRODUCT, (tiling("%g", "4, 3", "forall"),), ((0, 4), (1, 3))),
    ("product in blocks", PRODUCT, (tiling("%g", "0, 3"), tiling("%1", "2", results="%2")), ((1, 3), (0, 2))),
    ("elementwise", MAP, (tiling("%g", "3, 5"),), ((0, 3), (1, 5))),
    ("gather", MAP, (tiling("%g", "5, 3"),), ((0, 5), (1, 3))),
    ("no operands", (PARALLEL,), (tiling("%g", "2"),), ((0, 2),)),
    ("conversions, several results", (PARALLEL,), (tiling("%g", "2"),), ((0, 2),)),
    ("a loop and a check", (PARALLEL,), (tiling("%g", "4"),), ((0, 4),)),
    ("a branch and a table", MAP, (tiling("%g", "0, 3"),), ((1, 3),)),
    ("sum of a middle axis", (PARALLEL, REDUCTION, PARALLEL), (tiling("%g", "2, 0, 3"),), ((0, 2), (2, 3))),
)


@pytest.mark.parametrize(("name", "kinds", "script", "tiles"), TILED)
def test_loops_over_tiles_are_hints(name, kinds, script, tiles):
    """Nested, divided or not, in parallel, and where the body reads its index: the group is the same but for the hints."""
    group = GROUPS[name]()
    assert scripted(group, kinds, "\n".join(script)) == with_tiles(group, kinds, tiles)


def test_hints_are_tiled_again():
    group = with_tiles(GROUPS["softmax"](), ROW, ((0, 4),))
    assert scripted(group, ROW, tiling("%g", "16")) == with_tiles(group, ROW, ((0, 16),))


TILES = (
    print_group(GROUPS["sum in lanes"]()),
    """
  %zero = arith.constant 0 : index
  %end = arith.constant {end} : index
  %step = arith.constant {step} : index
  %v1 = scf.for %i = {begin} to %end step %step iter_args(%t = %i1) -> (tensor<7xf32>) {{
    %n = affine.min affine_map<(d0) -> ({size})>(%i)
    %x = tensor.extract_slice %v0[{from}, 0] [%n, 100] [1, 1] : tensor<7x100xf32> to tensor<?x100xf32>
    %o = tensor.extract_slice %t[%i] [%n] [1] : tensor<7xf32> to tensor<?xf32>
    {op}
    %w = tensor.insert_slice {what} into %t[{to}] [%n] [1] : tensor<?xf32> into tensor<7xf32>
    scf.yield %w : tensor<7xf32>
  }}
""",
)
WRITTEN = {
    "begin": "%zero", "end": "7", "step": "2", "size": "2, -d0 + 7", "from": "%i", "to": "%i", "what": "%r",
}  # fmt: skip


def written(**changes: str) -> str:
    """Loops over tiles as somebody may write them."""
    text, loops = TILES
    first, last = text.index("    %v1 ="), text.index("    return")
    op = text[first:last].replace("%v1 =", "%r =").replace("%v0 : tensor<7x100", "%x : tensor<?x100")
    op = op.replace("%i1", "%o").replace("tensor<7xf32>", "tensor<?xf32>")
    return text[:first] + loops.format(op=op, **{**WRITTEN, **changes}) + text[last:]


def test_loops_over_tiles_that_somebody_wrote_are_hints():
    group = GROUPS["sum in lanes"]()
    assert reading.parse_group(written()) == with_tiles(group, ROW, ((0, 2),))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"end": "6"}, "a loop around it does not go to the end of loop 0"),
        ({"begin": "%step"}, "it does not go from 0 in known steps"),
        ({"step": "3"}, "tiles of loop 0 do not end where the next one begins"),
        ({"size": "1, -d0 + 7"}, "tiles of loop 0 do not end where the next one begins"),
        ({"size": "2, -d0 + 6"}, "tiles of loop 0 do not end where the next one begins"),
        ({"from": "%zero"}, "a slice does not begin where its map puts the tile"),
        ({"to": "%zero"}, "it does not put its results where they were taken from"),
        ({"what": "%o"}, "it does not put its results where they were taken from"),
    ],
)
def test_loops_that_do_not_compute_the_whole_op_are_refused(changes, words):
    with pytest.raises(GroupError, match=re.escape(words)):
        reading.parse(written(**changes))


def test_the_index_in_a_tile_is_no_index_of_the_op():
    """Each use of an index has to add where the tile begins: a script's does, what somebody wrote may not."""
    text = print_group(GROUPS["no operands"]())
    tiled = """%v2 = scf.for %i = %c0 to %c3 step %c2 iter_args(%t = %e2) -> (tensor<3xi64>) {
      %n = affine.min affine_map<(d0) -> (2, -d0 + 3)>(%i)
      %o = tensor.extract_slice %t[%i] [%n] [1] : tensor<3xi64> to tensor<?xi64>
      OP
      %w = tensor.insert_slice %r into %t[%i] [%n] [1] : tensor<?xi64> into tensor<3xi64>
      scf.yield %w : tensor<3xi64>
    }
    """
    constants = "".join(f"%c{n} = arith.constant {n} : index\n" for n in (0, 2, 3))
    first, last = text.index("    %v2 ="), text.index("    return")
    op = text[first:last].replace("%v2", "%r").replace("%e2", "%o").replace("tensor<3xi64>", "tensor<?xi64>")
    index = "%b0 = linalg.index 0 : index"
    whole = "%k = linalg.index 0 : index\n%b0 = affine.apply affine_map<(d0, d1) -> (d0 + d1)>(%k, %i)"
    added = op.replace(index, whole)
    twice = added.replace("d0 + d1", "d0 + d1 * 2")
    good, bad, worse = (text[:first] + constants + tiled.replace("OP", o) + text[last:] for o in (added, op, twice))
    assert reading.parse_group(good) == replace(
        GROUPS["no operands"](), ops=(*(ops := GROUPS["no operands"]().ops)[:-1], replace(ops[-1], tiles=((0, 2),)))
    )
    with pytest.raises(GroupError, match="which counts from the tile's begin"):
        reading.parse(bad)
    with pytest.raises(GroupError, match="something else than the tile's begin"):
        reading.parse(worse)


def test_hints_for_other_loops_are_refused():
    text = print_group(with_tiles(GROUPS["softmax"](), ROW, ((0, 4),)))
    with pytest.raises(GroupError, match="for other loops than it has"):
        reading.parse(
            text.replace(
                "tiled_maps = [affine_map<(d0, d1) -> (d0, d1)>", "tiled_maps = [affine_map<(d0, d1) -> (d0, d0)>"
            )
        )


def test_several_ops_in_one_loop_are_refused():
    fused = (
        "%1, %l = transform.structured.fuse %g tile_sizes [8] "
        f": ({ANY}) -> ({ANY}, {ANY})"
    )  # fmt: skip
    with pytest.raises(GroupError, match=re.escape("Tiling loops hold one linalg.generic, or one more such loop.")):
        scripted(GROUPS["product in blocks"](), MAP, fused)


# ---- folded loops stay whole -------------------------------------------------------------------------------------------

SPLIT = (
    "%a, %b, %c, %d = transform.structured.split_reduction %g {split_factor = 4, insert_split_dimension = 0} : "
    f"({ANY}) -> ({ANY}, {ANY}, {ANY}, {ANY})"
)
PARTIAL = (
    "%f, %a, %b, %l = transform.structured.tile_reduction_using_for %g by tile_sizes = [0, 20] : "
    f"({ANY}) -> ({ANY}, {ANY}, {ANY}, {ANY})"
)


@pytest.mark.parametrize(
    ("name", "kinds", "script"),
    [
        ("softmax", ROW, tiling("%g", "0, 20")),
        ("softmax", ROW, tiling("%g", "0, 7")),
        ("softmax", ROW, tiling("%g", "8, 20")),
        ("product in blocks", PRODUCT, tiling("%g", "0, 0, 2")),
        ("softmax", ROW, SPLIT),
        ("softmax", ROW, PARTIAL),
    ],
)
def test_tiles_of_folded_loops_are_refused(name, kinds, script):
    with pytest.raises((mlir.MlirError, GroupError)):
        scripted(GROUPS[name](), kinds, script)


# ---- the order of loops ------------------------------------------------------------------------------------------------


def moved(map_: Map, order: tuple[int, ...]) -> Map:
    """A map over loops in another order: loop k is the old loop `order[k]`."""
    return tuple(Affine(tuple(sorted((order.index(loop), c) for loop, c in e.terms)), e.constant) for e in map_)


@pytest.mark.parametrize(
    ("name", "kinds", "order"),
    [
        ("elementwise", MAP, (1, 0)),
        ("softmax", MAP, (1, 0)),
        ("softmax", ROW, (1, 0)),
        ("product in blocks", PRODUCT, (1, 0, 2)),
        ("product in blocks", PRODUCT, (2, 0, 1)),
        ("gather", MAP, (1, 0)),
    ],
)
def test_loops_in_another_order_are_read_so(name, kinds, order):
    """Folded loops, too: the places say how elements are numbered, whatever the order of loops."""
    group = GROUPS[name]()
    after = scripted(group, kinds, interchange(", ".join(map(str, order))))
    assert group_interpreter.same(group, after)
    assert orders(after) == orders(group)
    for old, new in zip(group.ops, after.ops):
        if isinstance(old, Generic) and isinstance(new, Generic) and old.iterators == kinds:
            assert new.iterators == tuple(old.iterators[k] for k in order)
            assert new.maps == tuple(moved(m, order) for m in old.maps)
            assert new.tiles == tuple((order.index(loop), size) for loop, size in old.tiles)


# ---- passes ------------------------------------------------------------------------------------------------------------

PASSES = (
    "canonicalize",
    "cse",
    "canonicalize,cse",
    "sccp",
    "loop-invariant-code-motion",
    "linalg-generalize-named-ops",
    "linalg-specialize-generic-ops",
    "linalg-fuse-elementwise-ops",
    "linalg-fuse-elementwise-ops,canonicalize,cse",
    "linalg-fold-unit-extent-dims",
    "linalg-fold-unit-extent-dims,canonicalize,cse",
    "linalg-inline-scalar-operands",
    "control-flow-sink",
    "remove-dead-values",
    "arith-expand",
    "int-range-optimizations",
    "topological-sort",
)


def orders(group: Group) -> list[Order]:
    """The orders of a group's folds."""
    bodies = [op.body for op in group.ops if isinstance(op, Generic)]
    return sorted(op.attribute for body in bodies for op in body.ops if op.name == "flambeau.fold")


@pytest.mark.parametrize("pipeline", PASSES)
def test_upstream_passes_leave_groups_that_mean_the_same(pipeline):
    nested = (each if each == "remove-dead-values" else f"func.func({each})" for each in pipeline.split(","))
    text = ",".join(nested)
    for name, make in GROUPS.items():
        after = passed(make(), text)
        assert orders(after) == orders(make()), name
        assert group_interpreter.same(make(), after), name


def test_elementwise_ops_are_fused_into_one():
    """Into a fold, too, whose order stays with the body."""
    after = passed(GROUPS["sum of squares"](), "func.func(linalg-fuse-elementwise-ops,canonicalize,cse)")
    assert [op.iterators for op in after.ops if isinstance(op, Generic)] == [ROW]
    assert orders(after) == [Order("lanes", "0x00000000")]


def test_a_pass_that_changes_scalar_code_is_followed():
    """The verifier keeps orders, not arithmetic: math-expand-ops makes a product and a sum of each fused one."""
    after = passed(GROUPS["product in blocks"](), "func.func(math-expand-ops{ops=fma})")
    (op, *_) = after.ops
    assert isinstance(op, Generic)
    assert [o.name for o in op.body.ops][:2] == ["arith.mulf", "arith.addf"]


def test_what_a_pass_leaves_that_is_no_group_is_refused():
    with pytest.raises(GroupError, match=re.escape("[bufferization.alloc_tensor]")):
        passed(GROUPS["softmax"](), "func.func(empty-tensor-to-alloc-tensor)")


def test_named_ops_have_no_order_until_somebody_gives_them_one():
    text = """func.func @f(%x: tensor<4x5xf32>, %y: tensor<5x6xf32>) -> tensor<4x6xf32> {
      %z = arith.constant 0.0 : f32
      %e = tensor.empty() : tensor<4x6xf32>
      %i = linalg.fill ins(%z : f32) outs(%e : tensor<4x6xf32>) -> tensor<4x6xf32>
      %0 = linalg.matmul ins(%x, %y : tensor<4x5xf32>, tensor<5x6xf32>) outs(%i : tensor<4x6xf32>) -> tensor<4x6xf32>
      return %0 : tensor<4x6xf32> }"""
    with pytest.raises(GroupError, match="is reduced without an order"):
        reading.parse(text)


def test_named_ops_that_fold_nothing_are_generalized():
    text = """func.func @f(%x: tensor<4x5xf32>, %y: tensor<4x5xf32>) -> tensor<4x5xf32> {
      %e = tensor.empty() : tensor<4x5xf32>
      %0 = linalg.add ins(%x, %y : tensor<4x5xf32>, tensor<4x5xf32>) outs(%e : tensor<4x5xf32>) -> tensor<4x5xf32>
      return %0 : tensor<4x5xf32> }"""
    (op,) = reading.parse_group(text).ops
    assert isinstance(op, Generic)
    assert [o.name for o in op.body.ops] == ["arith.addf"]
