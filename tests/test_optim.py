"""Optimizers: PyTorch's trajectories for every option, closed forms, groups, state, hooks, skipped parameters."""

import gc
import io

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler.compiled import Compiled
from flambeau.optim import SGD, Adam, AdamW
from flambeau.runtime import recorder
from support import arrays

SHAPES = [(3, 4), (5,), (2, 1, 3), ()]
OPTIONS = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.2},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "maximize": True},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
    "Adam": [
        {"lr": 0.01},
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
        {"lr": 0.01, "weight_decay": 0.3},
        {"lr": 0.01, "amsgrad": True},
        {"lr": 0.01, "maximize": True},
    ],
    "AdamW": [{"lr": 0.01}, {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}, {"lr": 0.01, "weight_decay": 0}],
    "Adamax": [{"lr": 0.01, "weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}],
    "NAdam": [
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1},
        {"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True},
    ],
    "RAdam": [
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.5, 0.9)},
        {"lr": 0.01, "betas": (0.5, 0.7), "eps": 1e-3, "maximize": True},
    ],
    "Adagrad": [
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True},
    ],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}],
    "RMSprop": [
        {"lr": 0.01, "weight_decay": 0.1},
        {"lr": 0.01, "alpha": 0.5, "momentum": 0.9, "maximize": True},
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 1e-3},
    ],
    "Rprop": [{"lr": 0.1}, {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.05, 0.12), "maximize": True}],
    "ASGD": [{"lr": 0.1, "lambd": 0.1, "weight_decay": 0.1}, {"lr": 0.1, "t0": 2, "alpha": 0.5, "maximize": True}],
    "Adafactor": [
        {"lr": 0.1},
        {"lr": 0.1, "eps": (1e-3, 0.1), "d": 1.5, "beta2_decay": -0.5, "weight_decay": 0.1, "maximize": True},
    ],
}
MATRICES = {
    "Muon": [
        {"lr": 0.1, "ns_steps": 1},
        {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 2},
        {"lr": 0.1, "weight_decay": 0, "momentum": 0.5, "ns_coefficients": (2.0, -1.5, 0.5)},
    ]
}
CASES = [(name, options) for name, many in OPTIONS.items() for options in many]
ROWS = {"SGD": ("OPT-01", "OPT-02"), "Adam": ("OPT-03",), "AdamW": ("OPT-04",), "RMSprop": ("OPT-05",)}


def trajectory(module, name, options, dtype, steps=5, skip=None):
    """Parameters after some steps on fixed gradients; parameter `skip` has none in step 2."""
    params = [module.tensor(arrays(*s, seed=1).astype(dtype), requires_grad=True) for s in SHAPES]
    opt = getattr(module.optim, name)(params, **options)
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = None if (i, step) == (skip, 2) else module.tensor(arrays(*SHAPES[i], seed=10 + step).astype(dtype))
        opt.step()
    return [p.detach().numpy() for p in params], opt


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(n, o, marks=pytest.mark.accept(*ROWS.get(n, ("OPT-06",))), id=f"{n}-{o}") for n, o in CASES],
)
@pytest.mark.parametrize("skip", [None, 1])
def test_trajectories_are_those_of_torch(name, options, skip):
    torch = pytest.importorskip("torch")
    for dtype, rtol in ((np.float32, 2e-6), (np.float64, 1e-13)):
        mine, _ = trajectory(fb, name, options, dtype, skip=skip)
        other, _ = trajectory(torch, name, options, dtype, skip=skip)
        for a, b in zip(mine, other):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.accept("OPT-01", "OPT-02", "VER-02")
def test_sgd_by_hand():
    p = fb.tensor([1.0], dtype=fb.float64, requires_grad=True)
    opt = SGD([p], lr=0.1, momentum=0.5, weight_decay=0.1)
    v, x = None, 1.0
    for g in (2.0, -1.0, 0.5):
        p.grad = fb.tensor([g], dtype=fb.float64)
        opt.step()
        d = g + 0.1 * x
        v = d if v is None else 0.5 * v + d
        x -= 0.1 * v
    assert p.item() == pytest.approx(x, rel=1e-15)


