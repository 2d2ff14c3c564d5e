"""What public code does with modules beside calling them: hooks of all kinds, tables of members, state dicts saved and loaded in
ways of their own, conversion of whole trees, and the names of PyTorch's files."""

import copy
import difflib
import pickle
import warnings
from collections import OrderedDict
from importlib import import_module

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.nn.modules import module as module_names


def both():
    """(library, nn) of ours, and of PyTorch where it is installed."""
    yield fb, nn
    try:
        import torch
    except ImportError:
        return
    yield torch, torch.nn


def linear(lib, nn, out=2, inner=2):
    layer = nn.Linear(inner, out)
    with lib.no_grad():
        layer.weight.copy_(lib.arange(float(out * inner)).reshape(out, inner) / 7 - 0.2)
        layer.bias.copy_(lib.arange(float(out)))
    return layer


def shown(x):
    """Gradients as nested lists."""
    if isinstance(x, tuple):
        return [shown(each) for each in x]
    return None if x is None else np.round(np.asarray(x.tolist()), 5).tolist()


def same_everywhere(run):
    """What `run(library, nn)` gives, here and with PyTorch."""
    found = [run(*libraries) for libraries in both()]
    assert all(each == found[0] for each in found), found
    return found[0]


# ---- hooks ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("NN-08")
def test_full_backward_hooks_see_and_replace_gradients():
    def run(lib, nn):
        net, seen = nn.Sequential(linear(lib, nn), nn.Tanh(), linear(lib, nn)), []

        def look(module, grad_input, grad_output):
            seen.append((type(module).__name__, shown(grad_input), shown(grad_output)))

        net[2].register_full_backward_hook(look)
        net[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 3,))
        net[1].register_full_backward_hook(look)
        net[1].register_full_backward_hook(lambda m, gi, go: seen.append("first"), prepend=True)
        net[0].register_full_backward_pre_hook(lambda m, go: (go[0] + 1,))
        net[0].register_full_backward_hook(look)
        x = lib.tensor([[1.0, 2.0]], requires_grad=True)
        net(x).sum().backward()
        return seen, shown(x.grad), shown(net[0].weight.grad), shown(net[2].bias.grad)

    seen, x, *_ = same_everywhere(run)
    assert [s if s == "first" else s[0] for s in seen] == ["Linear", "first", "Tanh", "Linear"]
    assert seen[3][2] != seen[2][1] and seen[3][1][0] == x  # the pre-hook came in between


@pytest.mark.accept("NN-08")
def test_backward_hooks_of_several_arguments_and_results():
    def run(lib, nn):
        class Two(nn.Module):
            def forward(self, x, n, y):
                return x * n, y * x, n

        net, seen = Two(), []
        net.register_full_backward_hook(lambda m, gi, go: seen.append((shown(gi), shown(go))))
        x, y = lib.ones(2, requires_grad=True), lib.ones(2)
        first, second, n = net(x, 3, y)
        (first.sum() + 2 * second.sum()).backward()
        return seen, shown(x.grad), n

    seen, grad, n = same_everywhere(run)
    assert seen == [([[5.0, 5.0], None, [0.0, 0.0]], [[1.0, 1.0], [2.0, 2.0], None])] and grad == [5.0, 5.0] and n == 3


