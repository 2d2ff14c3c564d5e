"""PyTorch's own samples of modules and optimizers (ModuleInfo and OptimizerInfo, `torch.testing._internal`), made here and there.

    python tests/info_parity.py             # everything; writes info_parity.txt
    python tests/info_parity.py nn.LSTM SGD # these entries, with the whole errors

A module passes if with PyTorch's weights its results, gradients of inputs and parameters, names and contents of its state
are PyTorch's, in training and, where that differs, in evaluation, and if what must be refused raises PyTorch's class. An optimizer
passes if after five steps parameters and state are, and the same of errors. Of random modules shapes and dtypes count.
"""

from __future__ import annotations

import copy
import dataclasses
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import flambeau as fb
import opinfo_parity
from opinfo_parity import Absent, compare, converted, flat, gradients, leaves_of
from parity_lists import command, section

LIST = Path(__file__).resolve().parent / "info_parity.txt"
SAMPLES = 12  #: of an entry in a mode, spread evenly over all that it has
RANDOM = {"nn.FractionalMaxPool2d", "nn.FractionalMaxPool3d"}
RTOL, ATOL = 2e-4, 2e-5
STEPS = 5
#: How much further off some may be: Muon orthogonalizes in bfloat16, quotients of LBFGS's small differences cancel.
SLACK = {"Muon": 10, "LBFGS": 10}


def databases() -> tuple[list[Any], list[Any]]:
    """PyTorch's entries of modules and of optimizers."""
    opinfo_parity.op_db()  # stands in for what they import and do not need
    from torch.testing._internal.common_modules import module_db
    from torch.testing._internal.common_optimizers import optim_db

    return list(module_db), list(optim_db)


