"""Mixed precision: `autocast` with PyTorch's lists, `GradScaler` without looking."""

import copy
import pickle
import threading

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import amp, autocasting
from flambeau.runtime import recorder

#: Calls, and the dtypes of their results under autocast to bfloat16, from float32 and from bfloat16. They are PyTorch's.
CALLS = """
matmul: f.matmul(a, b): bfloat16 bfloat16
operator: a @ b: bfloat16 bfloat16
method: a.mm(b): bfloat16 bfloat16
bmm: f.bmm(a3, a3): bfloat16 bfloat16
mv: f.mv(a, v): float32 bfloat16
dot: f.dot(v, v): float32 bfloat16
inner: f.inner(a, b): bfloat16 bfloat16
addmm: f.addmm(a, a, b): bfloat16 bfloat16
addmv: f.addmv(v, a, v): float32 bfloat16
baddbmm: f.baddbmm(a3, a3, a3): bfloat16 bfloat16
addbmm: f.addbmm(a, a3, a3): bfloat16 bfloat16
vecdot: f.linalg.vecdot(a, b): bfloat16 bfloat16
einsum: f.einsum("ij,jk->ik", a, b): bfloat16 bfloat16
einsum without a contraction: f.einsum("ij,ij->ij", a, b): float32 bfloat16
tensordot: f.tensordot(a, b, 1): bfloat16 bfloat16
linear: F.linear(a, b, v): bfloat16 bfloat16
conv1d: F.conv1d(a3, a3): bfloat16 bfloat16
conv2d: F.conv2d(a4, a4): bfloat16 bfloat16
conv_transpose2d: F.conv_transpose2d(a4, a4): bfloat16 bfloat16
attention: F.scaled_dot_product_attention(a3, a3, a3): bfloat16 bfloat16
prelu: F.prelu(a3, v): bfloat16 bfloat16
avg_pool2d: F.avg_pool2d(a4, 2): float32 bfloat16
max_pool3d: F.max_pool3d(a5, 2): float32 float32
adaptive_avg_pool3d: F.adaptive_avg_pool3d(a5, 1): float32 float32
pad reflect: F.pad(a3, (1, 1), mode="reflect"): float32 float32
pad circular: F.pad(a3, (1, 1), mode="circular"): float32 bfloat16
pad: F.pad(a3, (1, 1)): float32 bfloat16
binary_cross_entropy: F.binary_cross_entropy(p, p): float32 float32
with_logits: F.binary_cross_entropy_with_logits(p, p): float32 float32
mse_loss: F.mse_loss(a, b): float32 float32
smooth_l1_loss: F.smooth_l1_loss(a, b): float32 float32
nll_loss: F.nll_loss(a, i): float32 float32
cross_entropy: F.cross_entropy(a, i): float32 float32
kl_div: F.kl_div(a, p): float32 float32
triplet: F.triplet_margin_loss(a, b, a): float32 float32
gaussian_nll_loss: F.gaussian_nll_loss(a, b, p): float32 bfloat16
softmax: f.softmax(a, 0): float32 bfloat16
sum: a.sum(): float32 bfloat16
prod: a.prod(): float32 float32
trace: f.trace(a): float32 float32
cdist: f.cdist(a, b): float32 float32
layer_norm: F.layer_norm(a, (4,)): float32 bfloat16
layer_norm with a wide weight: F.layer_norm(a, (4,), w, w): float32 bfloat16
group_norm with a wide weight: F.group_norm(a4, 2, w, w): float32 bfloat16
batch_norm with a wide weight: F.batch_norm(a4, None, None, w, w, training=True): float32 bfloat16
exp: a.exp(): float32 bfloat16
gelu: F.gelu(a): float32 bfloat16
add: a + b: float32 bfloat16
mixed: a * w: float32 float32
stack: f.stack([a, m]): float32 float32
cat: f.cat([a, m]): float32 float32
index_copy: f.index_copy(m, 0, i, a): float32 float32
lstm: LSTM(4, 4)(a3)[0]: bfloat16 bfloat16
gru: GRU(4, 4)(a3)[0]: float32 bfloat16
rnn: RNN(4, 4)(a3)[0]: bfloat16 bfloat16
lstm cell: LSTMCell(4, 4)(a)[0]: float32 bfloat16
gru cell: GRUCell(4, 4)(a): float32 bfloat16
"""
ROWS = [line.rsplit(": ", 1) for line in CALLS.strip().splitlines()]


