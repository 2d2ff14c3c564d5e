"""Whole programs on a device whose memory nobody else can read: the bits of the CPU, fused and op by op, on one device and two.

In: graphs, retyped to lie on the pretend device. A transfer that is missing ends the process, or is refused before. Next:
`pretend_device.py`.
"""

from __future__ import annotations

import itertools

import mlp_step
import numpy as np
import opgen
import pretend_device
import pytest
import random_graphs
import symbolic
from devices import placed
from flambeau.compiler import driver, stages
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.dialects import size
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import exported, float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.plan import parse_plan, print_plan
from flambeau.dialects.record import find
from flambeau.dialects.tape.transfer import to_device
from flambeau.runtime import _binding as runtime
from flambeau.runtime import devices
from flambeau.runtime.plan_spec import KERNEL_TRANSFER
from gpu_programs import floats, graph_of, matmul, softmax
from support import rounds

pytestmark = pytest.mark.skipif(not pretend_device.can_open(), reason="needs a C compiler for the fake driver")
BLOCKING = Options(mode="blocking")
SMALL = tuple(s for s in random_graphs.SHAPES if np.prod(s) < 100)


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> str:
    return pretend_device.open_device(tmp_path_factory.mktemp("driver"))


def run(graph: Graph, arrays, options: Options = BLOCKING, donate=()) -> list[np.ndarray]:
    """The outputs, wherever they lie; inputs go where their types say."""
    executable = driver.compile(graph, options)
    if options.mode == "blocking":
        assert executable.ready() is not None, executable.report
    avals = [graph.avals[v] for v in graph.inputs]
    inputs = [
        x if a.device == CPU else pretend_device.upload(a.device, exported(x))
        for x, a in zip(arrays, avals, strict=True)
    ]
    pretend_device.faults.clear()
    try:
        found = executable(inputs, donate)
    finally:
        if pretend_device.faults:
            raise pretend_device.faults[0]
    return [_read(x, graph.avals[v]) for x, v in zip(found, graph.outputs, strict=True)]


def _read(buffer, aval: Aval) -> np.ndarray:
    if aval.device == CPU:
        return np.array(to_array(buffer, aval))
    return np.array(pretend_device.download(aval.device, buffer, aval.dtype.numpy, aval.shape))


def assert_same(graph: Graph, there: str, arrays, options: Options = BLOCKING, **arguments) -> None:
    """The program on the device gives what it gives on the CPU, to the bit."""
    expected = run(graph, arrays)
    found = run(placed(graph, there), arrays, options, **arguments)
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert x.shape == y.shape and x.tobytes() == y.tobytes(), f"output {k}"


def test_a_program_there_gives_the_bits_of_the_cpu(there):
    graph = graph_of(lambda x, y: softmax(matmul(x, y)), [floats(9, 30), floats(30, 33)])
    before = len(pretend_device.launches)
    assert_same(graph, there, [floats(9, 30), floats(30, 33)])
    assert len(pretend_device.launches) > before


def test_buffers_there_cannot_be_read_here(there):
    buffer = pretend_device.upload(there, np.arange(4.0))
    assert not buffer.on_cpu and buffer.nbytes == 32
    with pytest.raises(BufferError, match="lies on a device whose memory cannot be read here"):
        memoryview(buffer)
    assert pretend_device.download(there, buffer, np.float64, (4,)).tolist() == [0, 1, 2, 3]


LAYERS = (12, 9, 5, 4)


def test_a_training_step_there_gives_the_bits_of_the_cpu(there):
    """W1's step: products, softmax, a gather and a scatter that the device has no kernels for, Adam, updates in place."""
    graph, arrays = mlp_step.step(7, LAYERS), mlp_step.arrays(7, LAYERS)
    assert_same(graph, there, arrays)


def test_one_plan_has_steps_on_both_devices(there):
    graph = mlp_step.step(7, LAYERS)
    options = Options(devices=(f"{there}={pretend_device.TARGET}",))
    program = stages.run(placed(graph, there), options).program
    places = {k.device for k in program.kernels}
    assert places == {CPU, there} and program.spec.devices[0][0] == there
    kernels = [step[0] for step in program.spec.steps]
    assert kernels.count(KERNEL_TRANSFER) >= 3 and min(kernels) == KERNEL_TRANSFER


