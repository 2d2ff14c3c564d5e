"""Ops that run on the host: steps of a compiled program that call an op's NumPy reference, on every tier the same."""

import json
import threading

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import driver, stages
from flambeau.compiler.host_calls import addresses, reference_kernel
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.record import find
from flambeau.dialects.region import build as region
from random_graphs import program, same_bits
from support import rounds
from test_driver import F32, X, arrays, build, fresh  # noqa: F401  (a fixture)

NEG = Options(mode="blocking", on_host=("neg",))


def chain(x):
    y = find("exp")(x)
    return find("neg")(y * y) + x


@pytest.fixture
def replaced(request):
    """Puts another reference in the place of an op's."""

    def replace(name, function):
        record = find(name)
        request.addfinalizer(lambda before=record.reference: object.__setattr__(record, "reference", before))
        object.__setattr__(record, "reference", function)

    return replace


def same(x, y):
    return len(x) == len(y) and all(map(same_bits, x, y))


@pytest.mark.parametrize("seed", range(rounds(10, 60, 600)))
def test_random_programs_give_the_bits_of_the_others(seed):
    """With ops on the host whose references are exact, among all others."""
    graph, inputs = program(seed, fallible=False)
    names = sorted({n.op.name for n in graph.nodes if n.op.exact and not n.op.regions and not n.op.effect})
    on_host = tuple(names[seed % 3 :: 3])
    expected = arrays(graph, driver.compile(graph, Options(mode="blocking"))(inputs))
    executable = driver.compile(graph, Options(mode="blocking", on_host=on_host))
    assert same(arrays(graph, executable(inputs)), expected) and executable.report.tier == "fused"
    assert same(arrays(graph, driver.compile(graph, Options(mode="off", on_host=on_host))(inputs)), expected)


def test_the_rest_of_the_program_stays_fused(fresh):  # noqa: F811
    executable = driver.compile(build(chain, F32), NEG)
    (found,) = arrays(executable.graph, executable([X]))
    wanted = driver.compile(build(chain, F32), Options(mode="blocking"))
    assert same_bits(found, arrays(wanted.graph, wanted([X]))[0])
    assert executable.report.kernels == ["exp+mul", "neg on the host", "add+canonical_nan"]


def test_it_is_taken_from_disk(fresh, monkeypatch):  # noqa: F811
    graph = build(chain, F32)
    before = arrays(graph, driver.compile(graph, NEG)([X]))
    monkeypatch.setattr(driver, "_compiled", type(driver._compiled)())
    executable = driver.compile(graph, NEG)
    assert same(arrays(graph, executable([X])), before) and executable.report.origin == "disk"


def test_the_op_by_op_tier_runs_the_same_function(fresh, replaced):  # noqa: F811
    replaced("neg", lambda x: x + 100)
    graph = build(chain, F32)
    for mode in ("blocking", "off"):
        (found,) = arrays(graph, driver.compile(graph, Options(mode=mode, on_host=("neg",)))([X]))
        assert found.min() > 99


def test_results_without_elements(fresh):  # noqa: F811
    graph = build(lambda x: find("neg")(find("slice")(x, starts=(0, 2), sizes=(3, 0), steps=(1, 1))), F32)
    (found,) = arrays(graph, driver.compile(graph, NEG)([X]))
    assert found.shape == (3, 0)


# ---- what goes wrong


def test_an_error_is_that_of_the_op_at_its_line(fresh):  # noqa: F811
    graph = build(lambda x, i: find("gather")(x * x, i, axis=0), F32, Aval((1, 4), int64))
    executable = driver.compile(graph, Options(mode="blocking", on_host=("gather",)))
    index = np.array([[0, 1, 2, 7]])
    with pytest.raises(IndexError, match=r"\[gather\] index\[0, 3\]|is out of range") as caught:
        executable([X, index])
    assert caught.value.__notes__ == ["recorded at user.py:2"]
    assert same(arrays(graph, executable([X, index % 3])), reference.run(graph, [X, index % 3]))


def test_nothing_is_written_before_a_step_on_the_host_has_succeeded(fresh, replaced):  # noqa: F811
    """An input's buffer that the program may take over is as it was."""

    def refuses(x):
        raise ValueError("[neg] not today.")

    graph = build(lambda x, y: (x + x, find("neg")(y)), F32, F32)
    graph.updates = {0: 0}
    executable = driver.compile(graph, NEG)
    executable.ready()
    replaced("neg", refuses)
    buffer = fb.runtime._binding.Buffer.alloc(X.nbytes)
    np.frombuffer(memoryview(buffer), np.float32)[:] = X.ravel()
    with pytest.raises(ValueError, match=r"\[neg\] not today"):
        executable([buffer, X], donate=[0])
    assert np.frombuffer(buffer, np.float32).tolist() == X.ravel().tolist()


@pytest.mark.parametrize("result", [np.zeros(5, np.float32), None, "text"])
def test_a_result_that_does_not_fit_is_an_error(fresh, replaced, result):  # noqa: F811
    graph = build(chain, F32)
    executable = driver.compile(graph, NEG)
    executable.ready()
    replaced("neg", lambda x: result)
    with pytest.raises(
        (ValueError, RuntimeError), match=r"gives shape .*, but the result has shape \(3, 4\)|could not convert"
    ):
        executable([X])