@pytest.mark.accept("OPT-03", "OPT-04", "VER-02")
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_by_hand(decoupled):
    p = fb.tensor([1.0], dtype=fb.float64, requires_grad=True)
    opt = (AdamW if decoupled else Adam)([p], lr=0.1, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.2)
    m = v = 0.0
    x = 1.0
    for t, g in enumerate((2.0, -1.0, 0.5), 1):
        p.grad = fb.tensor([g], dtype=fb.float64)
        opt.step()
        if decoupled:
            x *= 1 - 0.1 * 0.2
        else:
            g += 0.2 * x
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        x -= 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-4)
    assert p.item() == pytest.approx(x, rel=1e-13)
    assert opt.state[p]["step"].item() == 3.0


def _by_hand(opt, p, gradients):
    for g in gradients:
        p.grad = fb.tensor(g, dtype=fb.float64)
        opt.step()
    return p.detach().numpy()


@pytest.mark.accept("OPT-06")
def test_lion_by_hand():
    p = fb.tensor([1.0, -2.0], dtype=fb.float64, requires_grad=True)
    gradients = np.array([[2.0, 0.1], [-1.0, -3.0], [0.5, 0.0]])
    found = _by_hand(fb.optim.Lion([p], lr=0.1, betas=(0.6, 0.9), weight_decay=0.2), p, gradients)
    x, m = np.array([1.0, -2.0]), np.zeros(2)
    for g in gradients:
        x = x * (1 - 0.1 * 0.2) - 0.1 * np.sign(m + 0.4 * (g - m))
        m = m + 0.1 * (g - m)
    np.testing.assert_allclose(found, x, rtol=1e-14)


@pytest.mark.accept("OPT-06")
def test_lamb_by_hand():
    for start in ([3.0, -4.0], [0.0, 0.0]):  # without a norm, a step is as long as it is
        p = fb.tensor(start, dtype=fb.float64, requires_grad=True)
        gradients = np.array([[2.0, 0.1], [-1.0, -3.0], [0.5, 0.0]])
        found = _by_hand(fb.optim.Lamb([p], lr=0.1, betas=(0.6, 0.9), weight_decay=0.2), p, gradients)
        x, m, v = np.array(start), np.zeros(2), np.zeros(2)
        for t, g in enumerate(gradients, 1):
            m, v = 0.6 * m + 0.4 * g, 0.9 * v + 0.1 * g * g
            r = m / (1 - 0.6**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-6) + 0.2 * x
            size = np.linalg.norm(x)
            x = x - 0.1 * (size / np.linalg.norm(r) if size else 1.0) * r
        np.testing.assert_allclose(found, x, rtol=1e-13)


@pytest.mark.accept("OPT-06")
@pytest.mark.parametrize("options", MATRICES["Muon"], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_muon_is_that_of_torch(options, shape):
    """To the precision of bfloat16, in which both make matrices orthogonal: products round in another order, and each iteration
    with the usual coefficients multiplies what small singular values are off by 3.4."""
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        p = module.tensor(arrays(*shape, seed=1), requires_grad=True)
        opt = module.optim.Muon([p], **options)
        for step in range(4):
            p.grad = module.tensor(arrays(*shape, seed=10 + step))
            opt.step()
        found.append(p.detach().numpy())
    np.testing.assert_allclose(*found, atol=4 * 0.1 * 3.5 ** options.get("ns_steps", 1) * 2**-8)


@pytest.mark.accept("OPT-06")
def test_muon_makes_updates_orthogonal():
    p = fb.zeros(4, 6, requires_grad=True)
    p.grad = fb.tensor(arrays(4, 6, seed=3))
    fb.optim.Muon([p], lr=1.0, weight_decay=0.0).step()
    singular = np.linalg.svd(p.detach().numpy(), compute_uv=False)
    assert (singular > 0.6).all() and (singular < 1.3).all()
    with pytest.raises(ValueError, match=r"\[Muon\] a parameter has shape \(3,\), which is no matrix"):
        fb.optim.Muon([fb.ones(3, requires_grad=True)])


def rosenbrock(module, opt, x):
    def closure():
        opt.zero_grad()
        loss = ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
        loss.backward()
        return loss

    return closure


@pytest.mark.accept("OPT-06")
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-3, "max_iter": 3},
        {"line_search_fn": "strong_wolfe", "max_iter": 4},
        {"line_search_fn": "strong_wolfe", "max_iter": 6, "history_size": 2, "max_eval": 7, "lr": 0.5},
    ],
    ids=str,
)
def test_lbfgs_takes_the_steps_of_torch(options):
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        x = module.tensor([-1.2, 1.0, 0.5, -0.3], dtype=module.float64, requires_grad=True)
        opt = module.optim.LBFGS([x], **options)
        losses = [float(opt.step(rosenbrock(module, opt, x))) for _ in range(4)]
        state = opt.state[x]
        found.append((losses, x.detach().numpy().tolist(), state["func_evals"], state["n_iter"]))
    assert found[0][2:] == found[1][2:]
    for mine, theirs in zip(found[0][:2], found[1][:2]):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.accept("OPT-06")
