"""`ctc_loss`: against PyTorch, against a sum over all alignments, and its gradient against differences."""

from itertools import groupby, product

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from counting import new_programs

RNG = np.random.default_rng(12)
SCORES = RNG.standard_normal((7, 4, 4))
TARGETS = np.array([[1, 2, 3], [2, 2, 1], [3, 1, 1], [1, 3, 2]])
INPUTS, LENGTHS = [7, 6, 5, 3], [3, 3, 1, 0]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def all_alignments(log_probs, labels, blank):
    """Minus the logarithm of the sum over every sequence of classes that says `labels`."""
    steps, classes = log_probs.shape
    total = 0.0
    for path in product(range(classes), repeat=steps):
        if [k for k, _ in groupby(path) if k != blank] == list(labels):
            total += np.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return -np.log(total) if total else np.inf


@pytest.mark.accept("LOS-08")
@pytest.mark.parametrize("blank", [0, 3])
def test_the_sum_over_all_alignments(blank):
    log_probs = log_softmax(RNG.standard_normal((5, 6, 4)))
    rows = [[1, 2], [1, 1], [2, 1], [2, 2], [1, 2], [2, 1]]
    inputs, lengths = [5, 4, 3, 2, 5, 0], [2, 2, 1, 2, 0, 0]
    found = F.ctc_loss(fb.tensor(log_probs), fb.tensor(rows), inputs, lengths, blank, "none").numpy()
    wanted = [all_alignments(log_probs[:t, n], rows[n][:s], blank) for n, (t, s) in enumerate(zip(inputs, lengths))]
    assert np.isinf(wanted[3]) and wanted[5] == 0  # two equal labels need a blank between; nothing says nothing
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def torch_of(torch, x, targets, inputs, lengths, **named):
    t = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.ctc_loss(
        t.log_softmax(-1), torch.tensor(targets), torch.tensor(inputs), torch.tensor(lengths), **named
    )
    loss.sum().backward()
    return loss.tolist(), t.grad.numpy()


def ours_of(x, targets, inputs, lengths, **named):
    t = fb.tensor(x, requires_grad=True)
    loss = F.ctc_loss(t.log_softmax(-1), fb.tensor(targets), fb.tensor(inputs), fb.tensor(lengths), **named)
    loss.sum().backward()
    return loss.tolist(), t.grad.numpy()


@pytest.mark.accept("LOS-08")
def test_values_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    in_one = [*TARGETS[0], *TARGETS[1], TARGETS[2][0]]
    cases = [
        (SCORES, TARGETS, INPUTS, LENGTHS, {}),
        (SCORES, TARGETS, INPUTS, LENGTHS, {"reduction": "sum"}),
        (SCORES, TARGETS - 1, INPUTS, LENGTHS, {"reduction": "none", "blank": 3}),
        (SCORES, in_one, INPUTS, LENGTHS, {"reduction": "none"}),
        (SCORES, TARGETS, [7, 2, 5, 3], LENGTHS, {"reduction": "none", "zero_infinity": True}),
        (SCORES[:1], TARGETS[:, :1], [1, 1, 1, 1], [1, 1, 0, 1], {}),
        (SCORES[:, 0], TARGETS[0], [7], [3], {"reduction": "none"}),
    ]
    for x, *rest, named in cases:
        with fb.compiler_options(mode="off"):  # compiled ones are elsewhere
            found, gradient = ours_of(x, *rest, **named)
        wanted, other = torch_of(torch, x, *rest, **named)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, err_msg=str(named))
        np.testing.assert_allclose(gradient, other, rtol=1e-10, atol=1e-13, err_msg=str(named))
    bare, theirs = (m.tensor(log_softmax(SCORES), requires_grad=True) for m in (fb, torch))
    for module, x in ((fb.nn, bare), (torch.nn, theirs)):  # of the log-probabilities alone, PyTorch's own formula
        make = fb.tensor if x is bare else torch.tensor
        module.functional.ctc_loss(x, make(TARGETS), make(INPUTS), make(LENGTHS)).backward()
    np.testing.assert_allclose(bare.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.accept("LOS-08")
def test_the_gradient_by_differences():
    direction = RNG.standard_normal(SCORES.shape)

    def loss(step):
        return ours_of(SCORES + step * direction, TARGETS, INPUTS, LENGTHS)[0]

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    gradient = ours_of(SCORES, TARGETS, INPUTS, LENGTHS)[1]
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-8)
    assert not gradient[3:, 3].any()  # beyond the length of the input


