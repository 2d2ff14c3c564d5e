"""Schedulers of learning rates: those of PyTorch, epoch by epoch; saved and gone on with; composed; refused."""

import math
import warnings

import flambeau as fb
import numpy as np
import pytest
from flambeau.optim import lr_scheduler as ours
from flambeau.runtime import recorder

EPOCHS = 24
#: name -> calls; what is called is given a namespace of schedulers and an optimizer.
CALLS = {
    "LambdaLR": [
        lambda n, o: n.LambdaLR(o, lambda e: 0.9**e),
        lambda n, o: n.LambdaLR(o, [lambda e: 1 + e, lambda e: 1.0]),
    ],
    "MultiplicativeLR": [lambda n, o: n.MultiplicativeLR(o, lambda e: 0.5 + 0.01 * e)],
    "StepLR": [lambda n, o: n.StepLR(o, 3), lambda n, o: n.StepLR(o, 5, gamma=0.5)],
    "MultiStepLR": [lambda n, o: n.MultiStepLR(o, [3, 7, 7, 12], gamma=0.5)],
    "ConstantLR": [lambda n, o: n.ConstantLR(o), lambda n, o: n.ConstantLR(o, factor=0.25, total_iters=2)],
    "LinearLR": [lambda n, o: n.LinearLR(o), lambda n, o: n.LinearLR(o, 1.0, 0.1, total_iters=8)],
    "ExponentialLR": [lambda n, o: n.ExponentialLR(o, 0.8)],
    "PolynomialLR": [lambda n, o: n.PolynomialLR(o, 7, power=1.5)],
    "CosineAnnealingLR": [lambda n, o: n.CosineAnnealingLR(o, 5), lambda n, o: n.CosineAnnealingLR(o, 8, eta_min=0.01)],
    "CosineAnnealingWarmRestarts": [
        lambda n, o: n.CosineAnnealingWarmRestarts(o, 4),
        lambda n, o: n.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.01),
    ],
    "CyclicLR": [
        lambda n, o: n.CyclicLR(o, 0.01, 0.5, step_size_up=3, step_size_down=5),
        lambda n, o: n.CyclicLR(o, [0.01, 0.02], [0.5, 0.3], step_size_up=3, mode="triangular2"),
        lambda n, o: n.CyclicLR(o, 0.01, 0.5, step_size_up=4, mode="exp_range", gamma=0.9, base_momentum=0.6),
        lambda n, o: n.CyclicLR(o, 0.01, 0.5, 2, scale_fn=lambda x: 1 / x, cycle_momentum=False),
    ],
    "OneCycleLR": [
        lambda n, o: n.OneCycleLR(o, 1.0, total_steps=EPOCHS),
        lambda n, o: n.OneCycleLR(
            o, [1.0, 0.5], epochs=5, steps_per_epoch=6, anneal_strategy="linear", three_phase=True
        ),
        lambda n, o: n.OneCycleLR(o, 1.0, total_steps=30, pct_start=0.4, cycle_momentum=False, div_factor=5),
    ],
    "ChainedScheduler": [lambda n, o: n.ChainedScheduler([n.ConstantLR(o, 0.1, 4), n.ExponentialLR(o, 0.9)])],
    "SequentialLR": [
        lambda n, o: n.SequentialLR(o, [n.ConstantLR(o, 0.1, 4), n.ExponentialLR(o, 0.9)], [5]),
        lambda n, o: n.SequentialLR(
            o, [n.LinearLR(o, 0.1, total_iters=3), n.CosineAnnealingLR(o, 8), n.StepLR(o, 3)], milestones=[3, 11]
        ),
    ],
    "SWALR": [
        lambda n, o: n.SWALR(o, 0.05, anneal_epochs=4),
        lambda n, o: n.SWALR(o, [0.05, 0.5], anneal_epochs=6, anneal_strategy="linear"),
        lambda n, o: n.SWALR(o, 0.05, anneal_epochs=0),
    ],
}
PARAMS = [pytest.param(call, id=f"{name}-{i}") for name, calls in CALLS.items() for i, call in enumerate(calls)]


def optimizer(module, kind="SGD", **options):
    groups = [
        {"params": [module.ones(2, requires_grad=True)]},
        {"params": [module.ones(3, requires_grad=True)], "lr": 0.2},
    ]
    return getattr(module.optim, kind)(groups, lr=0.1, **options)


def schedulers(module):
    if module is fb:
        return ours
    from types import SimpleNamespace

    return SimpleNamespace(**vars(module.optim.lr_scheduler), SWALR=module.optim.swa_utils.SWALR)


