"""The runtime through its Python binding: buffers, plans, limits, threads and fork. The C tests go deeper: tests/c."""

from __future__ import annotations

import ctypes
import gc
import marshal
import os
import struct
import subprocess
import sys
import threading
from array import array
from pathlib import Path

import pytest
from flambeau import runtime
from flambeau.runtime import KERNEL_COPY, KERNEL_ZERO, Buffer, ExprOp, OutMode, Plan, PlanSpec, RefKind, Relation

pytestmark = pytest.mark.runtime

KERNEL = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_int64),
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
)


def doubles(address: int, n: int) -> ctypes.Array:
    return (ctypes.c_double * n).from_address(address)


@KERNEL
def add_scalar(bufs, dims, lo, hi, scratch):
    """bufs[0] = bufs[1] + the scalar bufs[2], over doubles."""
    out, x, s = doubles(bufs[0], hi), doubles(bufs[1], hi), doubles(bufs[2], 1)
    for i in range(lo, hi):
        out[i] = x[i] + s[0]


@KERNEL
def fail_when_negative(bufs, dims, lo, hi, scratch):
    """Error 3 at the first negative double of bufs[0]; bufs[1] is the status word."""
    x = doubles(bufs[0], hi)
    word = ctypes.c_int64.from_address(bufs[1])
    for i in range(lo, hi):
        if x[i] < 0:
            word.value = min(word.value, 3 << 48 | i)


def address_of(kernel) -> int:
    return ctypes.cast(kernel, ctypes.c_void_p).value


def numbers(buffer: Buffer) -> list[float]:
    return memoryview(buffer).cast("d").tolist()


def buffer_of(*values: float) -> Buffer:
    buffer = Buffer.alloc(8 * len(values))
    memoryview(buffer).cast("d")[:] = array("d", values)
    return buffer


N, BYTES, EIGHT, GRAIN = 2, 3, 4, 5
EXPRS = tuple((ExprOp.CONST, value, 0) for value in (0, 1, 10, 80, 8, 3))


def adding_plan(mode: int = OutMode.NEW, grain: int = GRAIN) -> Plan:
    """out = x + s for ten doubles x and a host scalar s."""
    refs = ((RefKind.OUTPUT, 0, 0), (RefKind.INPUT, 0, 0), (RefKind.INPUT, 1, 0))
    steps = ((0, N, grain, 0, refs, ()),)
    spec = PlanSpec(0, (BYTES, EIGHT), ((mode, 0, BYTES),), EXPRS, steps, 0, 0, b"", 1)
    return Plan(spec, (address_of(add_scalar),))


def copying_plan(n: int = 1) -> Plan:
    """Output i is a copy of the constants for even i, zeros for odd i."""
    exprs = ((ExprOp.CONST, 0, 0), (ExprOp.CONST, 16, 0))
    copy = (KERNEL_COPY, 0, 0, 0, ((RefKind.OUTPUT, 0, 0), (RefKind.CONST, 0, 0)), (1,))
    zero = (KERNEL_ZERO, 0, 0, 0, ((RefKind.OUTPUT, 1, 0),), (1,))
    outputs = ((OutMode.NEW, 0, 1), (OutMode.NEW, 0, 1))
    return Plan(PlanSpec(0, (), outputs, exprs, (copy, zero) * n, 0, 0, bytes(range(16)), 0), ())


@pytest.fixture
def threads():
    before = runtime.get_num_threads()
    yield runtime.set_num_threads
    runtime.set_num_threads(before)


# ---- buffers ----------------------------------------------------------------------------------------------


@pytest.mark.accept("DEV-10")
def test_alloc_is_aligned_writable_and_counted():
    before = runtime.memory_stats()
    buffer = Buffer.alloc(1000)
    stats = runtime.memory_stats()
    assert buffer.nbytes == 1000 and buffer.address % 64 == 0 and buffer.refs == 1
    assert buffer.pooled and not buffer.readonly and not buffer.donated
    assert stats["live_bytes"] == before["live_bytes"] + 1024 and stats["live_buffers"] == before["live_buffers"] + 1
    view = memoryview(buffer)
    view[-1] = 7
    assert not view.readonly and view.contiguous and len(view) == 1000 and bytes(buffer)[-1] == 7
    del buffer, view
    assert runtime.memory_stats()["live_bytes"] == before["live_bytes"]