def test_lengths_and_steps_change_nothing_of_what_is_compiled():
    def train(steps):
        x = fb.tensor(RNG.standard_normal((steps, 2, 5)), requires_grad=True)
        lengths = fb.tensor(RNG.integers(4, steps + 1, 2)), fb.tensor(RNG.integers(1, 4, 2))
        F.ctc_loss(x.log_softmax(2), fb.tensor(RNG.integers(1, 5, (2, 3))), *lengths).backward()
        return x.grad.numpy()

    for steps in range(8, 16):
        train(steps)
    found = []
    assert not new_programs(lambda: found.extend(train(steps) for steps in (20, 35)))
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_what_nothing_gives_is_infinite_or_left_out():
    x = fb.tensor(SCORES[:2], requires_grad=True)
    arguments = fb.tensor(TARGETS), [2, 2, 2, 2], [3, 1, 1, 1]
    assert F.ctc_loss(x.log_softmax(2), *arguments, reduction="sum").item() == np.inf
    left = F.ctc_loss(x.log_softmax(2), *arguments, reduction="none", zero_infinity=True)
    left.sum().backward()
    assert left[0].item() == 0 and not x.grad[:, 0].numpy().any() and x.grad[:, 1].numpy().any()


def test_narrow_dtypes_and_layers():
    made = nn.CTCLoss(blank=3, reduction="sum", zero_infinity=True)
    x = fb.tensor(log_softmax(SCORES))
    targets = fb.tensor(TARGETS - 1)
    wanted = F.ctc_loss(x, targets, INPUTS, LENGTHS, 3, "sum", True)
    assert made(x, targets, INPUTS, LENGTHS).item() == wanted.item()
    half = made(x.half(), targets, INPUTS, LENGTHS)
    assert half.dtype is fb.float16 and half.item() == pytest.approx(wanted.item(), rel=1e-2)


def test_a_second_order_is_refused():
    x = fb.tensor(SCORES, requires_grad=True)
    loss = F.ctc_loss(x.log_softmax(2), fb.tensor(TARGETS), INPUTS, LENGTHS)
    (g,) = fb.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        g.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"reduction": "most"}, ValueError, "reduction is 'most'"),
        ({"log_probs": fb.zeros(3)}, RuntimeError, "log_probs have shape (3,)"),
        ({"targets": fb.zeros(3, 2, dtype=fb.int64)}, RuntimeError, "targets have shape (3, 2)"),
        ({"input_lengths": fb.ones(4)}, RuntimeError, "input_lengths are flambeau.float32"),
        ({"target_lengths": [1, 2]}, RuntimeError, "target_lengths have shape (2,)"),
        ({"input_lengths": [8, 7, 7, 7]}, RuntimeError, "is negative, or more than there are steps"),
        ({"target_lengths": [3, 4, 3, 3]}, RuntimeError, "is negative, or more than there are targets"),
        ({"targets": fb.full((4, 3), 4)}, IndexError, "out of range for size 4"),
        ({"blank": 4}, RuntimeError, "blank is 4"),
        ({"log_probs": fb.zeros(7, 4, 4, dtype=fb.int64)}, RuntimeError, "log_probs has dtype"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, text):
    named = {"log_probs": fb.tensor(SCORES), "targets": fb.tensor(TARGETS), "input_lengths": INPUTS}
    with pytest.raises(error) as caught:
        F.ctc_loss(**({**named, "target_lengths": LENGTHS} | change)).item()
    assert text in str(caught.value)
