"""Quantization: integers with scales, Linear with int8 weights, networks of int8 after calibration."""

import copy
import pickle
from dataclasses import replace

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import products
import pytest
from flambeau import quantization as q
from flambeau.compiler import targets
from flambeau.compiler.codegen.products import cut as gemm
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.tools import report
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.record import find
from flambeau.quantization import Int8WeightOnlyConfig, convert, fuse_modules, prepare, quantize_
from sklearn.datasets import load_digits

RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def rounded(x, scale, zero=0, low=-128, high=127):
    """Integers as floats, by PyTorch's formula: times one over the scale, halves to the even one."""
    inverse = np.float32(1) / np.float32(scale)
    return np.clip(np.rint(np.float32(x * inverse)) + zero, low, high)


# ---- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("DTY-04")
def test_integers_stand_for_numbers():
    x = np.append(floats(60) * 3, np.float32([0.125, 0.375, -0.125, 100, -100, np.inf, -np.inf])).astype(np.float32)
    found = q.quantize(fb.tensor(x), 0.25, 3)
    assert found.dtype is fb.int8 and np.array_equal(found.numpy(), rounded(x, 0.25, 3))
    back = q.dequantize(found, 0.25, 3)
    assert np.array_equal(back.numpy(), (rounded(x, 0.25, 3) - 3).astype(np.float32) * np.float32(0.25))
    unsigned = q.quantize(fb.tensor(x), fb.tensor(0.25), dtype=fb.uint8)
    assert np.array_equal(unsigned.numpy(), rounded(x, 0.25, 0, 0, 255))
    assert q.quantize(fb.tensor([float("nan")]), 0.5).tolist() == [0]


@pytest.mark.accept("DTY-04")
def test_one_scale_for_each_place_along_an_axis():
    x, scales, zeros = floats(4, 3), np.float32([0.02, 0.1, 0.5]), np.int32([0, 5, -3])
    found = q.quantize(fb.tensor(x), fb.tensor(scales), fb.tensor(zeros), axis=-1)
    wanted = np.stack([rounded(x[:, j], scales[j], zeros[j]) for j in range(3)], 1)
    assert np.array_equal(found.numpy(), wanted)
    back = q.dequantize(found, fb.tensor(scales), fb.tensor(zeros), axis=1)
    assert np.array_equal(back.numpy(), (wanted - zeros).astype(np.float32) * scales)


@pytest.mark.accept("DTY-04")
@pytest.mark.parametrize("low, high, zero", [(-128, 127, 0), (0, 255, 7), (-8, 7, -1)])
def test_fake_quantization_against_torch(low, high, zero):
    torch = pytest.importorskip("torch")
    x, scales = floats(6, 50) * 4, np.abs(floats(6)) * 0.1 + 0.01
    zeros = np.full(6, zero, np.int32)

    def results(lib, to):
        v = to(x).requires_grad_()
        one = lib.fake_quantize_per_tensor_affine(v, 0.07, zero, low, high)
        each = lib.fake_quantize_per_channel_affine(v, to(scales), to(zeros), 0, low, high)
        (one.sum() + 2 * each.sum()).backward()
        return [t.detach().numpy() for t in (one, each, v.grad)]

    for ours, theirs in zip(results(fb, lambda a: fb.tensor(a)), results(torch, torch.tensor), strict=True):
        assert np.array_equal(ours, theirs)


def test_fake_quantization_by_its_formula():
    x = floats(200) * 4
    v = fb.tensor(x).requires_grad_()
    found = fb.fake_quantize_per_tensor_affine(v, 0.1, 2, 0, 15)
    assert np.array_equal(found.detach().numpy(), (rounded(x, 0.1, 2, 0, 15) - 2).astype(np.float32) * np.float32(0.1))
    found.sum().backward()
    whole = rounded(x, 0.1, 2, -np.inf, np.inf)
    assert np.array_equal(v.grad.numpy(), ((whole >= 0) & (whole <= 15)).astype(np.float32))


# ---- weights only ----------------------------------------------------------------------------------------------


