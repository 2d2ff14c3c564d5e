"""`nn.utils`: limits on gradients, parameters as vectors, fused layers, parametrizations old and new."""

import copy
import pickle

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.nn.utils import parametrizations, parametrize

utils = nn.utils


def theirs():
    """PyTorch's `nn.utils`, or the test skips."""
    return pytest.importorskip("torch").nn.utils


def copied(module, torch):
    """A linear layer or convolution of PyTorch's with the parameters of ours."""
    name = type(module).__name__
    if name == "Linear":
        made = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)
    else:
        made = getattr(torch.nn, name)(module.in_channels, module.out_channels, module.kernel_size)
    made.load_state_dict({k: torch.tensor(v.tolist()) for k, v in module.state_dict().items()})
    return made


def close(x, y, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(x.tolist()), np.asarray(y.tolist()), rtol=tolerance, atol=tolerance)


# ---- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.accept("AG-18", "OBS-12")
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_norms_of_gradients_and_clipping_by_one(p):
    arrays = [np.arange(1.0, 7).reshape(2, 3), np.array(-8.0), np.array([0.5])]
    params = [fb.zeros(a.shape, requires_grad=True) for a in arrays]
    for x, a in zip(params, arrays):
        x.grad = fb.tensor(a, dtype=fb.float32)
    flat = np.concatenate([a.ravel() for a in arrays])
    norm = np.linalg.norm(flat, p)
    total = utils.get_total_norm([x.grad for x in params], p, foreach=True)
    assert total.shape == () and total.item() == pytest.approx(norm, rel=1e-6)
    utils.clip_grads_with_norm_(params, 2.0, total)
    for x, a in zip(params, arrays):
        np.testing.assert_allclose(x.grad.numpy(), a * 2 / (norm + 1e-6), rtol=1e-6)
    assert utils.clip_grad_norm_(params, 9.0, p, foreach=False).item() == pytest.approx(2.0, rel=1e-6)
    assert utils.get_total_norm([]).item() == 0 and utils.clip_grads_with_norm_([], 1.0, total) is None


def test_norms_that_are_not_finite_raise_if_asked_and_change_nothing():
    x = fb.zeros(2, requires_grad=True)
    x.grad = fb.tensor([1.0, float("inf")])
    with pytest.raises(RuntimeError, match=r"\[clip_grad_norm_\] the norm of order 2.0 is inf"):
        utils.clip_grad_norm_(x, 1.0, error_if_nonfinite=True)
    assert x.grad.tolist() == [1.0, float("inf")]
    with pytest.raises(RuntimeError, match=r"\[get_total_norm\] the norm of order 1 is inf"):
        utils.get_total_norm(x.grad, 1, error_if_nonfinite=True)
    with pytest.warns(FutureWarning, match="clip_grad_norm is now"):
        assert utils.clip_grad_norm(x, 1.0).item() == float("inf")


# ---- parameters ----------------------------------------------------------------------------------------------


def test_parameters_as_a_vector_and_back():
    net = nn.Linear(3, 2)
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.tolist() == [*net.weight.flatten().tolist(), *net.bias.tolist()]
    (vector * fb.arange(8.0)).sum().backward()
    assert net.weight.grad.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.grad.tolist() == [6, 7]
    weight = net.weight
    utils.vector_to_parameters(fb.arange(8.0), net.parameters())
    assert net.weight is weight and weight.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.tolist() == [6, 7]
    with pytest.raises(TypeError, match=r"\[vector_to_parameters\] vec is a list"):
        utils.vector_to_parameters([1.0], net.parameters())


def test_modules_without_initial_values_draw_no_numbers():
    fb.manual_seed(3)
    wanted = fb.rand(2).tolist()
    fb.manual_seed(3)
    net = utils.skip_init(nn.Linear, 2, 3, bias=False)
    assert fb.rand(2).tolist() == wanted and net.weight.shape == (3, 2) and isinstance(net.weight, nn.Parameter)
    with pytest.raises(RuntimeError, match=r"\[skip_init\] ReLU takes no device"):
        utils.skip_init(nn.ReLU)
    with pytest.raises(RuntimeError, match="is no class of modules"):
        utils.skip_init(len)