def test_an_interrupt_is_one_and_the_program_can_be_run_again(fresh, replaced):  # noqa: F811
    graph = build(chain, F32)
    executable = driver.compile(graph, NEG)
    expected = arrays(graph, executable([X]))
    negative = find("neg").reference

    def interrupted(x):
        replaced("neg", negative)
        raise KeyboardInterrupt

    replaced("neg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        executable([X])
    assert same(arrays(graph, executable([X])), expected)


def test_an_interrupted_step_is_made_up_for(replaced):
    """As from Python: the trace stays pending, and the next look runs it."""
    negative = find("neg").reference

    def interrupted(x):
        replaced("neg", negative)
        raise KeyboardInterrupt

    with fb.compiler_options(mode="blocking", on_host=("neg",)):
        x = fb.tensor([1.0, 2.0])
        assert (-x * 3.0).tolist() == [-3.0, -6.0]
        replaced("neg", interrupted)
        y = -x * 3.0
        with pytest.raises(KeyboardInterrupt):
            y.tolist()
        assert y.tolist() == [-3.0, -6.0]


def test_what_a_function_keeps_is_its_own(fresh, replaced):  # noqa: F811
    kept = []
    replaced("neg", lambda x: kept.append(x) or -x)
    graph = build(chain, F32)
    executable = driver.compile(graph, NEG)
    for _ in range(3):
        executable([X])
    square = np.exp(X) * np.exp(X)
    assert len(kept) == 3 and all(np.allclose(x, square) for x in kept)


@pytest.mark.parametrize(
    "names, error",
    [
        (("nothing",), ValueError),
        (("cond",), ValueError),
        (("host_call",), ValueError),
        (["neg"], TypeError),
        ((1,), ValueError),
    ],
)
def test_only_ops_that_compute_run_on_the_host(names, error):
    with pytest.raises(error, match=r"\[options\] on_host is .* Give a tuple of names of primitive ops."):
        Options(on_host=names)


# ---- where such steps stand


def test_in_branches_and_loops(fresh):  # noqa: F811
    shape = F32
    then, otherwise = (region([shape], lambda x, k=k: [find("neg")(x * x) * x.like(k)]) for k in (2, 3))
    graph = build(lambda p, x: find("cond")(p, x, then=then, otherwise=otherwise), Aval((), fb.bool), F32)
    executable = driver.compile(graph, NEG)
    for flag in (True, False):
        inputs = [np.array(flag), X]
        assert same(arrays(graph, executable(inputs)), reference.run(graph, inputs))
    assert "neg on the host" in executable.report.kernels


def test_sizes_that_change(fresh):  # noqa: F811
    calls = []
    with fb.compiler_options(mode="blocking", on_host=("exp",)):
        for n in (5, 6, 7, 8, 9, 67):
            x = fb.arange(n, dtype=fb.float32)
            calls.append(((x / n).exp() * 2.0).sum().item())
    wanted = [float((np.exp(np.arange(n, dtype=np.float32) / np.float32(n)) * 2).sum()) for n in (5, 6, 7, 8, 9, 67)]
    np.testing.assert_allclose(calls, wanted, rtol=1e-6)


def test_a_size_among_attributes_comes_with_the_others(fresh):  # noqa: F811
    with fb.compiler_options(mode="blocking", on_host=("pad",)):
        for n in (5, 6, 7, 8, 9, 67):
            x = fb.ones(n, dtype=fb.float32)
            assert fb.nn.functional.pad(x * 2, (n, 1), value=n / 2).sum().item() == 2 * n + (n + 1) * n / 2


def test_numbers_among_attributes_make_no_kernels_of_their_own(fresh):  # noqa: F811
    before = set(reference_kernel._made)
    with fb.compiler_options(mode="blocking", on_host=("pad",)):
        for n in range(1, 9):
            padded = fb.nn.functional.pad(fb.ones(3, n) * 2, (n, 2 * n), value=n + 0.5)
            np.testing.assert_array_equal(
                padded.numpy(), np.pad(np.full((3, n), 2.0), ((0, 0), (n, 2 * n)), constant_values=n + 0.5)
            )
    assert len(set(reference_kernel._made) - before) <= 2


def test_threads_run_the_same_program(fresh):  # noqa: F811
    graph = build(chain, F32)
    executable = driver.compile(graph, NEG)
    expected = arrays(graph, executable([X]))
    wrong = []

    def work():
        for _ in range(rounds(50, 500, 5000)):
            if not same(arrays(graph, executable([X])), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---- its text


@pytest.mark.parametrize(
    "value",
    [(1, (2.5, None), "x"), (float32, True), (float("inf"), -0.0), (-1, 1 << 62, 1 << 64), ("int", "float"), ()],
)
def test_attributes_come_back(value):
    numbers = []
    text = json.loads(json.dumps(reference_kernel._written(value, "op", numbers)))
    back = reference_kernel._read(text, iter(numbers))
    assert back == value and repr(back) == repr(value)


def test_what_has_no_text_is_refused():
    with pytest.raises(RuntimeError, match=r"\[op\] an attribute is a complex, which cannot be handed to the host"):
        reference_kernel._written((1j,), "op", [])


def test_only_its_own_text_is_that_of_the_host():
    (call,) = stages.run(build(find("neg"), F32), NEG).lowered[0].calls
    assert call.source.is_host and not KernelSource("module {}", "").is_host
    assert addresses.address(call.source) == addresses.address(KernelSource(call.source.text, "again"))
