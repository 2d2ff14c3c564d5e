"""What a call of a module and a look through NumPy cost: no Python but the user's own in between, and a log that still counts."""

import inspect
import sys

import flambeau as fb
import numpy as np
import pytest
from flambeau import nn
from flambeau.runtime import recorder
from support import python_calls


class Doubled(nn.Module):
    def forward(self, x, *more, factor=2, **named):
        return x * factor


@pytest.mark.accept("NN-01")
@pytest.mark.parametrize("mode", [fb.enable_grad, fb.no_grad])
def test_a_call_of_a_module_enters_only_its_forward(mode):
    module, nested, x = Doubled(), nn.Sequential(Doubled(), Doubled()), fb.ones(3)
    with mode():
        for _ in range(3):  # a call that was never seen asks its rule, in Python
            module(x), nested(x)
            fb.flush()
        assert python_calls(lambda: module(x)) == ["forward"]
        fb.flush()
        assert python_calls(lambda: nested(x)) == ["forward"] * 3
        fb.flush()
        assert python_calls(lambda: nn.Linear.__call__(module, x)) == ["forward"]


@pytest.mark.parametrize("mode", [fb.enable_grad, fb.no_grad])
def test_arguments_of_any_number_reach_forward(mode):
    module, x = Doubled(), fb.ones(2)
    with mode():
        assert module(x, *range(12)).tolist() == [2, 2]
        assert module(x, 1, factor=3, other=None).tolist() == [3, 3]
        module.forward = lambda x: x - 1  # an attribute of the instance comes first
        assert module(x).tolist() == [0, 0]
        with pytest.raises(NotImplementedError, match=r"\[forward\] module Module has no forward"):
            nn.Module()(x)
        module.register_forward_hook(lambda module, args, result: result + 5)
        assert module(x).tolist() == [5, 5]


def test_only_the_outermost_call_without_gradients_may_cut_a_trace():
    nested = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Sigmoid(), nn.Tanh()))

    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    def failing(x):
        with pytest.raises(KeyError, match="mine"):
            Failing()(x)

    functions = (fb.exp, fb.sin, fb.cos, fb.abs, fb.sqrt, fb.floor, fb.neg, fb.erf, fb.atan, fb.ceil, fb.sinh, fb.round)
    try:
        recorder.set_limits(soft_ops=len(functions))
        for call in (nested, failing, nested):
            x = fb.ones(2)
            with fb.no_grad():
                fb.flush()
                before = fb.explain().flushes
                for function in functions:  # no two alike: repetitions would cut the trace as well
                    x = function(x)
                assert fb.explain().flushes == before
                call(x)
            assert fb.explain().flushes == before + 1
    finally:
        recorder.set_limits(soft_ops=1000)


def test_arrays_are_lent_and_read_without_python():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = fb.from_numpy(array)
    y = fb.from_numpy(array) + 1
    fb.flush()
    assert python_calls(lambda: fb.from_numpy(array)) == ["from_numpy", "shared"]
    assert python_calls(lambda: y.numpy()) == ["numpy", "exported"]
    assert np.shares_memory(x.numpy(), array)
    seen = y.numpy()
    y += 1
    assert seen.tolist() == (array + 2).tolist()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_what_is_lent_has_the_elements_of_the_array(dtype):
    for shape in [(), (0, 2), (5,), (2, 3)]:
        array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        for given in (array, np.asfortranarray(array), array.T):
            x = fb.from_numpy(given)
            assert x.dtype.name == dtype and x.numpy().tolist() == given.tolist()


def test_bytes_in_another_order_are_refused_or_copied():
    other = np.dtype(np.float32).newbyteorder()
    array = np.array([1.0, 2.0], other)
    for call in (fb.from_numpy, fb.as_tensor):
        with pytest.raises(ValueError, match=r"\[from_numpy\] the bytes of .f4 are in another order"):
            call(array)
    assert fb.tensor(array).tolist() == [1, 2]


def test_every_flush_is_counted_at_its_line():
    x = fb.ones(2)
    fb.flush()

    def flushes():
        found = [e for e in fb.explain().events if e.kind == "flush" and e.file == __file__]
        return {e.line: e.times for e in found if e.line > line}

    line = sys._getframe().f_lineno
    for k in range(7):
        (x + 1).tolist()
        if k % 2:
            (x * 2).tolist()
    assert flushes() == {line + 2: 7, line + 4: 3}
    (x + 1).tolist()
    assert flushes() == {line + 2: 7, line + 4: 3, line + 6: 1}
    assert flushes() == {line + 2: 7, line + 4: 3, line + 6: 1}


def test_modules_have_the_signatures_that_python_would_give_their_calls():
    class Own(nn.Linear):
        def __call__(self, x, scale=2):
            return super().__call__(x) * scale

    plain, own = nn.Linear(2, 2), Own(2, 2)
    assert str(inspect.signature(plain)) == str(inspect.signature(plain.__call__)) == "(*args, **kwargs)"
    assert str(inspect.signature(own)) == "(x, scale=2)" and str(inspect.signature(plain.forward)).startswith("(input")
    assert list(inspect.signature(nn.Linear).parameters)[:2] == ["in_features", "out_features"]


@pytest.mark.parametrize("grad", [True, False])
def test_a_class_may_make_its_calls_itself(grad):
    """By `_call_impl`, as it may in PyTorch; hooks are met where that goes on to the one it has inherited."""

    class Counting(nn.Linear):
        calls = 0

        def _call_impl(self, *args, **kwargs):
            self.calls += 1
            return super()._call_impl(*args, **kwargs) + 1

    layer, x = Counting(3, 2), fb.ones(1, 3)
    with fb.set_grad_enabled(grad):
        assert (
            layer(x).tolist() == (nn.functional.linear(x, layer.weight, layer.bias) + 1).tolist() and layer.calls == 1
        )
        layer.register_forward_hook(lambda module, given, result: result * 0)
        assert layer(x).tolist() == [[1.0, 1.0]] and layer.calls == 2
        assert nn.Linear(3, 2)(x).shape == (1, 2) and layer.calls == 2