@pytest.mark.accept("AMP-05")
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_int8_weights_give_the_bits_of_their_floats(rows):
    """The product is that of the weights as floats, and is scaled once: with one row, several, or tiles of them."""
    x, weight, scale, bias = floats(rows, 70), RNG.integers(-127, 128, (33, 70)).astype(np.int8), floats(33), floats(33)
    found = q.int8_linear(*map(fb.tensor, (x, weight, scale, bias)))
    product = nn.functional.linear(fb.tensor(x), fb.tensor(weight.astype(np.float32)))
    assert np.array_equal(found.numpy(), product.numpy() * scale + bias)
    np.testing.assert_allclose(found.numpy(), x.astype(np.float64) @ weight.T * scale + bias, rtol=1e-4, atol=1e-3)


@pytest.mark.accept("AMP-05")
def test_weight_only_quantization_of_a_model():
    model = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.ModuleDict({"head": nn.Linear(48, 8, bias=False)})["head"])
    x = fb.tensor(floats(5, 32))
    wanted = model(x).detach().numpy()
    rows = model[0].weight.detach().numpy()
    quantize_(model, Int8WeightOnlyConfig())
    layer = model[0]
    assert type(layer) is q.Int8Linear and layer.weight.dtype is fb.int8 and not list(model.parameters())
    step = np.abs(rows).max(1, keepdims=True) / 127
    assert (
        np.all(np.abs(layer.dequantize().numpy() - rows) <= step * 0.5001) and np.abs(layer.weight.numpy()).max() == 127
    )
    np.testing.assert_allclose(model(x).numpy(), wanted, atol=0.02)
    assert str(layer) == "Int8Linear(in_features=32, out_features=48, bias=True)"


def test_a_filter_chooses_layers_and_shared_ones_stay_shared():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Sequential(shared, nn.Linear(4, 2)))
    quantize_(model, Int8WeightOnlyConfig(), lambda module, path: path != "1.1")
    assert type(model[0]) is q.Int8Linear and model[0] is model[1][0] and type(model[1][1]) is nn.Linear


def test_layers_whose_weight_others_read_stay():
    model = nn.Sequential(nn.Linear(8, 8), nn.MultiheadAttention(8, 2))
    x = fb.tensor(floats(3, 8))
    quantize_(model, Int8WeightOnlyConfig())
    assert type(model[1].out_proj).__name__ == "NonDynamicallyQuantizableLinear"
    assert model[1](x, x, x)[0].shape == (3, 8)


def test_gradients_pass_through_int8_weights():
    layer = q.Int8Linear.from_float(nn.Linear(6, 4))
    x = fb.tensor(floats(3, 6)).requires_grad_()
    (layer(x) * fb.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    wanted = (np.float32([1, 2, 3, 4]) * layer.scale.numpy()) @ layer.weight.numpy().astype(np.float32)
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(wanted, (3, 6)), rtol=1e-5)


def test_a_row_of_zeros_and_infinite_weights():
    layer = nn.Linear(3, 2)
    with fb.no_grad():
        layer.weight[0] = 0
    assert q.Int8Linear.from_float(layer).scale[0].item() == 1
    with fb.no_grad():
        layer.weight[1, 1] = float("inf")
    with pytest.raises(
        ValueError, match=r"\[quantize\] a weight is infinite or NaN\. Quantize a model whose weights are"
    ):
        q.Int8Linear.from_float(layer)


# ---- all of int8 -----------------------------------------------------------------------------------------------


@pytest.mark.accept("AMP-05")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("rows, k, columns", [(1, 5, 3), (1, 300, 40), (7, 64, 33), (50, 301, 70)])
def test_products_of_integers_are_exact(dtype, rows, k, columns):
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max + 1, (rows, k)).astype(dtype)
    x[0] = limits.max  # the largest sums, where narrower ones would saturate
    weight = RNG.integers(-128, 128, (columns, k)).astype(np.int8)
    weight[0], weight[-1] = 127, -128
    found = q.quantized_linear(*map(fb.tensor, (x, weight, np.ones(columns, np.float32))))
    assert np.array_equal(found.numpy(), (x.astype(np.int64) @ weight.T.astype(np.int64)).astype(np.float32))