def names(lib, dtype):
    """What the calls read."""
    a = lib.full((4, 4), 0.5).to(dtype)
    wide = {"w": lib.full((4,), 0.5), "m": lib.full((4, 4), 0.5), "i": lib.tensor([0, 1, 2, 3])}
    layers = {n: getattr(lib.nn, n) for n in ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell")}
    shaped = {f"a{n}": lib.full((4,) * n, 0.5).to(dtype) for n in (3, 4, 5)}
    return {
        "f": lib,
        "F": lib.nn.functional,
        "a": a,
        "b": a.clone(),
        "v": a[0],
        "p": a.clone(),
        **shaped,
        **wide,
        **layers,
    }


def result_dtypes(lib, code):
    found = []
    for dtype in (lib.float32, lib.bfloat16):
        values = names(lib, dtype)
        with lib.autocast("cpu"):
            found.append(str(eval(code, values).dtype).rpartition(".")[2])
    return " ".join(found)


@pytest.mark.accept("AMP-03")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split(": ")[0])
def test_each_function_computes_in_the_dtype_of_pytorchs_lists(row):
    code = row[0].split(": ", 1)[1]
    assert result_dtypes(fb, code) == row[1]
    try:
        import torch
    except ImportError:
        return
    try:
        found = result_dtypes(torch, code)
    except RuntimeError as error:  # PyTorch has no LSTM in bfloat16 on processors without AVX-512
        if "could not create a primitive" in str(error):
            return
        raise
    assert found == row[1]


@pytest.mark.accept("AMP-03")
def test_a_model_gives_the_bits_of_explicit_conversions():
    net, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), fb.randn(3, 8)
    with fb.autocast("cpu"):
        loss = F.mse_loss(net(x), fb.zeros(3, 4))
    loss.backward()
    grads = [p.grad.tolist() for p in net.parameters()]
    net.zero_grad()
    low = [p.to(fb.bfloat16) for p in net.parameters()]
    h = F.linear(F.linear(x.to(fb.bfloat16), low[0], low[1]).relu(), low[2], low[3])
    wanted = F.mse_loss(h.float(), fb.zeros(3, 4))
    wanted.backward()
    assert loss.item() == wanted.item() and loss.dtype is fb.float32
    assert grads == [p.grad.tolist() for p in net.parameters()]
    assert all(p.dtype is fb.float32 and p.grad.dtype is fb.float32 for p in net.parameters())


@pytest.mark.accept("AMP-03")
def test_training_follows_torch():
    torch = pytest.importorskip("torch")
    x, y = np.random.default_rng(0).standard_normal((2, 16, 8)).astype(np.float32)
    net = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 8))
    twin = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.GELU(), torch.nn.Linear(16, 8))
    twin.load_state_dict({k: torch.tensor(v.tolist()) for k, v in net.state_dict().items()})
    found = []
    for lib, model in ((fb, net), (torch, twin)):
        optimizer, losses = lib.optim.SGD(model.parameters(), lr=0.5), []
        for _ in range(5):
            optimizer.zero_grad()
            with lib.autocast("cpu", dtype=lib.bfloat16):
                loss = ((model(lib.tensor(x)) - lib.tensor(y)) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-2)
    assert found[0][-1] < found[0][0]


@pytest.mark.accept("AMP-01")
def test_a_model_whose_parameters_are_bfloat16_trains():
    fb.manual_seed(0)
    net, x = nn.Linear(8, 8).bfloat16(), fb.randn(16, 8).bfloat16()
    optimizer, losses = fb.optim.SGD(net.parameters(), lr=0.5), []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert loss.dtype is net.weight.dtype is net.weight.grad.dtype is fb.bfloat16
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