def test_from_object_shares_and_keeps_alive():
    source = array("d", [1.0, 2.0])
    address, _ = source.buffer_info()
    references = sys.getrefcount(source)
    buffer = Buffer.from_object(source)
    assert sys.getrefcount(source) > references
    assert buffer.address == address and buffer.nbytes == 16 and not buffer.pooled and not buffer.readonly
    memoryview(buffer).cast("d")[0] = 5.0
    assert source[0] == 5.0
    del buffer
    assert sys.getrefcount(source) == references


def test_from_object_flags_readonly_memory():
    buffer = Buffer.from_object(b"fixed")
    assert buffer.readonly and bytes(buffer) == b"fixed"
    with pytest.raises(TypeError):
        memoryview(buffer)[0] = 1


def test_from_object_refuses_what_is_not_contiguous():
    with pytest.raises(BufferError):
        Buffer.from_object(memoryview(bytearray(10))[::2])
    with pytest.raises(TypeError):
        Buffer.from_object(3)


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"\[alloc\] -1 bytes were asked for. Pass 0 or more."):
        Buffer.alloc(-1)
    with pytest.raises(TypeError):
        Buffer()
    assert Buffer.alloc(0).nbytes == 0


# ---- memory -----------------------------------------------------------------------------------------------


@pytest.mark.accept("ERR-06")
def test_out_of_memory_is_typed_and_names_the_sizes():
    runtime.trim()
    live = runtime.memory_stats()["live_bytes"]
    kept = Buffer.alloc(1 << 20)
    runtime.set_memory_limit(live + (2 << 20))
    try:
        with pytest.raises(runtime.OutOfMemory) as caught:
            Buffer.alloc(3 << 20)
    finally:
        runtime.set_memory_limit(None)
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == (
        f"[memory] cannot allocate 3145728 bytes: {live + (1 << 20)} bytes are live, 0 bytes are cached, "
        f"the limit is {live + (2 << 20)} bytes. Free tensors or raise the limit with set_memory_limit()."
    )
    assert kept.refs == 1 and Buffer.alloc(3 << 20).nbytes == 3 << 20


@pytest.mark.accept("ERR-06")
def test_a_plan_out_of_memory_changes_nothing():
    plan = adding_plan(OutMode.UPDATE)
    x = buffer_of(*range(10))
    view = memoryview(x)
    runtime.trim()
    runtime.set_memory_limit(runtime.memory_stats()["live_bytes"])
    try:
        with pytest.raises(runtime.OutOfMemory, match="cannot allocate 80 bytes"):
            plan.run([x, 1.0])
    finally:
        runtime.set_memory_limit(0)
    assert view.cast("d").tolist() == [*range(10)]


@pytest.mark.accept("DEV-12")
def test_trim_and_peak():
    runtime.trim()
    runtime.reset_peak()
    live = runtime.memory_stats()["live_bytes"]
    del_me = Buffer.alloc(2 << 20)
    del del_me
    stats = runtime.memory_stats()
    assert stats["peak_bytes"] == live + (2 << 20) and stats["reserved_bytes"] >= live + (2 << 20)
    assert runtime.trim() >= 2 << 20
    assert runtime.memory_stats()["reserved_bytes"] == live
    runtime.reset_peak()
    assert runtime.memory_stats()["peak_bytes"] == live


def test_bad_limit():
    with pytest.raises(ValueError, match=r"\[set_memory_limit\] the limit is -5 bytes"):
        runtime.set_memory_limit(-5)


# ---- plans ------------------------------------------------------------------------------------------------


def test_run_takes_buffers_arrays_and_numbers():
    plan = adding_plan()
    expected = [i + 2.5 for i in range(10)]
    for x in (buffer_of(*range(10)), array("d", range(10)), array("d", range(10)).tobytes()):
        (out,) = plan.run([x, 2.5])
        assert numbers(out) == expected and out.pooled and out.refs == 1


