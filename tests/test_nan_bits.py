"""NaNs have no sign and no payload: what is computed holds the canonical one, to the bit, on every tier; what is moved keeps
its bits. Generated from the records, and from the functions of `special_points.py`."""

import random

import flambeau as fb
import numpy as np
import opgen
import pytest
import special_points
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects import dtypes
from flambeau.dialects.dtypes import FLOATING
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY
from flambeau.dialects.tape.nan import canonical_nan
from flambeau.runtime import recorder
from support import rounds


def nans(dtype):
    """NaNs of every kind: quiet and signalling, of both signs, with and without payload, as bits."""
    infinity, quiet = ((1 << dtype.exponent) - 1) << dtype.mantissa, 1 << (dtype.mantissa - 1)
    minus, payload = 1 << (dtype.bits - 1), quiet | quiet >> 2 | 1
    found = [quiet, minus | quiet, payload, minus | payload, quiet >> 3, minus | 1]
    return np.array([infinity | x for x in found], f"u{dtype.itemsize}")


NANS = {dtype.numpy: nans(dtype) for dtype in FLOATING}


def with_nans(array, seed, share=0.3):
    """A copy in which some elements, not all of them in the first lanes, are NaNs of several kinds."""
    array = np.array(array, order="C")
    if array.dtype not in NANS or not array.size:
        return array
    rng = np.random.default_rng(seed)
    kinds = NANS[array.dtype]
    here = rng.random(array.shape) < share
    bits = array.view(kinds.dtype) if array.ndim else array.reshape(1).view(kinds.dtype).reshape(())
    return np.where(here, rng.choice(kinds, array.shape), bits).view(array.dtype).reshape(array.shape)


def bits(arrays):
    return [(a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()) for a in arrays]


def run(graph, arrays, mode, **options):
    results = driver.compile(graph, Options(mode=mode, **options))(arrays, again=False)
    return [
        np.frombuffer(r, graph.avals[v].dtype.numpy, graph.avals[v].size).reshape(graph.avals[v].shape)
        for v, r in zip(graph.outputs, results, strict=True)
    ]


# ---- records ------------------------------------------------------------------------------------------------------

#: What fails where there is a NaN.
REFUSING = ("check_range", "cholesky", "eig", "eigh", "svd")
FLOATS = [
    r for r in opgen.records() if set(r.dtypes) & set(FLOATING) and not r.family.is_placed and r.name not in REFUSING
]


