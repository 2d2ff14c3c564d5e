"""Arguments that PyTorch's layers and functions take beside the usual ones: left-out dims, older names, devices and dtypes."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest

SOFT = ("softmax", "log_softmax", "softmin")


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_a_dim_that_is_left_out(name, shape):
    x, dim = fb.tensor(np.arange(float(np.prod(shape))).reshape(shape)), 0 if len(shape) in (0, 1, 3) else 1
    call, layer = getattr(F, name), getattr(nn, {"log_softmax": "LogSoftmax"}.get(name, name.capitalize()))
    with pytest.warns(UserWarning, match=rf"\[{name}\] dim is left out"):
        found = call(x)
    assert found.tolist() == call(x, dim).tolist() == call(x, dim, 5).tolist()
    assert layer()(x).tolist() == layer(dim)(x).tolist() == found.tolist()
    assert call(x.float(), dim, 3, fb.float64).dtype is fb.float64 is call(x.float(), dim, dtype=fb.float64).dtype


def test_softmax_of_tensors_takes_a_dtype_by_position_and_a_place():
    x, place = fb.ones(2, 3), fb.zeros(2, 3, dtype=fb.float64)
    assert fb.softmax(x, 1, fb.float64).dtype is fb.float64 is x.log_softmax(1, fb.float64).dtype
    assert fb.softmax(x, 1, fb.float64, out=place) is place and place.sum().item() == pytest.approx(2)
    with pytest.raises(TypeError, match=r"\[softmax\] .*dim"):
        fb.softmax(x)


@pytest.mark.accept("NN-51")
def test_older_names_of_bounds():
    with pytest.warns(FutureWarning, match=r"\[Hardtanh\] min_value is an older name\. Use min_val\."):
        made = nn.Hardtanh(min_value=-2.0)
    with pytest.warns(FutureWarning, match="max_value"):
        assert nn.Hardtanh(max_value=3.0).max_val == 3.0
    assert made(fb.tensor([-3.0, 3.0])).tolist() == [-2.0, 1.0]
    with pytest.raises(ValueError, match=r"\[Hardtanh\] max_val 0\.0 is not above min_val 1\.0"):
        nn.Hardtanh(1.0, 0.0)


@pytest.mark.accept("NN-51")
def test_learned_and_drawn_slopes():
    made = nn.PReLU(2, 0.5, "cpu", fb.float64)
    assert made.weight.dtype is fb.float64 and made.weight.tolist() == [0.5, 0.5] and made.init == 0.5
    made.weight.data.zero_()
    made.reset_parameters()
    assert made.weight.tolist() == [0.5, 0.5]
    x = fb.full((1000,), -1.0)
    drawn = nn.RReLU(0.25, 0.5)
    found = drawn(x).numpy()
    assert (found.min() >= -0.5) and found.max() <= -0.25 and found.std() > 0.01
    assert drawn.eval()(x).tolist() == [-0.375] * 1000
    assert repr(drawn) == "RReLU(lower=0.25, upper=0.5)"
    assert nn.RReLU(inplace=True).eval()(x) is x


@pytest.mark.accept("NN-03")
def test_containers_of_nothing():
    assert len(nn.ModuleList(None)) == len(nn.ModuleDict(None)) == len(nn.ModuleList()) == len(nn.ModuleDict()) == 0
    module = nn.Module()
    module.nothing = nn.Buffer()
    assert tuple(module.nothing.shape) == (0,)
