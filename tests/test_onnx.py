"""ONNX files in: every kind of node against ONNX's own reference evaluator, and against ONNX Runtime where that is installed."""

import flambeau as fb
import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import CASES, LENGTHS, ints, model, normal

IDS = [f"{k}-{c.label}" for k, c in enumerate(CASES)]


@pytest.fixture(autouse=True)
def not_compiled():
    """Every case is another program: they are made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


def results(made, feeds):
    found = fb.onnx.load(made)(**feeds)
    return [r.detach().numpy() for r in (found if isinstance(found, tuple) else (found,))]


def assert_alike(found, wanted):
    assert len(found) == len(wanted)
    for f, w in zip(found, map(np.asarray, wanted)):
        assert f.dtype == w.dtype and f.shape == w.shape
        np.testing.assert_allclose(f, w, rtol=1e-5, atol=2e-6)


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("c", [pytest.param(c, id=i) for c, i in zip(CASES, IDS) if c.by_reference])
def test_nodes_against_the_reference(c):
    from onnx.reference import ReferenceEvaluator

    made, feeds, outputs = model(c)
    assert_alike(results(made, feeds), ReferenceEvaluator(made).run(outputs, feeds))


def exact(runtime):
    """Options with which ONNX Runtime adds what it should: on processors without VNNI its products of uint8 and int8
    saturate sums of two at int16 unless told otherwise."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("c", CASES + LENGTHS, ids=[*IDS, "LSTM-lengths", "GRU-lengths"])
def test_nodes_against_onnx_runtime(c):
    runtime = pytest.importorskip("onnxruntime")
    made, feeds, outputs = model(c)
    session = runtime.InferenceSession(made.SerializeToString(), exact(runtime), providers=["CPUExecutionProvider"])
    assert_alike(results(made, feeds), session.run(outputs, feeds))


def test_neighbours_of_an_even_number():
    """More of them after than before, which neither of the others has."""
    x = normal(1, 4, 2)
    node = helper.make_node("LRN", ["x"], ["y"], size=2, alpha=0.5, beta=1.0, bias=2.0)
    squares = np.concatenate([x * x, np.zeros((1, 1, 2), np.float32)], 1)
    wanted = x / (2 + 0.25 * (squares[:, :-1] + squares[:, 1:]))
    np.testing.assert_allclose(results(built([node], {"x": x}), {"x": x})[0], wanted, rtol=1e-5)


def test_zeros_of_rows():
    """Which ONNX Runtime does not have, nor the reference."""
    a, b = np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    zeros = np.uint8([1, 200])
    made = built([helper.make_node("MatMulInteger", ["a", "b", "z"], ["y"])], {"a": a, "b": b, "z": zeros})
    wanted = (a.astype(np.int32) - zeros[:, None].astype(np.int32)) @ b.astype(np.int32)
    np.testing.assert_array_equal(results(made, {"a": a, "b": b, "z": zeros})[0], wanted)


@pytest.mark.accept("SER-14")
@pytest.mark.parametrize("how", ["by range", "with nodes around", "of whole numbers"])
def test_models_that_onnx_runtime_has_quantized(tmp_path, how):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxruntime.quantization")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

    class Once(CalibrationDataReader):
        left = [{"x": normal(2, 3, 8, 8)}]

        def get_next(self):
            return self.left.pop() if self.left else None

    reader = Once()
    reader.left = list(Once.left)
    nodes = [
        node("Conv", "x kernels bias", "maps", pads=[1, 1, 1, 1]),
        node("Relu", "maps", "r"),
        node("GlobalAveragePool", "r", "means"),
        node("Flatten", "means", "flat"),
        node("MatMul", "flat weight", "y"),
    ]
    weights = {"kernels": normal(4, 3, 3, 3) / 5, "bias": normal(4), "weight": normal(4, 6)}
    plain, path = built(nodes, {"x": normal(2, 3, 8, 8)}, weights, version=17), tmp_path / "quantized.onnx"
    if how == "by range":  # weights of seven bits: nothing saturates, on processors without VNNI either (see `exact`)
        quantize_dynamic(plain, path, reduce_range=True)
    else:
        format = QuantFormat.QDQ if how == "with nodes around" else QuantFormat.QOperator
        nodes_wanted = ["Conv", "MatMul"] if how == "of whole numbers" else None
        quantize_static(plain, path, reader, quant_format=format, op_types_to_quantize=nodes_wanted, reduce_range=True)
    x = normal(2, 3, 8, 8, seed=3)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (wanted,), found = session.run(None, {"x": x}), fb.onnx.load(path)(x).detach().numpy()
    step = np.ptp(wanted) / 100  # a number in between may be rounded to the next
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=step)
    assert np.abs(found - wanted).mean() < step / 10


