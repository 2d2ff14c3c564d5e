"""Creation functions are recorded without Python: every form of a call means the same, draws are counted, errors are kept."""

import concurrent.futures
import copy
import pickle
import sys
import threading

import flambeau as fb
import numpy as np
import pytest
from flambeau import engine
from flambeau.function import Static, Tensor_, builder, function
from flambeau.runtime.recorder import REQUIRED, Function


def python_calls(function):
    """The Python functions of the package that run during a call."""
    names = []

    def note(frame, event, arg):
        if event == "call" and "flambeau" in frame.f_globals.get("__name__", ""):
            names.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return names


@pytest.mark.parametrize(
    "call",
    [
        lambda: fb.zeros(2, 3),
        lambda: fb.ones((2, 3), dtype=fb.float64, device="cpu"),
        lambda: fb.full((2, 3), 0.5),
        lambda: fb.arange(10, dtype=fb.float32),
        lambda: fb.rand(2, 3),
        lambda: fb.randn((2, 3), dtype=fb.float64),
    ],
)
def test_a_call_seen_before_runs_no_python(call):
    fb.flush()
    call()
    fb.flush()
    assert python_calls(call) == []
    fb.flush()


@pytest.mark.parametrize("make", [fb.zeros, fb.ones, fb.rand, fb.randn])
def test_sizes_come_in_many_forms(make):
    forms = [
        lambda **k: make(2, 3, **k),
        lambda **k: make((2, 3), **k),
        lambda **k: make([2, 3], **k),
        lambda **k: make(size=(2, 3), **k),
        lambda **k: make(np.int64(2), np.int32(3), **k),
        lambda **k: make((fb.tensor(2), fb.tensor(3)), **k),
        lambda **k: make(fb.zeros(2, 3).shape, **k),
    ]
    options = [{}, {"dtype": fb.float64}, {"device": "cpu"}, {"device": fb.device("cpu")}, {"requires_grad": True}]
    for form in forms:
        for given in options:
            fb.manual_seed(7)
            want = make(2, 3, dtype=given.get("dtype"))
            fb.manual_seed(7)
            found = form(**given)
            assert found.shape == (2, 3) and found.dtype == given.get("dtype", fb.float32)
            assert found.requires_grad == bool(given.get("requires_grad")) and found.is_leaf
            assert fb.equal(found, want)
    assert make(3).shape == (3,) and make(()).shape == () and make().shape == () and make(0, 2).shape == (0, 2)


def test_a_leaf_that_was_made_gets_gradients():
    x = fb.ones(3, requires_grad=True)
    y = fb.full((3,), 2.0, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.tolist() == [2.0] * 3 and y.grad.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fb.zeros(2.5), TypeError, r"\[zeros\] size \(2.5,\) has an entry of type float"),
        (lambda: fb.zeros(True), TypeError, r"\[zeros\] size \(True,\) has an entry of type bool"),
        (lambda: fb.ones(-1), RuntimeError, r"\[ones\] size \(-1,\) has a negative entry"),
        (lambda: fb.zeros(2, dtype="complex65"), TypeError, r"\[zeros\] dtype .complex65. is not supported"),
        (lambda: fb.zeros(2, device="cuda"), RuntimeError, r"\[device\] 'cuda' is not available"),
        (lambda: fb.zeros(2, requires_grad=True, dtype=fb.int64), RuntimeError, r"\[requires_grad_\] only floating"),
        (lambda: fb.zeros(2, shape=3), TypeError, r"\[zeros\] there is no argument 'shape'"),
        (lambda: fb.rand(2, shape=3), TypeError, r"\[rand\] there is no argument 'shape'"),
        (lambda: fb.full((2,), "a"), TypeError, r"\[dtype\] str is not a number"),
        (lambda: fb.arange("a"), TypeError, "str"),
        (lambda: fb.arange(), TypeError, r"\[arange\] argument 'start' is missing"),
        (lambda: fb.rand(2, dtype=fb.int64), RuntimeError, r"\[rand\] dtype .*int64 is not floating point"),
        (lambda: fb.randn(2, generator=5), TypeError, r"\[randn\] generator is 5. Pass a Generator."),
        (lambda: fb.rand(2, device={}), TypeError, r"\[rand\] argument 'device' must be device or None, got dict"),
    ],
)
def test_errors_are_those_of_the_call(call, error, message):
    for _ in range(2):
        with pytest.raises(error, match=message):
            call()


def test_full_takes_its_dtype_from_the_number():
    for value, dtype in ((True, fb.bool), (3, fb.int64), (0.5, fb.float32), (np.float64(0.5), fb.float32)):
        assert fb.full((2,), value).dtype is dtype and fb.full((2,), value).tolist() == [value] * 2
    assert fb.full((2,), fb.tensor(4)).tolist() == [4, 4] and fb.full(2, 1.5).shape == (2,)
    for k in range(20):  # after some values, numbers are operands
        assert fb.full((2,), k).dtype is fb.int64 and fb.full((2,), k).tolist() == [k, k]
        assert fb.full((2,), k / 4).dtype is fb.float32 and fb.full((2,), k / 4).tolist() == [k / 4] * 2


def test_the_default_dtype_is_part_of_the_call():
    assert fb.zeros(2).dtype is fb.rand(2).dtype is fb.arange(2.0).dtype is fb.float32
    fb.set_default_dtype(fb.float64)
    try:
        assert fb.zeros(2).dtype is fb.rand(2).dtype is fb.arange(2.0).dtype is fb.full((2,), 0.5).dtype is fb.float64
    finally:
        fb.set_default_dtype(fb.float32)
    assert fb.zeros(2).dtype is fb.float32