def test_host_scalars_are_eight_byte_cells():
    exprs = ((ExprOp.CONST, 8, 0),)
    plan = Plan(PlanSpec(0, (0, 0, 0), tuple((OutMode.INPUT, i, 0) for i in range(3)), exprs, (), 0, 0, b"", 0), ())
    out = [bytes(buffer) for buffer in plan.run([1.5, -2, True])]
    assert out == [struct.pack("<d", 1.5), struct.pack("<q", -2), struct.pack("<q", 1)]
    with pytest.raises(OverflowError):
        plan.run([1.5, 1 << 64, True])


def test_constants_copy_and_zero():
    copied, zeroed = copying_plan().run([])
    assert bytes(copied) == bytes(range(16)) and bytes(zeroed) == bytes(16)


def test_spec_survives_marshal():
    spec = PlanSpec(0, (0,), ((OutMode.INPUT, 0, 0),), ((ExprOp.CONST, 8, 0),), (), 0, 0, b"", 0)
    again = PlanSpec(*marshal.loads(marshal.dumps(tuple(spec))))
    assert again == spec and bytes(Plan(again, ()).run([7])[0]) == struct.pack("<q", 7)


def test_donation_empties_the_buffer_that_was_taken():
    plan = adding_plan(OutMode.UPDATE)
    x = buffer_of(*range(10))
    address = x.address
    (out,) = plan.run([x, 1.0], donate=(0,))
    assert out.address == address and numbers(out) == [i + 1.0 for i in range(10)]
    assert x.donated
    with pytest.raises(ValueError, match="was donated to a plan"):
        memoryview(x)
    with pytest.raises(ValueError, match="was donated to a plan"):
        plan.run([x, 1.0])


def test_donation_that_cannot_be_used_gives_the_buffer_back():
    x = buffer_of(*range(10))
    (out,) = adding_plan(OutMode.NEW).run([x, 1.0], donate=(0,))
    assert not x.donated and numbers(x) == [*range(10)] and out.address != x.address
    source = array("d", range(10))
    (out,) = adding_plan(OutMode.UPDATE).run([Buffer.from_object(source), 1.0], donate=(0,))
    assert source.tolist() == [*range(10)]


def test_the_same_buffer_twice_is_never_overwritten():
    spec = PlanSpec(
        0, (0, 0), ((OutMode.UPDATE, 0, 0), (OutMode.INPUT, 1, 0)), ((ExprOp.CONST, 8, 0),), (), 0, 0, b"", 0
    )
    x = buffer_of(4.0)
    updated, same = Plan(spec, ()).run([x, x], donate=(0,))
    assert updated.address != x.address and same.address == x.address


def test_donating_what_others_look_at_is_refused():
    x = buffer_of(*range(10))
    view = memoryview(x)
    plan = adding_plan(OutMode.UPDATE)
    with pytest.raises(BufferError, match="cannot donate input 0: 1 views look at it"):
        plan.run([x, 1.0], donate=(0,))
    with pytest.raises(IndexError, match="cannot donate input 2 of 2"):
        plan.run([x, 1.0], donate=(2,))
    with pytest.raises(TypeError, match="expected a Buffer, got float"):
        plan.run([x, 1.0], donate=(1,))
    view.release()
    plan.run([x, 1.0], donate=(0,))


def test_symbols():
    exprs = ((ExprOp.CONST, 8, 0), (ExprOp.SYMBOL, 0, 0), (ExprOp.MUL, 0, 1), (ExprOp.CONST, 0, 0))
    step = (KERNEL_COPY, 3, 3, 3, ((RefKind.OUTPUT, 0, 3), (RefKind.INPUT, 0, 3)), (2,))
    plan = Plan(PlanSpec(1, (2,), ((OutMode.NEW, 0, 2),), exprs, (step,), 0, 3, b"", 0), ())
    x = buffer_of(*range(10))
    for n in (0, 1, 10):
        assert numbers(plan.run([x], symbols=(n,))[0]) == [*range(n)]
    with pytest.raises(ValueError, match=r"\[plan\] input 0 has 80 bytes, but at least 88 are read."):
        plan.run([x], symbols=(11,))
    with pytest.raises(ValueError, match=r"\[plan\] 0 symbols were passed. The plan has 1."):
        plan.run([x])