# ---- whole models ---------------------------------------------------------------------------------------------


def built(nodes, inputs, initializers=(), outputs=("y",), version=21, dims=None):
    """A model; `inputs` are examples, `initializers` arrays by name."""
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), dims or v.shape)
        for n, v in inputs.items()
    ]
    results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    given = [numpy_helper.from_array(np.asarray(v), n) for n, v in dict(initializers).items()]
    graph = helper.make_graph(nodes, "model", types, results, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), name=f"at_{output.split()[0]}", **attributes)


@pytest.fixture
def perceptron():
    """x [n, 2, 3] is flattened by arithmetic on its shape, then goes through two layers."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n", axis=0),
        node("Unsqueeze", "n zeros", "rows"),
        node("Mul", "two three", "six"),
        node("Concat", "rows six", "wanted", axis=0),
        node("Reshape", "x wanted", "flat"),
        node("Gemm", "flat layers.0.weight layers.0.bias", "h", transB=1),
        node("Relu", "h", "r"),
        node("MatMul", "r last", "y"),
    ]
    weights = {"layers.0.weight": normal(5, 6), "layers.0.bias": normal(5), "last": normal(5, 2)}
    whole = {"zero": np.array(0), "zeros": ints(0), "two": ints(2), "three": ints(3)}
    return built(nodes, {"x": normal(4, 2, 3)}, weights | whole, dims=["n", 2, 3])


@pytest.mark.accept("SER-14")
def test_initializers_are_parameters_and_shapes_are_folded(perceptron, tmp_path):
    onnx.save(perceptron, tmp_path / "model.onnx")
    model = fb.onnx.load(tmp_path / "model.onnx")
    assert {*model.state_dict()} == {"layers.0.weight", "layers.0.bias", "last"}
    assert (model.input_names, model.output_names, model.training) == (["x"], ["y"], False)
    assert "x -> y" in repr(model)
    w = {n: p.detach().numpy().astype(np.float64) for n, p in model.named_parameters()}
    for count in (4, 1, 3):
        x = normal(count, 2, 3, seed=count)
        wanted = np.maximum(x.reshape(count, 6) @ w["layers.0.weight"].T + w["layers.0.bias"], 0) @ w["last"]
        np.testing.assert_allclose(model(fb.tensor(x)).detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    for source in (perceptron.SerializeToString(), open(tmp_path / "model.onnx", "rb")):
        assert fb.equal(fb.onnx.load(source)(x=x), model(x))


def test_a_loaded_model_trains(perceptron):
    model, x = fb.onnx.load(perceptron), fb.tensor(normal(8, 2, 3))
    optimizer, losses = fb.optim.SGD(model.parameters(), lr=0.01), []
    for _ in range(5):
        optimizer.zero_grad()
        loss = ((model(x) - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and all(p.grad is not None for p in model.parameters())


def test_branches_and_loops():
    def inner(name, nodes, inputs, outputs):
        types = [helper.make_tensor_value_info(n, t, None) for n, t in inputs]
        return helper.make_graph(nodes, name, types, [helper.make_tensor_value_info(o, t, None) for o, t in outputs])

    real, truth = TensorProto.FLOAT, TensorProto.BOOL
    then = inner("then", [node("Mul", "x x", "a")], [], [("a", real)])
    other = inner("else", [node("Neg", "x", "b")], [], [("b", real)])
    body = inner(
        "body",
        [node("Add", "sum z", "next"), node("Identity", "next", "each"), node("Identity", "on", "still")],
        [("turn", TensorProto.INT64), ("on", truth), ("sum", real)],
        [("still", truth), ("next", real), ("each", real)],
    )
    nodes = [
        node("ReduceSum", "x", "total", keepdims=0),
        node("Greater", "total edge", "is_more"),
        node("If", "is_more", "z", then_branch=then, else_branch=other),
        helper.make_node("Loop", ["three", "", "z"], ["last", "all"], body=body),
    ]
    x = np.float32([1, 2])
    made = built(nodes, {"x": x}, {"edge": np.float32(0), "three": ints(3)}, ("last", "all"))
    last, every = fb.onnx.load(made)(x)
    assert last.tolist() == [4, 16] and every.tolist() == [[2, 8], [3, 12], [4, 16]]
    assert fb.onnx.load(made)(-x)[0].tolist() == [4, 8]


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans(backwards):
    """y[k] = sum of the rows up to k, or from k on, of the columns of x."""
    real = TensorProto.FLOAT
    info = [helper.make_tensor_value_info(n, real, None) for n in ("sum", "row", "next", "each")]
    body = helper.make_graph(
        [node("Add", "sum row", "next"), node("Mul", "next two", "each")], "body", info[:2], info[2:]
    )
    how = {"num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1]}
    how |= {f"scan_{what}_directions": [backwards] for what in ("input", "output")}
    scan = helper.make_node("Scan", ["zero", "x"], ["last", "y"], body=body, **how)
    x = normal(2, 5)
    made = built([scan], {"x": x}, {"zero": np.zeros(2, np.float32), "two": np.float32(2)}, ("last", "y"))
    last, y = fb.onnx.load(made)(x)
    turned = x[:, ::-1] if backwards else x
    sums = np.cumsum(turned, 1)
    np.testing.assert_allclose(last.detach().numpy(), x.sum(1), rtol=1e-5)
    np.testing.assert_allclose(y.detach().numpy(), 2 * (sums[:, ::-1] if backwards else sums), rtol=1e-5)


# ---- what is refused ------------------------------------------------------------------------------------------


def test_ops_that_are_missing_are_named_with_their_nodes():
    made = built([node("Bernoulli", "x", "b"), node("StringNormalizer", "b", "y")], {"x": normal(2)})
    with pytest.raises(
        NotImplementedError, match=r"Bernoulli \(node 'at_b'\), StringNormalizer \(node 'at_y'\)\. docs/onnx\.md"
    ):
        fb.onnx.load(made)
    made = built([helper.make_node("Fused", ["x"], ["y"], name="here", domain="com.x")], {"x": normal(2)})
    with pytest.raises(NotImplementedError, match=r"com\.x\.Fused \(node 'here'\)"):
        fb.onnx.load(made)
    made = built([node("Conv", "x w", "y")], {"x": normal(1, 1, 2, 2, 2, 2)}, {"w": normal(1, 1, 1, 1, 1, 1)})
    with pytest.raises(NotImplementedError, match=r"Conv \(node 'at_y'\) has maps of 4 dimensions, which Flambeau"):
        fb.onnx.load(made)(normal(1, 1, 2, 2, 2, 2))
    made = built([node("Cast", "x", "y", to=TensorProto.STRING)], {"x": normal(2)})
    with pytest.raises(NotImplementedError, match="Cast makes STRING"):
        fb.onnx.load(made)(fb.ones(2))


def test_files_that_are_no_models(tmp_path, perceptron):
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"\[onnx\.load\].*bad\.onnx: no ONNX model"):
        fb.onnx.load(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError):
        fb.onnx.load(tmp_path / "absent.onnx")
    model = fb.onnx.load(perceptron)
    with pytest.raises(TypeError, match=r"\[OnnxModule\] got 2 inputs, takes x"):
        model(fb.ones(1), fb.ones(1))
    with pytest.raises(TypeError, match=r"\[OnnxModule\] got z, takes x"):
        model(z=fb.ones(1))
    with pytest.raises(ValueError, match=r"flambeau\.onnx\.load"):
        onnx.save(perceptron, tmp_path / "model.onnx")
        fb.load(tmp_path / "model.onnx")


def test_without_the_package_the_extra_is_named(monkeypatch):
    from flambeau.onnx import package

    package.onnx.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"Install flambeau\[onnx\]"):
        fb.onnx.load("model.onnx")
