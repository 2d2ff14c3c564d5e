"""Small ops that C does from the first time on: the bits of what compiled code gives, and nothing done that does not fit."""

import flambeau as fb
import numpy as np
import opgen
import pytest
from flambeau.compiler.baseline import stand_ins
from flambeau.compiler.baseline.small_ops import small_op
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import by_name
from flambeau.dialects.record import REGISTRY, find
from flambeau.dialects.tape import nan
from flambeau.dialects.tape.common import ops
from flambeau.runtime import _binding
from flambeau.runtime._binding import SmallOp

#: Ops that a training step is made of, all of which are done so.
USUAL = {"add", "sub", "mul", "div", "maximum", "exp", "tanh", "sqrt", "neg", "gt", "select", "cast", "pow"} | {
    *("sum", "max", "min", "prod", "any", "all", "matmul", "broadcast", "reshape", "permute", "slice", "constant")
}


def done(record, case):
    """What C gives for a case, and what it should; None where it does not do it."""
    graph, (node, *_) = case.graph, case.graph.nodes
    small = small_op(graph, node, is_seen=True)
    if small is None:
        return None
    wanted = record.reference if record.exact else stand_ins.stand_in(graph, node)
    assert wanted is not None
    expected = np.asarray(wanted(*case.arrays, *node.attrs))
    if not record.family.moves:
        expected = nan.canonical_nan.reference(expected)
    found = small.run(*[np.ascontiguousarray(x) for x in case.arrays])
    aval = graph.avals[node.results[0]]
    assert found.nbytes == aval.size * expected.itemsize
    return np.frombuffer(memoryview(found), expected.dtype, aval.size).reshape(aval.shape), expected


@pytest.mark.parametrize("record", [r for r in REGISTRY.values() if not r.regions], ids=lambda r: r.name)
def test_the_bits_are_those_of_what_is_compiled(record):
    n = 0
    for case in opgen.cases(record, narrow=False):
        if (pair := done(record, case)) is not None:
            n += 1
            assert opgen.same_bits(*pair), case.id
    assert n > 0 or record.name not in USUAL


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (0, 2), (1, 2), (2,), ()])
def test_folds_of_all_axes_cross_chunks_and_chains(axes):
    rng = np.random.default_rng(2)
    for shape in ((1, 7, 65), (197, 3, 40), (3, 4099, 2), (1, 3, 8195), (197, 1, 33)):
        for dtype in (np.float32, np.float64):
            x = rng.standard_normal(shape).astype(dtype)
            case = opgen.Case("", opgen.graph_of(find("sum"), [x], {"axes": axes}), [x], {"axes": axes})
            pair = done(find("sum"), case)
            assert pair is not None and opgen.same_bits(*pair), shape


def test_views_of_views_lie_where_numpy_says():
    x = np.arange(2 * 3 * 4, dtype=np.int64).reshape(2, 3, 4)
    for name, attrs, wanted in (
        ("permute", {"perm": (2, 0, 1)}, x.transpose(2, 0, 1)),
        ("reshape", {"shape": (6, 4)}, x.reshape(6, 4)),
        ("broadcast", {"shape": (2, 3, 4)}, x),
    ):
        graph = opgen.graph_of(find(name), [x], attrs)
        found = small_op(graph, graph.nodes[0], is_seen=False).run(x)
        assert np.frombuffer(memoryview(found), np.int64).tolist() == wanted.reshape(-1).tolist()


def test_what_is_long_narrow_or_complex_is_left_to_others():
    def of(name, *avals):
        b = GraphBuilder()
        record = find(name)
        b.graph.outputs = list(b.graph.add_node(record, [b.input(a).id for a in avals], ()))
        return small_op(b.graph, b.graph.nodes[0], is_seen=False)

    f32 = by_name("float32")
    assert of("exp", Aval((8,), f32)) is not None
    assert of("exp", Aval((1 << 14,), f32)) is None
    assert of("matmul", Aval((64, 64), f32), Aval((64, 64), f32)) is None
    assert of("exp", Aval((8,), by_name("float16"))) is None
    assert of("exp", Aval((8,), by_name("complex64"))) is None


@pytest.mark.runtime
@pytest.mark.parametrize(
    "make",
    [
        lambda: SmallOp.elementwise(b"", b"", 2, (4,), 4, 3, 0),
        lambda: SmallOp.elementwise(np.array([0, 9, 0, 0, 0], np.int32).tobytes(), b"", 2, (4,), 4, 3, 0),
        lambda: SmallOp.elementwise(np.array([0, 1, 0, 0, 0], np.int32).tobytes(), b"", 2, (3,), 4, 3, 0),
        lambda: SmallOp.moved(4, 6, ((2, 3), (3, 1)), 1),
        lambda: SmallOp.moved(4, 6, ((2, 3), (3, -1)), 1),
        lambda: SmallOp.moved(4, 6, ((2, 3), (3,)), 0),
        lambda: SmallOp.moved(3, 6, ((2, 3), (3, 1)), 0),
        lambda: SmallOp.folded(b"", b"", 3, bytes(4), 4, ((), ()), ((4,), (1,)), True, 4),
        lambda: SmallOp.product(1, 2, 3, -4, 4, 0),
        lambda: SmallOp.product(1, 2, 3, 4, 2, 0),
    ],
)
def test_parts_that_read_what_is_not_there_are_refused(make):
    with pytest.raises(ValueError, match="make no sense together"):
        make()


@pytest.mark.runtime
def test_operands_that_are_too_short_are_refused():
    op = SmallOp.moved(4, 6, ((2, 3), (3, 1)), 0)
    for operands in ((np.zeros(5, np.float32),), (), (np.zeros(6, np.float32),) * 2):
        with pytest.raises(ValueError, match="are not those of the op"):
            op.run(*operands)
    assert np.frombuffer(memoryview(op.run(np.arange(6, dtype=np.int32))), np.int32).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_first_step_calls_no_python_for_its_ops():
    """What runs is a list of small ops, and gives what a compiled program does."""
    from flambeau.compiler.baseline import op_by_op, op_plans
    from flambeau.compiler.options import Options

    b = GraphBuilder()
    x = b.input(Aval((5, 7), by_name("float32")))
    b.graph.outputs = [(ops.exp(x * x + x) / x).id, (x - x).id]
    op_list = op_by_op.Interpreter(b.graph, op_plans.linker(Options(mode="background"))).op_list()
    data = np.linspace(-1, 2, 35, dtype=np.float32)
    found = [np.frombuffer(memoryview(y), np.float32) for y in op_list.run([data])]
    assert op_list.calls == 0
    with fb.compiler_options(mode="blocking"):
        y = fb.tensor(data)
        assert opgen.same_bits(found[0], ((y * y + y).exp() / y).numpy())


def test_memory_that_runs_out_leaves_all_as_it_was():
    x, failures = fb.tensor(np.linspace(0.25, 2, 24, dtype=np.float32).reshape(4, 6)), 0
    with fb.compiler_options(mode="background"):
        run = lambda: (x * 2 + 1).exp().sum().item()  # noqa: E731
        wanted = [run() for _ in range(3)]
        for nth in range(1, 12):
            _binding._refuse_memory(nth)
            try:
                wanted.append(run())
            except fb.OutOfMemory:
                failures += 1
            finally:
                _binding._refuse_memory(0)
            wanted.append(run())
    assert failures > 1 and len(set(wanted)) == 1