def test_a_backward_hook_where_no_input_needs_a_gradient():
    def run(lib, nn):
        net, seen = linear(lib, nn), []
        net.register_full_backward_hook(lambda m, gi, go: seen.append((shown(gi), shown(go))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net(lib.ones(1, 2)).sum().backward()
        return seen, shown(net.bias.grad)

    assert same_everywhere(run) == ([([None], [[[1.0, 1.0]]])], [1.0, 1.0])


def test_what_backward_hooks_refuse():
    net, x = nn.Linear(2, 2), fb.ones(1, 2, requires_grad=True)
    with (
        net.register_full_backward_hook(lambda m, gi, go: (None, None)),
        pytest.raises(RuntimeError, match=r"\[hook\] a backward hook returned 2 gradients as grad_input. Return 1"),
    ):
        net(x).sum().backward()
    with (
        net.register_full_backward_hook(lambda m, gi, go: (fb.ones(1, 2),)),
        pytest.raises(RuntimeError, match="gradients of inputs that need none"),
    ):
        net(x.detach()).sum().backward()
    with pytest.raises(RuntimeError, match=r"\[register_backward_hook\] there are backward hooks of the other kind"):
        net.register_backward_hook(print)
    old, seen = nn.Linear(2, 2), []
    old.register_backward_hook(lambda m, gi, go: seen.append(go[0].tolist()))
    old(x).sum().backward()
    assert seen == [[[1.0, 1.0]]]

    class Dict(nn.Module):
        def forward(self, x):
            return {"y": x}

    odd = Dict()
    odd.register_full_backward_hook(print)
    with pytest.warns(UserWarning, match=r"\[Dict\] backward hooks are called for outputs"):
        odd(x)


@pytest.mark.accept("NN-08")
def test_forward_hooks_with_kwargs_and_always_called():
    def run(lib, nn):
        class Net(nn.Module):
            def forward(self, x, *, fail=False):
                if fail:
                    raise ValueError("no")
                return x + 1

        net, seen = Net(), []
        net.register_forward_hook(lambda m, a, k, out: seen.append(("kwargs", sorted(k), shown(out))), with_kwargs=True)
        net.register_forward_hook(lambda m, a, out: seen.append(("always", shown(out))), always_call=True)
        net.register_forward_hook(lambda m, a, out: seen.append("first"), prepend=True)
        net.register_forward_pre_hook(lambda m, a, k: ((a[0] * 2,), k), with_kwargs=True)
        y = net(lib.ones(1), fail=False)
        try:
            net(lib.ones(1), fail=True)
        except ValueError as error:
            seen.append(str(error))
        return seen, shown(y)

    seen, y = same_everywhere(run)
    assert seen == ["first", ("kwargs", ["fail"], [3.0]), ("always", [3.0]), ("always", None), "no"] and y == [3.0]


def test_hooks_of_all_modules():
    def run(lib, nn):
        names, seen = import_module(nn.__name__ + ".modules.module"), []
        net = nn.Sequential(linear(lib, nn), nn.ReLU())
        handles = [
            names.register_module_forward_pre_hook(lambda m, a: seen.append(("pre", type(m).__name__))),
            names.register_module_forward_hook(lambda m, a, out: out * 2 if type(m).__name__ == "ReLU" else None),
            names.register_module_full_backward_pre_hook(lambda m, go: seen.append(("back", type(m).__name__))),
            names.register_module_full_backward_hook(lambda m, gi, go: seen.append((type(m).__name__, shown(go)))),
        ]
        try:
            x = lib.ones(1, 2, requires_grad=True)
            y = net(x)
            y.sum().backward()
        finally:
            for handle in handles:
                handle.remove()
        net(x)
        return seen, shown(y), shown(x.grad)

    seen, _, _ = same_everywhere(run)
    assert seen[:3] == [("pre", "Sequential"), ("pre", "Linear"), ("pre", "ReLU")] and len(seen) == 9


def test_hooks_of_registration():
    seen = []
    handles = [
        module_names.register_module_parameter_registration_hook(lambda m, n, p: seen.append(n)),
        module_names.register_module_buffer_registration_hook(lambda m, n, b: None if b is None else b + 1),
        module_names.register_module_module_registration_hook(lambda m, n, sub: seen.append(n)),
    ]
    net = nn.Sequential(nn.BatchNorm1d(2))
    for handle in handles:
        handle.remove()
    assert (
        seen == ["weight", "bias", "0"]
        and net[0].running_var.tolist() == [1.0, 1.0]
        and net[0].running_mean.tolist() == [0, 0]
    )


# ---- tables --------------------------------------------------------------------------------------------------


@pytest.mark.accept("NN-02")
def test_tables_of_members_are_read_and_changed_as_public_code_does():
    def run(lib, nn):
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        weight = net[0]._parameters["weight"]
        del net[0]._parameters["weight"]
        gone = not hasattr(net[0], "weight") and "weight" not in net[0]._parameters
        net[0].weight = weight.detach() * 2
        net[0].register_parameter("weight_g", nn.Parameter(lib.ones(1)))
        net[1]._buffers["running_mean"] = lib.ones(2)
        net[1]._non_persistent_buffers_set.add("running_var")
        net._modules["0"] = nn.ReLU()
        net._modules["2"] = nn.Tanh()
        names = list(net._modules), list(net._modules.items())[2][0], len(net._modules), list(net.state_dict())
        popped = net._modules.pop("2")
        net[1]._parameters.update(bias=None)
        return gone, names, repr(popped), net[1].running_mean.tolist(), repr(net), list(net.state_dict())

    gone, names, *_, text, state = same_everywhere(run)
    assert gone and names[0] == ["0", "1", "2"] and "running_var" not in " ".join(names[3]) and "ReLU" in text
    assert state == ["1.weight", "1.running_mean", "1.num_batches_tracked"]


def test_a_sequential_with_members_of_other_kinds_runs_its_modules():
    class Scaled(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.scale = nn.Parameter(fb.full((1,), 3.0))

    net = Scaled(nn.ReLU(), nn.ReLU())
    assert net(fb.ones(2)).tolist() == [1.0, 1.0] and len(net) == 2 and [type(m) for m in net] == [nn.ReLU] * 2
    assert len(Scaled(nn.ReLU()).append(nn.Tanh())) == 2


def test_modules_with_hooks_are_copied_and_pickled():
    net = nn.Linear(2, 2)
    net.register_forward_hook(_double)
    net.register_load_state_dict_pre_hook(_nothing)
    x = fb.ones(1, 2)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin(x).tolist() == net(x).tolist() and twin.state_dict().keys() == net.state_dict().keys()


def _double(module, args, output):
    return output * 2


def _nothing(*args):
    return None


# ---- state ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("NN-06")
def test_state_dict_takes_destination_prefix_and_hooks():
    def run(lib, nn):
        net, seen = nn.Sequential(nn.BatchNorm1d(1)), []
        net[0].register_state_dict_pre_hook(lambda m, prefix, keep: seen.append(("pre", prefix, keep)))
        net[0].register_state_dict_post_hook(lambda m, state, prefix, local: state.pop(prefix + "bias"))
        net._register_state_dict_hook(lambda m, state, prefix, local: OrderedDict(state, more=1))
        destination = OrderedDict(first=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                net.state_dict(destination=destination, prefix="a.", keep_vars=True)
            except RuntimeError:
                seen.append("refused")
        net[0]._state_dict_hooks.clear()
        found = net.state_dict(destination=destination, prefix="a.", keep_vars=True)
        return (
            seen,
            list(found),
            list(destination),
            list(nn.Linear(1, 1).state_dict()._metadata),
            net.state_dict(prefix="x.")["x.0.weight"].requires_grad,
        )

    seen, found, destination, metadata, requires_grad = same_everywhere(run)
    assert seen[:2] == [("pre", "a.0.", True), "refused"] and found == [*destination, "more"] and metadata == [""]
    assert not requires_grad


@pytest.mark.accept("NN-06")
def test_extra_state_and_overridden_saving_and_loading():
    def run(lib, nn):
        class Counted(nn.Module):
            def __init__(self):
                super().__init__()
                self.count = 3
                self.w = nn.Parameter(lib.ones(1))

            def get_extra_state(self):
                return {"count": self.count}

            def set_extra_state(self, state):
                self.count = state["count"]

        class Renamed(nn.Linear):
            _version = 2

            def _save_to_state_dict(self, destination, prefix, keep_vars):
                super()._save_to_state_dict(destination, prefix, keep_vars)
                destination[prefix + "kernel"] = destination.pop(prefix + "weight")

            def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
                seen.append(local_metadata.get("version"))
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")
                super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

        seen = []
        net, other = (nn.Sequential(Counted(), Renamed(2, 1)) for _ in range(2))
        net[0].count = 9
        state = net.state_dict()
        report = other.load_state_dict(state)
        same = other[1].weight.tolist() == net[1].weight.tolist()
        missing = other.load_state_dict({k: v for k, v in state.items() if "extra" not in k}, strict=False).missing_keys
        return list(state), str(report), other[0].count, same, seen, missing

    state, report, count, same, seen, missing = same_everywhere(run)
    assert state == ["0.w", "0._extra_state", "1.bias", "1.kernel"] and report == "<All keys matched successfully>"
    assert count == 9 and same and seen == [2, None] and missing == ["0._extra_state"]


@pytest.mark.accept("NN-06")
def test_hooks_around_loading():
    def run(lib, nn):
        net, seen = nn.Sequential(linear(lib, nn)), []

        def rename(module, state, prefix, local, strict, missing, unexpected, errors):
            state[prefix + "weight"] = state.pop(prefix + "w")

        net[0].register_load_state_dict_pre_hook(rename)
        net[0]._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))
        net[0].register_load_state_dict_post_hook(
            lambda m, keys: (seen.append(m.bias.tolist()), keys.unexpected_keys.clear())[2:] or None
        )
        net.load_state_dict({"0.w": lib.ones(2, 2), "0.bias": lib.full((2,), 4.0), "0.odd": lib.ones(1)})
        return seen, net[0].weight.tolist()

    assert same_everywhere(run) == (["0.", [4.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]])


@pytest.mark.accept("NN-06")
def test_loading_by_assignment():
    def run(lib, nn):
        net = nn.BatchNorm1d(2)
        net.weight.requires_grad_(False)
        state = {k: (v.double() + 2 if v.is_floating_point() else v) for k, v in net.state_dict().items()}
        net.load_state_dict(state, assign=True)
        return (
            str(net.weight.dtype),
            net.weight.requires_grad,
            net.bias.requires_grad,
            type(net.bias).__name__,
            net.running_var is state["running_var"],
        )

    dtype, *rest = run(fb, nn)
    assert dtype.endswith("float64") and rest == [False, True, "Parameter", True]
    same_everywhere(lambda lib, nn: run(lib, nn)[1:])


def test_loading_outside_of_a_whole_tree_copies_at_once():
    net, missing, unexpected, errors = nn.Linear(1, 1), [], [], []
    net._load_from_state_dict({"a.weight": fb.full((1, 1), 5.0), "a.b": 1}, "a.", {}, True, missing, unexpected, errors)
    assert net.weight.item() == 5 and missing == ["a.bias"] and unexpected == ["a.b"] and errors == []


# ---- trees ---------------------------------------------------------------------------------------------------


def test_modules_shared_and_repeated_and_set_by_path():
    shared = nn.ReLU()
    net = nn.Sequential(shared, nn.Sequential(shared))
    assert len(list(net.modules())) == 3 and len(list(net.modules(remove_duplicate=False))) == 4
    net.set_submodule("1.0", nn.Tanh())
    net.set_submodule("1.new", nn.GELU())
    assert repr(net[1]) == "Sequential(\n  (0): Tanh()\n  (new): GELU(approximate='none')\n)"
    with pytest.raises(ValueError, match=r"\[set_submodule\] '' was given a Tanh"):
        net.set_submodule("", nn.Tanh())
    with pytest.raises(AttributeError, match=r"Sequential has no submodule 'c' of '1.c'"):
        net.set_submodule("1.c", nn.Tanh(), strict=True)
    with pytest.raises(AttributeError, match=r"\[set_submodule\] 'training' is no module"):
        net.set_submodule("training", nn.Tanh())


@pytest.mark.accept("NN-09")
def test_whole_trees_are_converted_and_emptied():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weight = net[0].weight
    assert net.type(fb.float64) is net and net[0].weight is weight and weight.dtype is fb.float64
    assert net[1].num_batches_tracked.dtype is fb.float64  # of every member, as PyTorch's
    assert net.to_empty(device="cpu")[0].weight is weight and weight.shape == (3, 2)
    assert net.compile() is None and net._apply(lambda t: t, recurse=False) is net
    for name in ("xpu", "ipu", "mtia"):
        with pytest.raises(RuntimeError):
            getattr(net, name)()


def test_names_of_the_files_that_public_code_imports_from():
    from flambeau.nn.common_types import _size_2_t
    from flambeau.nn.modules.batchnorm import _BatchNorm
    from flambeau.nn.modules.conv import Conv2d, _ConvNd
    from flambeau.nn.modules.loss import _Loss, _WeightedLoss
    from flambeau.nn.modules.module import Module
    from flambeau.nn.modules.utils import _ntuple, _pair, _reverse_repeat_tuple, _single, _triple
    from flambeau.nn.parameter import Parameter

    assert (
        Module is nn.Module and Conv2d is nn.Conv2d and Parameter is nn.Parameter and _size_2_t == int | tuple[int, int]
    )
    assert issubclass(nn.BatchNorm2d, _BatchNorm) and not issubclass(nn.InstanceNorm2d, _BatchNorm)
    assert issubclass(nn.Conv1d, _ConvNd) and issubclass(_WeightedLoss, _Loss) and nn.modules.Linear is nn.Linear
    assert (_single(2), _pair(2), _triple([1, 2, 3]), _ntuple(5)(0)) == ((2,), (2, 2), (1, 2, 3), (0,) * 5)
    assert _reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)
    with pytest.raises(AttributeError, match="batchnorm"):
        _ = nn.modules.batchnorm.Nothing


def test_nobody_looks_for_names_like_a_new_one(monkeypatch):
    monkeypatch.setattr(difflib, "get_close_matches", lambda *args: pytest.fail("that is for messages"))
    layer = nn.LayerNorm(2)
    layer.register_buffer("weigth", fb.ones(2))
    with pytest.raises(KeyError, match="'forward' already exists"):
        layer.register_parameter("forward", nn.Parameter(fb.ones(2)))

    class Open(nn.Module):
        def __getattr__(self, name):
            return 1

    with pytest.raises(KeyError, match="'anything' already exists"):
        Open().register_buffer("anything", None)


def test_moving_a_module_may_be_overridden_by_way_of_the_others():
    class Net(nn.Linear):
        def to(self, *args, **kwargs):
            return self.cpu() if args == ("cpu",) else super().to(*args, **kwargs)

    net = Net(2, 3)
    assert net.to("cpu") is net and net.to(fb.float64).weight.dtype is fb.float64


def test_a_module_that_was_not_set_up_is_told_so():
    """As PyTorch, which raises AttributeError of `_backward_hooks`, of `cannot assign parameters before Module.__init__() call`."""

    def made(lib, what=None):
        class Net(lib.nn.Module):
            def __init__(self):
                self.what = what

            def forward(self, x):
                return x

        return Net()

    def run(lib, nn):
        uses = (lambda: made(lib)(1), lambda: made(lib, nn.Parameter(lib.ones(1))), lambda: made(lib).train())
        for use in uses:
            with pytest.raises(AttributeError):
                use()
        return made(lib, 3).what

    assert same_everywhere(run) == 3
    with pytest.raises(AttributeError, match=r"\[Module\] Net was used before Module.__init__\(\) ran. Call super"):
        made(fb)(fb.ones(1))