def poisoned_cases(record):
    """A few samples per dtype, with NaNs in their data."""
    chosen = {}
    for case in opgen.cases(record):
        sizes = [a.size for a in case.arrays]
        if case.graph.nodes and any(a.dtype in NANS for a in case.arrays) and max(sizes) < 5000:
            narrow = dtypes.narrow(case.arrays[0].dtype)  # computed by the casts and kernels of another dtype
            chosen.setdefault((case.arrays[0].dtype, not narrow and min(len(sizes), max(sizes) // 60)), case)
    for number, case in enumerate(chosen.values()):
        yield case.graph, [with_nans(a, [number, i]) for i, a in enumerate(case.arrays)]


def around(graph):
    """The op between others: its data negated before, its result added to itself after, both handed out."""
    wide = Graph()
    ids = {}
    for v in graph.inputs:
        x = wide.add_input(graph.avals[v])
        ids[v] = wide.add_node(REGISTRY["neg"], [x], ())[0] if graph.avals[v].dtype.is_floating_point else x
    (node,) = graph.nodes
    wide.outputs = list(wide.add_node(node.op, [ids[v] for v in node.operands], node.attrs))
    for result in tuple(wide.outputs):
        if wide.avals[result].dtype.is_floating_point:
            wide.outputs += [*wide.add_node(REGISTRY["add"], [result, result], ())]
    return wide


@pytest.mark.parametrize("record", FLOATS, ids=lambda r: r.name)
def test_every_tier_gives_the_bits_of_the_rule(record):
    tried = 0
    for graph, arrays in poisoned_cases(record):
        expected = run(graph, arrays, "off")
        if record.exact and dtypes.is_inexact(expected[0]):
            meaning = record.run_reference(arrays, graph.nodes[0].attrs)
            meaning = [np.asarray(x, y.dtype) for x, y in zip(meaning, expected, strict=True)]
            moved = (record.family.moves or record.family.keeps) and not record.regions
            one_nan = [x if moved or x.dtype not in NANS else canonical_nan.reference(x) for x in meaning]
            assert bits(expected) == bits(one_nan)
        assert bits(run(graph, arrays, "blocking")) == bits(expected)
        assert bits(run(graph, arrays, "background")) == bits(expected)  # what stands in for plans
        wide = around(graph)
        expected = bits(run(wide, arrays, "off"))
        assert bits(run(wide, arrays, "blocking")) == expected
        assert bits(run(wide, arrays, "blocking", fuse=False)) == expected
        tried += 1
    assert tried >= 2 or record.name in ("stop_gradient", "graft")


def test_rewriting_leaves_no_raw_nan_behind():
    """x * 1, x + -0, -(-x), max(x, x) and x / 1 compute, also where the compiler sees that they need not."""
    for dtype in FLOATING:
        x = with_nans(np.arange(40.0).astype(dtype.numpy), 3)
        graph = Graph()
        v = graph.add_input(opgen.Aval(x.shape, dtype))
        one = graph.add_node(REGISTRY["constant"], [], (1.0, dtype))[0]
        one = graph.add_node(REGISTRY["reshape"], [one], ((1,),))[0]
        one = graph.add_node(REGISTRY["broadcast"], [one], (x.shape,))[0]
        double = graph.add_node(REGISTRY["neg"], graph.add_node(REGISTRY["neg"], [v], ()), ())[0]
        moved = graph.add_node(REGISTRY["flip"], [v], ((0,),))[0]
        graph.outputs = [
            *graph.add_node(REGISTRY["mul"], [v, one], ()),
            *graph.add_node(REGISTRY["div"], [v, one], ()),
            *graph.add_node(REGISTRY["maximum"], [v, v], ()),
            double,
            *graph.add_node(REGISTRY["mul"], [moved, one], ()),
        ]
        expected = [canonical_nan.reference(x)] * 4 + [canonical_nan.reference(x[::-1])]
        for mode in ("off", "blocking"):
            assert bits(run(graph, [x], mode)) == bits(expected)


def test_a_root_of_less_than_nothing_is_the_canonical_nan_wherever_it_goes():
    """LLVM knows for which x a root is NaN, and may take a choice between one NaN and another for none."""
    for dtype in FLOATING:
        x = with_nans(np.arange(-20.0, 20.0).astype(dtype.numpy).reshape(40, 1), 3)
        graph = Graph()
        v = graph.add_input(opgen.Aval(x.shape, dtype))
        (root,) = graph.add_node(REGISTRY["sqrt"], [v], ())
        (positive,) = graph.add_node(REGISTRY["gt"], [v, root], ())
        outputs = [root]
        for name, operands, attrs in (
            ("select", [positive, v, root], ()),
            ("permute", [root], ((1, 0),)),
            ("max", [root], ((1,),)),
            ("sum", [root], ((1,),)),
            ("prod", [root], ((1,),)),
            ("neg", [root], ()),
            ("abs", [root], ()),
            ("maximum", [root, root], ()),
            ("rsqrt", [v], ()),
        ):
            outputs += graph.add_node(REGISTRY[name], operands, attrs)
        expected = None
        for graph.outputs in ([root], outputs[1:], outputs):
            for options in ({"mode": "off"}, {"mode": "blocking"}, {"mode": "blocking", "fuse": False}):
                found = run(graph, [x], **options)
                for y in found:
                    assert bits([canonical_nan.reference(y)]) == bits([y])
                expected = bits(found) if options["mode"] == "off" else expected
                assert bits(found) == expected


# ---- functions ----------------------------------------------------------------------------------------------------


def derivatives(name, cut):
    """Value and gradients of a case whose NaNs are of several kinds; `cut` is called in between."""
    case = special_points.CASES[name]
    leaves = [fb.tensor(with_nans(np.array(x, float), i, 0.2), requires_grad=True) for i, x in enumerate(case.operands)]
    result = case.call(fb, *leaves)
    cut()
    found = [result]
    if result.requires_grad:
        first = fb.autograd.grad((result * 0.5).sum(), leaves, create_graph=True, allow_unused=True)
        cut()
        found += [g for g in first if g is not None]
    return bits([f.detach().numpy() for f in found])


CHOSEN = random.Random(5).sample([n for n in special_points.CASES if n != "binary_cross_entropy"], rounds(24, 80, 160))


@pytest.mark.filterwarnings("ignore:.*target's shape")
@pytest.mark.parametrize("name", CHOSEN)
def test_functions_and_gradients_agree_on_every_tier(name):
    with fb.compiler_options(mode="off"):
        expected = derivatives(name, lambda: None)
        assert derivatives(name, fb.flush) == expected
    threads = fb.get_num_threads()
    try:
        for count in (1, 2):
            fb.set_num_threads(count)
            with fb.compiler_options(mode="blocking"):
                assert derivatives(name, lambda: None) == expected
    finally:
        fb.set_num_threads(threads)


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_what_is_moved_keeps_its_bits(mode):
    x = with_nans(np.arange(24.0, dtype=np.float32).reshape(4, 6), 1, 0.6)
    with fb.compiler_options(mode=mode):
        t = fb.from_numpy(x.copy())
        for moved, wanted in (
            (t.clone(), x),
            (t.t().contiguous(), x.T),
            (fb.cat([t, t[1:]]), np.concatenate([x, x[1:]])),
            (t[fb.tensor([2, 0])], x[[2, 0]]),
            (t.flip(0)[:, ::2].clone(), x[::-1, ::2]),
        ):
            assert bits([moved.numpy()]) == bits([wanted])


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_numbers_of_users_have_one_nan(mode):
    odd = float(NANS[np.dtype(np.float64)].view(np.float64)[3])
    one = np.full(3, np.nan)
    with fb.compiler_options(mode=mode):
        recorder.clear()
        for value in (odd, 1.0, 2.0, odd, 3.0, -np.nan, odd):  # a constant first, later an operand
            filled = fb.full((3,), value, dtype=fb.float64).numpy()
            assert np.isnan(value) <= (bits([filled]) == bits([one]))
        assert bits([(fb.ones(3, dtype=fb.float64) * odd).numpy()]) == bits([one])