def test_lbfgs_finds_the_minimum():
    x, y = (fb.tensor(v, dtype=fb.float64, requires_grad=True) for v in ([-1.2, 1.0], [[2.0]]))
    opt = fb.optim.LBFGS([x, y], line_search_fn="strong_wolfe", max_iter=100, tolerance_change=1e-15)

    def closure():
        opt.zero_grad()
        loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 + ((y - 3) ** 2).sum()
        loss.backward()
        return loss

    first = opt.step(closure)
    assert first.item() == pytest.approx(25.2) and closure().item() < 1e-12
    np.testing.assert_allclose(x.tolist() + y.flatten().tolist(), [1.0, 1.0, 3.0], atol=1e-6)
    with pytest.raises(TypeError, match=r"\[LBFGS\] step\(\) needs a closure"):
        opt.step()
    with pytest.raises(RuntimeError, match=r"\[LBFGS\] line_search_fn is 'armijo'"):
        fb.optim.LBFGS([x], line_search_fn="armijo")
    with pytest.raises(ValueError, match=r"\[LBFGS\] there are 2 groups"):
        fb.optim.LBFGS([{"params": [x]}, {"params": [y]}])


def test_hooks_of_states():
    p, seen = fb.ones(2, requires_grad=True), []
    opt = SGD([p], lr=0.5)
    opt.register_state_dict_pre_hook(lambda o: seen.append("before"))
    opt.register_state_dict_post_hook(lambda o, s: seen.append(sorted(s)))
    changed = opt.register_state_dict_post_hook(lambda o, s: {**s, "note": 1}, prepend=True)
    assert opt.state_dict()["note"] == 1 and seen == ["before", ["note", "param_groups", "state"]]
    changed.remove()
    state = opt.state_dict()
    assert "note" not in state

    def halved(o, s):
        return {**s, "param_groups": [{**g, "lr": g["lr"] / 2} for g in s["param_groups"]]}

    opt.register_load_state_dict_pre_hook(halved)
    opt.register_load_state_dict_post_hook(lambda o: seen.append(o.param_groups[0]["lr"]))
    opt.load_state_dict(state)
    assert seen[-1] == 0.25 and state["param_groups"][0]["lr"] == 0.5


STEPPING = ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "ASGD", "Adafactor"]
STEPPING += ["Lion", "Lamb"]


@pytest.mark.accept("OPT-08")
@pytest.mark.parametrize("name", ["Adam", "Lion", "Adafactor", "Rprop"])
def test_the_first_step_is_the_program_of_all_steps(name, monkeypatch):
    """State begins in memory, and not as zeros within the program, so a training compiles one program of its steps."""
    made, begin = [], Compiled.__init__
    monkeypatch.setattr(Compiled, "__init__", lambda self, *args: made.append(args) or begin(self, *args))
    p = fb.tensor(np.linspace(-1, 1, 77, dtype=np.float32).reshape(7, 11), requires_grad=True)
    opt = getattr(fb.optim, name)([p])

    def step():
        opt.zero_grad()
        (p * p * len(name)).sum().backward()
        opt.step()

    with fb.compiler_options(mode="blocking"):
        p.detach().sum().item()
        made.clear()
        for _ in range(4):
            step()
    assert len(made) == 1


