"""ONNX Runtime, inference only (W9); the models are built with onnx.helper, no torch needed."""

import workloads as C
from workloads import Case, Unsupported

TH = 1


def load(variant, threads):
    global ort, TH
    TH = threads
    import onnxruntime as ort

    return {"onnxruntime": ort.__version__}


def make(name):
    if not name.startswith("W9"):
        raise Unsupported("inference only")
    from onnx import TensorProto as TP
    from onnx import helper as h
    from onnx import numpy_helper as nh

    x = C.batch(name)[0]
    p = C.mlp() if "mlp" in name else C.cnn()
    gemm = lambda n, i, o: h.make_node("Gemm", [i, n + ".weight", n + ".bias"], [o], transB=1)
    if "mlp" in name:
        nodes = [
            gemm("fc1", "x", "a"),
            h.make_node("Relu", ["a"], ["b"]),
            gemm("fc2", "b", "c"),
            h.make_node("Relu", ["c"], ["d"]),
            gemm("fc3", "d", "y"),
        ]
    else:
        cv = lambda n, i, o: h.make_node("Conv", [i, n + ".weight", n + ".bias"], [o], kernel_shape=[3, 3])
        nodes = [
            cv("conv1", "x", "a"),
            h.make_node("Relu", ["a"], ["b"]),
            cv("conv2", "b", "c"),
            h.make_node("Relu", ["c"], ["d"]),
            h.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
            h.make_node("Flatten", ["e"], ["f"]),
            gemm("fc1", "f", "g"),
            h.make_node("Relu", ["g"], ["hh"]),
            gemm("fc2", "hh", "y"),
        ]
    g = h.make_graph(
        nodes,
        "m",
        [h.make_tensor_value_info("x", TP.FLOAT, x.shape)],
        [h.make_tensor_value_info("y", TP.FLOAT, (1, 10))],
        [nh.from_array(v, k) for k, v in p.items()],
    )
    m = h.make_model(g, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    so = ort.SessionOptions()
    so.intra_op_num_threads = TH
    so.inter_op_num_threads = 1
    s = ort.InferenceSession(m.SerializeToString(), so, providers=["CPUExecutionProvider"])
    return Case(lambda: s.run(None, {"x": x}), lambda r: float(r[0].sum()))
