"""What stands in for a GPU refuses what a GPU would not tell: the simulator of MLIR and the interpreter of PTX."""

from __future__ import annotations

from functools import partial

import gpu_simulator
import numpy as np
import ptx_interpreter
import ptx_operations
import pytest
from flambeau.compiler.codegen.gpu.emitter import GpuEmitter
from flambeau.compiler.kernel import KernelSource, Launch, Operand
from flambeau.dialects.dtypes import by_mlir
from gpu_programs import interpret

# ---- the simulator itself -------------------------------------------------------------------------------------


def _exchange(barrier: bool, distance: int = 1) -> Launch:
    """Every thread reads what its neighbour wrote."""
    b = GpuEmitter(64)
    out, shared = b.pointer(True), b.shared(64, "i64")
    b.store(b.thread(), shared, b.thread())
    if barrier:
        b.barrier()
    b.store(b.load(shared, b.xor(b.thread(), distance), "i64"), out, b.thread())
    return Launch(b.source("exchange"), (Operand("value"),), (), 1, 1, (0,), block=(64, 1, 1))


def test_the_simulator_sees_missing_barriers():
    out = np.zeros(64, np.int64)
    gpu_simulator.run(_exchange(True), [out])
    assert out.tolist() == [t ^ 1 for t in range(64)]
    with pytest.raises(AssertionError, match="before the barrier"):
        gpu_simulator.run(_exchange(False), [out])


def test_the_simulator_sees_accesses_outside():
    with pytest.raises(AssertionError, match="outside of an operand"):
        gpu_simulator.run(_exchange(True), [np.zeros(63, np.int64)])
    with pytest.raises(AssertionError, match="outside of shared"):
        gpu_simulator.run(_exchange(True, 64), [np.zeros(64, np.int64)])


def test_the_simulator_sees_barriers_that_some_threads_miss():
    b = GpuEmitter(64)
    with b.if_(b.cmp("lt", b.thread(), 32)):
        b.barrier()
    with pytest.raises(AssertionError, match="only some threads of a block"):
        gpu_simulator.run(Launch(b.source("partial"), (), (), 1, 1, (), block=(64, 1, 1)), [])


def test_the_simulator_sees_shuffles_that_some_threads_miss_and_blocks_of_another_size():
    b = GpuEmitter(64)
    with b.if_(b.cmp("lt", b.thread(), 40)):
        b.shuffle_down(b.const(1.0, "f32"), 1)
    source = b.source("partial")
    with pytest.raises(AssertionError, match="only some threads of a warp"):
        gpu_simulator.run(Launch(source, (), (), 1, 1, (), block=(64, 1, 1)), [])
    with pytest.raises(AssertionError, match="another number of threads"):
        gpu_simulator.run(Launch(source, (), (), 1, 1, (), block=(32, 1, 1)), [])


@pytest.mark.parametrize("element", ["i32", "i64", "f32", "f64"])
def test_shuffles_and_workgroup_memory_take_every_element(element):
    """Every thread adds what another thread of its warp has, and what a thread of the other warp left in shared memory."""
    b = GpuEmitter(64)
    out, shared = b.pointer(True), b.shared(64, element)
    x = b.cast(b.mul(b.thread(), b.thread()), element)
    b.store(x, shared, b.thread())
    b.barrier()
    b.store(b.add(b.shuffle_down(x, 4), b.load(shared, b.xor(b.thread(), 32), element)), out, b.thread())
    launch = Launch(b.source("sum"), (Operand("value"),), (), 1, 1, (0,), block=(64, 1, 1))
    squares = [t * t for t in range(64)]
    wanted = [squares[t + 4 if t % 32 < 28 else t] + squares[t ^ 32] for t in range(64)]
    for run in (gpu_simulator.run, partial(interpret, "sm_90")):
        found = np.zeros(64, by_mlir(element).numpy)
        run(launch, [found])
        assert found.tolist() == wanted


# ---- the interpreter itself -----------------------------------------------------------------------------------