@pytest.mark.accept("AMP-04")
def test_blocks_nest_and_end_whatever_happens():
    a = fb.ones(2, 2)
    assert not fb.is_autocast_enabled("cpu") and (a @ a).dtype is fb.float32
    with fb.autocast("cpu", dtype=fb.float16) as _:
        assert fb.is_autocast_enabled("cpu") and fb.is_autocast_cpu_enabled() and not fb.is_autocast_enabled()
        assert fb.get_autocast_dtype("cpu") is fb.float16 and (a @ a).dtype is fb.float16
        with fb.autocast("cpu", enabled=False):
            assert not fb.is_autocast_enabled("cpu") and (a @ a).dtype is fb.float32
            with fb.autocast("cpu", dtype=fb.bfloat16):
                assert (a @ a).dtype is fb.bfloat16
        assert (a @ a).dtype is fb.float16
        seen = []
        thread = threading.Thread(target=lambda: seen.append((a @ a).dtype))
        thread.start(), thread.join()
        assert seen == [fb.float32]
        with pytest.raises(ZeroDivisionError), fb.autocast("cpu"):
            raise ZeroDivisionError
        assert fb.get_autocast_dtype("cpu") is fb.float16
    assert (a @ a).dtype is fb.float32 and fb.get_autocast_cpu_dtype() is fb.bfloat16


@pytest.mark.accept("AMP-03")
def test_autocast_as_a_decorator_of_functions_methods_and_generators():
    a = fb.ones(2, 2)

    @fb.autocast("cpu")
    def product(x):
        """Documented."""
        return x @ x

    class Net(nn.Module):
        @amp.autocast("cpu", dtype=fb.float16)
        def forward(self, x):
            return x @ x

    @fb.autocast("cpu")
    def steps():
        yield a @ a
        yield a @ a

    assert product(a).dtype is fb.bfloat16 and product.__name__ == "product" and product.__doc__ == "Documented."
    assert Net()(a).dtype is fb.float16
    made = steps()
    assert next(made).dtype is fb.bfloat16 and (a @ a).dtype is fb.float32 and next(made).dtype is fb.bfloat16
    with pytest.raises(TypeError, match=r"\[autocast\] what is decorated must be a function"):
        fb.autocast("cpu")(3)


def test_what_stays_as_it_is_under_autocast():
    a, d, n = fb.ones(2, 2), fb.ones(2, 2, dtype=fb.float64), fb.ones(2, 2, dtype=fb.int64)
    with fb.autocast("cpu"):
        assert (d @ d).dtype is fb.float64 and F.mse_loss(d, d).dtype is fb.float64 and (n @ n).dtype is fb.int64
        assert a.clone().addmm_(a, a).dtype is fb.float32  # in place
        x = a.clone().requires_grad_()
        (first,) = fb.autograd.grad((x @ x).float().pow(2).sum(), x, create_graph=True)
        (second,) = fb.autograd.grad(first.sum(), x)  # ops of gradients go by their operands
    assert first.dtype is second.dtype is fb.float32
    assert first.tolist() == [[16.0, 16.0], [16.0, 16.0]]


def test_setting_autocast_without_a_block():
    try:
        fb.set_autocast_enabled("cpu", True)
        fb.set_autocast_dtype("cpu", fb.float16)
        assert fb.is_autocast_enabled("cpu") and (fb.ones(2, 2) @ fb.ones(2, 2)).dtype is fb.float16
        fb.set_autocast_cache_enabled(False)
        assert not fb.is_autocast_cache_enabled() and fb.clear_autocast_cache() is None
    finally:
        fb.set_autocast_cpu_enabled(False)
        fb.set_autocast_cpu_dtype(fb.bfloat16)
        fb.set_autocast_cache_enabled(True)
    assert fb.get_autocast_gpu_dtype() is fb.float16 and recorder.get_mode() & ~1 == 0
    with pytest.raises(TypeError, match=r"\[set_autocast_dtype\] dtype is flambeau.float32"):
        fb.set_autocast_dtype("cpu", fb.float32)


def test_what_autocast_refuses_and_warns_of():
    with pytest.raises(RuntimeError, match=r"\[autocast\] there is no autocast for device_type 'tpu'"):
        fb.autocast("tpu")
    with pytest.raises(ValueError, match=r"\[autocast\] device_type is a int"):
        fb.autocast(3)
    with pytest.warns(UserWarning, match="the dtypes are bfloat16 and float16"), fb.autocast("cpu", fb.float32):
        assert not fb.is_autocast_enabled("cpu")
    assert amp.is_autocast_available("cpu") and not amp.is_autocast_available("tpu")
    assert not fb.is_autocast_enabled("mps") and not fb.is_autocast_enabled("xpu")
    if not fb.cuda.is_available():
        with pytest.warns(UserWarning, match="there is no GPU"), fb.autocast("cuda"):
            assert not fb.is_autocast_enabled("cuda")