@pytest.mark.accept("AMP-05")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    "x, weight, how",
    [
        ((2, 3, 9, 11), (5, 3, 3, 3), dict(padding=1)),
        ((1, 8, 10, 10), (16, 4, 3, 3), dict(stride=2, padding=(1, 2), groups=2)),
        ((3, 4, 7, 6), (9, 4, 1, 1), dict()),
        ((2, 5, 20), (3, 5, 4), dict(padding="same", dilation=2)),
        ((1, 33, 6, 40), (17, 33, 2, 3), dict(dilation=(2, 1))),
    ],
)
def test_convolutions_of_integers_are_exact(dtype, x, weight, how):
    limits = np.iinfo(dtype)
    a = RNG.integers(limits.min, limits.max + 1, x).astype(dtype)
    b = RNG.integers(-128, 128, weight).astype(np.int8)
    found = q.quantized_conv(fb.tensor(a), fb.tensor(b), fb.ones(weight[0]), **how)
    call = nn.functional.conv2d if len(x) == 4 else nn.functional.conv1d
    wanted = call(fb.tensor(a.astype(np.float64)), fb.tensor(b.astype(np.float64)), **how)
    assert np.array_equal(found.numpy(), wanted.numpy().astype(np.float32))


class Net(nn.Module):
    """A convolution and a normalization that no Sequential holds, then a Sequential."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.rest = nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))

    def forward(self, x):
        return self.rest(self.norm(self.first(x)).relu())


def calibrated(model, x):
    prepared = prepare(model)
    prepared(x)
    return convert(prepared)


@pytest.fixture
def net():
    fb.manual_seed(0)
    model, x = Net(), fb.tensor(floats(16, 2, 6, 6))
    model(x)
    return model.eval(), x


@pytest.mark.accept("AMP-05")
def test_static_quantization(net):
    model, x = net
    wanted = model(x).detach().numpy()
    fused = fuse_modules(model, ["first", "norm"])
    np.testing.assert_allclose(fused(x).detach().numpy(), wanted, atol=1e-4)
    made = calibrated(fused, x)
    found = made(x).detach().numpy()
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert isinstance(made.rest[0], q.QuantizedConv) and isinstance(made.rest[1], nn.Identity)
    assert [m.input_dtype for m in (made.first, made.rest[0], made.rest[4])] == [fb.int8, fb.uint8, fb.uint8]
    assert not list(made.parameters()) and type(model.rest[4]) is nn.Linear and type(model.norm) is nn.BatchNorm2d


@pytest.mark.accept("AMP-05")
def test_digits_are_told_apart_as_well_with_integers():
    """Within half a point of float32, on images that were seen neither in training nor in calibration."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = fb.tensor((pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)), fb.tensor(labels)
    fb.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    optimizer = fb.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(96):
        part = slice(step % 12 * 100, step % 12 * 100 + 100)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    model.eval()

    def right(net):
        with fb.no_grad():
            return (net(x[1200:]).argmax(1) == y[1200:]).float().mean().item()

    only = copy.deepcopy(model)
    quantize_(only, Int8WeightOnlyConfig())
    plain = right(model)
    assert plain > 0.9
    assert right(calibrated(model, x[:200])) >= plain - 0.005 and right(only) >= plain - 0.005


def test_a_layer_computes_what_its_integers_say(net):
    model, x = net
    made = calibrated(model, x)
    layer, v = made.rest[4], fb.tensor(np.abs(floats(4, 128)))
    whole = rounded(v.numpy(), layer.input_scale.item(), 0, 0, 255).astype(np.int64)
    sums = (whole @ layer.weight.numpy().T.astype(np.int64)).astype(np.float32)
    assert np.array_equal(layer(v).numpy(), sums * layer.scale.numpy() + layer.bias.numpy())


def test_states_copies_and_files(net, tmp_path):
    model, x = net
    made = calibrated(model, x)
    wanted = made(x).numpy()
    for file in ("state.pt", "state.safetensors"):
        fb.save(made.state_dict(), tmp_path / file)
        again = convert(prepare(copy.deepcopy(model)), calibrated=False)
        again.load_state_dict(fb.load(tmp_path / file))
        assert np.array_equal(again(x).numpy(), wanted)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert np.array_equal(other(x).numpy(), wanted)
    text = str(made.rest)
    assert "QuantizedConv(6, 8, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1" in text
    assert (
        "QuantizedLinear(in_features=128, out_features=5, bias=True, input_dtype=flambeau.uint8, input_scale=" in text
    )


