"""ParameterList, ParameterDict, SyncBatchNorm and DataParallel."""

import copy

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest


@pytest.mark.accept("NN-03")
def test_lists_of_parameters():
    made = nn.ParameterList([fb.ones(2), nn.Parameter(fb.zeros(1, 3)), "text"])
    assert len(made) == 3 and [type(v) for v in made] == [nn.Parameter, nn.Parameter, str]
    assert [name for name, _ in made.named_parameters()] == ["0", "1"] and list(made.state_dict()) == ["0", "1"]
    made.append(fb.ones(4)).extend([fb.ones(5)])
    made += [fb.ones(6)]
    assert [v.numel() for v in made[3:]] == [4, 5, 6] and type(made[3:]) is nn.ParameterList and made[-1] is made[5]
    made[0] = fb.full((2,), 7.0)
    assert made[0].tolist() == [7.0, 7.0] and isinstance(made[0], nn.Parameter)
    assert made.pop(1).shape == (1, 3) and len(made) == 5 and made[1] == "text"
    assert not {"0", "1"} & set(dir(made)) and "append" in dir(made)
    assert repr(nn.ParameterList([fb.ones(2, 3), 4])) == (
        "ParameterList(\n    (0): Parameter containing: [flambeau.float32 of size 2x3]\n    (1): Object of type: int\n)"
    )
    with pytest.raises(IndexError, match=r"\[ParameterList\] index 5 is out of range for 5 values"):
        made[5]
    with pytest.raises(TypeError, match=r"\[ParameterList\] values are a Tensor"):
        made.extend(fb.ones(2))
    with pytest.raises(RuntimeError, match="no forward"):
        made()


@pytest.mark.accept("NN-03")
def test_dicts_of_parameters():
    made = nn.ParameterDict({"a": fb.ones(2), "b": 3})
    made["c"] = nn.Parameter(fb.zeros(1))
    assert list(made) == ["a", "b", "c"] and [n for n, _ in made.named_parameters()] == ["a", "c"]
    assert list(made.keys()) == ["a", "b", "c"] and list(reversed(made)) == ["c", "b", "a"]
    assert made["a"] is made.a is made.get("a") and made.get("z", 5) == 5 and "b" in made and len(made) == 3
    assert made.setdefault("d", fb.ones(3)) is made["d"] and made.setdefault("b") == 3
    assert made.popitem()[0] == "d" and made.pop("b") == 3 and dict(made.items()).keys() == {"a", "c"}
    other = made | nn.ParameterDict([("e", fb.ones(1))])
    assert list(other) == ["a", "c", "e"] and list(made) == ["a", "c"] and other["a"] is made["a"]
    made |= {"f": fb.ones(1)}
    assert list(made) == ["a", "c", "f"] and [v.numel() for v in made.values()] == [2, 1, 1]
    assert list(made.fromkeys(["x", "y"], 1).items()) == [("x", 1), ("y", 1)]
    again = copy.deepcopy(made)
    assert again["a"].tolist() == made["a"].tolist() and again["a"] is not made["a"]
    assert repr(nn.ParameterDict({"a": fb.ones(2), "b": 1})) == (
        "ParameterDict(\n    (a): Parameter containing: [flambeau.float32 of size 2]\n    (b): Object of type: int\n)"
    )
    del made["a"]
    made.clear()
    assert not len(made) and not list(made.parameters())
    for act, error in (
        (lambda: made["a"], KeyError),
        (lambda: made.update(3), TypeError),
        (lambda: made.update([(1, 2, 3)]), ValueError),
        (lambda: made.update({1: 2}), TypeError),
        (lambda: made.update({"items": fb.ones(1)}), KeyError),
    ):
        with pytest.raises(error):
            act()


@pytest.mark.accept("NN-03")
def test_dicts_of_modules():
    first = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(2, 3)})
    second = nn.ModuleDict([["c", nn.Tanh()]])
    second.update(first)
    assert list(second) == ["c", "a", "b"] and second["b"] is first["b"]
    assert [name for name, _ in second.named_parameters()] == ["b.weight", "b.bias"]
    second.update([("a", nn.Tanh())])
    assert len(second) == 3 and type(second["a"]) is nn.Tanh
    for given, error, text in (
        (3, TypeError, "it is given a int. Pass a dict, or pairs"),
        ([nn.ReLU()], TypeError, "an item is a ReLU. Pass pairs"),
        ([("a", nn.ReLU(), 1)], ValueError, "an item has 3 parts. Pass pairs"),
    ):
        with pytest.raises(error, match=rf"\[ModuleDict\] {text}"):
            second.update(given)


def test_a_container_of_nothing_calls_no_method_of_a_subclass():
    class Dict(nn.ModuleDict):
        def update(self, modules):
            super().update({self.prefix + key: module for key, module in modules.items()})

    class List(nn.ModuleList):
        def extend(self, modules):
            return super().extend([self.wrapped(m) for m in modules])

    dict_, list_ = Dict(), List()
    dict_.prefix, list_.wrapped = "x_", nn.Sequential
    dict_.update({"a": nn.ReLU()})
    list_ += [nn.ReLU()]
    assert list(dict_) == ["x_a"] and type(list_[0]) is nn.Sequential


@pytest.mark.accept("NN-34")
def test_sync_batch_norm_of_one_process_is_batch_norm():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm2d(4)))
    net[1].eval()
    made = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert made is net and type(made[1]) is type(made[2][0]) is nn.SyncBatchNorm and not made[1].training
    assert list(nn.SyncBatchNorm(4).state_dict()) == list(nn.BatchNorm1d(4).state_dict())
    plain = nn.BatchNorm2d(4)
    same = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert same.weight is plain.weight
    x = fb.tensor(np.random.default_rng(1).standard_normal((2, 4, 3, 3)).astype(np.float32))
    assert same(x).tolist() == nn.BatchNorm2d(4)(x).tolist()
    assert repr(same) == repr(plain).replace("BatchNorm2d", "SyncBatchNorm")
    assert same(x[:, :, 0, 0]).shape == (2, 4)
    with pytest.raises(ValueError, match=r"\[SyncBatchNorm\] input has 1 dimensions"):
        same(x[0, 0, 0])


def test_data_parallel_on_one_device_passes_through():
    layer = nn.Linear(3, 2)
    made, x = nn.DataParallel(layer, device_ids=[0]), fb.ones(2, 3)
    assert made(x).tolist() == layer(x).tolist() and list(made.state_dict()) == ["module.weight", "module.bias"]
    assert nn.parallel.data_parallel(layer, x).tolist() == made(x).tolist()
    assert nn.parallel.DataParallel is nn.DataParallel and made.module is layer
    with pytest.raises(RuntimeError, match=r"\[DataParallel\] device_ids are \[0, 1\]"):
        nn.DataParallel(layer, [0, 1])
