"""ONNX files out: what is written computes what the model does, by ONNX's own reference, by ONNX Runtime, and loaded again."""

import io
import subprocess
import sys

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn

pytest.importorskip("onnx")

import onnx
from onnx_cases import normal


@pytest.fixture(autouse=True)
def not_compiled():
    """Every model is another program: they are made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTM(4, 5, bidirectional=True), nn.GRU(10, 3)

    def forward(self, sequence):
        y, (h, c) = self.lstm(sequence)
        return *self.gru(y), h, c


def updated(x):
    x = x.clone()
    x[:, 1:3] = 0
    x[0] += 1
    return x


class Unpooled(nn.Module):
    def forward(self, x):
        values, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(values, places, 2), places


x, maps = normal(3, 5), normal(2, 3, 9, 9)
whole = np.arange(-6, 6).reshape(3, 4)
MODELS = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4), nn.Dropout(0.5), nn.Softmax(-1)),
        [x],
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        [maps],
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Tanh()
        ),
        [maps],
    ),
    "grouped": (lambda: nn.Conv1d(4, 6, 3, padding="same", groups=2, dilation=2), [normal(2, 4, 7)]),
    "recurrent": (Recurrent, [normal(3, 2, 4)]),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), [normal(2, 5, 8)]),
    "embedding": (lambda: nn.Embedding(10, 4), [np.array([[1, 9], [0, 3]])]),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), [normal(1, 2, 4, 4)]),
    "bicubic": (lambda: nn.Upsample((3, 7), mode="bicubic"), [normal(1, 2, 4, 4)]),
    "nearest": (lambda: nn.Upsample(scale_factor=2), [normal(1, 2, 4, 4)]),
    "grid": (lambda: lambda x, g: F.grid_sample(x, g, align_corners=False), [normal(1, 2, 4, 4), normal(1, 3, 3, 2) / 2]),
    "adaptive": (lambda: lambda x: (F.adaptive_avg_pool2d(x, (4, 2)), F.adaptive_max_pool2d(x, (4, 2))), [maps]),
    "pooled places": (Unpooled, [normal(1, 2, 4, 4)]),
    "orders": (
        lambda: lambda x: (*fb.sort(x, -1), *fb.topk(x, 2), x.argmax(1), x.argmin(), fb.cumsum(x, 1), x.cumsum(0).flip(0)),
        [x],
    ),
    "views": (
        lambda: lambda x: (
            x[:, 1:4:2], x.flip(0), x[fb.tensor([1, 0])], fb.cat([x, x], 1), F.pad(x, (1, 2)), x.roll(1, 0), x.unfold(1, 3, 1),
            fb.tril(x), fb.stack([x, x]), x.t(),
        ),
        [x],
    ),
    "updates": (lambda: updated, [x]),
    "truth": (lambda: lambda x: ((x > 0).any(), (x > 0).all(1), (x > 0) & (x < 1), x != x, ~(x > 0), fb.where(x > 0, x, -x)), [x]),
    "elements": (
        lambda: lambda x: (
            fb.log1p(x.abs()), fb.atan2(x, x + 1), x // 0.5, x % 0.5, fb.fmod(x, 0.5), x.trunc(), fb.log2(x.abs()), fb.expm1(x),
            F.softplus(x), F.silu(x), fb.rsqrt(x.abs()), F.elu(x), x.clamp(-0.5, 0.5), fb.logaddexp(x, x * 2), fb.hypot(x, x + 1),
            fb.erfc(x), fb.exp2(x), fb.log10(x.abs()), fb.logit(x.sigmoid()), fb.copysign(x, x.flip(0)), x.double(),
        ),
        [x],
    ),
    "whole numbers": (
        lambda: lambda i: (i // 3, i % 3, i + 1, i & 3, ~i, i.float(), -i, i.sum(), i.max(), i ^ 5, i.prod(1)),
        [whole],
    ),
    "scatters": (
        lambda: lambda x, i: (x.scatter(1, i, x), x.scatter_add(1, i, x), fb.gather(x, 1, i)),
        [normal(3, 4), whole % 4],
    ),
    "norms": (
        lambda: lambda x: (fb.linalg.norm(x), x.std(), x.var(1), F.normalize(x), fb.einsum("ij,kj->ik", x, x), x.logsumexp(1)),
        [x],
    ),
}  # fmt: skip


def exported(name):
    make, inputs = MODELS[name]
    fb.manual_seed(0)
    model = make()
    program = fb.onnx.export(model, [fb.tensor(a) for a in inputs])
    with fb.no_grad():
        wanted = (model.eval() if isinstance(model, nn.Module) else model)(*map(fb.tensor, inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    feeds = dict(zip((i.name for i in program.model_proto.graph.input), inputs))
    return program.model_proto, feeds, [w.numpy() for w in wanted]


def assert_alike(found, wanted):
    assert len(found) == len(wanted)
    for f, w in zip(map(np.asarray, found), wanted):
        assert f.dtype == w.dtype and f.shape == w.shape
        np.testing.assert_allclose(f, w, rtol=1e-5, atol=2e-6)


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("name", MODELS)
def test_models_by_the_reference_and_loaded_again(name):
    from onnx.reference import ReferenceEvaluator

    proto, feeds, wanted = exported(name)
    assert_alike(ReferenceEvaluator(proto).run(None, feeds), wanted)
    again = fb.onnx.load(proto)(**feeds)
    assert_alike([r.detach().numpy() for r in (again if isinstance(again, tuple) else (again,))], wanted)


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("name", MODELS)
def test_models_by_onnx_runtime(name):
    runtime = pytest.importorskip("onnxruntime")
    proto, feeds, wanted = exported(name)
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert_alike(session.run(None, feeds), wanted)


# ---- files ----------------------------------------------------------------------------------------------------


def test_names_files_and_small_graphs(tmp_path):
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    program = fb.onnx.export(
        model, fb.tensor(x), tmp_path / "model.onnx", input_names=["x"], output_names=["y"], verify=True
    )
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (["x"], ["y"])
    assert {"0.weight", "0.bias"} == {i.name for i in graph.initializer}
    assert [n.op_type for n in graph.node if n.op_type != "Constant"] == [
        "Transpose",
        "MatMul",
        "Reshape",
        "Add",
        "LessOrEqual",
        "Where",
        "Identity",
    ]
    with open(tmp_path / "again.onnx", "wb") as file:
        fb.onnx.export(model, (fb.tensor(x),), file, opset_version=20)
    assert onnx.load(tmp_path / "again.onnx").opset_import[0].version == 20
    stream = io.BytesIO()
    program.save(stream)
    assert stream.getvalue() == (tmp_path / "model.onnx").read_bytes()
    assert [i.name for i in fb.onnx.export(model, fb.tensor(x)).model_proto.graph.input] == ["input"]
    assert model.training and fb.equal(fb.onnx.load(stream.getvalue())(fb.tensor(x)), model(fb.tensor(x)))


def test_keywords_and_inputs_that_are_results():
    program = fb.onnx.export(lambda x, scale: (x, x * scale, x), fb.tensor(x), kwargs={"scale": 3.0})
    again = fb.onnx.load(program.model_proto)(x)
    np.testing.assert_array_equal(again[1].numpy(), x * 3)
    assert len(again) == 3 and all(np.array_equal(a.numpy(), x) for a in again[::2])


def test_what_cannot_be_written_is_listed_with_its_line(tmp_path):
    def model(x):
        return fb.linalg.inv(x), fb.searchsorted(x, x)

    lines = (
        r"\[onnx\.export\] the model cannot be written:(\n  - ONNX has nothing for \w+ at .*test_onnx_export\.py:\d+)+"
    )
    with pytest.raises(RuntimeError, match=lines) as caught:
        fb.onnx.export(model, fb.tensor(normal(3, 3)), tmp_path / "model.onnx")
    assert "lu" in str(caught.value) and "searchsorted" in str(caught.value) and not [*tmp_path.iterdir()]
    with pytest.raises(RuntimeError, match=r"\[onnx\.export\][^(]*reads values while it runs"):
        fb.onnx.export(lambda x: x * x.sum().item(), fb.tensor(x))
    with pytest.raises(ValueError, match=r"opset_version is 9\. Use 18"):
        fb.onnx.export(nn.ReLU(), fb.tensor(x), opset_version=9)
    with pytest.raises(ValueError, match="input_names are 2 for 1 inputs"):
        fb.onnx.export(nn.ReLU(), fb.tensor(x), input_names=["a", "b"])
    with pytest.raises(TypeError, match="there is no argument 'opset'"):
        fb.onnx.export(nn.ReLU(), fb.tensor(x), opset=18)


def test_scripts_for_pytorch_call_it_by_pytorchs_name(tmp_path):
    (tmp_path / "script.py").write_text(
        "import torch\n"
        "net = torch.nn.Linear(5, 2)\n"
        "torch.onnx.export(net, torch.ones(1, 5), 'net.onnx', export_params=True, input_names=['x'], do_constant_folding=True)\n"
        "print(torch.onnx.is_in_onnx_export(), net(torch.ones(1, 5)).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "flambeau.run", "script.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.split(" ", 1)
    assert told[0] == "False"
    np.testing.assert_allclose(fb.onnx.load(tmp_path / "net.onnx")(x=fb.ones(1, 5)).tolist(), eval(told[1]), rtol=1e-6)