def run(module, opt, scheduler, epochs=EPOCHS):
    """The options of the groups after every epoch."""
    seen = []
    for _ in range(epochs):
        seen.append([[g["lr"], g.get("momentum"), g.get("betas")] for g in opt.param_groups])
        assert scheduler.get_last_lr() == [g["lr"] for g in opt.param_groups]
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = module.ones_like(p)
        opt.step()
        scheduler.step()
    return seen


def close(mine, theirs):
    def flat(x):
        return [y for part in x for y in flat(part)] if isinstance(x, (list, tuple)) else [math.nan if x is None else x]

    np.testing.assert_allclose(flat(mine), flat(theirs), rtol=1e-12, atol=1e-15)


@pytest.mark.accept("SCH-01", "SCH-02", "SCH-03", "SCH-04")
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("call", PARAMS)
def test_learning_rates_are_those_of_torch(call, kind):
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        opt = optimizer(module, kind, **({"momentum": 0.9} if kind == "SGD" else {}))
        found.append(run(module, opt, call(schedulers(module), opt)))
    close(*found)


@pytest.mark.parametrize("call", PARAMS)
def test_epochs_may_be_given(call):
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        opt = optimizer(module, momentum=0.9)
        scheduler, seen = call(schedulers(module), opt), []
        if not hasattr(scheduler, "_step_count") or hasattr(scheduler, "_schedulers"):
            return  # composed: they take none
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in (0, 3, 4, 9, 5):
                opt.step()
                scheduler.step(epoch)
                seen.append([g["lr"] for g in opt.param_groups])
        found.append(seen)
    close(*found)


@pytest.mark.accept("SCH-04", "OPT-11")
@pytest.mark.parametrize("call", PARAMS)
def test_schedules_go_on_where_they_were_saved(call):
    straight_opt = optimizer(fb, momentum=0.9)
    straight = run(fb, straight_opt, call(ours, straight_opt))
    opt = optimizer(fb, momentum=0.9)
    scheduler = call(ours, opt)
    run(fb, opt, scheduler, 9)
    saved = opt.state_dict(), scheduler.state_dict()
    opt = optimizer(fb, momentum=0.9)
    scheduler = call(ours, opt)
    opt.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    close(run(fb, opt, scheduler, EPOCHS - 9), straight[9:])


@pytest.mark.accept("SCH-04")
@pytest.mark.parametrize("call", PARAMS)
def test_states_go_from_torch_to_flambeau_and_back(call):
    torch = pytest.importorskip("torch")
    for source, target in ((torch, fb), (fb, torch)):
        opt = optimizer(source, momentum=0.9)
        scheduler = call(schedulers(source), opt)
        run(source, opt, scheduler, 7)
        other = optimizer(target, momentum=0.9)
        continued = call(schedulers(target), other)
        for group, given in zip(other.param_groups, opt.state_dict()["param_groups"]):
            group.update({k: v for k, v in given.items() if k != "params"})
        continued.load_state_dict(scheduler.state_dict())
        close(run(target, other, continued, 6), run(source, opt, scheduler, 6))


PLATEAUS = [
    {"patience": 1},
    {"mode": "max", "factor": 0.5, "patience": 0, "threshold": 0.1, "cooldown": 2},
    {"threshold_mode": "abs", "threshold": 0.3, "patience": 2, "min_lr": [0.05, 0.001]},
    {"mode": "max", "threshold_mode": "abs", "patience": 0, "min_lr": 0.02, "eps": 0.01},
]


@pytest.mark.accept("SCH-02")
@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_plateaus_are_those_of_torch(options):
    torch = pytest.importorskip("torch")
    metrics = [1.0, 0.8, 0.79, 0.9, 0.9, 0.7, 0.71, 0.72, 0.3, 0.31, 0.5, 1.5, 1.5, 1.5, 0.1, float("nan"), 0.2, 0.2]
    found = []
    for module in (fb, torch):
        opt = optimizer(module)
        scheduler, seen = module.optim.lr_scheduler.ReduceLROnPlateau(opt, **options), []
        for i, metric in enumerate(metrics):
            if i == 9:  # gone on with
                state = scheduler.state_dict()
                scheduler = module.optim.lr_scheduler.ReduceLROnPlateau(opt)
                scheduler.load_state_dict(state)
            scheduler.step(module.tensor(metric, dtype=module.float64) if i % 2 else metric)
            seen.append([g["lr"] for g in opt.param_groups] + [scheduler.num_bad_epochs, int(scheduler.in_cooldown)])
        found.append(seen)
    close(*found)