def test_state_begins_with_the_layout_and_dtype_of_its_parameter():
    for dtype in (fb.bfloat16, fb.float64, fb.complex64):
        p = fb.ones(2, 3, 4, 5, dtype=dtype).to(memory_format=fb.channels_last).requires_grad_()
        q = fb.ones(3, dtype=dtype).requires_grad_()
        opt = fb.optim.Adagrad([p, q], initial_accumulator_value=0.25)
        p.grad, q.grad = fb.zeros_like(p), fb.zeros_like(q)
        opt.step()
        for of in (p, q):
            found = opt.state[of]["sum"]
            assert found.dtype is dtype and found.stride() == of.stride() and not found.requires_grad
            first = 0.25 * (1 + 1j) if dtype is fb.complex64 else 0.25
            assert found.flatten().tolist() == [first] * of.numel()


@pytest.mark.accept("OPT-08")
@pytest.mark.parametrize("name", STEPPING)
def test_a_changing_learning_rate_never_compiles_anew(name):
    p = fb.ones(4, requires_grad=True)
    opt = getattr(fb.optim, name)([p], lr=0.1)
    for step in range(8):
        p.grad = fb.ones(4)
        opt.param_groups[0]["lr"] = 0.1 / (step + 1)
        before = recorder.stats()
        opt.step()
        after = recorder.stats()
        if step > 3:
            assert after["misses"] == before["misses"] and after["builds"] == before["builds"]


@pytest.mark.accept("OPT-07")
def test_parameter_groups():
    a, b, c = (fb.ones(2, requires_grad=True) for _ in range(3))
    opt = SGD([{"params": [("a", a)]}, {"params": [("b", b)], "lr": 1.0}], lr=0.1)
    opt.add_param_group({"params": [("c", c)], "lr": 0.5})
    for p in (a, b, c):
        p.grad = fb.ones(2)
    opt.step()
    assert [p[0].item() for p in (a, b, c)] == pytest.approx([0.9, 0.0, 0.5])
    assert opt.param_groups[2]["param_names"] == ["c"]
    text = repr(opt)
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0.0\n    differentiable: False\n")


@pytest.mark.accept("OPT-09")
def test_zero_grad_and_skipped_parameters():
    a, b = fb.ones(2, requires_grad=True), fb.ones(2, requires_grad=True)
    opt = Adam([a, b])
    (a * 2).sum().backward()
    opt.step()
    assert b.tolist() == [1.0, 1.0] and b not in opt.state
    opt.zero_grad(set_to_none=False)
    assert a.grad.tolist() == [0.0, 0.0]
    opt.zero_grad()
    assert a.grad is None


def test_closure_and_hooks():
    x, seen = fb.tensor([3.0], requires_grad=True), []
    opt = SGD([x], lr=0.1)
    before = opt.register_step_pre_hook(lambda o, a, k: seen.append("before"))
    opt.register_step_post_hook(lambda o, a, k: seen.append("after"))

    def closure():
        opt.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with fb.no_grad():
        loss = opt.step(closure)
    assert loss.item() == 9.0 and x.item() == pytest.approx(2.4) and seen == ["before", "after"]
    before.remove()
    opt.step(closure)
    assert seen == ["before", "after", "after"]


