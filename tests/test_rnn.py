"""Recurrent layers against PyTorch: every option, gradients, packed sequences, cells; bits, training, errors."""

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.nn.utils import rnn
from flambeau.runtime import recorder
from support import arrays
from test_attention import compared, copied

ROWS = pytest.mark.accept("NN-42")
OPTIONS = [
    {},
    {"bidirectional": True, "num_layers": 2},
    {"batch_first": True, "bias": False},
    {"num_layers": 3, "dropout": 0.0},
]
KINDS = [(kind, options) for kind in ("RNN", "GRU", "LSTM") for options in OPTIONS]
KINDS += [("RNN", {"nonlinearity": "relu"}), ("LSTM", {"proj_size": 2, "bidirectional": True, "num_layers": 2})]


def flat(out):
    """The tensors of (output, states)."""
    y, states = out
    return (y, *states) if isinstance(states, tuple) else (y, states)


@ROWS
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_layers_are_those_of_torch(kind, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    mine, theirs = (getattr(m.nn, kind)(3, 4, **options) for m in (fb, torch))
    assert repr(mine) == repr(theirs)
    compared(mine, theirs, [arrays(5, 2, 3)], pick=flat)
    if not options.get("batch_first"):
        compared(mine, theirs, [arrays(5, 3)], pick=flat)


@ROWS
@pytest.mark.parametrize(("kind", "options"), KINDS[1::4] + KINDS[-1:])
def test_first_states_and_their_gradients(kind, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 4, **options)
    mine = copied(getattr(nn, kind)(3, 4, **options), theirs)
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    shapes = [(layers, 2, options.get("proj_size", 4)), (layers, 2, 4)][: 2 if kind == "LSTM" else 1]
    found = []
    for module, net in ((fb, mine), (torch, theirs)):
        states = [module.tensor(arrays(*s, seed=i), requires_grad=True) for i, s in enumerate(shapes)]
        out = flat(net(module.tensor(arrays(5, 2, 3)), tuple(states) if kind == "LSTM" else states[0]))
        sum((x * x).sum() for x in out).backward()
        found.append([x.detach().numpy() for x in out] + [s.grad.numpy() for s in states])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@ROWS
@pytest.mark.parametrize(("kind", "options"), [k for k in KINDS if not k[1].get("batch_first")])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_packed_sequences(kind, options, is_sorted):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 4, **options)
    mine = copied(getattr(nn, kind)(3, 4, **options), theirs)
    lengths = [5, 3, 3, 1] if is_sorted else [3, 5, 1, 3]
    found = []
    for module, net in ((fb, mine), (torch, theirs)):
        tools = rnn if module is fb else module.nn.utils.rnn
        x = module.tensor(arrays(5, 4, 3), requires_grad=True)
        packed = tools.pack_padded_sequence(x, module.tensor(lengths), enforce_sorted=is_sorted)
        out, states = net(packed)
        padded, counts = tools.pad_packed_sequence(out, padding_value=-1.0, total_length=6)
        assert counts.tolist() == lengths
        outs = flat((padded, states))
        sum((y * y).sum() for y in outs).backward()
        found.append([packed.data.detach().numpy(), *(y.detach().numpy() for y in outs), x.grad.numpy()])
        found[-1] += [p.grad.numpy() for p in net.parameters()]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.accept("NN-41")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNNCell", {}),
        ("RNNCell", {"nonlinearity": "relu"}),
        ("GRUCell", {}),
        ("LSTMCell", {}),
        ("GRUCell", {"bias": False}),
    ],
)
def test_cells(kind, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    mine, theirs = (getattr(m.nn, kind)(3, 4, **options) for m in (fb, torch))
    assert repr(mine) == repr(theirs)
    for shape in ((2, 3), (3,)):
        compared(mine, theirs, [arrays(*shape)])
        x, h = arrays(*shape), arrays(*shape[:-1], 4, seed=1)
        found = []
        for module, net in ((fb, mine), (torch, theirs)):
            state = module.tensor(h)
            out = net(module.tensor(x), (state, state * 2) if kind == "LSTMCell" else state)
            found.append([y.detach().numpy() for y in (out if isinstance(out, tuple) else (out,))])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@ROWS
def test_a_sequence_is_its_cell_again_and_again():
    layer, step = nn.LSTM(3, 4), nn.LSTMCell(3, 4)
    step.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = fb.tensor(arrays(6, 2, 3))
    out, (_, c) = layer(x)
    state = (fb.zeros(2, 4), fb.zeros(2, 4))
    for t in range(6):
        state = step(x[t], state)
        np.testing.assert_allclose(out[t].detach().numpy(), state[0].detach().numpy(), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(c[0].detach().numpy(), state[1].detach().numpy(), rtol=2e-6, atol=1e-7)


@ROWS
def test_sequences_padded_and_packed():
    parts = [fb.arange(1, n + 1).float() for n in (2, 4, 1)]
    assert rnn.pad_sequence(parts, batch_first=True).tolist() == [[1, 2, 0, 0], [1, 2, 3, 4], [1, 0, 0, 0]]
    left = rnn.pad_sequence(parts, padding_value=9.0, padding_side="left")
    assert left.T.tolist() == [[9, 9, 1, 2], [1, 2, 3, 4], [9, 9, 9, 1]]
    packed = rnn.pack_sequence(parts, enforce_sorted=False)
    assert packed.data.tolist() == [1, 1, 1, 2, 2, 3, 4] and packed.batch_sizes.tolist() == [3, 2, 1, 1]
    assert [x.tolist() for x in rnn.unpack_sequence(packed)] == [[1, 2], [1, 2, 3, 4], [1]]
    assert packed.double().data.dtype is fb.float64


@ROWS
def test_training_has_equal_bits_everywhere_and_learns():
    found = []
    for mode, look in (("off", False), ("blocking", False), ("blocking", True)):
        fb.manual_seed(3)
        with fb.compiler_options(mode=mode):
            layer, head = nn.GRU(2, 6, batch_first=True, num_layers=2, dropout=0.1), nn.Linear(6, 1)
            opt = fb.optim.Adam([*layer.parameters(), *head.parameters()], lr=2e-2)
            x = fb.tensor(arrays(8, 5, 2))
            y, losses = x.sum((1, 2)).unsqueeze(1), []
            for _ in range(8):
                opt.zero_grad()
                out, last = layer(x)
                if look:
                    out.sum().item()
                loss = ((head(last[-1]) - y) ** 2).mean()
                loss.backward()
                opt.step()
                losses.append(loss.item())
            found.append(losses)
    assert found[0] == found[1] == found[2] and found[0][-1] < found[0][0]


BAD = [
    (lambda: nn.LSTM(3, 0), ValueError, r"\[LSTM\] hidden_size is 0"),
    (lambda: nn.GRU(3, 4, num_layers=0), ValueError, r"\[GRU\] num_layers is 0"),
    (lambda: nn.LSTM(3, 4, dropout=1.5), ValueError, r"dropout is 1.5"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, r"proj_size is 4"),
    (lambda: nn.RNN(3, 4, nonlinearity="exp"), ValueError, r"\[RNN\] nonlinearity is 'exp'"),
    (lambda: nn.GRU(3, 4)(fb.ones(3)), ValueError, r"input has 1 dimensions"),
    (lambda: nn.GRU(3, 4)(fb.ones(2, 1, 5)), RuntimeError, r"input has 5 features, expected 3"),
    (lambda: nn.GRU(3, 4)(fb.ones(0, 1, 3)), RuntimeError, r"the sequence has no steps"),
    (
        lambda: nn.GRU(3, 4)(fb.ones(2, 1, 3), fb.ones(1, 2, 4)),
        RuntimeError,
        r"h_0 has shape \(1, 2, 4\), expected \(1, 1, 4\)",
    ),
    (lambda: nn.LSTMCell(3, 4)(fb.ones(2, 2)), RuntimeError, r"\[LSTMCell\] input has 2 features"),
    (
        lambda: nn.GRUCell(3, 4)(fb.ones(2, 3), fb.ones(1, 4)),
        RuntimeError,
        r"a state has shape \(1, 4\), expected \(2, 4\)",
    ),
    (lambda: rnn.pack_padded_sequence(fb.ones(3, 2, 1), [1, 2]), RuntimeError, r"lengths \[1, 2\] do not decrease"),
    (lambda: rnn.pack_padded_sequence(fb.ones(3, 2, 1), [2, 0]), RuntimeError, r"lengths\[1\] is 0"),
    (
        lambda: rnn.pack_padded_sequence(fb.ones(3, 2, 1), [4, 1]),
        RuntimeError,
        r"a length is 4, and the input has 3 steps",
    ),
    (lambda: rnn.pad_sequence([fb.ones(2, 1), fb.ones(2, 3)]), RuntimeError, r"sequence 1 has shape \(2, 3\)"),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.accept("NN-42", "GRB-10")
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_sequences_of_other_lengths_are_the_same_program(kind):
    """They are turns of one loop: from the third length on nothing is compiled, and the bits are those of the steps one by one."""
    fb.manual_seed(0)
    net, cell = getattr(nn, kind)(3, 4), getattr(nn, f"{kind}Cell")(3, 4)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in net.state_dict().items()})

    def rows(steps):
        return fb.tensor(np.linspace(-1, 1, steps * 6, dtype=np.float32).reshape(steps, 2, 3))

    def step(steps):
        net.zero_grad()
        x = rows(steps).requires_grad_()
        out, _ = net(x)
        (out * out).sum().backward()
        return out.tolist(), [p.grad.tolist() for p in net.parameters()], x.grad.tolist()

    with fb.compiler_options(mode="blocking"):
        for steps in (7, 8, 10):
            step(steps)
        before = recorder.stats()
        found = [step(steps) for steps in (5, 9, 17)]
        after = recorder.stats()
        assert (after["builds"], after["misses"]) == (before["builds"], before["misses"])
        x = rows(9)
        state, outputs = None, []
        for t in range(9):
            state = cell(x[t], state)
            outputs.append(state[0] if kind == "LSTM" else state)
        assert found[1][0] == fb.stack(outputs).tolist()


@ROWS
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_narrow_layers_round_once(kind):
    """All steps are computed in float32, and the outputs rounded."""
    fb.manual_seed(0)
    net = getattr(nn, kind)(3, 4, bias=False)
    x = fb.linspace(-1, 1, 30).reshape(5, 2, 3).bfloat16()
    narrow = getattr(nn, kind)(3, 4, bias=False).bfloat16()
    narrow.load_state_dict({name: p.bfloat16() for name, p in net.state_dict().items()})
    net.load_state_dict({name: p.float() for name, p in narrow.state_dict().items()})
    found, wanted = narrow(x)[0], net(x.float())[0]
    assert found.dtype is fb.bfloat16 and found.tolist() == wanted.bfloat16().tolist()


@pytest.mark.accept("NN-42")
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_of_other_lengths_are_the_same_program(reverse):
    """They are padded for the loop, and very different ones are written out: the values are those of each by itself."""
    fb.manual_seed(0)
    net = nn.GRU(3, 4, bidirectional=reverse)

    def step(lengths):
        net.zero_grad()
        x = fb.tensor(np.sin(np.arange(lengths[0] * len(lengths) * 3, dtype=np.float32)).reshape(lengths[0], -1, 3))
        out, last = net(rnn.pack_padded_sequence(x, lengths))
        (out.data.square().sum() + last.sum()).backward()
        return x, out, [p.grad.tolist() for p in net.parameters()]

    with fb.compiler_options(mode="blocking"):
        for lengths in (
            [9, 8, 8, 5],
            [11, 10, 9, 9],
            [12, 12, 9, 7],
            [15, 13, 13, 10],
            [16, 15, 13, 10],
            [19, 15, 13, 10],
        ):
            step(lengths)
        before = recorder.stats()
        step([21, 20, 18, 12])
        after = recorder.stats()
        assert (after["builds"], after["misses"]) == (before["builds"], before["misses"])
        for lengths in ([7, 5, 4], [20, 1]):
            x, out, _ = step(lengths)
            padded = rnn.pad_packed_sequence(out)[0]
            for k, n in enumerate(lengths):
                wanted = net(x[:n, k : k + 1])[0][:, 0]
                np.testing.assert_allclose(padded[:n, k].tolist(), wanted.tolist(), rtol=1e-5, atol=1e-6)