def spread(samples: list[Any]) -> list[Any]:
    return samples[:: max(1, -(-len(samples) // SAMPLES))]


def ours(value: Any, leaves: list[Any] | None = None) -> Any:
    """A sample's argument as ours: modules and functions of PyTorch's are found here by their names."""
    import torch

    if isinstance(value, torch.nn.Module):
        return _module(value)
    if isinstance(value, torch.nn.Parameter):
        return fb.nn.Parameter(fb.tensor(value.detach().numpy()), value.requires_grad)
    if isinstance(value, torch.Tensor):
        return converted(value, leaves)
    if isinstance(value, torch.nn.LinearCrossEntropyOptions):
        return fb.nn.LinearCrossEntropyOptions(**{k: ours(v) for k, v in dataclasses.asdict(value).items()})
    if isinstance(value, list | tuple):
        return type(value)(ours(v, leaves) for v in value)
    if isinstance(value, dict):
        return {k: ours(v, leaves) for k, v in value.items()}
    return converted(value, leaves)


def _module(value: Any) -> Any:
    """A module that is an argument: a layer of a Transformer, or an activation."""
    name = type(value).__name__
    if not name.startswith("Transformer"):
        return getattr(fb.nn, name)()
    attention = value.self_attn
    made = getattr(fb.nn, name)(
        attention.embed_dim,
        attention.num_heads,
        value.linear1.out_features,
        value.dropout.p,
        ours(value.activation),
        layer_norm_eps=value.norm1.eps,
        batch_first=attention.batch_first,
        norm_first=value.norm_first,
        bias=value.linear1.bias is not None,
    )
    made.load_state_dict({k: converted(v) for k, v in value.state_dict().items()})
    return made


# ---- modules --------------------------------------------------------------------------------------------------


def check_module(info: Any, sample: Any, training: bool) -> None:
    """One sample; asserts that everything is PyTorch's."""
    import torch

    made, call = sample.constructor_input, sample.forward_input
    name = info.name.removeprefix("nn.")
    if not hasattr(fb.nn, name):
        raise Absent(f"there is no nn.{name}")
    mine = getattr(fb.nn, name)(*ours(made.args), **ours(made.kwargs)).train(training)
    theirs = info.module_cls(*copy.deepcopy(made.args), **copy.deepcopy(made.kwargs)).train(training)
    given = (call.args, call.kwargs)
    leaves: list[Any] = []
    args, kwargs = ours(given, leaves)
    try:
        wanted = flat(copy.deepcopy(theirs)(*copy.deepcopy(call.args), **copy.deepcopy(call.kwargs)))
    except RuntimeError:
        return  # PyTorch's own tests skip a sample that it refuses
    if info.is_lazy:  # parameters are made by the first call
        theirs(*call.args, **call.kwargs)
        mine(*args, **kwargs)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state), f"the state has {list(mine.state_dict())}, not {list(state)}"
    mine.load_state_dict({k: converted(v) for k, v in state.items()})
    values = info.name not in RANDOM and not (training and _drops(theirs))
    found, wanted = flat(mine(*args, **kwargs)), flat(theirs(*call.args, **call.kwargs))
    assert len(found) == len(wanted), f"there are {len(found)} results, not {len(wanted)}"
    for i, (x, y) in enumerate(zip(found, wanted)):
        compare(f"result {i}", ours(x) if y is None else x, y, RTOL, ATOL * _scale(y), values)
    if not values:
        return
    parameters = list(theirs.parameters())
    expected = gradients(wanted, leaves_of(given) + parameters, torch)
    got = gradients(found, leaves + list(mine.parameters()), fb)
    assert len(got) == len(expected), f"there are {len(got)} gradients, not {len(expected)}"
    for i, (x, y) in enumerate(zip(got, expected)):
        if x is None or y is None:
            left = x if y is None else y
            assert left is None or not left.any(), f"gradient {i} is None on one side"
            continue
        compare(f"gradient {i}", x, y, RTOL, ATOL * _scale(y), True)
    for (k, x), y in zip(mine.state_dict().items(), theirs.state_dict().values()):
        compare(f"{k} afterwards", x, y, RTOL, ATOL * _scale(y), True)


def _drops(module: Any) -> bool:
    """Whether a module of PyTorch's drops something at random in training."""
    rates = [getattr(m, "p", getattr(m, "dropout", 0)) for m in module.modules()]
    return any(isinstance(p, float) and p > 0 for p in rates if not isinstance(p, bool))


def _scale(value: Any) -> float:
    """The largest finite number, at least 1."""
    import torch

    if not isinstance(value, torch.Tensor) or not value.numel() or not value.is_floating_point():
        return 1.0
    return max(1.0, float(value.detach().abs().nan_to_num(0, 0, 0).max()))


def check_module_errors(info: Any, training: bool) -> None:
    from torch.testing._internal.common_modules import ModuleErrorEnum

    if info.module_error_inputs_func is None:
        return
    for each in _samples(info, info.module_error_inputs_func, training):
        made, call = each.module_error_input.constructor_input, each.module_error_input.forward_input
        cls = getattr(fb.nn, info.name.removeprefix("nn."))
        build = partial(cls, *ours(made.args), **ours(made.kwargs))
        if each.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR:
            _raises(each.error_type, build, each.error_regex)
        else:
            _raises(each.error_type, partial(build(), *ours(call.args), **ours(call.kwargs)), each.error_regex)


def _raises(error: Any, call: Any, what: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning) if issubclass(error, Warning) else None
            result = call()
        [r.tolist() for r in flat(result) if isinstance(r, fb.Tensor)]
    except error:
        return
    except Exception as other:
        raise AssertionError(f"raises {type(other).__name__}, not {error.__name__}: {what}") from other
    raise AssertionError(f"does not raise {error.__name__}: {what}")


def _samples(info: Any, function: Any, training: bool) -> list[Any]:
    import torch

    torch.manual_seed(0)
    return list(function(info, device="cpu", dtype=torch.float32, requires_grad=True, training=training))


def run_module(info: Any) -> None:
    for training in (True, False) if info.train_and_eval_differ else (True,):
        for sample in spread(_samples(info, info.module_inputs_func, training)):
            check_module(info, sample, training)
    check_module_errors(info, True)


# ---- optimizers -----------------------------------------------------------------------------------------------


def parameters_for(module: Any, name: str) -> list[Any]:
    """Two parameters with fixed numbers; Muon takes matrices only."""
    shapes = [(4, 3), (2, 5)] if name == "Muon" else [(4, 3), (5,)]
    return [module.nn.Parameter(module.tensor(opinfo_parity.weights(s))) for s in shapes]


def trained(module: Any, name: str, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The parameters after some steps, and the state."""
    parameters = parameters_for(module, name)
    optimizer = getattr(module.optim, name)(parameters, **kwargs)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(
            ((p - 0.3) ** 2 * module.tensor(opinfo_parity.weights(tuple(p.shape)) + 2)).sum() for p in parameters
        )
        loss.backward()
        return loss

    for _ in range(STEPS):
        optimizer.step(closure)
    return parameters, optimizer.state_dict()


def run_optimizer(info: Any) -> None:
    import torch

    if not hasattr(fb.optim, info.name):
        raise Absent(f"there is no optim.{info.name}")
    slack = SLACK.get(info.name, 1)
    for sample in info.optim_inputs_func(device="cpu"):
        if info.only_supports_sparse_grads:  # there are none here: both refuse the others
            for module, given in ((torch, sample.kwargs), (fb, ours(sample.kwargs))):
                _raises(RuntimeError, partial(trained, module, info.name, given), "a dense gradient")
            continue
        kwargs = copy.deepcopy(sample.kwargs)
        mine, state = trained(fb, info.name, ours(sample.kwargs))
        theirs, wanted = trained(torch, info.name, kwargs)
        for i, (x, y) in enumerate(zip(mine, theirs)):
            compare(f"parameter {i} ({sample.desc})", x, y, RTOL * slack, ATOL * slack, True)
        _compare_state(sample.desc, state, wanted, slack)
    for each in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        _check_optimizer_error(info, each)


def _compare_state(desc: str, state: dict[str, Any], wanted: dict[str, Any], slack: float) -> None:
    import torch

    for k, values in wanted["state"].items():
        missing = [n for n in values if n not in state["state"].get(k, {})]
        assert not missing, f"the state has no {missing} ({desc})"
        for n, y in values.items():
            if isinstance(y, torch.Tensor) and y.numel() and n != "step":
                compare(f"{n} of {k} ({desc})", state["state"][k][n], y, RTOL * slack, ATOL * slack * _scale(y), True)
    keys = [k for k in wanted["param_groups"][0] if k not in state["param_groups"][0]]
    assert not keys, f"the groups have no {keys} ({desc})"


def _shared(params: Any, known: dict[int, Any]) -> Any:
    """Parameters, or groups of them, as ours: one that is met twice stays one."""
    if isinstance(params, dict):
        return {k: _shared(v, known) for k, v in params.items()}
    if isinstance(params, list):
        return [_shared(p, known) for p in params]
    if id(params) not in known:
        known[id(params)] = ours(params)
        if getattr(params, "grad", None) is not None:
            known[id(params)].requires_grad_().grad = ours(params.grad)
    return known[id(params)]


def _params_in(params: Any) -> list[Any]:
    """The parameters of a list of them or of groups."""
    found = [p["params"] if isinstance(p, dict) else p for p in params or []]
    return opinfo_parity.flat(found)


def _check_optimizer_error(info: Any, each: Any) -> None:
    from torch.testing._internal.common_optimizers import OptimizerErrorEnum

    given = each.optimizer_error_input
    if any(getattr(p, "is_sparse", False) for p in _params_in(given.params)):
        return  # no such parameter can be made here
    cls = getattr(fb.optim, info.name)
    params = parameters_for(fb, info.name) if given.params is None else _shared(given.params, {})
    error = each.error_type
    if error is UserWarning and "duplicate" in str(each.error_regex):
        error = ValueError  # PyTorch warns of what "will cause an error"; here it does, as docs/differences.md says
    if each.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR:
        _raises(error, lambda: cls(params, **ours(given.kwargs)), str(each.error_regex))
        return
    optimizer = cls(params, **ours(given.kwargs))
    _raises(error, optimizer.step, str(each.error_regex))


# ---- the list -------------------------------------------------------------------------------------------------


def check(run: Any, info: Any, whole: bool = False) -> tuple[str, str]:
    """("pass" or "fail" or "missing", the first reason)."""
    try:
        run(info)
    except Absent as error:
        return "missing", opinfo_parity._short(error)
    except Exception as error:
        if whole:
            traceback.print_exc()
        text = f"{type(error).__name__}: {opinfo_parity._short(error)}"
        return "fail", text.removeprefix("AssertionError: ")
    return "pass", ""


def results(names: list[str]) -> dict[str, tuple[str, str]]:
    found = {}
    with warnings.catch_warnings(), fb.compiler_options(mode="off"):
        warnings.simplefilter("ignore")
        for database, run in zip(databases(), (run_module, run_optimizer)):
            for info in database:
                if not names or info.name in names:
                    found[info.name] = check(run, info, bool(names))
                    if names:
                        print(info.name, *found[info.name], flush=True)
    return found


def written(found: dict[str, tuple[str, str]]) -> str:
    """The list: what fails and what is missing with its reason, and what passes; modules and optimizers apart."""
    text = "# PyTorch's samples of modules and optimizers (python tests/info_parity.py). A test lets this list only improve.\n"
    for is_module in (True, False):
        here = {n: r for n, r in found.items() if n.startswith("nn.") == is_module}
        text += section("modules" if is_module else "optimizers", here)
    return text


if __name__ == "__main__":
    command(__doc__, results, written, LIST)