def test_converters_of_memory_formats_and_stateless_calls():
    net = nn.Conv2d(1, 1, 1)
    assert utils.convert_conv2d_weight_memory_format(net, fb.channels_last) is net
    assert utils.convert_conv3d_weight_memory_format(net, fb.channels_last_3d) is net
    with pytest.raises(TypeError):
        utils.convert_conv2d_weight_memory_format(net, 3)
    layer, given = nn.Linear(1, 1), {"weight": fb.full((1, 1), 2.0), "bias": fb.ones(1)}
    assert utils.stateless.functional_call(layer, given, fb.ones(1, 1)).item() == 3


# ---- fusion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "ConvTranspose2d", "Linear"])
def test_fused_layers_do_the_work_of_the_normalization(kind, affine):
    fb.manual_seed(1)
    rank = int(kind[-2]) if kind[-1] == "d" else 0
    layer = nn.Linear(3, 4, bias=affine) if not rank else getattr(nn, kind)(3, 4, 2, bias=affine)
    bn = getattr(nn, f"BatchNorm{max(rank, 1)}d")(4, affine=affine)
    x = fb.randn(2, 3, *[5] * rank)
    for _ in range(3):
        bn(layer(x * 2 + 1))
    layer.eval(), bn.eval()
    fuse = utils.fuse_conv_bn_eval if rank else utils.fuse_linear_bn_eval
    fused = fuse(layer, bn, *([True] if "Transpose" in kind else []))
    assert isinstance(fused.weight, nn.Parameter) and fused.bias.requires_grad
    close(fused(x), bn(layer(x)), 1e-5)
    with pytest.raises(AssertionError, match="in training mode"):
        fuse(layer.train(), bn)
    with pytest.raises(AssertionError, match="no running statistics"):
        fuse(layer.eval(), nn.BatchNorm1d(4, track_running_stats=False).eval())
    if not rank:
        with pytest.raises(AssertionError, match="4 outputs, the normalization 3 features"):
            fuse(layer, nn.BatchNorm1d(3).eval())


# ---- parametrizations ----------------------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, x):
        Doubled.calls = getattr(Doubled, "calls", 0) + 1
        return x * 2

    def right_inverse(self, x):
        return x / 2


class Squared(nn.Module):
    def forward(self, x):
        return x * x


@pytest.mark.accept("NN-11")
def test_a_parametrized_tensor_is_computed_whenever_it_is_looked_at():
    net = nn.Linear(2, 2)
    before, original = net.weight.tolist(), net.weight
    assert parametrize.register_parametrization(net, "weight", Doubled()) is net
    assert net.weight.tolist() == before and net.parametrizations.weight.original is original
    assert isinstance(net, nn.Linear) and type(net).__name__ == "ParametrizedLinear"
    assert list(net.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert parametrize.is_parametrized(net) and not parametrize.is_parametrized(net, "bias")
    parametrize.register_parametrization(net, "weight", Squared())
    close(net.weight, fb.tensor(before) ** 2)
    net(fb.ones(1, 2)).sum().backward()
    close(original.grad, 4 * fb.tensor(before))  # d (2 w)^2 / d w
    with pytest.raises(RuntimeError, match=r"\[parametrize\] Squared has no right_inverse"):
        net.weight = fb.ones(2, 2)
    start = Doubled.calls
    with parametrize.cached():
        assert net.weight is net.weight and Doubled.calls == start + 1
    assert net.weight is not net.weight
    twin = copy.deepcopy(net)
    assert twin.weight.tolist() == net.weight.tolist() and twin.parametrizations.weight.original is not original
    with pytest.raises(RuntimeError, match=r"\[pickle\] ParametrizedLinear has parametrizations"):
        pickle.dumps(net)
    value = net.weight.tolist()
    assert parametrize.remove_parametrizations(net, "weight").weight is original and original.tolist() == value
    assert (
        type(net) is nn.Linear and list(net.state_dict()) == ["bias", "weight"] and not hasattr(net, "parametrizations")
    )
    assert twin.weight.tolist() == value and parametrize.type_before_parametrizations(twin) is nn.Linear


def test_assigning_removing_and_transferring_parametrizations():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    parametrize.register_parametrization(net, "weight", Doubled())
    net.weight = fb.full((2, 2), 6.0)
    assert net.parametrizations.weight.original.tolist() == [[3.0, 3.0]] * 2 and net.weight.tolist() == [[6.0, 6.0]] * 2
    parametrize.transfer_parametrizations_and_params(net, other)
    assert other.weight.tolist() == net.weight.tolist()
    parametrize.remove_parametrizations(net, "weight", leave_parametrized=False)
    assert net.weight.tolist() == [[3.0, 3.0]] * 2
    with pytest.raises(ValueError, match="is not parametrized"):
        parametrize.remove_parametrizations(net, "weight")


def test_parametrizations_that_do_not_fit_are_refused():
    class Longer(nn.Module):
        def forward(self, x):
            return fb.cat([x, x])

    class Wide(nn.Module):
        def forward(self, x):
            return x.double()

    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"became one of \(4, 2\) and flambeau.float32"):
        parametrize.register_parametrization(net, "weight", Longer())
    assert type(net) is nn.Linear and isinstance(net.weight, nn.Parameter)
    parametrize.register_parametrization(net, "weight", Doubled())
    with pytest.raises(ValueError, match="Wide changes the type of 'weight'"):
        parametrize.register_parametrization(net, "weight", Wide())
    with pytest.raises(ValueError, match="has no parameter or buffer 'nothing'"):
        parametrize.register_parametrization(net, "nothing", Doubled())
    parametrize.register_parametrization(net, "weight", Longer(), unsafe=True)
    assert net.weight.shape == (4, 2)