def test_a_learning_rate_that_is_a_tensor_stays_the_one_it_is():
    p, lr = fb.ones(2, requires_grad=True), fb.tensor(0.5)
    opt = fb.optim.SGD([p], lr=lr)
    scheduler = ours.ExponentialLR(opt, 0.5)
    for _ in range(2):
        p.grad = fb.ones(2)
        opt.step()
        scheduler.step()
    assert opt.param_groups[0]["lr"] is lr and lr.item() == 0.125 and scheduler.get_last_lr()[0] is not lr
    assert p.tolist() == [0.25, 0.25]


@pytest.mark.accept("OPT-08", "SCH-01")
def test_schedules_never_compile_anew():
    p = fb.ones(4, requires_grad=True)
    opt = fb.optim.SGD([p], lr=0.1, momentum=0.9)
    scheduler = ours.OneCycleLR(opt, 0.1, total_steps=20)
    for step in range(12):
        p.grad = fb.ones(4)
        before = recorder.stats()
        opt.step()
        scheduler.step()
        after = recorder.stats()
        if step > 3:
            assert after["misses"] == before["misses"] and after["builds"] == before["builds"]


def test_a_scheduler_that_steps_first_is_told_of():
    opt = optimizer(fb)
    scheduler = ours.StepLR(opt, 2)
    with pytest.warns(UserWarning, match=r"\[StepLR\] step\(\) was called before optimizer.step\(\)"):
        scheduler.step()


def test_functions_that_are_objects_are_saved():
    class Factor:
        def __init__(self, base):
            self.base = base

        def __call__(self, epoch):
            return self.base**epoch

    scheduler = ours.LambdaLR(optimizer(fb), [Factor(0.5), lambda e: 1.0])
    state = scheduler.state_dict()
    assert state["lr_lambdas"] == [{"base": 0.5}, None]
    other = ours.LambdaLR(optimizer(fb), [Factor(0.9), lambda e: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].base == 0.5


OPT = optimizer(fb)
BAD = [
    (lambda: ours.StepLR(fb.ones(1), 2), TypeError, r"\[StepLR\] optimizer is a Tensor"),
    (lambda: ours.StepLR(optimizer(fb), 2, last_epoch=3), KeyError, r"\[StepLR\] group 0 has no 'initial_lr'"),
    (lambda: ours.LambdaLR(OPT, [lambda e: 1.0]), ValueError, r"\[LambdaLR\] lr_lambda has 1 entries for 2 groups"),
    (lambda: ours.MultiplicativeLR(OPT, 3), TypeError, r"\[MultiplicativeLR\] lr_lambda is a int"),
    (lambda: ours.ConstantLR(OPT, 2.0), ValueError, r"\[ConstantLR\] factor is 2.0"),
    (lambda: ours.LinearLR(OPT, 0.0), ValueError, r"\[LinearLR\] start_factor is 0.0"),
    (lambda: ours.LinearLR(OPT, 0.5, 2.0), ValueError, r"\[LinearLR\] end_factor is 2.0"),
    (lambda: ours.CosineAnnealingWarmRestarts(OPT, 0), ValueError, r"T_0 is 0"),
    (lambda: ours.CosineAnnealingWarmRestarts(OPT, 2, 0), ValueError, r"T_mult is 0"),
    (lambda: ours.CosineAnnealingWarmRestarts(OPT, 2).step(-1), ValueError, r"epoch is -1"),
    (lambda: ours.CyclicLR(OPT, 0.1, 1.0, mode="square"), ValueError, r"\[CyclicLR\] mode is 'square'"),
    (lambda: ours.CyclicLR(optimizer(fb, "Adagrad"), 0.1, 1.0), ValueError, r"\[CyclicLR\] Adagrad has no momentum"),
    (lambda: ours.OneCycleLR(OPT, 1.0), ValueError, r"\[OneCycleLR\] the length is not known"),
    (lambda: ours.OneCycleLR(OPT, 1.0, total_steps=0), ValueError, r"\[OneCycleLR\] total_steps is 0"),
    (lambda: ours.OneCycleLR(OPT, 1.0, epochs=2, steps_per_epoch=-1), ValueError, r"steps_per_epoch is -1"),
    (lambda: ours.OneCycleLR(OPT, 1.0, 9, pct_start=2.0), ValueError, r"pct_start is 2.0"),
    (lambda: ours.OneCycleLR(OPT, 1.0, 9, anneal_strategy="x"), ValueError, r"anneal_strategy is 'x'"),
    (lambda: ours.OneCycleLR(optimizer(fb), 1.0, 9).step(11), ValueError, r"step 11 is beyond the 9 of the cycle"),
    (lambda: ours.ChainedScheduler([]), ValueError, r"\[ChainedScheduler\] there are no schedulers"),
    (lambda: ours.ChainedScheduler([3]), TypeError, r"scheduler 0 is a int"),
    (
        lambda: ours.ChainedScheduler([ours.StepLR(OPT, 2), ours.StepLR(optimizer(fb), 2)]),
        ValueError,
        r"scheduler 1 is of another optimizer",
    ),
    (lambda: ours.ChainedScheduler([ours.ReduceLROnPlateau(OPT)]), ValueError, r"whose step\(\) takes a metric"),
    (
        lambda: ours.SequentialLR(OPT, [ours.StepLR(OPT, 2)], [3]),
        ValueError,
        r"there are 1 schedulers and 1 milestones",
    ),
    (lambda: ours.ReduceLROnPlateau(OPT, mode="low"), ValueError, r"mode is 'low'"),
    (lambda: ours.ReduceLROnPlateau(OPT, factor=1.0), ValueError, r"factor is 1.0"),
    (lambda: ours.ReduceLROnPlateau(OPT, threshold_mode="x"), ValueError, r"threshold_mode is 'x'"),
    (lambda: ours.ReduceLROnPlateau(OPT, min_lr=[0.1]), ValueError, r"min_lr has 1 entries for 2 groups"),
    (lambda: ours.SWALR(OPT, 0.1, anneal_strategy="x"), ValueError, r"\[SWALR\] anneal_strategy is 'x'"),
    (lambda: ours.SWALR(OPT, 0.1, anneal_epochs=-1), ValueError, r"\[SWALR\] anneal_epochs is -1"),
    (lambda: ours.LRScheduler(OPT), NotImplementedError, r"\[LRScheduler\] LRScheduler has no get_lr\(\)"),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def model(module):
    net = module.nn.Sequential(module.nn.Linear(3, 4), module.nn.Tanh(), module.nn.Linear(4, 2))
    with module.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(module.arange(p.numel(), dtype=module.float32).reshape(p.shape) * 0.1 - i)
    return net


AVERAGES = [
    lambda u: {},
    lambda u: {"avg_fn": u.get_ema_avg_fn(0.7)},
    lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.7)},
    lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    lambda u: {"avg_fn": lambda average, p, n: average * 0.5 + p / (n + 1), "use_buffers": True},
]