def test_the_interpreter_sees_what_the_simulator_sees():
    out = np.zeros(64, np.int64)
    interpret("sm_90", _exchange(True), [out])
    assert out.tolist() == [t ^ 1 for t in range(64)]
    with pytest.raises(AssertionError, match="before the barrier"):
        interpret("sm_90", _exchange(False), [out])
    with pytest.raises(AssertionError, match="outside of an operand"):
        interpret("sm_90", _exchange(True), [np.zeros(63, np.int64)])
    with pytest.raises(AssertionError, match="outside of shared"):
        interpret("sm_90", _exchange(True, 64), [np.zeros(64, np.int64)])
    b = GpuEmitter(64)
    with b.if_(b.cmp("lt", b.thread(), 32)):
        b.barrier()
    with pytest.raises(AssertionError, match="only some threads of a block"):
        interpret("sm_90", Launch(b.source("partial"), (), (), 1, 1, (), block=(64, 1, 1)), [])


_TINY = """.visible .entry kernel(.param .u64 .ptr .align 16 kernel_param_0)
{
.reg .b64 %rd<3>;
ld.param.b64 %rd1, [kernel_param_0];
BODY
ret;
}"""


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("st.global.b64 [%rd1+4], %rd1;", AssertionError, "not aligned: st.global.b64"),
        ("st.global.b64 [%rd1+8], %rd1;", AssertionError, "outside of an operand"),
        ("st.global.b64 [%rd1], %rd2;", KeyError, "%rd2"),
        ("st.shared.b64 [%rd1], %rd1;", AssertionError, "no address of this space"),
        ("st.global.b64 [%rd1], %rd1; ld.global.nc.b64 %rd2, [%rd1];", AssertionError, "read as constant was written"),
        ("atom.global.add.u64 %rd2, [%rd1], 1;", NotImplementedError, "does not know atom.global.add.u64"),
        ("add.rz.f64 %rd2, %rd1, %rd1;", NotImplementedError, "does not know add.rz.f64"),
        ("ld.volatile.global.b64 %rd2, [%rd1];", NotImplementedError, "does not know ld.volatile"),
        (".local .align 8 .b8 depot[8];", SyntaxError, "does not understand this line of PTX: .local"),
    ],
)
def test_the_interpreter_refuses_what_it_does_not_know_or_is_wrong(body, error, message):
    launch = Launch(KernelSource("", "tiny"), (Operand("value"),), (), 1, 1, (0,), block=(1, 1, 1))
    text = _TINY.replace("BODY", body.replace("; ", ";\n")).replace("kernel(", "kernel(\n").replace("_0)\n", "_0\n)\n")
    with pytest.raises(error, match=message):
        ptx_interpreter.run(launch, text, [np.zeros(1, np.int64)])


def test_ptx_shifts_and_conversions_at_their_limits():
    """As the PTX ISA says: amounts have 32 bits and are clamped, conversions saturate, a NaN depends on the widths."""
    found = lambda opcode, *xs: ptx_operations.find(opcode).function(*map(np.array, xs)).tolist()  # noqa: E731
    amounts = np.array([1, 63, 64, 2**32 - 1], np.uint32)
    ones = np.full(4, -1, np.int64)
    assert found("shl.b64", ones.view(np.uint64), amounts) == [2**64 - 2, 2**63, 0, 0]
    assert found("shr.s64", ones, amounts) == [-1] * 4 and found("shr.u64", ones.view(np.uint64), amounts)[2:] == [0, 0]
    floats = np.array([2.9, -2.9, 1e30, -1e30, np.nan], np.float32)
    assert found("cvt.rzi.s32.f32", floats) == [2, -2, 2**31 - 1, -(2**31), 0]
    assert found("cvt.rzi.s64.f32", floats) == [2, -2, 2**63 - 1, -(2**63), -(2**63)]
    assert found("cvt.rzi.u32.f64", floats.astype(np.float64)) == [2, 0, 2**32 - 1, 0, 2**31]
    zeros = np.array([0.0, -0.0]), np.array([-0.0, np.nan])
    assert np.signbit(found("min.f64", *zeros)).tolist() == [True, True]
    assert np.isnan(found("max.NaN.f64", *zeros)).tolist() == [False, True]