def test_lists_for_gpus_are_pytorchs_too(monkeypatch):
    """Such as they are: what runs on a GPU is tested where there is one."""
    call = lambda name: type("F", (), {"name": name, "kind": "pure", "rule": F.relu.rule})  # noqa: E731
    mode = autocasting.DEVICES["cuda"].enabled
    from flambeau.dialects.aval import Aval
    from flambeau.dialects.builder import GraphBuilder

    x = GraphBuilder().input(Aval((2, 2), fb.float32))
    for name, dtype in (("mm", fb.float16), ("mv", fb.float16), ("exp", fb.float32), ("relu", fb.float32)):
        found, _ = autocasting.cast(call(name), {"input": x}, "cuda:0", mode)
        assert found["input"].dtype is dtype
        assert autocasting.cast(call(name), {"input": x}, "cpu", mode)[0]["input"] is x


@pytest.mark.accept("AMP-03")
def test_names_of_old():
    from flambeau.cpu.amp import autocast as on_cpu
    from flambeau.cuda.amp import GradScaler, autocast, custom_bwd, custom_fwd

    with on_cpu(dtype=fb.float16):
        assert (fb.ones(1, 1) @ fb.ones(1, 1)).dtype is fb.float16
    if not fb.cuda.is_available():
        with pytest.warns(UserWarning, match="there is no GPU"):
            assert not GradScaler().is_enabled()
        with pytest.warns(UserWarning), autocast():
            assert (fb.ones(1, 1) @ fb.ones(1, 1)).dtype is fb.float32
    assert callable(custom_fwd(cast_inputs=fb.float32)(lambda ctx: None)) and callable(custom_bwd(lambda ctx: None))
    assert fb.cpu.amp.GradScaler(2.0).get_scale() == 2.0


def test_functions_with_gradients_of_their_own():
    seen = []

    class Product(fb.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=fb.float32)
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            seen.append((x.dtype, fb.is_autocast_enabled("cpu")))
            return x @ y

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            seen.append((g.dtype, fb.is_autocast_enabled("cpu")))
            x, y = ctx.saved_tensors
            return g @ y.T, x.T @ g

    x = fb.ones(2, 2, dtype=fb.bfloat16, requires_grad=True)
    with fb.autocast("cpu"):
        out = Product.apply(x, x)
        out.sum().backward()
    assert out.dtype is fb.float32 and seen == [(fb.float32, False)] * 2


# ---- GradScaler ----------------------------------------------------------------------------------------------


def scaled_steps(lib, optimizer, factors, unscale=False, **options):
    """Parameters, scale and tracker after steps whose losses are multiplied by `factors`."""
    w = lib.nn.Parameter(lib.tensor([1.0, 2.0]))
    optimizer = optimizer(lib.optim, [w])
    scaler = (fb.amp if lib is fb else lib.amp).GradScaler("cpu", **options)
    found = []
    for factor in factors:
        optimizer.zero_grad()
        scaler.scale((w**2).sum() * factor).backward()
        if unscale:
            scaler.unscale_(optimizer)
            lib.nn.utils.clip_grad_norm_([w], 1.0)
        scaler.step(optimizer)
        scaler.update()
        found.append([*np.round(w.tolist(), 6).tolist(), scaler.get_scale(), scaler.state_dict()["_growth_tracker"]])
    return found


OPTIMIZERS = {
    "SGD": lambda o, p: o.SGD(p, lr=0.1),
    "momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda o, p: o.Adam(p, lr=0.1),
    "RMSprop": lambda o, p: o.RMSprop(p, lr=0.1),
}
INF, NAN = float("inf"), float("nan")


@pytest.mark.accept("AMP-02")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("unscale", [False, True])
def test_steps_are_left_out_where_gradients_overflow(kind, unscale):
    options = {"init_scale": 8.0, "growth_interval": 2}
    arguments = (OPTIMIZERS[kind], [INF, 1.0, 1.0, NAN, 1.0, 2.0], unscale)
    found = scaled_steps(fb, *arguments, **options)
    assert [row[2] for row in found] == [4, 4, 8, 4, 4, 8] and [row[3] for row in found] == [0, 1, 0, 0, 1, 0]
    assert found[0][:2] == [1, 2] and found[3][:2] == found[2][:2] and found[1][:2] != [1, 2] != found[4][:2]
    try:
        import torch
    except ImportError:
        return
    np.testing.assert_allclose(found, scaled_steps(torch, *arguments, **options), rtol=1e-5, atol=1e-4)