def test_a_plan_refuses_sizes_that_its_guards_exclude():
    exprs = ((ExprOp.CONST, -4, 0), (ExprOp.SYMBOL, 0, 0), (ExprOp.ADD, 1, 0))
    spec = PlanSpec(1, (1,), ((OutMode.UPDATE, 0, 1),), exprs, (), 0, 3, b"", 0, ((Relation.NOT_LESS, 2),))
    plan = Plan(spec._replace(arena_bytes=1), ())
    assert [plan.fits((n,)) for n in (3, 4, 9)] == [False, True, True]
    x = buffer_of(*range(3))
    with pytest.raises(runtime.OtherSizes, match="one of its guards does not hold"):
        plan.run([x], (3,), (0,))
    assert not x.donated and numbers(x) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"\[plan\] 2 symbols were passed. The plan has 1."):
        plan.fits((3, 3))
    with pytest.raises(TypeError):
        plan.fits(("3",))


def test_kernel_failure_is_typed_and_changes_nothing():
    check = (0, N, N, 0, ((RefKind.INPUT, 0, 0), (RefKind.STATUS, 0, 0)), ())
    zero = (KERNEL_ZERO, 0, 0, 0, ((RefKind.OUTPUT, 0, 0),), (BYTES,))
    spec = PlanSpec(0, (BYTES,), ((OutMode.UPDATE, 0, BYTES),), EXPRS, (check, zero), 1, 0, b"", 1)
    plan = Plan(spec, (address_of(fail_when_negative),))
    x = buffer_of(0, 1, 2, 3, -4, 5, -6, 7, 8, 9)
    with pytest.raises(runtime.KernelFailed, match="step 0 reported error 3 at position 4") as caught:
        plan.run([x], donate=(0,))
    assert isinstance(caught.value, RuntimeError) and caught.value.status == 3 << 48 | 4
    assert not x.donated and numbers(x)[4] == -4
    memoryview(x).cast("d")[4] = memoryview(x).cast("d")[6] = 0
    gc.collect()
    assert numbers(plan.run([x], donate=(0,))[0]) == [0.0] * 10


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"exprs": ((9, 0, 0),)}, ValueError, "expression 0 has operator 9"),
        ({"outputs": [(0, 0, 0)]}, TypeError, "outputs is a list. Pass a tuple."),
        ({"outputs": ((0, 0),)}, TypeError, "an output has 2 items. It needs 3."),
        ({"steps": ((0, 0, 0, 0),)}, TypeError, "a step has 4 items. It needs 6."),
        ({"steps": ((0, (0, 0, 0), (0, 0, 0), (), ()),)}, ValueError, "step 0 is a launch on a GPU"),
        ({"n_fallible": 1 << 40}, OverflowError, "1099511627776 does not fit 32 bits"),
        ({"n_kernels": 1}, TypeError, "kernel_addresses has 0 items. It needs 1."),
        ({"n_kernels": -1}, ValueError, "n_kernels is -1"),
        ({"constants": "text"}, TypeError, "expected bytes"),
        ({"inputs": ("x",)}, TypeError, "integer"),
        ({"guards": [(0, 0)]}, TypeError, "guards is a list. Pass a tuple."),
        ({"guards": ((0, 0, 0),)}, TypeError, "a guard has 3 items. It needs 2."),
        ({"guards": ((0, 0),)}, ValueError, "1 guards on 0 symbols"),
        ({"n_symbols": 1, "guards": ((4, 0),)}, ValueError, "guard 0 has relation 4"),
        ({"arena_bytes": 4}, ValueError, "the arena's size is expression 4 of 1"),
    ],
)
def test_malformed_specs_raise(change, error, text):
    spec = PlanSpec(0, (), (), ((ExprOp.CONST, 0, 0),), (), 0, 0, b"", 0)
    Plan(spec, ())
    with pytest.raises(error, match=text):
        Plan(spec._replace(**change), ())
    with pytest.raises(TypeError, match=r"the spec has 3 items. It needs 13."):
        Plan(tuple(spec)[:3], ())


def test_wrong_calls_raise():
    plan = adding_plan()
    with pytest.raises(ValueError, match=r"\[plan\] 1 inputs were passed. The plan has 2."):
        plan.run([1.0])
    with pytest.raises(TypeError):
        plan.run([object(), 1.0])
    with pytest.raises(TypeError):
        plan.run(3)


