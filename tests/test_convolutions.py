"""Convolutions and both of their gradients to the bit: orders, zeros around maps, tiles of every machine, sizes that change.

In: the records `convolution`, `convolution_input`, `convolution_weight`, their kernels, and programs with them. Next:
`test_convolution_layers.py`, for what users call.
"""

import re

import convolution_order
import execute
import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import opgen
import pytest
from flambeau import nn
from flambeau.compiler import stages, targets
from flambeau.compiler.backend import object_code
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.dialects.record import find
from flambeau.dialects.tape.common import ops
from gpu_programs import graph_of
from schedule_cases import CONVOLUTIONS, DIRECT, DIRECT_WEIGHTS, Case
from support import arrays
from test_changing_sizes import check

OPS = ("convolution", "convolution_input", "convolution_weight")
OPTIONS = Options(mode="blocking")


def how(size, stride=1, padding=1, dilation=1, groups=1):
    """Attributes, of two axes where numbers are given."""
    pair = lambda n: n if isinstance(n, tuple) else (n,) * len(size)  # noqa: E731
    return dict(sizes=size, stride=pair(stride), padding=pair(padding), dilation=pair(dilation), groups=groups)


def operands(name, x, w, y, dtype=np.float32):
    """Two of three tensors, and the spatial extents of the third."""
    shapes = {"convolution": (x, w, y), "convolution_input": (y, w, x), "convolution_weight": (x, y, w)}[name]
    return [arrays(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes[:2])], shapes[2][2:]