def test_ranges_come_in_many_forms():
    want = list(range(5))
    for found in (fb.arange(5), fb.arange(0, 5), fb.arange(0, 5, 1), fb.arange(np.int64(5)), fb.arange(fb.tensor(5))):
        assert found.tolist() == want and found.dtype is fb.int64
    assert fb.arange(2.5).tolist() == [0.0, 1.0, 2.0] and fb.arange(start=3).tolist() == [0, 1, 2]
    assert fb.arange(5, inclusive=True).tolist() == [*want, 5] and fb.arange(1, end=3).tolist() == [1, 2]
    assert fb.arange(3, requires_grad=True, dtype=fb.float32).requires_grad and fb.arange(0).tolist() == []
    assert fb.arange(np.float32(2.5)).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(RuntimeError, match=r"\[arange\] from 0 to -1"):
        fb.arange(-1)


# ---- generators


@pytest.mark.accept("CRE-25")
def test_draws_are_counted_per_generator():
    g = fb.Generator().manual_seed(3)
    whole = fb.rand(9, generator=fb.Generator().manual_seed(3)).tolist()
    assert fb.rand(4, generator=g).tolist() + fb.rand(5, generator=g).tolist() == whole
    assert g.get_state().tolist() == [3, 9]
    counts = [
        (lambda: fb.randn(3, generator=g), 6),
        (lambda: fb.rand(3, dtype=fb.float64, generator=g), 6),
        (lambda: fb.randint(0, 5, (4,), generator=g), 8),
        (lambda: fb.bernoulli(fb.full((5,), 0.5), generator=g), 5),
        (lambda: fb.zeros(2).normal_(generator=g), 4),
        (lambda: fb.zeros(2).uniform_(generator=g), 2),
        (lambda: fb.zeros(2, dtype=fb.float64).bernoulli_(generator=g), 4),
    ]
    for call, n in counts:
        for _ in range(2):
            before = g.get_state().tolist()[1]
            call()
            assert g.get_state().tolist() == [3, before + n]


def test_no_generator_is_the_default_one():
    fb.manual_seed(11)
    one = fb.rand(3, generator=None).tolist()
    fb.manual_seed(11)
    two = fb.rand(3, generator=fb.default_generator).tolist()
    fb.manual_seed(11)
    assert fb.rand(3).tolist() == one == two and fb.default_generator.get_state().tolist() == [11, 3]


def test_a_call_that_fails_draws_nothing():
    g = fb.Generator().manual_seed(1)
    with pytest.raises(RuntimeError, match="negative"):
        fb.rand(-1, generator=g)
    assert g.get_state().tolist() == [1, 0]


@pytest.mark.accept("CRE-25")
def test_generators_are_copied_and_pickled():
    g = fb.Generator().manual_seed(2**63 + 5)
    fb.rand(3, generator=g)
    for other in (copy.copy(g), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert isinstance(other, fb.Generator) and other.initial_seed() == 2**63 + 5
        assert other.get_state().tolist() == g.get_state().tolist()
        fb.rand(1, generator=other)
        assert other.get_state().tolist() != g.get_state().tolist()


def test_the_count_wraps_where_it_always_did():
    g = fb.Generator().manual_seed(0)
    g.set_state(fb.tensor([0, 2**63 - 2]))
    fb.rand(3, generator=g)
    assert g.get_state().tolist() == [0, 1]


def test_draws_agree_with_their_rules_in_shadow_mode():
    with fb.shadow_mode():
        for _ in range(2):
            assert fb.rand(3).shape == fb.randn(3).shape == fb.zeros(3).shape


# ---- declarations


def test_a_default_parameter_needs_something_to_fall_back_on():
    for extra, default in (({}, False), ({"otherwise": print}, None)):
        params = (("x", "default", False),) if default is False else (("x", "default", REQUIRED),)
        with pytest.raises(ValueError, match=r"parameter 'x' of 'f' needs a default, and the function `otherwise`"):
            Function("f", params, "pure", lambda: None, **extra)


def test_what_raises_type_error_goes_to_the_other_function():
    def other(*args, **kwargs):
        return args, kwargs

    f = Function("f", (("x", "tensor", None),), "pure", lambda x: x, otherwise=other)
    assert f(1, 2, y=3) == ((1, 2), {"y": 3}) and f("a") == (("a",), {})


def test_rules_that_run_in_two_threads_have_builders_of_their_own():
    """Both rules have begun when they ask for their builders, and neither has ended."""
    both = threading.Barrier(2)

    def make(name, number):
        def rule(size: Static):
            both.wait(20)
            mine = builder()
            both.wait(20)
            return mine.constant(number, fb.float32).expand(size)

        return function(name=name)(rule)

    rules = [make("one", 1.0), make("two", 2.0)]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda f: f((3,)).tolist(), rules))
    assert found == [[1.0] * 3, [2.0] * 3]


def test_a_new_entry_is_found_by_other_threads_only_when_it_is_complete(monkeypatch):
    """One thread learns a call, and is held up where it asks for the cost; another one makes the same call meanwhile."""
    begun, done = threading.Event(), threading.Event()
    real = engine.Expansion.cost.__get__

    def cost(expansion):
        if expansion.name == "twice" and not begun.is_set():
            begun.set()
            assert done.wait(20)
        return real(expansion)

    monkeypatch.setattr(engine.Expansion, "cost", property(cost))

    def rule(x: Tensor_):
        return x + x

    twice = function(name="twice")(rule)

    def other():
        assert begun.wait(20)
        try:
            return twice(fb.tensor([3.0, 4.0])).tolist()
        finally:
            done.set()

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        late = threads.submit(lambda: twice(fb.tensor([1.0, 2.0])).tolist())
        assert threads.submit(other).result() == [6.0, 8.0] and late.result() == [2.0, 4.0]