def test_an_op_that_runs_on_the_host_is_one_of_the_cpu(there):
    """What it reads is moved to it, and back what it gives."""
    graph = graph_of(lambda x, y: find("neg")(matmul(x, y)) * 2.0, [floats(9, 30), floats(30, 33)])
    inputs = [floats(9, 30), floats(30, 33)]
    expected = run(graph, inputs)
    found = run(placed(graph, there), inputs, Options(mode="blocking", on_host=("neg",)))
    assert found[0].tobytes() == expected[0].tobytes()


# ---- op by op, and programs of chance --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_a_device_has_a_tier_that_goes_op_by_op(there, mode):
    """The same bits, from one plan per op; what the device has no kernel for is computed here, on either tier."""
    options = Options(mode=mode, fuse=mode == "blocking")
    assert_same(mlp_step.step(5, LAYERS), there, mlp_step.arrays(5, LAYERS), options)


def test_an_op_that_fails_there_raises_its_error(there):
    b = GraphBuilder()
    x, index = b.input(Aval((3, 4), float32, there)), b.input(Aval((3, 1), int64, there))
    b.graph.outputs = [find("sum")(find("gather")(x + 1.0, index, axis=1), axes=(0, 1)).id]
    good, bad = np.array([[0], [3], [1]]), np.array([[0], [4], [1]])
    for mode in ("off", "blocking"):
        options = Options(mode=mode)
        assert run(b.graph, [floats(3, 4), good], options)[0].shape == ()
        with pytest.raises(IndexError, match=r"\[gather\] index\[1, 0\] is out of range for axis 1"):
            run(b.graph, [floats(3, 4), bad], options)


def test_random_programs_there_give_the_bits_of_the_cpu(there):
    """Fused and op by op; ints, floats, bools and random bits, of all ops."""
    for seed in range(rounds(4, 20, 150)):
        program = random_graphs.program(seed, n_nodes=rounds(8, 15, 25), fallible=False, shapes=SMALL)
        expected = run(program.graph, program.inputs)
        for options in (BLOCKING, Options(mode="off")) if seed % 4 == 0 else (BLOCKING,):
            found = run(placed(program.graph, there), program.inputs, options)
            assert all(x.tobytes() == y.tobytes() for x, y in zip(found, expected, strict=True)), seed


# ---- memory ---------------------------------------------------------------------------------------------------


def test_values_that_move_to_and_fro(there):
    """A plan on three devices; what is moved is stored as it lies, whatever view it is read through."""
    other = pretend_device.open_device(None, 1)
    b = GraphBuilder()
    x = b.input(Aval((5, 7), float32))
    y = to_device(find("permute")(x, perm=(1, 0)), device=there) * 2.0
    z = to_device(find("slice")(y, starts=(1, 2), sizes=(3, 2), steps=(2, 1)), device=other) + 1.0
    w = to_device(z, device=CPU) - to_device(b.constant(3.0, float32, (3, 2)), device=CPU)
    b.graph.outputs = [w.id, z.id, y.id, to_device(x, device=other).id]
    array = floats(5, 7)
    found = run(b.graph, [array])
    assert [x.tobytes() for x in found] == [
        np.ascontiguousarray(a).tobytes() for a in (
            (array.T * 2)[1::2, 2:4] + 1 - 3, (array.T * 2)[1::2, 2:4] + 1, array.T * 2, array
        )
    ]  # fmt: skip
    for options in (Options(mode="off"), Options(mode="blocking", fuse=False)):
        assert [x.tobytes() for x in run(b.graph, [array], options)] == [x.tobytes() for x in found]


def test_a_step_there_takes_the_buffers_of_what_it_updates(there):
    """Donated inputs become the outputs that update them, where a launch may write in place; memory comes back to the pool."""
    b = GraphBuilder()
    x, y = b.input(Aval((300,), float32, there)), b.input(Aval((300,), float32, there))
    b.graph.outputs, b.graph.updates = [(x - y * 0.5).id], {0: 0}
    executable = driver.compile(b.graph, BLOCKING)
    assert executable.ready() is not None
    handle = devices.find(there).handle
    before = handle.live_bytes
    inputs = [pretend_device.upload(there, floats(300, seed=k)) for k in range(2)]
    address = inputs[0].address
    (kept,) = executable(inputs)
    assert not inputs[0].donated and kept.address != address
    (taken,) = executable(inputs, [0])
    assert inputs[0].donated and taken.address == address
    results = [pretend_device.download(there, z, np.float32, (300,)) for z in (kept, taken)]
    assert results[0].tobytes() == results[1].tobytes() == (floats(300) - floats(300, seed=1) * 0.5).tobytes()
    del kept, taken, inputs
    assert handle.live_bytes == before


