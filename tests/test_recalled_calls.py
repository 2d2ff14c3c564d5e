"""Calls of Python functions that come to one recorded call, made again without Python: the same results, errors and lines."""

import contextlib
import sys
import warnings

import flambeau as fb
import function_cases as fc
import numpy as np
import pytest
from flambeau import border
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Public, Tensor
from support import python_calls

X = np.arange(24.0, dtype=np.float32).reshape(4, 6)
F = fb.nn.functional

#: name -> a call that enters no Python once it is known
CALLS = {
    "pow": lambda x: x.pow(2),
    "clamp": lambda x: x.clamp(0, 1.5),
    "clamp of tensors": lambda x: fb.clamp(x, x - 1, max=x + 1),
    "norm": lambda x: x.norm(),
    "norm of rows": lambda x: fb.norm(x, 1, 1, keepdim=True),
    "double": lambda x: x.double(),
    "to": lambda x: x.to(fb.float64),
    "type_as": lambda x: x.type_as(x.long()),
    "max": lambda x: x.max(1),
    "sort": lambda x: x.sort(descending=True),
    "topk": lambda x: x.topk(2, 0),
    "median": lambda x: x.median(1),
    "aminmax": lambda x: x.aminmax(dim=1),
    "new_zeros": lambda x: x.new_zeros(2, 3),
    "zeros_like": lambda x: fb.zeros_like(x),
    "where": lambda x: x.where(x > 3, 0.0),
    "pad": lambda x: F.pad(x, (1, 2), value=3.0),
    "avg_pool2d": lambda x: F.avg_pool2d(x[None], 2),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x, 2),
    "max_unpool1d": lambda x: F.max_unpool1d(x[:, :2], x[:, 2:4].long() % 4, 2),
    "random": lambda x: fb.rand_like(x),
    "the operator": lambda x: x**2,
}
#: The same of calls that write.
WRITES = {
    "clamp_": lambda x: x.clamp_(2, 5),
    "pow_": lambda x: x.pow_(2),
    "copy_": lambda x: x.copy_(x + 1),
    "uniform_": lambda x: x.uniform_(-1, 1),
    "normal_": lambda x: x.normal_(),
}


def values(result):
    return [r.tolist() for r in fc.flat(result)]


def once_known(call, x):
    """What a call enters that has come before: new places of a trace are still told to Python."""
    found = python_calls(lambda: call(x))
    return [name for name in found if name in PUBLIC]


PUBLIC = {f.__name__ for f in border.recalled if hasattr(f, "__name__")}


@pytest.mark.accept("SHP-01")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_known_enters_no_python(name):
    call = CALLS[name]
    fb.manual_seed(3)
    wanted = [values(call(fb.tensor(X + i))) for i in range(3)]
    fb.manual_seed(3)
    for i in range(3):
        x = fb.tensor(X + i)
        assert once_known(call, x) == []
        if name != "random":
            assert values(call(x)) == wanted[i]
    kinds = {type(call(fb.tensor(X))) for _ in range(3)}
    assert len(kinds) == 1


@pytest.mark.parametrize("name", WRITES)
def test_a_call_that_writes_is_made_again_without_python(name):
    call = WRITES[name]
    fb.manual_seed(3)
    call(fb.tensor(X))
    for i in range(3):
        x, y = fb.tensor(X + i), fb.tensor(X + i)
        state = fb.get_rng_state()
        assert once_known(call, x) == [] and call(y) is y
        fb.set_rng_state(state)
        again = call(fb.tensor(X + i)).tolist()
        assert x.tolist() == again and x.tolist() != (X + i).tolist()
        assert name not in ("uniform_", "normal_") or y.tolist() != again


RECALLED = [
    case for d in fc.SAMPLED.values() if d.call in border.recalled for case in fc.cases(d) if case.dtype is fb.float32
]


@pytest.mark.parametrize("case", RECALLED, ids=repr)
def test_equal_calls_come_to_the_same(case):
    """Each good sample of each function that says so: the first call, the ones after it, and the function itself."""

    def seen(call):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            results = case.results(call=call)
        tensors = [r for r in results if isinstance(r, Tensor)]
        facts = [(r.dtype, tuple(r.shape), r.stride(), r.is_leaf, r._base is None) for r in tensors]
        return facts, fc.read(results), [str(w.message) for w in told]

    plain = seen(getattr(case.call, "__wrapped__", case.call))
    for _ in range(3):
        facts, arrays, told = seen(case.call)
        assert facts == plain[0] and told == plain[2]
        for found, wanted in zip(arrays, plain[1], strict=True):
            assert fc.same(found, wanted)


@contextlib.contextmanager
def _float64_by_default():
    fb.set_default_dtype(fb.float64)
    try:
        yield
    finally:
        fb.set_default_dtype(fb.float32)