#: x, w, y and what else there is to say: several blocks of k, few and many channels, phases, taps that no place meets.
SHAPES = {
    "plain": ((2, 30, 6, 7), (9, 30, 3, 3), (2, 9, 6, 7), {}),
    "phases of few rows": ((2, 3, 8, 64), (64, 3, 4, 4), (2, 64, 4, 32), dict(stride=2, padding=1)),
    "one tap": ((2, 37, 5, 7), (21, 37, 1, 1), (2, 21, 5, 7), dict(padding=0)),
    "one tap by strides": ((2, 37, 5, 7), (21, 37, 1, 1), (2, 21, 3, 4), dict(padding=0, stride=2)),
    "rows apart": ((2, 9, 7, 40), (90, 9, 3, 3), (2, 90, 4, 40), dict(stride=(2, 1))),
    "groups": ((2, 64, 5, 4), (4, 32, 3, 3), (2, 4, 5, 4), dict(groups=2)),
    "stride": ((3, 5, 9, 10), (70, 5, 3, 3), (3, 70, 5, 5), dict(stride=2)),
    "dilation": ((1, 3, 9, 11), (90, 3, 3, 2), (1, 90, 4, 6), dict(stride=(3, 2), padding=(2, 1), dilation=(2, 3))),
    "depth": ((1, 2, 3, 4, 5), (3, 2, 2, 3, 1), (1, 3, 4, 2, 3), dict(stride=(1, 2, 2), padding=(1, 0, 0))),
    "one channel": ((2, 1, 9, 11), (20, 1, 3, 3), (2, 20, 7, 9), dict(padding=0)),
    "depthwise": ((2, 7, 9, 20), (7, 1, 3, 3), (2, 7, 9, 20), dict(groups=7)),
    "depthwise by strides": ((2, 3, 9, 40), (6, 1, 3, 5), (2, 6, 5, 20), dict(stride=2, padding=(1, 2), groups=3)),
    "depthwise apart": (
        (1, 2, 8, 30),
        (4, 1, 2, 3),
        (1, 4, 3, 11),
        dict(stride=3, padding=(1, 4), dilation=(3, 2), groups=2),
    ),
    "few channels": ((2, 6, 7, 7), (4, 3, 7, 7), (2, 4, 7, 7), dict(padding=3, groups=2)),
    "depthwise line": ((2, 20, 37), (20, 1, 4), (2, 20, 19), dict(stride=2, padding=2, groups=20)),
    "rows of phases": ((3, 9, 8, 8), (21, 9, 4, 4), (3, 21, 4, 4), dict(stride=2)),
    "long rows of phases": ((1, 9, 4, 74), (70, 9, 4, 4), (1, 70, 2, 37), dict(stride=2)),
    "phases of many taps": ((1, 5, 10, 12), (20, 5, 7, 7), (1, 20, 5, 6), dict(stride=2, padding=3)),
    "phases without taps": ((2, 7, 6, 10), (20, 7, 1, 1), (2, 20, 3, 5), dict(stride=2, padding=0)),
    "rows of volumes": ((2, 5, 3, 4, 5), (9, 5, 3, 3, 3), (2, 9, 3, 4, 5), {}),
    "line": ((2, 270, 9), (4, 270, 1), (2, 4, 3), dict(stride=4, padding=0)),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_order_is_that_of_blocks_along_k(name, shape):
    x, w, y, numbers = SHAPES[shape]
    (a, b), size = operands(name, x, w, y, np.float64 if shape == "depth" else np.float32)
    attrs = how(size, **numbers)
    expected = convolution_order.run(name, a, b, attrs)
    graph = opgen.graph_of(find(name), [a, b], attrs)
    assert opgen.compare(find(name), opgen.Case("order", graph, [a, b], opgen.Sample((a, b), attrs)), expected) is None
    (found,) = execute.run_graph(graph, [a, b], OPTIONS, parts=3)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("machine", ["x86-64-v3", "x86-64-v4", "aarch64-neon"])
def test_tiles_of_every_machine_give_the_same_bits(machine):
    for name, (function, *given) in (*CONVOLUTIONS.items(), *DIRECT.items(), *DIRECT_WEIGHTS.items()):
        graph = graph_of(function, given)
        expected = execute.run_graph(graph, given, OPTIONS)
        found = execute.run_graph(graph, given, OPTIONS, parts=2, in_place=True, target=targets.find(machine))
        assert [x.tobytes() for x in found] == [x.tobytes() for x in expected], name


@pytest.mark.parametrize("name", OPS)
def test_sums_of_tiles_stay_in_registers(name):
    """Whatever is done to them in the end."""
    given, size = operands(name, (3, 40, 32, 32), (64, 40, 4, 4), (3, 64, 16, 16))

    def layer(a, b):
        found = getattr(ops, name)(a, b, **how(size, stride=2))
        return ops.maximum(found, found.like(0.0))

    graph = graph_of(layer, given)
    options = Options(mode="blocking", target="x86-64-v4")
    kernels = stages.run(graph, options).program.kernels
    (tiles,) = (k for k in kernels if k.label.startswith("convolution"))
    assert not re.findall(r"%zmm\d+, -?\d*\(%rsp\)", object_code.compile_assembly(tiles, options))


@pytest.mark.parametrize("machine", ["x86-64-v3", "aarch64-neon"])
@pytest.mark.parametrize("shape", ["plain", "rows of phases", "long rows of phases", "rows of volumes"])
def test_vectors_across_the_ends_of_rows_give_the_same_bits_on_every_machine(machine, shape):
    x, w, y, numbers = SHAPES[shape]
    for name in ("convolution", "convolution_input"):
        (a, b), size = operands(name, x, w, y)
        attrs = how(size, **numbers)
        graph = graph_of(lambda *v: find(name)(*v, **attrs), [a, b])  # noqa: B023
        (found,) = execute.run_graph(graph, [a, b], OPTIONS, parts=2, target=targets.find(machine))
        assert found.tobytes() == convolution_order.run(name, a, b, attrs).tobytes(), name


@pytest.mark.parametrize("machine", ["host", "x86-64-v3", "aarch64-neon"])
def test_neighbours_or_channels_in_the_lanes_give_the_same_bits(machine):
    tried = 0
    for name in DIRECT:
        case = Case("direct", name, machine)
        for along in ("row", "channels"):
            schedule = choose(case.unit, targets.find(machine), {"along": along})
            if case.fits(schedule):
                assert case.run(schedule) == Case("direct", name, "host").wanted, (name, schedule)
                tried += along == "channels"
    assert tried == 5


@pytest.mark.parametrize("machine", ["host", "x86-64-v3", "aarch64-neon"])
def test_output_channels_in_rows_or_columns_give_the_same_bits(machine):
    for name in CONVOLUTIONS:
        case = Case("convolution", name, machine)
        if not case.fits(choose(case.unit, targets.find(machine), {"turned": True})):
            assert "input" in name or "back" in name
            continue
        for turned in (False, True):
            schedule = choose(case.unit, targets.find(machine), {"turned": turned})
            assert case.fits(schedule) and schedule.turned is turned
            assert case.run(schedule) == Case("convolution", name, "host").wanted, (name, schedule)


@pytest.mark.parametrize("machine", ["host", "x86-64-v3", "aarch64-neon"])
def test_last_columns_by_whole_tiles_or_vector_by_vector_give_the_same_bits(machine):
    tried = 0
    for name in CONVOLUTIONS:
        case = Case("convolution", name, machine)
        for narrows in (False, True):
            schedule = choose(case.unit, targets.find(machine), {"narrows": narrows, "turned": False})
            if case.fits(schedule):
                assert case.run(schedule) == Case("convolution", name, "host").wanted, (name, schedule)
                tried += narrows
    assert tried >= 3


def test_zeros_around_a_map_take_part_and_taps_between_strides_do_not():
    """An infinite weight: NaN where it meets a zero beside the map, nothing where a stride passes it by."""
    w = np.ones((1, 1, 3), np.float32)
    w[0, 0, 0] = np.inf
    x = np.ones((1, 1, 4), np.float32)
    attrs = how((4,))
    for run in (
        convolution_order.run,
        lambda name, a, b, attrs: find(name).run_reference((a, b), tuple(attrs.values()))[0],
    ):
        assert np.isnan(run("convolution", x, w, attrs)).tolist() == [[[True, False, False, False]]]
        apart = run("convolution_input", x, w, how((8,), stride=2))
        assert np.isnan(apart).tolist() == [[[False] * 7 + [True]]]
        assert np.isinf(apart).tolist() == [[[False, True, False, True, False, True, False, False]]]
    for name, given, numbers in (("convolution", (x, w), attrs), ("convolution_input", (x, w), how((8,), stride=2))):
        graph = graph_of(lambda *v, name=name, numbers=numbers: find(name)(*v, **numbers), list(given))
        (found,) = execute.run_graph(graph, list(given), OPTIONS)
        np.testing.assert_array_equal(found, find(name).run_reference(given, tuple(numbers.values()))[0])


def test_no_map_is_copied_whole():
    """Memory of a 3x3 over 64 channels of 112 x 112: its operands, its result, the kernel once more, less than 8 MB, however many
    images."""
    for name in OPS:
        x, w, y = (64, 64, 112, 112), (64, 64, 3, 3), (64, 64, 112, 112)
        shapes = {"convolution": (x, w, y), "convolution_input": (y, w, x), "convolution_weight": (x, y, w)}[name]
        given = [np.broadcast_to(np.float32(0), shape) for shape in shapes[:2]]
        graph = graph_of(lambda *v: find(name)(*v, **how(shapes[2][2:])), given)  # noqa: B023
        (part,) = cluster(graph, OPTIONS)
        lowered = execute.lower(part)
        turned = {"convolution_input": 4 * 64 * (64 * 9 + 32)}.get(name, 0)  # the kernel
        assert sum(lowered.temps) <= turned and 2 * max(call.scratch for call in lowered.calls) < 8 << 20


def test_bias_activation_and_residual_are_computed_where_sums_are():
    def layer(x, w, bias, rest):
        y = find("convolution")(x, w, **how((8, 8)))
        y = y + find("reshape")(bias, shape=(1, 20, 1, 1)).expand(y.shape)
        return find("maximum")(y, y.like(0.0)) + rest

    given = [arrays(2, 40, 8, 8), arrays(20, 40, 3, 3, seed=1), arrays(20, seed=2), arrays(2, 20, 8, 8, seed=3)]
    graph = graph_of(layer, given)
    (part,) = cluster(graph, OPTIONS)
    (call,) = execute.lower(part).calls
    assert call.source.label.startswith("convolution f32 + ")
    (found,) = execute.run_graph(graph, given, OPTIONS, in_place=True)
    plain = convolution_order.run("convolution", given[0], given[1], how((8, 8)))
    expected = np.maximum(plain + given[2][:, None, None], np.float32(0)) + given[3]
    assert found.tobytes() == expected.tobytes()


def test_other_batches_and_other_sizes_of_maps_compile_nothing():
    sizes = [(5, 9), (3, 12), (7, 8), (2, 11), (6, 10), (9, 7), (4, 13), (8, 9), (11, 12)]

    def program():
        fb.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 3, stride=2))
        for batch, width in sizes:
            x = fb.tensor(arrays(batch, 2, 7, width))
            loss = (net(x) ** 2).mean()
            yield loss, *fb.autograd.grad(loss, list(net.parameters()))

    check(program)