@pytest.mark.accept("OPT-11")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("Adam", {"lr": 0.01}),
        ("AdamW", {"amsgrad": True}),
        ("RMSprop", {"centered": True, "momentum": 0.9}),
        *((name, {}) for name in STEPPING[3:] if name != "RMSprop"),
        ("Rprop", {}),
    ],
)
def test_state_continues_where_it_was_saved(name, options):
    params, opt = trajectory(fb, name, options, np.float64, steps=3)
    fresh = [fb.tensor(p, requires_grad=True) for p in params]
    other = getattr(fb.optim, name)(fresh, lr=5.0)
    other.load_state_dict(opt.state_dict())
    assert other.param_groups[0]["lr"] == opt.param_groups[0]["lr"]
    for i, p in enumerate(fresh):
        p.grad = fb.tensor(arrays(*SHAPES[i], seed=13).astype(np.float64))
    other.step()
    straight, _ = trajectory(fb, name, options, np.float64, steps=4)
    for p, wanted in zip(fresh, straight):
        np.testing.assert_array_equal(p.detach().numpy(), wanted)
    with pytest.raises(ValueError, match=r"groups of \[4\] parameters, this optimizer of \[1\]"):
        SGD([fb.ones(1, requires_grad=True)]).load_state_dict(opt.state_dict())


@pytest.mark.parametrize("name", ["Adam", "NAdam", "ASGD"])
def test_counters_of_old_files_are_numbers(name):
    def stepped(state=None):
        p = fb.tensor([1.0, 2.0], requires_grad=True)
        opt = getattr(fb.optim, name)([p], lr=0.1)
        for k in range(3):
            if k == 2 and state is not None:
                opt.load_state_dict(state(opt.state_dict()))
            opt.zero_grad()
            (p * p).sum().backward()
            opt.step()
        return p.tolist(), opt.state_dict()["state"][0]["step"].item()

    def old(state):
        numbers = {k: v.item() if v.dim() == 0 else v for k, v in state["state"][0].items()}
        return {**state, "state": {0: numbers | {"step": int(numbers["step"])}}}

    assert stepped(old) == stepped() and stepped()[1] == 3


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "ASGD", "Rprop"])
def test_state_has_the_dtype_of_the_parameter_it_is_loaded_for(name):
    options = {"momentum": 0.9} if name == "SGD" else {}

    def stepped(lib, dtype):
        p = lib.ones(3, dtype=getattr(lib, dtype), requires_grad=True)
        opt = getattr(lib.optim, name)([p], lr=0.1, **options)
        (p * 2).sum().backward()
        opt.step()
        return opt, p

    opt, _ = stepped(fb, "float32")
    other, p = stepped(fb, "bfloat16")
    other.load_state_dict(opt.state_dict())
    tensors = {k: v.dtype.name for k, v in other.state[p].items() if isinstance(v, fb.Tensor) and v.dim()}
    assert {*tensors.values()} == {"bfloat16"} and other.state[p].get("step", fb.ones(())).dtype is fb.float32
    torch = pytest.importorskip("torch")
    opt, _ = stepped(torch, "float32")
    other, p = stepped(torch, "bfloat16")
    other.load_state_dict(opt.state_dict())
    theirs = {k: str(v.dtype)[6:] for k, v in other.state[p].items() if isinstance(v, torch.Tensor) and v.dim()}
    assert tensors == theirs


def test_state_dict_has_the_form_of_torch():
    torch = pytest.importorskip("torch")
    for name in OPTIONS:
        options = {"momentum": 0.9, "lr": 0.1} if name == "SGD" else {}
        mine, other = (trajectory(m, name, options, np.float32, steps=1)[1].state_dict() for m in (fb, torch))
        assert mine["param_groups"][0]["params"] == other["param_groups"][0]["params"]
        assert {k: set(v) for k, v in mine["state"].items()} == {k: set(v) for k, v in other["state"].items()}


