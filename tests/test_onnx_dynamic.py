"""ONNX files whose sizes are known when they are run: one file gives at every size what the model gives there."""

import subprocess
import sys

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn
from flambeau import transforms as T

pytest.importorskip("onnx")

from onnx_cases import normal


@pytest.fixture(autouse=True)
def not_compiled():
    """Every model is another program: they are made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def updated(x):
    x = x.clone()
    x[:, 1:3] = 0
    return x


def masked(x):
    t = x.shape[1]
    return x.masked_fill(fb.ones(t, t).tril() == 0, -1e9).softmax(-1) / t + fb.arange(t)


def images():
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


#: A model, an example, what is dynamic, and other inputs.
MODELS = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4), nn.Softmax(-1)),
        [normal(1, 5)],
        {"input": {0: "batch"}},
        [[normal(9, 5)], [normal(2, 5)]],
    ),
    "images": (
        images,
        [normal(1, 3, 16, 16)],
        {"input": {0: "batch", 2: "height", 3: "width"}},
        [[normal(2, 3, 17, 23)], [normal(1, 3, 32, 18)]],
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.Upsample(scale_factor=2)),
        [normal(1, 3, 4, 4)],
        {"input": {0: "batch", 2: "height", 3: "width"}},
        [[normal(3, 3, 5, 7)]],
    ),
    "attention": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        [normal(2, 5, 8)],
        {"src": {0: "batch", 1: "time"}},
        [[normal(3, 7, 8)], [normal(1, 4, 8)]],
    ),
    "over time": (Recurrent, [normal(2, 3, 4)], {"x": {0: "batch", 1: "time"}}, [[normal(1, 7, 4)]]),
    "in both directions": (lambda: nn.GRU(4, 3, bidirectional=True), [normal(3, 2, 4)], {"input": [0]}, [[normal(5, 2, 4)]]),
    "recurrent": (Recurrent, [normal(2, 3, 4)], {"x": [0]}, [[normal(5, 3, 4)], [normal(1, 3, 4)]]),
    "embedding": (lambda: nn.Embedding(10, 4), [np.array([[1, 9], [0, 3]])], {"input": [0, 1]}, [[np.array([[1, 2, 3]])]]),
    "numbers that are sizes": (lambda: lambda x: x.sum(0) / x.shape[0], [normal(4, 3)], {"x": [0]}, [[normal(7, 3)]]),
    "masks": (lambda: masked, [normal(4, 3, 3)], {"x": {0: "batch", 1: "time", 2: "time"}}, [[normal(2, 6, 6)]]),
    "products of sizes": (
        lambda: lambda x: x.reshape(x.shape[0] * x.shape[1], -1).reshape(x.shape[0], -1),
        [normal(4, 3, 3)],
        {"x": {0: "batch", 1: "time"}},
        [[normal(7, 6, 3)]],
    ),
    "two inputs": (
        lambda: lambda x, y: (x @ y.t(), fb.cat([x, y])),
        [normal(4, 3), normal(6, 3)],
        {"x": {0: "a"}, "y": {0: "b"}},
        [[normal(7, 3), normal(5, 3)]],
    ),
    "inputs of one size": (lambda: lambda x, y: x + y, [x := normal(4, 3), x], {"x": [0], "y": [0]}, [[y := normal(2, 3), y]]),
    "views": (
        lambda: lambda x: (x[:, :-1], x[:, -1], x.roll(1, 0), x.flip(0), x.unfold(1, 3, 1), updated(x), F.pad(x, (1, 2))),
        [normal(2, 9)],
        {"x": {0: "batch", 1: "time"}},
        [[normal(3, 12)]],
    ),
    "what prepares images": (
        lambda: T.Compose([T.Resize((8, 6)), T.CenterCrop(5), T.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]),
        [np.abs(normal(1, 3, 12, 9))],
        {"img": {0: "batch"}},
        [[np.abs(normal(4, 3, 12, 9))]],
    ),
    "orders": (
        lambda: lambda x: (*fb.sort(x, -1), *fb.topk(x, 2), x.argmax(1), x.cumsum(1)),
        [normal(2, 9)],
        {"x": {0: "batch", 1: "time"}},
        [[normal(3, 12)]],
    ),
    "moments": (
        lambda: lambda x: (x.mean(), x.var(1), F.normalize(x), x.logsumexp(1)),
        [normal(3, 9)],
        {"x": {0: "batch", 1: "time"}},
        [[normal(4, 12)]],
    ),
    "causal": (
        lambda: lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        [normal(1, 2, 5, 4)],
        {"q": {0: "batch", 2: "time"}},
        [[normal(3, 2, 8, 4)]],
    ),
}  # fmt: skip


def results_of(proto, inputs, runtime):
    feeds = dict(zip((i.name for i in proto.graph.input), inputs))
    if runtime is None:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(proto).run(None, feeds)
    return runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("by", ["the reference", "onnx runtime"])
def test_one_file_for_all_sizes(name, by):
    runtime = None if by == "the reference" else pytest.importorskip("onnxruntime")
    make, example, axes, others = MODELS[name]
    fb.manual_seed(0)
    model = make()
    proto = fb.onnx.export(model, [fb.tensor(a) for a in example], dynamic_axes=axes).model_proto
    again = fb.onnx.load(proto)
    model = model.eval() if isinstance(model, nn.Module) else model
    for inputs in (example, *others):
        with fb.no_grad():
            wanted = model(*map(fb.tensor, inputs))
            loaded = again(*map(fb.tensor, inputs))
        wanted, loaded = (r if isinstance(r, tuple) else (r,) for r in (wanted, loaded))
        for w, found, back in zip(wanted, results_of(proto, inputs, runtime), loaded, strict=True):
            assert found.shape == tuple(w.shape) and found.dtype == w.numpy().dtype
            np.testing.assert_allclose(found, w.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(back.numpy(), w.numpy(), rtol=1e-4, atol=1e-5)


def dims(values):
    return [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]


def test_how_sizes_are_named():
    model, x = nn.Upsample(scale_factor=2), fb.ones(1, 2, 4, 4)
    for how in (
        {"dynamic_axes": {"x": {0: "batch", 2: "height"}}, "input_names": ["x"]},
        {"dynamic_shapes": {"input": {0: "batch", 2: "height"}}, "input_names": ["x"]},
        {"dynamic_shapes": ({0: "batch", -2: type("height", (), {})},)},
        {"dynamic_shapes": [("batch", None, "height", None)]},
    ):
        graph = fb.onnx.export(model, x, verify=True, **how).model_proto.graph
        assert dims(graph.input) == [["batch", 2, "height", 4]]
        assert dims(graph.output) == [["batch", 2, "2*height", 8]]
    named = {"input": [0], "y": {0: "rows"}}
    graph = fb.onnx.export(model, x, output_names=["y"], dynamic_axes=named).model_proto.graph
    assert (dims(graph.input), dims(graph.output)) == ([["input_dim_0", 2, 4, 4]], [["rows", 2, 8, 8]])


def test_a_batch_of_any_size_takes_no_node_more():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Unflatten(1, (2, 2)), nn.Flatten())
    fixed, free = (
        [n.op_type for n in fb.onnx.export(model, fb.ones(3, 5), dynamic_axes=axes).model_proto.graph.node]
        for axes in (None, {"input": {0: "batch"}})
    )
    assert fixed == free


def test_what_is_refused():
    def export(model, *inputs, **how):
        fb.onnx.export(model, [fb.tensor(a) for a in inputs], **how)

    rows, time = {"dynamic_axes": {"x": {0: "rows"}}}, {"dynamic_axes": {"x": {1: "time"}}}
    x = normal(3, 4)
    with pytest.raises(RuntimeError, match=r"does not take other sizes\. With rows = 6: \[add\] shapes \(6, 4\) and"):
        export(lambda x: x + fb.ones(3, 1), x, **rows)
    with pytest.raises(RuntimeError, match=r"does other things at other sizes: no loop or branch in Python may"):
        export(lambda x: sum(x[:, t] for t in range(x.shape[1])), x, **time)
    with pytest.raises(
        RuntimeError, match=r"a number \([\d.]+ here\) that Python makes of a dynamic size: make it with"
    ):
        export(lambda x: x / x.shape[0] ** 0.5, x, **rows)
    with pytest.raises(RuntimeError, match=r"no sum, multiple or product of dynamic ones, such as x\.shape\[1\] // 2"):
        export(lambda x: x[:, : x.shape[1] // 2], x, **time)
    with pytest.raises(
        RuntimeError, match=r"makes a tensor in Python \(constant_\d\) whose size depends on a dynamic one"
    ):
        export(lambda x: x + fb.from_numpy(np.ones((x.shape[0], 1), np.float32)), x, **rows)
    with pytest.raises(RuntimeError, match=r"ONNX has nothing for searchsorted at .*test_onnx_dynamic\.py:\d+"):
        export(lambda x: fb.searchsorted(x, x), x, **rows)
    with pytest.raises(RuntimeError, match=r"adaptive_sum at \S+ is written for one value of 'time' only"):
        export(lambda x: F.adaptive_avg_pool1d(x, 2), x, **time)
    with pytest.raises(ValueError, match=r"'z' has dynamic sizes, but the inputs are x\. Name one of them"):
        export(lambda x: x, x, dynamic_axes={"z": [0]})
    with pytest.raises(ValueError, match=r"'x' has no dimension 2: it has 2"):
        export(lambda x: x, x, dynamic_axes={"x": [2]})
    with pytest.raises(ValueError, match=r"'n' is 3 and 4 in the example"):
        export(lambda x: x, x, dynamic_axes={"x": {0: "n", 1: "n"}})
    with pytest.raises(ValueError, match="got dynamic_axes and dynamic_shapes"):
        export(lambda x: x, x, dynamic_shapes={"x": {0: "n"}}, **rows)
    for said in (3, {"x": 3}, {"x": {0: 3.5}}):
        with pytest.raises(TypeError, match=r"\[onnx\.export\] .* (3|3\.5)\. Give"):
            export(lambda x: x, x, dynamic_shapes=said)


def test_scripts_for_pytorch_name_sizes(tmp_path):
    (tmp_path / "script.py").write_text(
        "import torch\n"
        "net = torch.nn.Linear(5, 2)\n"
        "axes = {'x': {0: 'batch'}, 'y': {0: 'batch'}}\n"
        "torch.onnx.export(net, torch.ones(1, 5), 'net.onnx', input_names=['x'], output_names=['y'], dynamic_axes=axes)\n"
        "rows = torch.export.Dim('rows', min=1, max=64)\n"
        "for shape in ({'input': {0: rows}}, ({0: torch.export.Dim.DYNAMIC},)):\n"
        "    torch.onnx.export(net, (torch.ones(2, 5),), 'other.onnx', dynamic_shapes=shape, dynamo=True)\n"
        "print(net(torch.ones(4, 5)).tolist())\n"
    )
    command = [sys.executable, "-m", "flambeau.run", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = fb.onnx.load(tmp_path / "net.onnx")(x=fb.ones(4, 5))
    np.testing.assert_allclose(found.tolist(), eval(done.stdout), rtol=1e-6)
    assert fb.onnx.load(tmp_path / "other.onnx")(input=fb.ones(7, 5)).shape == (7, 2)