@pytest.mark.accept("NN-11")
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_in_both_forms(dim):
    layer = nn.Conv1d(2, 3, 2)
    before, x = layer.weight.tolist(), fb.randn(1, 2, 4)
    axes = None if dim is None else tuple(d for d in range(3) if d != dim)
    lengths = np.sqrt((np.asarray(before) ** 2).sum(axes, keepdims=dim is not None))
    new, old = parametrizations.weight_norm(copy.deepcopy(layer), dim=dim), copy.deepcopy(layer)
    with pytest.warns(FutureWarning, match="weight_norm is now"):
        utils.weight_norm(old, dim=dim)
    close(new.parametrizations.weight.original0, lengths)
    close(old.weight_g, lengths)
    assert list(old.state_dict()) == ["bias", "weight_g", "weight_v"]
    for each in (new, old):
        close(each.weight, np.asarray(before))
        (each(x) ** 2).sum().backward()
    close(old.weight_g.grad, new.parametrizations.weight.original0.grad, 1e-5)
    close(old.weight_v.grad, new.parametrizations.weight.original1.grad, 1e-5)
    with fb.no_grad():
        old.weight_g.mul_(2)
    new.load_state_dict(old.state_dict())  # of the old form
    old(x)
    close(new.weight, old.weight)
    assert isinstance(utils.remove_weight_norm(old).weight, nn.Parameter) and not old._forward_pre_hooks
    close(old.weight, 2 * np.asarray(before))
    with pytest.raises(ValueError, match=r"\[remove_weight_norm\] 'weight' of Conv1d is not split"):
        utils.remove_weight_norm(old)
    parametrize.remove_parametrizations(new, "weight")
    close(new.weight, old.weight)


def test_weight_norm_is_that_of_torch():
    torch = pytest.importorskip("torch")
    layer = nn.Linear(3, 2)
    twin, x = copied(layer, torch), np.float32([[1, -2, 3]])
    layer, twin = parametrizations.weight_norm(layer), torch.nn.utils.parametrizations.weight_norm(twin)
    assert list(layer.state_dict()) == list(twin.state_dict()) and repr(layer) == repr(twin)
    (layer(fb.tensor(x)) ** 2).sum().backward()
    (twin(torch.tensor(x)) ** 2).sum().backward()
    for (name, p), q in zip(layer.named_parameters(), twin.parameters()):
        assert name in dict(twin.named_parameters())
        close(p.grad, q.grad, 1e-5)


