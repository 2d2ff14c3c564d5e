"""PyTorch's own samples of modules and optimizers: what passes in `info_parity.txt` goes on passing; and what they found."""

import json
import subprocess
import sys

import flambeau as fb
import info_parity
import opinfo_parity
import pytest
from support import rounds

LISTED = opinfo_parity.passing(info_parity.LIST.read_text())
#: Some of each kind, for counts that are short.
FEW = ["nn.BatchNorm1d", "nn.Conv2d", "nn.LSTMCell", "nn.CircularPad1d", "nn.PReLU", "SGD", "RMSprop"]


def test_what_passes_goes_on_passing():
    pytest.importorskip("torch", reason="could not import 'torch'")
    names = rounds(FEW, [], [])
    script = info_parity.LIST.with_name("info_parity.py")  # by itself, as test_opinfo.py says
    done = subprocess.run([sys.executable, str(script), "--json", *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not {n: found[n] for n in LISTED if n in found and found[n][0] != "pass"}
    assert len(found) > rounds(6, 120, 120)


def test_at_most_seven_of_a_hundred_fail_or_are_missing():
    lines = info_parity.LIST.read_text().splitlines()
    lost = [line for line in lines if line.startswith(("fail ", "missing "))]
    assert set(FEW) <= LISTED and len(lost) <= 0.07 * (len(lost) + len(LISTED))
    assert all(": " in line and not line.endswith(": ") for line in lost), "each with a reason"


def test_an_empty_batch_leaves_running_statistics():
    layer = fb.nn.BatchNorm1d(3)
    assert layer(fb.zeros(0, 3)).shape == (0, 3)
    assert layer.running_mean.tolist() == [0.0] * 3 and layer.running_var.tolist() == [1.0] * 3


@pytest.mark.parametrize("eps", [0.0, -1.0])
def test_batch_norm_refuses_eps_in_training(eps):
    layer = fb.nn.BatchNorm1d(3, eps=eps)
    with pytest.raises(ValueError, match=r"\[batch_norm\] eps is .* In training use a number above 0"):
        layer(fb.ones(2, 3))
    assert layer.eval()(fb.ones(2, 3)).shape == (2, 3)


def test_circular_padding_says_what_it_takes():
    for layer, shape in (
        (fb.nn.CircularPad1d(1), (1, 1, 2, 3)),
        (fb.nn.CircularPad2d(1), (2, 3)),
        (fb.nn.CircularPad3d(1), (2, 3)),
    ):
        with pytest.raises(
            ValueError, match=r"\[CircularPad\dd\] input has \d dimensions. Pass \d, or \d with a batch"
        ):
            layer(fb.zeros(shape))
    assert fb.nn.CircularPad1d(1)(fb.tensor([[1.0, 2.0]])).tolist() == [[2.0, 1.0, 2.0, 1.0]]


def test_recurrent_layers_say_of_what_type_arguments_are():
    with pytest.raises(TypeError, match=r"\[LSTM\] bias is a int. Pass a bool"):
        fb.nn.LSTM(2, 3, 1, 0)
    with pytest.raises(ValueError, match=r"\[RNN\] input_size is 0. Use at least 1"):
        fb.nn.RNN(0, 3)
    with pytest.raises(ValueError, match=r"\[GRU\] input is float64, the weights are float32"):
        fb.nn.GRU(2, 3)(fb.zeros(4, 1, 2, dtype=fb.float64))
    with fb.autocast("cpu"):
        assert fb.nn.GRU(2, 3)(fb.zeros(4, 1, 2, dtype=fb.bfloat16))[0].shape == (4, 1, 3)


def test_a_slope_keeps_a_number_a_number():
    layer = fb.nn.PReLU()
    y = layer(fb.tensor(-2.0))
    y.backward()
    assert y.shape == () and y.item() == -0.5 and layer.weight.grad.tolist() == [-2.0]


def test_what_layers_and_losses_refuse():
    with pytest.raises(TypeError, match=r"\[HuberLoss\] delta is a complex. Pass a number"):
        fb.nn.HuberLoss(delta=1j)
    with pytest.raises(RuntimeError, match=r"\[cross_entropy\] the target has the input's shape \(2, 3\)"):
        fb.nn.CrossEntropyLoss()(fb.zeros(2, 3), fb.zeros(2, 3, dtype=fb.int64))
    with pytest.raises(ValueError, match=r"\[GRUCell\] a state has 4 dimensions. Pass 2"):
        fb.nn.GRUCell(2, 3)(fb.zeros(1, 2), fb.zeros(1, 1, 1, 3))


def test_a_learning_rate_is_one_number():
    with pytest.raises(ValueError, match=r"\[Adam\] lr is a tensor of 2 elements. Use a number or one element"):
        fb.optim.Adam([fb.nn.Parameter(fb.ones(2))], lr=fb.tensor([0.1, 0.2]))


def test_all_parameters_have_names_or_none():
    p, q = fb.nn.Parameter(fb.ones(2)), fb.nn.Parameter(fb.ones(2))
    for given in ([("p", p), q], [{"params": [("p", p)]}, {"params": [q]}]):
        with pytest.raises(ValueError, match=r"\[Optimizer\] some parameters have names and some have none"):
            fb.optim.SGD(given)
    assert fb.optim.SGD([("p", p), ("q", q)]).param_groups[0]["param_names"] == ["p", "q"]