@pytest.mark.runtime
def test_an_input_that_lies_elsewhere_is_refused(there):
    executable = driver.compile(graph_of(lambda x: x + 1.0, [floats(3)]), BLOCKING)
    with pytest.raises(ValueError, match=r"\[plan\] input 0 lies on another device than the plan reads it on"):
        executable([pretend_device.upload(there, floats(3))])
    executable = driver.compile(placed(executable.graph, there), BLOCKING)
    with pytest.raises(ValueError, match=r"\[plan\] input 0 lies on another device than the plan reads it on"):
        executable([floats(3)])


def test_sizes_known_at_run_time_only(there):
    graph = symbolic.record(softmax, ((3, size.symbol(0)), float32), hints=(40,))
    executable = driver.compile(placed(graph, there), BLOCKING)
    for n in (40, 7, 65):
        bound = graph.bind((n,))
        array = floats(3, n)
        expected = run(bound, [array])[0]
        (found,) = executable([pretend_device.upload(there, array)], sizes=(n,))
        assert pretend_device.download(there, found, np.float32, (3, n)).tobytes() == expected.tobytes()


# ---- plans ----------------------------------------------------------------------------------------------------


def test_plans_with_devices_are_text_and_read_back(there):
    options = Options(devices=(f"{there}={pretend_device.TARGET}",))
    spec = stages.run(placed(mlp_step.step(7, LAYERS), there), options).program.spec
    text = print_plan(spec)
    assert parse_plan(text) == spec
    assert '%arena1 = "plan.arena"' in text and f'{{device = "{there}", fallible = false, kernel = ' in text
    missing = "\n".join(line for line in text.splitlines() if "%arena1 =" not in line).replace("%arena1", "%arena")
    with pytest.raises(ValueError, match=f"device {there} has no arena"):
        parse_plan(missing)


@pytest.mark.runtime
def test_a_plan_that_lacks_a_transfer_is_refused(there):
    """Pointers that a kernel gets are of its device: the runtime takes no other plan."""
    options = Options(devices=(f"{there}={pretend_device.TARGET}",))
    graph = graph_of(lambda x, y: x + y, [floats(3), floats(3, seed=1)])
    program = stages.run(placed(graph, there), options).program
    name, arena, inputs, outputs, kernels = program.spec.devices[0]
    handles = (devices.find(there).handle,)
    runtime.Plan(tuple(program.spec), (1,), handles)
    for row in (
        (name, arena, inputs[1:], outputs, kernels),
        (name, arena, inputs, (), kernels),
        (name, arena, inputs, outputs, ()),
    ):
        with pytest.raises(ValueError, match=r"\[plan\] (step|launch) 0 .*"):
            runtime.Plan(tuple(program.spec._replace(devices=(row,))), (1,), handles)
    with pytest.raises(TypeError, match=r"\[plan\] devices are missing"):
        runtime.Plan(tuple(program.spec), (1,))
    with pytest.raises(ValueError, match=r"\[plan\] device 1 has number 7 of 2"):
        runtime.Plan(tuple(program.spec._replace(devices=((name, arena, (7,), outputs, kernels),))), (1,), handles)


def test_a_device_that_is_not_there_is_named():
    graph = placed(graph_of(lambda x: x + 1.0, [floats(3)]), "nowhere:0")
    with pytest.raises(RuntimeError, match=r"\[device\] there is no device 'nowhere:0'"):
        driver.compile(graph, BLOCKING)


def test_an_op_with_regions_there_runs_on_the_cpu(there):
    """Its regions are programs of the CPU; what goes in and comes out is moved."""
    for case in itertools.islice(opgen.cases(find("cond")), 2):
        expected = run(case.graph, case.arrays)
        for options in (BLOCKING, Options(mode="off")):
            found = run(placed(case.graph, there), case.arrays, options)
            assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]