SETTINGS = {
    "float64 by default": _float64_by_default,
    "autocast": lambda: fb.autocast("cpu", dtype=fb.bfloat16),
    "no gradients": fb.no_grad,
    "inference": fb.inference_mode,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_count_for_calls_that_are_known(setting):
    """Each such function on floats and on ints: what a call gives under a setting, and after it, is what the function gives."""

    def kinds(call, case, ints):
        def made(array):
            x = fb.tensor(array)
            return x if not x.is_floating_point() else x.long() if ints else x.requires_grad_()

        try:
            results = case.results(made, call)
        except Exception as error:
            return type(error)
        return [(r.dtype, r.requires_grad) if isinstance(r, Tensor) else type(r) for r in fc.flat(results)]

    first = {case.declaration.name: case for case in reversed(RECALLED)}
    changed = set()
    for case in first.values():
        for ints in (False, True):
            plain = getattr(case.call, "__wrapped__", case.call)
            before = kinds(case.call, case, ints)
            assert kinds(case.call, case, ints) == before
            with SETTINGS[setting]():
                found = kinds(case.call, case, ints)
                assert found == kinds(plain, case, ints)
            assert kinds(case.call, case, ints) == before == kinds(plain, case, ints)
            changed |= {case.declaration.name} if found != before else set()
    assert changed


def test_results_of_their_own_each_time():
    x = fb.tensor(X)
    first, second = x.max(1), x.max(1)
    assert first is not second and first.values is not second.values and type(first) is type(second)
    first.values.add_(1)
    assert second.values.tolist() == X.max(1).tolist() and second.indices.tolist() == [5] * 4
    assert repr(second).startswith("flambeau.return_types.max(")


def test_tensors_of_one_call_are_told_from_each_other():
    x, low, high = fb.tensor(X), fb.tensor(X - 1), fb.tensor(X + 1)
    for _ in range(3):
        assert x.clamp(low, low).tolist() == (X - 1).tolist()
        assert x.clamp(low, high).tolist() == X.tolist()
        assert x.clamp(high, low).tolist() == (X - 1).tolist()
        assert x.clamp(min=high).tolist() == (X + 1).tolist() and x.clamp(max=low).tolist() == (X - 1).tolist()


def test_numbers_are_told_apart_by_kind_and_value():
    x = fb.tensor(X).long()
    for _ in range(3):
        assert x.pow(2).dtype is fb.int64 and x.pow(2.0).dtype is fb.float32 and x.pow(True).dtype is fb.int64
        assert x.clamp(0, 3).dtype is fb.int64 and x.clamp(0.0, 3.0).dtype is fb.float32
        assert [x.float().clamp(max=k / 2)[1, 0].item() for k in range(4)] == [0.0, 0.5, 1.0, 1.5]
        with pytest.raises(RuntimeError, match=r"\[pow\] an integer tensor cannot be raised to -1"):
            x.pow(-1)


def test_gradients_and_modes():
    for _ in range(3):
        x = fb.tensor(X, requires_grad=True)
        (x * 2).clamp(3, 20).sum().backward()
        assert x.grad.tolist() == (2.0 * ((2 * X >= 3) & (2 * X <= 20))).tolist()
        with fb.no_grad():
            assert not x.clamp(3, 20).requires_grad and not x.max(1).values.requires_grad
        assert x.max(1).values.requires_grad and x.norm().requires_grad and x.double().requires_grad
        assert not x.new_zeros(2).requires_grad and x.new_zeros(2, requires_grad=True).is_leaf
        with pytest.raises(RuntimeError, match="a leaf tensor that requires grad"):
            x.clamp_(0, 1)


def test_an_error_at_run_time_is_told_at_its_own_line():
    x, places = fb.tensor(X), fb.tensor([[9]])

    def pooled(at):
        return F.max_unpool1d(x[:, :1], at.expand(4, 1), 2)

    pooled(fb.tensor([[1]])).tolist()
    pooled(fb.tensor([[1]])).tolist()
    for _ in range(2):
        with pytest.raises(RuntimeError) as told:
            line = sys._getframe().f_lineno + 1
            y = F.max_unpool1d(x[:, :1], places.expand(4, 1), 2)
            y.tolist()
        assert f"test_recalled_calls.py:{line}" in str(told.value)


def test_what_does_more_than_it_records_is_asked_each_time():
    x = fb.tensor(X)

    def reads(t):
        return t + 1 if t.sum().item() > 0 else t - 1

    def twice(t):
        return (t + 1) * 2

    def noted(t):
        t.seen = True
        return fb.exp(t)

    for function, calls in ((reads, 4), (twice, 4)):
        entered = []
        public = Public(lambda t, f=function, e=entered: e.append(0) or f(t), "f", border.report, recalled="operand")
        for sign in (1, 1, -1, 1):
            y = fb.tensor(sign * X)
            assert public(y).tolist() == function(y).tolist()
        assert len(entered) == calls
    for _ in range(2):
        with pytest.warns(UserWarning, match="imaginary part"):
            (x + 1j).float()


def test_handles_that_become_views_do_so_again():
    for _ in range(3):
        x = fb.tensor(X)
        other = x[:]
        assert x.t_() is x and x.shape == (6, 4) and x.tolist() == X.T.tolist()
        x.add_(1)
        assert other.tolist() == (X + 1).tolist() and recorder.same_storage(x, other)
        assert x.transpose_(0, 1).tolist() == (X + 1).tolist()
        assert x.unsqueeze_(0).shape == (1, 4, 6) and x.squeeze_(0).shape == (4, 6)
        leaf = fb.tensor(X, requires_grad=True)
        with pytest.raises(RuntimeError, match="a leaf that requires grad"):
            leaf.t_()
        part = x[1:]
        assert part.t_().tolist() == (X[1:] + 1).T.tolist() and x[2:].t_().tolist() == (X[2:] + 1).T.tolist()


def test_what_is_remembered_is_forgotten_with_types_and_values():
    x = fb.tensor(X)
    try:
        recorder.set_limits(max_types=64)
        for n in range(1, 120):
            y = x.new_zeros(n, 2)
            assert y.shape == (n, 2) and y.max(1).values.tolist() == [0.0] * n
            assert x.clamp(max=float(n)).sum().item() == np.minimum(X, n).sum()
    finally:
        recorder.set_limits(max_types=16384)
