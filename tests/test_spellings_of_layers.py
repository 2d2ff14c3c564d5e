"""What PyTorch's layers, optimizers, data classes and `backward` take: `inplace`, padding rows, flags, types in brackets,
several tensors."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import flambeau.utils.data as data
import numpy as np
import pytest
from flambeau.functions import activation
from flambeau.runtime.recorder import Function

# ---- activations ---------------------------------------------------------------------------------------------

FUNCTIONS = {n: f for n, f in vars(activation).items() if isinstance(f, Function) and hasattr(f, "inplace")}
FUNCTIONS["hardtanh"] = activation.hardtanh
MODULES = {n: c for n in nn.__all__ if isinstance(c := getattr(nn, n), type) and hasattr(c, "_forms")}
POINTS = [-7.0, -3.0, -0.5, 0.0, 2.0, 7.0]


def test_every_activation_that_pytorch_overwrites_with_is_here():
    assert set(FUNCTIONS) == {"relu", "relu6", "elu", "selu", "leaky_relu", "silu", "mish", "hardtanh",
        "hardsigmoid", "hardswish"}  # fmt: skip
    assert {f.lower() for f in MODULES} == {"celu", "threshold", *(n.replace("_", "") for n in FUNCTIONS)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inplace_means_it_by_name_and_by_position(name):
    function, wanted = getattr(F, name), FUNCTIONS[name](fb.tensor(POINTS)).tolist()
    defaults = [-1.0, 1.0] if name == "hardtanh" else [p[2] for p in FUNCTIONS[name].params[1:]]
    for call in (lambda t: function(t, inplace=True), lambda t: function(t, *defaults, True)):
        x = fb.tensor(POINTS)
        found = call(x)
        assert found is x and x.tolist() == wanted
    for call in (lambda t: function(t, inplace=False), lambda t: function(t, *defaults, False), function):
        x = fb.tensor(POINTS)
        assert call(x).tolist() == wanted and x.tolist() == POINTS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_gradient_through_an_activation_in_place(name):
    def gradient(**options):
        x = fb.tensor(POINTS, requires_grad=True)
        (getattr(F, name)(x * 1.5, **options) * fb.arange(6.0)).sum().backward()
        return x.grad.tolist()

    assert gradient(inplace=True) == gradient()


@pytest.mark.parametrize("name", MODULES)
def test_modules_take_inplace_last(name):
    x = fb.tensor(POINTS)
    needed = (0.1, 2.0) if name == "Threshold" else ()
    wanted = MODULES[name](*needed)(x)
    assert x.tolist() == POINTS and MODULES[name](*needed).inplace is False
    module = MODULES[name](*needed, inplace=True)
    assert module(x) is x and x.tolist() == wanted.tolist() and repr(module).endswith("inplace=True)")


def test_wrong_calls_of_such_functions_are_told_without_the_detour():
    with pytest.raises(TypeError, match=r"\[relu\] there is no argument 'foo'"):
        F.relu(fb.ones(2), foo=1)
    with pytest.raises(TypeError, match=r"\[relu\] takes at most \d positional arguments, got 3"):
        F.relu(fb.ones(2), True, 3)


# ---- embeddings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [1, -4])
def test_the_padding_row_is_read_and_gets_no_gradient(row):
    index = fb.tensor([[0, 1], [1, 4]])
    weight = fb.arange(10.0).reshape(5, 2).clone().requires_grad_()
    found = F.embedding(index, weight, padding_idx=row)
    assert found.tolist() == weight.detach()[index].tolist()
    (found * fb.tensor([1.0, 3.0])).sum().backward()
    assert weight.grad.tolist() == [[1, 3], [0, 0], [0, 0], [0, 0], [1, 3]]
    module = nn.Embedding(5, 2, row)
    assert module.padding_idx == 1 and module.weight[1].tolist() == [0, 0] and "padding_idx=1" in repr(module)
    assert nn.Embedding(5, 2).padding_idx is None


def test_the_gradient_of_a_padded_embedding_is_differentiable():
    weight = fb.arange(6.0).reshape(3, 2).clone().requires_grad_()
    found = F.embedding(fb.tensor([0, 1, 1, 2]), weight, 1)
    (g,) = fb.autograd.grad((found**3).sum(), weight, create_graph=True)
    g.sum().backward()
    assert weight.grad.tolist() == [[0, 6], [0, 0], [24, 30]]


def test_an_embedding_of_given_rows():
    rows = fb.arange(6.0).reshape(3, 2).clone()
    frozen, trained = nn.Embedding.from_pretrained(rows), nn.Embedding.from_pretrained(rows, freeze=False)
    assert frozen(fb.tensor([2])).tolist() == [[4, 5]]
    assert (frozen.weight.requires_grad, trained.weight.requires_grad) == (False, True)


def test_what_embeddings_cannot_do_is_refused():
    with pytest.raises(NotImplementedError, match=r"\[Embedding\] sparse"):
        nn.Embedding(3, 2, sparse=True)
    with pytest.raises(NotImplementedError, match=r"\[embedding\] sparse"):
        F.embedding(fb.tensor([0]), fb.ones(2, 2), sparse=True)
    with pytest.raises(RuntimeError, match=r"\[Embedding\] padding_idx 3 is out of range for 3 rows"):
        nn.Embedding(3, 2, 3)


# ---- variance ------------------------------------------------------------------------------------------------

MOMENTS = [
    (lambda x, f: f(x, 0, unbiased=False), {"axis": 0}),
    (lambda x, f: f(x, unbiased=False), {}),
    (lambda x, f: f(x, 1, False), {"axis": 1}),
    (lambda x, f: f(x, False), {}),
    (lambda x, f: f(x, True), {"ddof": 1}),
    (lambda x, f: f(x, 1, True, True), {"axis": 1, "ddof": 1, "keepdims": True}),
    (lambda x, f: f(x, 1, unbiased=True, keepdim=True), {"axis": 1, "ddof": 1, "keepdims": True}),
    (lambda x, f: f(x, axis=(0, 1), keepdims=True), {"axis": (0, 1), "ddof": 1, "keepdims": True}),
    (lambda x, f: f(x, 0, correction=2), {"axis": 0, "ddof": 2}),
]


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize(("call", "options"), MOMENTS)
def test_unbiased_is_a_correction(name, call, options):
    a = np.arange(12.0).reshape(3, 4) ** 1.5
    found = call(fb.tensor(a), getattr(fb, name)).numpy()
    np.testing.assert_allclose(found, getattr(a, name)(**options), rtol=1e-12)


def test_unbiased_and_correction_exclude_each_other():
    with pytest.raises(TypeError, match=r"\[var\] unbiased and correction"):
        fb.ones(3).var(unbiased=True, correction=1)


# ---- backward of several tensors -----------------------------------------------------------------------------


def heads():
    x = fb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    h = x * x
    return x, [h.sum(), (h * x).double().sum(), x.exp()[1]]


def gradient(run) -> list:
    x, outs = heads()
    run(outs)
    return x.grad.tolist()


def test_backward_of_several_tensors_is_that_of_their_sum():
    wanted = gradient(lambda outs: sum(outs[1:], outs[0]).backward())
    assert gradient(fb.autograd.backward) == wanted
    assert gradient(lambda outs: fb.autograd.backward(tuple(outs))) == wanted
    assert gradient(lambda outs: fb.autograd.backward(outs, [None, fb.tensor(1.0).double(), None])) == wanted
    assert gradient(lambda outs: fb.autograd.backward(outs, create_graph=True)) == wanted


def test_backward_of_several_tensors_with_gradients():
    x = fb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weights = fb.tensor([1.0, -0.0, 2.0])
    fb.autograd.backward((x * 2, x.view(3)[:2]), (weights, fb.full((2,), 2.0)))
    assert x.grad.tolist() == [4.0, 2.0, 4.0]
    fb.autograd.backward(x * 2, weights)
    assert x.grad.tolist() == [6.0, 2.0, 8.0]
    y = fb.ones(2, requires_grad=True)
    fb.autograd.backward([x.sum(), (x[:2] * y).sum()], inputs=[y])
    assert y.grad.tolist() == [1.0, 2.0] and x.grad.tolist() == [6.0, 2.0, 8.0]


def test_backward_of_several_tensors_frees_the_graph_once():
    _, outs = heads()
    fb.autograd.backward(outs, retain_graph=True)
    fb.autograd.backward(outs)
    with pytest.raises(RuntimeError, match="retain_graph"):
        fb.autograd.backward(outs)


def test_hooks_run_once_for_several_tensors():
    x, seen = fb.tensor([1.0, 2.0], requires_grad=True), []
    h = x * 2
    h.register_hook(lambda g: seen.append(g.tolist()))
    fb.autograd.backward([h.sum(), (h * h).sum()])
    assert seen == [[5.0, 9.0]] and x.grad.tolist() == [10.0, 18.0]


def test_backward_of_what_does_not_fit_is_refused():
    x = fb.ones(2, requires_grad=True)
    for tensors, gradients, text in (
        ([x.sum(), x.sum()], [None], "there are 2 tensors and 1 gradients"),
        ([x.sum(), fb.ones(())], None, "does not require grad"),
        ([x.sum(), x * 2], None, r"shape \(2,\)"),
        ([x.sum(), x * 2], [None, fb.ones(3)], r"shape \(3,\)"),
    ):
        with pytest.raises(RuntimeError, match=r"\[backward\] .*" + text):
            fb.autograd.backward(tensors, gradients)
    with pytest.raises(TypeError, match=r"\[backward\] an item is a int"):
        fb.autograd.backward([1, 2])


# ---- optimizers ----------------------------------------------------------------------------------------------

OPTIMIZERS = [fb.optim.SGD, fb.optim.Adam, fb.optim.AdamW]


def stepped(make, **flags) -> list:
    w = fb.tensor([1.0, -2.0], requires_grad=True)
    optimizer = make([w], lr=0.1, **flags)
    for _ in range(3):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert all(optimizer.param_groups[0][k] == v for k, v in flags.items())
    return w.tolist()


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_flags_of_speed_change_no_step(make):
    wanted = stepped(make)
    for flags in ({"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}, {"differentiable": False}):
        assert stepped(make, **flags) == wanted
    if make is not fb.optim.SGD:
        assert stepped(make, capturable=True) == wanted


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_flags_that_cannot_be_honoured_are_refused(make):
    for flags, text in (({"differentiable": True}, "differentiable"), ({"foreach": True, "fused": True}, "exclude")):
        with pytest.raises(RuntimeError, match=rf"\[{make.__name__}\] .*{text}"):
            make([fb.ones(2, requires_grad=True)], **flags)


def test_adam_with_decoupled_decay_is_adamw():
    assert stepped(fb.optim.Adam, weight_decay=0.1, decoupled_weight_decay=True) == stepped(
        fb.optim.AdamW, weight_decay=0.1
    )


# ---- data ----------------------------------------------------------------------------------------------------


#: Those that are of any type in PyTorch; of all others it is known what they give.
GENERIC = {
    "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset", "Sampler", "StackDataset",
    "Subset",
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in data.__all__ if isinstance(getattr(data, n), type)])
def test_the_classes_for_data_take_a_type(name):
    cls = getattr(data, name)
    if name in GENERIC:
        assert cls[int].__origin__ is cls
    elif issubclass(cls, data.Dataset | data.Sampler):
        bases = [base for c in cls.__mro__ for base in getattr(c, "__orig_bases__", ())]
        assert bases[0].__args__ and not cls.__parameters__
    else:
        assert name.endswith("Writer")


def test_a_dataset_of_a_type_loads():
    class Squares(data.Dataset[int]):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return i * i

    class Backwards(data.Sampler[int]):
        def __len__(self):
            return 5

        def __iter__(self):
            return iter(range(4, -1, -1))

    batches = data.DataLoader[int](Squares(), batch_size=2, sampler=Backwards())
    assert [b.tolist() for b in batches] == [[16, 9], [4, 1], [0]]


# ---- edges ---------------------------------------------------------------------------------------------------


def test_index_add_on_a_tensor_without_dimensions():
    x, source = fb.tensor(1.0, requires_grad=True), fb.tensor(3.0, requires_grad=True)
    found = x.index_add(0, fb.tensor([0]), source, alpha=2)
    found.backward()
    assert (found.item(), x.grad.item(), source.grad.item()) == (7.0, 1.0, 2.0)
    assert fb.tensor(1.0).index_add(0, fb.tensor(0), fb.tensor(2.0)).item() == 3.0
    assert fb.ones(3, 2).index_add(0, fb.tensor(1), fb.ones(1, 2)).tolist() == [[1, 1], [2, 2], [1, 1]]
    with pytest.raises(RuntimeError, match=r"\[index_add\] index of shape \(2,\)"):
        fb.tensor(1.0).index_add(0, fb.tensor([0, 0]), fb.tensor(2.0))