def test_quantized_models_are_exported(net, tmp_path):
    model, x = net
    made = fb.export(calibrated(model, x), (x[:1],), tmp_path / "net")
    kept = fb.load(made.weights)
    assert kept["rest.4.weight"].dtype is fb.int8 and kept["rest.4.weight"].shape == (5, 128)
    assert made.object_file.read_bytes()[:4] == b"\x7fELF"


def test_what_is_refused(net):
    model, x = net
    with pytest.raises(TypeError, match=r"\[quantize_\] config is a str\. Pass an Int8WeightOnlyConfig\(\)"):
        quantize_(model, "int8")
    with pytest.raises(ValueError, match=r"\[quantize_\] the model itself is a Linear, which cannot be replaced"):
        quantize_(nn.Linear(2, 2), Int8WeightOnlyConfig())
    with pytest.raises(ValueError, match=r"\[quantize_\] the model has no Linear that filter_fn chooses"):
        quantize_(nn.Sequential(nn.ReLU()), Int8WeightOnlyConfig())
    with pytest.raises(ValueError, match=r"\[prepare\] the model is in training mode, .* Call eval\(\) first"):
        prepare(Net())
    with pytest.raises(ValueError, match=r"\[prepare\] the model itself is a Conv2d, .* Put it into a Sequential"):
        prepare(nn.Conv2d(1, 1, 1).eval())
    with pytest.raises(ValueError, match=r"\[prepare\] the model has no layer that can be quantized"):
        prepare(nn.Sequential(nn.ReLU()).eval())
    with pytest.raises(ValueError, match=r"\[convert\] no example went through 'first'\. Call the prepared model"):
        convert(prepare(model))
    with pytest.raises(ValueError, match=r"\[convert\] the model has no layer that notes ranges\. Call prepare first"):
        convert(model)
    with pytest.raises(ValueError, match=r"\[MinMaxObserver\] numbers from -inf to .* were seen"):
        calibrated(model, x.masked_fill(x < -1, -float("inf")))
    with pytest.raises(
        ValueError, match=r"\[fuse_modules\] \['first', 'rest'\] are Conv2d and Sequential\. Name a Linear"
    ):
        fuse_modules(model, ["first", "rest"])
    with pytest.raises(ValueError, match=r"\[fuse_modules\] \['first', 'rest.1'\] are not two or more modules of one"):
        fuse_modules(model, [["first", "rest.1"]])
    made = calibrated(model, x).train()
    with pytest.raises(
        RuntimeError, match=r"\[QuantizedConv\] the layer is in training mode, .* Call eval\(\), or train"
    ):
        made(x)


# ---- kernels ---------------------------------------------------------------------------------------------------


def dots(dtype_a, dtype_b, m, k, n):
    """A cluster that multiplies 8-bit integers whose lines lie along k, its operands, and the sums."""
    build = GraphBuilder()
    limits = [np.iinfo(d) for d in (dtype_a, dtype_b)]
    a, b = (
        RNG.integers(i.min, i.max + 1, shape).astype(i.dtype) for i, shape in zip(limits, ((m, k), (n, k)), strict=True)
    )
    a[-1], b[-1] = limits[0].min or limits[0].max, limits[1].min or limits[1].max
    wide = [find("cast")(build.input(Aval(x.shape, dtypes.by_name(x.dtype.name))), dtype=dtypes.int32) for x in (a, b)]
    total = find("matmul")(wide[0], find("permute")(wide[1], perm=(1, 0)))
    bias = RNG.integers(-1000, 1000, n).astype(np.int32)
    result = total + build.input(Aval((n,), dtypes.int32)).expand((m, n))
    build.graph.outputs = [total.id, result.id]
    wanted = a.astype(np.int32) @ b.T.astype(np.int32)
    return build.graph, [a, b, bias], [wanted, wanted + bias]


@pytest.mark.accept("AMP-05")
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
@pytest.mark.parametrize("dtype_a", [np.int8, np.uint8])
@pytest.mark.parametrize("dtype_b", [np.int8, np.uint8])
def test_dots_of_8_bit_integers_are_exact_on_every_machine(target, dtype_a, dtype_b):
    """Also where instructions of a machine would saturate, or take other signs; no tile divides these sizes."""
    for m, k, n in ((1, 3, 1), (1, 260, 67), (9, 1, 5), (6, 129, 70), (70, 64, 13)):
        graph, given, wanted = dots(dtype_a, dtype_b, m, k, n)
        for backwards in (False, True):
            found = products.run(graph, given, target=target, backwards=backwards)
            assert all(np.array_equal(x, y) for x, y in zip(found, wanted, strict=True)), (m, k, n)