@pytest.mark.accept("OPT-14")
@pytest.mark.parametrize("options", AVERAGES)
def test_averaged_models_are_those_of_torch(options):
    torch = pytest.importorskip("torch")
    found = []
    for module in (fb, torch):
        utils = module.optim.swa_utils
        net = model(module)
        averaged = utils.AveragedModel(net, **options(utils))
        for step in range(4):
            with module.no_grad():
                for p in net.parameters():
                    p.mul_(1.0 + 0.1 * step).add_(0.3)
            averaged.update_parameters(net)
        assert int(averaged.n_averaged) == 4
        found.append({k: v.numpy() for k, v in averaged.state_dict().items()})
        assert averaged(module.ones(2, 3)).shape == (2, 2)
    assert list(found[0]) == list(found[1])
    for key, value in found[0].items():
        np.testing.assert_allclose(value, found[1][key], rtol=1e-6)


@pytest.mark.accept("OPT-14")
def test_averages_by_hand():
    net = model(fb)
    mean, faded = (
        fb.optim.swa_utils.AveragedModel(net),
        fb.optim.swa_utils.AveragedModel(net, avg_fn=fb.optim.swa_utils.get_ema_avg_fn(0.75)),
    )
    seen = []
    for _ in range(3):
        with fb.no_grad():
            net[0].bias.add_(1.0)
        mean.update_parameters(net)
        faded.update_parameters(net)
        seen.append(net[0].bias.detach().numpy().copy())
    np.testing.assert_allclose(mean.module[0].bias.detach().numpy(), np.mean(seen, 0), rtol=1e-6)
    wanted = 0.75 * (0.75 * seen[0] + 0.25 * seen[1]) + 0.25 * seen[2]
    np.testing.assert_allclose(faded.module[0].bias.detach().numpy(), wanted, rtol=1e-6)
    with pytest.raises(ValueError, match=r"decay is 1.5"):
        fb.optim.swa_utils.get_ema_avg_fn(1.5)
    with pytest.raises(AssertionError, match=r"avg_fn and multi_avg_fn exclude each other"):
        fb.optim.swa_utils.AveragedModel(net, avg_fn=lambda a, p, n: p, multi_avg_fn=lambda a, p, n: None)