def test_arena_bytes_of_the_last_run():
    exprs = ((ExprOp.CONST, 100, 0),)
    plan = Plan(PlanSpec(0, (), (), exprs, (), 0, 0, b"", 0), ())
    assert plan.arena_bytes == 0
    plan.run([])
    assert plan.arena_bytes == 128


def test_no_leak_over_many_runs():
    good, bad = adding_plan(), [buffer_of(1.0), 1.0]
    x = buffer_of(*range(10))
    live = runtime.memory_stats()["live_buffers"]
    for _ in range(50):
        good.run([x, 1.0])
        with pytest.raises(ValueError):
            good.run(bad, donate=(0,))
    assert runtime.memory_stats()["live_buffers"] == live and x.refs == 1


# ---- threads and processes --------------------------------------------------------------------------------


def test_results_do_not_depend_on_threads(threads):
    x = buffer_of(*(i / 3 for i in range(10)))
    results = set()
    for n in (1, 2, 5):
        threads(n)
        results.add(bytes(adding_plan(grain=1).run([x, 0.1])[0]))
    assert len(results) == 1


@pytest.mark.accept("T-17")
def test_thread_count_is_bounded_and_follows_the_affinity(threads):
    script = "from flambeau import runtime; print(runtime.get_num_threads())"
    cpu = min(os.sched_getaffinity(0))
    assert run_script(f"import os; os.sched_setaffinity(0, [{cpu}]); {script}") == "1\n"
    for n in (0, -1, 257, 1 << 40):
        with pytest.raises(ValueError, match=rf"\[set_num_threads\] {n} threads were asked for. Pass 1 to 256."):
            threads(n)
    threads(7)
    assert runtime.get_num_threads() == 7


@pytest.mark.accept("T-17")
def test_concurrent_callers_share_one_pool(threads):
    """Eight Python threads that all run parallel loops use three workers, not 8 x 4 threads."""
    threads(4)
    before = len(os.listdir("/proc/self/task"))
    most, failures = [before], []

    def run_many() -> None:
        plan, x = adding_plan(grain=1), buffer_of(*range(10))
        for _ in range(5):
            if numbers(plan.run([x, 1.0])[0]) != [i + 1.0 for i in range(10)]:
                failures.append("wrong result")
            most[0] = max(most[0], len(os.listdir("/proc/self/task")))

    callers = [threading.Thread(target=run_many) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures and most[0] <= before + 8 + 3


def run_script(script: str) -> str:
    """The output of a fresh interpreter in which NumPy's own threads do not disturb the count."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
import os, sys
from flambeau import runtime
from flambeau.runtime import ExprOp, OutMode, RefKind, KERNEL_COPY, Plan, PlanSpec, Buffer

exprs = ((ExprOp.CONST, 0, 0), (ExprOp.CONST, 4 << 20, 0))
step = (KERNEL_COPY, 0, 0, 0, ((RefKind.OUTPUT, 0, 0), (RefKind.INPUT, 0, 0)), (1,))
plan = Plan(PlanSpec(0, (1,), ((OutMode.NEW, 0, 1),), exprs, (step,), 0, 0, b"", 0), ())
x = Buffer.alloc(4 << 20)
memoryview(x)[:] = b"ab" * (2 << 20)

def run():
    for _ in range(5):
        assert bytes(plan.run([x])[0]) == bytes(x)

runtime.set_num_threads(4)
run()
assert len(os.listdir("/proc/self/task")) == 4
child = os.fork()
run()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both")
"""


@pytest.mark.accept("T-30")
def test_fork_with_live_threads():
    assert run_script(FORK) == "both\n"


@pytest.mark.accept("T-30")
def test_import_starts_no_thread_and_allocates_nothing():
    script = (
        "import os, flambeau.runtime\n"
        "print(len(os.listdir('/proc/self/task')), flambeau.runtime.memory_stats()['allocations'])\n"
    )
    assert run_script(script) == "1 0\n"


def test_folders_for_c_programs():
    assert (Path(runtime.include_dir()) / "flambeau" / "runtime.h").is_file()
    names = {path.name for path in Path(runtime.lib_dir()).iterdir()}
    assert {"libflambeau_rt.a", "libflambeau_rt.so"} <= names or {"libflambeau_rt.a", "libflambeau_rt.dylib"} <= names