@pytest.mark.accept("NN-06", "OPT-01")
def test_state_dict_of_the_model_aliases_across_a_step():
    model = fb.nn.Linear(2, 2)
    opt = SGD(model.parameters(), lr=1.0)
    state = model.state_dict()
    model(fb.ones(1, 2)).sum().backward()
    before = state["weight"].numpy().copy()
    opt.step()
    np.testing.assert_allclose(state["weight"].numpy(), before - 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: SGD([]), ValueError, r"\[Optimizer\] there are no parameters"),
        (lambda: SGD(fb.ones(2)), TypeError, r"\[Optimizer\] params is a Tensor"),
        (lambda: SGD({fb.ones(2)}), TypeError, r"\[Optimizer\] params is a set, whose order changes"),
        (lambda: Adam([{"params": {fb.ones(2)}}]), TypeError, r"\[Optimizer\] 'params' of a group is a set"),
        (lambda: SGD([{"params": frozenset([fb.ones(2)])}]), TypeError, r"\[Optimizer\] 'params' of a group is a froz"),
        (lambda: SGD([1]), TypeError, r"\[Optimizer\] a parameter is a int"),
        (lambda: SGD([fb.ones(2, requires_grad=True) * 2]), ValueError, r"a parameter is the result of an operation"),
        (lambda: SGD([fb.ones(2)] * 2), ValueError, r"in more than one group or twice in one"),
        (lambda: SGD([fb.ones(2)], lr=-1), ValueError, r"\[SGD\] lr is -1. Use at least 0"),
        (lambda: SGD([fb.ones(2)], nesterov=True), ValueError, r"\[SGD\] nesterov needs a momentum above 0"),
        (lambda: Adam([fb.ones(2)], betas=(0.9, 1.0)), ValueError, r"\[Adam\] betas are \(0.9, 1.0\)"),
        (lambda: AdamW([fb.ones(2)], eps=-1.0), ValueError, r"\[AdamW\] eps is -1.0"),
    ],
)
def test_bad_options(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.accept("OPT-12", "T-26")
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
def test_gradient_clipping_is_that_of_torch(norm_type):
    torch = pytest.importorskip("torch")
    for limit in (0.5, 100.0):
        grads = [arrays(*s, seed=3) for s in SHAPES]
        ours, theirs = ([m.tensor(arrays(*s), requires_grad=True) for s in SHAPES] for m in (fb, torch))
        for i, g in enumerate(grads):
            ours[i].grad, theirs[i].grad = fb.tensor(g), torch.tensor(g)
        shared = [*ours, ours[0]]
        mine = fb.nn.utils.clip_grad_norm_(shared, limit, norm_type)
        other = torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type)
        assert mine.item() == pytest.approx(other.item(), rel=1e-5)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-5)
        fb.nn.utils.clip_grad_value_(ours, 0.1), torch.nn.utils.clip_grad_value_(theirs, 0.1)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-5)
    assert fb.nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


@pytest.mark.accept("T-16", "VER-06")
def test_a_training_loop_leaves_nothing_behind():
    """With the cycle collector off: models, optimizers and gradients go when their last name goes, and steps keep nothing."""
    gc.collect()
    gc.disable()
    try:
        fb.flush()
        start = recorder.stats()["live_cells"]
        model = fb.nn.Sequential(fb.nn.Linear(3, 4), fb.nn.ReLU(), fb.nn.Linear(4, 2))
        opt = Adam(model.parameters())
        counts, bytes_ = [], []
        for _ in range(6):
            opt.zero_grad()
            loss = fb.nn.functional.mse_loss(model(fb.ones(5, 3)), fb.zeros(5, 2))
            loss.backward()
            opt.step()
            counts.append(recorder.stats()["live_cells"])
            bytes_.append(fb.memory_stats()["live_bytes"])
        assert len(set(counts[1:])) == 1 and len(set(bytes_[2:])) == 1
        del model, opt, loss
        assert recorder.stats()["live_cells"] == start
    finally:
        gc.enable()


@pytest.mark.accept("OPT-08")
def test_a_tensor_as_learning_rate_beside_decay():
    for decoupled, factor in ((fb.optim.AdamW, 1 - 0.5 * 0.1), (fb.optim.Lion, 1 - 0.5 * 0.1)):
        x = fb.tensor([2.0], requires_grad=True)
        x.grad = fb.tensor([1.0])
        decoupled([x], lr=fb.tensor(0.5), weight_decay=0.1).step()
        assert x.item() == pytest.approx(2.0 * factor - 0.5, rel=1e-6)


