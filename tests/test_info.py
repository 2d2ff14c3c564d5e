"""PyTorch's own samples of modules and optimizers: what passes in `info_parity.txt` goes on passing; and what they found."""

import json
import subprocess
import sys

import flambeau as fb
import info_parity
import numpy as np
import parity_lists
import pytest
from support import rounds

LISTED = parity_lists.passing(info_parity.LIST.read_text())
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


def test_class_indices_and_what_is_refused_of_them():
    scores = fb.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    loss, byte = fb.nn.functional.cross_entropy, fb.uint8
    assert loss(scores, fb.tensor([1, 2], dtype=byte)).item() == loss(scores, fb.tensor([1, 2])).item()
    for target, error, text in (
        (fb.zeros(2), RuntimeError, "needs probabilities of the same shape"),
        (fb.zeros(3, 3), ValueError, "needs probabilities of the same shape"),
        (fb.zeros(3, dtype=fb.int64), ValueError, r"needs class indices of shape \(2,\), got \(3,\)"),
        (fb.zeros(2, 1, dtype=fb.int64), RuntimeError, r"needs class indices of shape \(2,\), got \(2, 1\)"),
    ):
        with pytest.raises(error, match=text):
            loss(scores, target)
    with pytest.raises(RuntimeError, match="ignore_index is of class indices, and the target has floats"):
        loss(scores, fb.full((2, 3), 0.5), ignore_index=1)
    with pytest.raises(RuntimeError, match=r"\[embedding\] input has dtype flambeau.float32. Convert it with .long"):
        fb.nn.Embedding(3, 2)(fb.tensor([1.0]))


@pytest.mark.accept("LOS-02")
def test_the_cross_entropy_of_a_last_layer():
    x = np.arange(12.0).reshape(4, 3) / 10
    weight, target = np.cos(np.arange(30.0)).reshape(5, 2, 3), np.array([[0, 4], [1, 2], [3, 3], [2, 0]])
    scores = np.einsum("nk,cpk->ncp", x, weight)
    picked = np.take_along_axis(scores, target[:, None], 1)[:, 0] - np.log(np.exp(scores).sum(1))
    found = fb.nn.functional.linear_cross_entropy(fb.tensor(x), fb.tensor(weight), fb.tensor(target), reduction="none")
    np.testing.assert_allclose(found.numpy(), -picked, rtol=1e-12)
    layer = fb.nn.LinearCrossEntropyLoss(3, 5, out_features=(2,), bias=True, dtype=fb.float64)
    assert list(layer.state_dict()) == ["linear.weight", "linear.bias"] and layer.linear.weight.shape == (10, 3)
    layer.load_state_dict({"linear.weight": fb.tensor(weight.reshape(10, 3)), "linear.bias": fb.zeros(10)})
    np.testing.assert_allclose(layer(fb.tensor(x), fb.tensor(target)).item(), -picked.mean(), rtol=1e-12)
    with pytest.raises(RuntimeError, match=r"\[linear_cross_entropy\] ignore_index is of class indices"):
        fb.nn.functional.linear_cross_entropy(fb.zeros(2, 3), fb.zeros(5, 3), fb.zeros(2, 5), ignore_index=1)
    with pytest.raises(
        RuntimeError, match=r"\[linear_cross_entropy\] linear_bias has shape \(4,\), linear_weight \(5, 3\)"
    ):
        fb.nn.functional.linear_cross_entropy(
            fb.zeros(2, 3), fb.zeros(5, 3), fb.tensor([1, 2]), linear_bias=fb.zeros(4)
        )


def test_options_of_the_cross_entropy_of_a_last_layer():
    options = fb.nn.LinearCrossEntropyOptions
    assert options(chunking_method="aspect_ratio:2", batch_chunk_size=3).acc_policy == "auto"
    for wrong in ({"acc_policy": "most"}, {"chunking_method": "aspect_ratio:0"}, {"batch_chunk_size": 0}):
        with pytest.raises(ValueError, match=rf"\[LinearCrossEntropyOptions\] {next(iter(wrong))} is"):
            options(**wrong)
    with pytest.raises(
        RuntimeError, match=r"\[LinearCrossEntropyLoss\] weight has shape \(3,\). Give one weight for each of 2"
    ):
        fb.nn.LinearCrossEntropyLoss(4, 2, weight=fb.ones(3))


def test_numbers_and_empty_vectors_where_pytorch_takes_them():
    functional = fb.nn.functional
    assert functional.multi_margin_loss(fb.tensor(2.0), fb.tensor(0)).item() == 0.0
    assert functional.multilabel_margin_loss(fb.tensor(2.0), fb.tensor(0)).item() == 0.0
    assert functional.batch_norm(fb.zeros(0), fb.zeros(0), fb.zeros(0), training=True).shape == (0,)
    assert functional.pad(fb.zeros(0, 3), (1, 1, 0, 0), "reflect").shape == (0, 5)