def test_machines_that_add_up_four_products_at_once_do():
    """Of vectors as wide as theirs; others widen."""
    graph, _, _ = dots(np.uint8, np.int8, 8, 256, 64)
    known = targets.find("x86-64-v3"), targets.find("x86-64-v4")
    makers = {
        t: replace(t, features=f"{t.features},+{f}") for t, f in zip(known, ("avxvnni", "avx512vnni"), strict=True)
    }
    for plain, maker in makers.items():
        assert maker.has_dots(maker.lanes(4)) and not plain.has_dots(plain.lanes(4))
        found = []
        for machine in (plain, maker):
            units = gemm.cut(Cluster("contraction", graph))
            (call,) = units.lower([choose(units.units[0], machine)], machine).calls
            found.append("vpdpbusd" in call.source.text)
        assert found == [False, True]


def test_a_program_reads_8_bit_integers_in_its_products():
    """They are neither written wide before a product nor by the epilogue of the one before it."""
    layers = nn.Sequential(nn.Linear(40, 48), nn.ReLU(), nn.Linear(48, 24)).eval()
    x = fb.tensor(floats(8, 40))
    made = calibrated(layers, x)
    with fb.no_grad(), fb.compiler_options(mode="off"):
        wanted = made(x).numpy()
    with fb.no_grad(), fb.compiler_options(mode="blocking"):
        assert np.array_equal(made(x).numpy(), wanted)
    labels = report.programs()[-1].kernels
    assert [label.split(" + ")[0] for label in labels if "dots" in label] == ["dots i8 x i8", "dots ui8 x i8"]
    assert len(labels) == 4, labels  # the others divide by scales, and quantize the input


@pytest.mark.accept("AMP-05")
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    "x, weight, how",
    [
        ((2, 8, 9, 11), (13, 3, 3, 8), dict(padding=1)),
        ((1, 6, 12, 10), (4, 3, 5, 3), dict(stride=2, padding=(1, 2), groups=2)),
        ((2, 5, 40), (3, 4, 5), dict(padding="same", dilation=2)),
        ((1, 33, 6, 20), (9, 1, 1, 33), dict(stride=(1, 2))),
    ],
)
def test_convolutions_read_8_bit_integers_where_they_lie(target, dtype, x, weight, how):
    """With channels last in the kernel, as layers keep it; on machines with and without an instruction for it."""
    limits = np.iinfo(dtype)
    a = RNG.integers(limits.min, limits.max + 1, x).astype(dtype)
    b = RNG.integers(-128, 128, weight).astype(np.int8)
    a[0, 0], b[0], b[-1] = limits.max, 127, -128
    scale, bias = np.abs(floats(weight[0])) * 1e-3, floats(weight[0])
    given = [fb.tensor(v) for v in (a, b, scale, bias)]

    def results():
        y = q.quantized_conv(given[0], given[1].movedim(-1, 1), *given[2:], **how)
        return q.quantize(y.relu(), 0.02, dtype=fb.uint8).numpy()

    with fb.compiler_options(mode="off"):
        wanted = results()
    with fb.compiler_options(mode="blocking", target=target):
        found = results()
    labels = report.programs()[-1].kernels
    assert any(label.startswith(f"convolution {'u' * (dtype == np.uint8)}i8 x i8 + cast + mul") for label in labels), (
        labels
    )
    assert np.array_equal(found, wanted)
    call = nn.functional.conv2d if len(x) == 4 else nn.functional.conv1d
    sums = call(fb.tensor(a.astype(np.float64)), fb.tensor(np.moveaxis(b, -1, 1).astype(np.float64)), **how).numpy()
    shape = (-1, *(1,) * (len(x) - 2))
    y = np.maximum(sums.astype(np.float32) * scale.reshape(shape) + bias.reshape(shape), 0)
    assert np.array_equal(found, rounded(y, 0.02, 0, 0, 255))