@pytest.mark.accept("NN-25")
def test_a_small_cnn_learns_with_the_same_bits_on_every_tier_and_for_one_thread_or_two():
    """A few steps, looked at in between or not, fused or op by op, by one thread or two."""

    def losses(looks, threads=1, **options):
        with fb.compiler_options(mode="blocking", **options):
            fb.set_num_threads(threads)
            fb.manual_seed(1)
            net = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(),
                nn.Linear(16 * 25, 4),
            )  # fmt: skip
            optimizer = fb.optim.Adam(net.parameters(), lr=0.01)
            x, y = fb.tensor(arrays(12, 1, 12, 11)), fb.tensor(np.arange(12) % 4)
            found = []
            for _ in range(4):
                optimizer.zero_grad()
                hidden = net[1](net[0](x))
                if looks:
                    found.append(float(hidden.sum()))
                loss = F.cross_entropy(net[2:](hidden), y)
                loss.backward()
                optimizer.step()
            return loss.item(), [p.detach().numpy().tobytes() for p in net.parameters()], found[::3]

    before = fb.get_num_threads()
    try:
        loss, expected, _ = losses(False)
        assert loss < 1.2
        for looks, threads, options in ((True, 1, {}), (False, 2, {}), (False, 1, {"fuse": False})):
            assert losses(looks, threads, **options)[:2] == (loss, expected), (looks, threads, options)
    finally:
        fb.set_num_threads(before)