@pytest.mark.accept("AMP-02", "T-22")
def test_a_step_reads_nothing_and_is_one_program_again_and_again():
    net, x = nn.Linear(4, 4), fb.ones(2, 4)
    optimizer, scaler = fb.optim.Adam(net.parameters()), amp.GradScaler("cpu")

    def step():
        optimizer.zero_grad()
        with fb.autocast("cpu", dtype=fb.float16):
            loss = (net(x) ** 2).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    for _ in range(3):
        step()
    before = recorder.stats()
    for _ in range(3):
        step()
    after = recorder.stats()
    assert after["builds"] == before["builds"] and after["misses"] == before["misses"]
    assert after["flushes"] - before["flushes"] == 3  # one for each step of the optimizer


def test_scalers_keep_their_state():
    scaler = amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    w = nn.Parameter(fb.ones(1))
    optimizer = fb.optim.SGD([w], lr=0.1)
    assert [x.tolist() for x in scaler.scale([fb.ones(1), fb.ones(1)])] == [[4.0], [4.0]]
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"\[GradScaler.step\] it was called twice"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="can be pickled after update"):
        pickle.dumps(scaler)
    scaler.update()
    state = scaler.state_dict()
    assert state == {
        "scale": 8.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 1,
        "_growth_tracker": 0,
    }
    other = amp.GradScaler("cpu")
    other.load_state_dict(state)
    assert (
        other.state_dict()
        == copy.deepcopy(scaler).state_dict()
        == pickle.loads(pickle.dumps(scaler)).state_dict()
        == state
    )
    scaler.update(3.0)
    assert scaler.get_scale() == 3.0
    scaler.update(fb.tensor(5.0))
    scaler.set_growth_factor(3.0), scaler.set_backoff_factor(0.1), scaler.set_growth_interval(9)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (3.0, 0.1, 9)
    assert scaler.get_scale() == 5.0


def test_disabled_scalers_and_what_scalers_refuse():
    off, w = amp.GradScaler("cpu", enabled=False), nn.Parameter(fb.ones(1))
    optimizer = fb.optim.SGD([w], lr=1.0)
    assert off.scale(w) is w and off.get_scale() == 1.0 and off.state_dict() == {} and not off.is_enabled()
    w.sum().backward()
    off.unscale_(optimizer), off.step(optimizer), off.update()
    assert w.item() == 0.0
    scaler = amp.GradScaler("cpu")
    for call in (lambda: scaler.step(optimizer), lambda: scaler.unscale_(optimizer), scaler.update):
        with pytest.raises(AssertionError, match="nothing was scaled yet"):
            call()
    scaler.scale(w)
    with pytest.raises(AssertionError, match="no gradients were looked at"):
        scaler.update()
    with pytest.raises(RuntimeError, match="steps with a closure"):
        scaler.step(optimizer, closure=lambda: None)
    with pytest.raises(ValueError, match=r"outputs is a int"):
        scaler.scale(3)
    with pytest.raises(RuntimeError, match="the state is empty"):
        scaler.load_state_dict({})
    with pytest.raises(AssertionError, match="growth_factor is"):
        amp.GradScaler("cpu", growth_factor=0.5)
    narrow = nn.Parameter(fb.ones(1, dtype=fb.float16))
    scaler.scale(narrow.sum()).backward()
    with pytest.raises(ValueError, match="a gradient is of float16"):
        scaler.unscale_(fb.optim.SGD([narrow], lr=1.0))


def test_an_optimizer_with_a_step_of_its_own_is_asked_whether_to_step():
    class Own(fb.optim.SGD):
        steps = 0

        def step(self, closure=None):
            Own.steps += 1
            return super().step(closure)

    w = nn.Parameter(fb.ones(1))
    optimizer, scaler = Own([w], lr=0.5), amp.GradScaler("cpu", init_scale=2.0)
    for factor in (INF, 1.0):
        optimizer.zero_grad()
        scaler.scale(w.sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert Own.steps == 1 and w.item() == 0.5 and scaler.get_scale() == 1.0