def test_tensors_as_options_of_adam():
    x = fb.nn.Parameter(fb.ones(2))
    with pytest.raises(ValueError, match=r"\[Adam\] lr is a tensor, beside foreach=True without capturable=True"):
        fb.optim.Adam([x], lr=fb.tensor(0.1), foreach=True)
    with pytest.raises(ValueError, match=r"\[AdamW\] one of betas is a tensor. Pass two numbers, or two tensors"):
        fb.optim.AdamW([x], betas=(0.9, fb.tensor(0.99)))
    x.grad = fb.ones(2)
    fb.optim.Adam([x], lr=fb.tensor(0.5), betas=(fb.tensor(0.9), fb.tensor(0.99))).step()
    assert x.tolist() == pytest.approx([0.5, 0.5], rel=1e-6)


def test_complex_parameters_and_sparse_gradients_are_refused():
    x = fb.nn.Parameter(fb.ones(2, 2, dtype=fb.complex64))
    x.grad = fb.ones(2, 2, dtype=fb.complex64)
    for cls in (fb.optim.Adafactor, fb.optim.Muon):
        with pytest.raises(RuntimeError, match=rf"\[{cls.__name__}\] a parameter is complex64. Give complex ones to"):
            cls([x]).step()
    with pytest.raises(ValueError, match=r"\[SparseAdam\] a parameter is complex64"):
        fb.optim.SparseAdam([x])
    p = fb.nn.Parameter(fb.ones(2))
    with pytest.raises(ValueError, match=r"\[SparseAdam\] lr is 0.0. Use a number above 0"):
        fb.optim.SparseAdam([p], lr=0.0)
    optimizer = fb.optim.SparseAdam([p])
    optimizer.step()
    p.grad = fb.ones(2)
    with pytest.raises(RuntimeError, match=r"\[SparseAdam\] a gradient is dense, as all are here. Use Adam"):
        optimizer.step()


@pytest.mark.accept("OPT-11")
def test_the_state_of_lbfgs_has_all_that_pytorchs_has():
    x = fb.nn.Parameter(fb.tensor([3.0, -2.0]))
    optimizer = fb.optim.LBFGS([x], max_iter=4, history_size=5)

    def closure():
        optimizer.zero_grad()
        loss = (x * x * fb.tensor([1.0, 3.0])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    state = optimizer.state_dict()["state"][0]
    kept = len(state["old_dirs"])
    assert kept > 1 and len(state["ro"]) == kept and len(state["al"]) == 5
    for change, step, inverse in zip(state["old_dirs"], state["old_stps"], state["ro"]):
        assert inverse.item() == pytest.approx(1.0 / change.dot(step).item(), rel=1e-6)
    assert all(weight is not None for weight in state["al"][: kept - 1]) and state["al"][kept:] == [None] * (5 - kept)


def as_saved(module, other, state):
    """A state dict of `module` as `other` reads it from the file that `module` writes."""
    stream = io.BytesIO()
    module.save(state, stream)
    stream.seek(0)
    return other.load(stream)


@pytest.mark.accept("OPT-11")
@pytest.mark.parametrize(
    ("name", "options"), [*((n, o[-1]) for n, o in OPTIONS.items()), ("Muon", MATRICES["Muon"][0]), ("LBFGS", {})]
)
@pytest.mark.parametrize("into", ["torch", "flambeau"])
def test_states_go_to_torch_and_come_from_there(name, options, into):
    """Through a file of PyTorch's format: the steps after that are those of who goes on alone."""
    torch = pytest.importorskip("torch")
    source, target = (fb, torch) if into == "torch" else (torch, fb)
    shapes = [(3, 4), (2, 6)] if name == "Muon" else SHAPES

    def start(module, values):
        params = [module.tensor(v, requires_grad=True) for v in values]
        return params, getattr(module.optim, name)(params, **options)

    def go_on(module, params, optimizer, steps):
        def closure():
            optimizer.zero_grad()
            loss = sum(((p - k) ** 2).sum() for k, p in enumerate(params))
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)
        return [p.detach().numpy().copy() for p in params]

    params, optimizer = start(source, [arrays(*s, seed=1).astype(np.float64) for s in shapes])
    values = go_on(source, params, optimizer, 3)
    others, other = start(target, values)
    other.load_state_dict(as_saved(source, target, optimizer.state_dict()))
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys()
    wanted, found = go_on(source, params, optimizer, 3), go_on(target, others, other, 3)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