@pytest.mark.accept("NN-11")
def test_spectral_norm_in_both_forms_goes_to_the_greatest_singular_value():
    fb.manual_seed(2)
    layer = nn.ConvTranspose1d(3, 4, 2)
    matrix = layer.weight.detach().numpy().transpose(1, 0, 2).reshape(4, -1)
    sigma, x = np.linalg.svd(matrix, compute_uv=False)[0], fb.randn(1, 3, 3)
    new, old = parametrizations.spectral_norm(copy.deepcopy(layer)), utils.spectral_norm(copy.deepcopy(layer))
    assert list(old.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    names = ["original", "0._u", "0._v"]
    assert list(new.state_dict()) == ["bias", *(f"parametrizations.weight.{n}" for n in names)]
    for each in (new, old):
        for _ in range(30):
            each(x)
        each.eval()
        each(x)
        close(each.weight, layer.weight / float(sigma), 1e-4)
        u = (each.parametrizations.weight[0]._u if each is new else each.weight_u).tolist()
        each(x)
        assert u == (each.parametrizations.weight[0]._u if each is new else each.weight_u).tolist()  # not in eval mode
    utils.remove_spectral_norm(old)
    parametrize.remove_parametrizations(new, "weight")
    for each in (new, old):
        assert list(each.state_dict()) in (["bias", "weight"], ["weight", "bias"]) and isinstance(
            each.weight, nn.Parameter
        )
        close(each.weight, layer.weight / float(sigma), 1e-4)
    with pytest.raises(ValueError, match=r"\[remove_spectral_norm\] 'weight' of ConvTranspose1d is not divided"):
        utils.remove_spectral_norm(old)
    with pytest.raises(ValueError, match="n_power_iterations is 0"):
        utils.spectral_norm(old, n_power_iterations=0)


def test_a_step_of_spectral_norm_is_that_of_torch():
    torch = pytest.importorskip("torch")
    layer = nn.Linear(3, 2)
    twin, x = copied(layer, torch), np.float32([[1, -2, 3]])
    layer, twin = parametrizations.spectral_norm(layer), torch.nn.utils.parametrizations.spectral_norm(twin)
    twin.load_state_dict({k: torch.tensor(v.tolist()) for k, v in layer.state_dict().items()})
    y, z = layer(fb.tensor(x)), twin(torch.tensor(x))
    close(y, z, 1e-5)
    (y**2).sum().backward(), (z**2).sum().backward()
    close(layer.parametrizations.weight.original.grad, twin.parametrizations.weight.original.grad, 1e-4)
    close(layer.parametrizations.weight[0]._u, twin.parametrizations.weight[0]._u, 1e-5)


@pytest.mark.accept("NN-11")
@pytest.mark.parametrize(
    "shape,kind,trivial",
    [
        ((3, 3), "matrix_exp", True),
        ((2, 4), "matrix_exp", False),
        ((4, 2), "householder", True),
        ((2, 3), "householder", False),
    ],
)
def test_orthogonal_weights_stay_so(shape, kind, trivial):
    fb.manual_seed(4)
    layer = parametrizations.orthogonal(nn.Linear(*shape[::-1]), orthogonal_map=kind, use_trivialization=trivial)
    optimizer = fb.optim.SGD(layer.parameters(), lr=0.3)
    before, x = layer.weight.tolist(), fb.randn(4, shape[1])
    for _ in range(3):
        optimizer.zero_grad()
        (layer(x) ** 2).sum().backward()
        optimizer.step()
    w = layer.weight.detach().numpy()
    product = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=2e-5)
    assert np.abs(w - np.asarray(before)).max() > 1e-3
    if kind == "householder" and not trivial:
        layer.weight = fb.tensor(before)
        close(layer.weight, np.asarray(before), 1e-5)
    torch = pytest.importorskip("torch")
    twin = torch.nn.utils.parametrizations.orthogonal(
        torch.nn.Linear(*shape[::-1]), orthogonal_map=kind, use_trivialization=trivial
    )
    assert list(layer.state_dict()) == list(twin.state_dict()) and repr(layer) == repr(twin)
    twin.load_state_dict({k: torch.tensor(v.tolist()) for k, v in layer.state_dict().items()})
    close(layer.weight, twin.weight, 1e-5)
    (layer(x) ** 3).sum().backward()
    twin.zero_grad(), layer.zero_grad()
    (layer(x) ** 3).sum().backward(), (twin(torch.tensor(x.tolist())) ** 3).sum().backward()
    close(layer.parametrizations.weight.original.grad, twin.parametrizations.weight.original.grad, 2e-4)


def test_orthogonal_keeps_what_is_orthogonal_and_says_what_it_cannot_take():
    layer = nn.Linear(3, 3)
    nn.init.orthogonal_(layer.weight)
    before = layer.weight.tolist()
    close(parametrizations.orthogonal(layer).weight, np.asarray(before), 1e-5)
    with pytest.raises(ValueError, match="orthogonal_map is 'no'"):
        parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="no")
    with pytest.raises(ValueError, match=r"\[orthogonal\] 'bias' has 1 dimensions"):
        parametrizations.orthogonal(nn.Linear(2, 2), "bias")
