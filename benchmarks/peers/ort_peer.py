"""ONNX Runtime, inference only; the models are built with onnx.helper, no torch needed. From a NumPy array to a NumPy array."""

import numpy as np
import workloads as C
from workloads import Case, Unsupported

TH = 1


def load(variant, threads):
    global ort, TH
    TH = threads
    import onnxruntime as ort

    return {"onnxruntime": ort.__version__}


class Net:
    """A graph that is written call by call; a call gives the name of its result."""

    def __init__(self):
        self.nodes, self.weights, self.rng = [], {}, np.random.default_rng(0)

    def op(self, kind, *inputs, **attributes):
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def const(self, a):
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(a)
        return name

    def random(self, *shape):
        return self.const(C.uniform(self.rng, int(np.prod(shape[1:])), *shape))

    def full(self, n, x):
        return self.const(np.full(n, x, np.float32))

    def conv(self, x, a, b, kernel, stride=1, pad=0):
        """With batch norm, as of a net that serves: its statistics are those of a new one."""
        how = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        y = self.op("Conv", x, self.random(b, a, kernel, kernel), **how)
        return self.op("BatchNormalization", y, *(self.full(b, v) for v in (1, 0, 0, 1)))

    def linear(self, x, a, b):
        return self.op("Add", self.op("MatMul", x, self.const(C.uniform(self.rng, a, a, b))), self.full(b, 0))


def weighted(p):
    n = Net()
    n.weights = dict(p)
    return n


def mlp():
    n, x = weighted(C.mlp()), "x"
    for k in (1, 2, 3):
        x = n.op("Gemm", x, f"fc{k}.weight", f"fc{k}.bias", transB=1)
        x = n.op("Relu", x) if k < 3 else x
    return n


def cnn():
    n, x = weighted(C.cnn()), "x"
    for k in (1, 2):
        x = n.op("Relu", n.op("Conv", x, f"conv{k}.weight", f"conv{k}.bias", kernel_shape=[3, 3]))
    x = n.op("Flatten", n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = n.op("Relu", n.op("Gemm", x, "fc1.weight", "fc1.bias", transB=1))
    n.op("Gemm", x, "fc2.weight", "fc2.bias", transB=1)
    return n


def resnet():
    n = Net()
    x = n.op("Relu", n.conv("x", 3, 64, 7, 2, 3))
    x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for a, b, stride in C.RESNET:
        for c, s in ((a, stride), (b, 1)):
            y = n.conv(n.op("Relu", n.conv(x, c, b, 3, s, 1)), b, b, 3, 1, 1)
            x = n.op("Relu", n.op("Add", y, n.conv(x, c, b, 1, s) if s > 1 else x))
    n.linear(n.op("Flatten", n.op("GlobalAveragePool", x)), 512, 1000)
    return n


def vit():
    n, c = Net(), C.VIT
    d, heads, side = c["d"], c["heads"], 224 // c["patch"]

    def norm(x):
        return n.op("LayerNormalization", x, n.full(d, 1), n.full(d, 0), epsilon=1e-5)

    def split(x, perm):
        return n.op("Transpose", n.op("Reshape", x, n.const([1, -1, heads, d // heads])), perm=perm)

    patch = dict(kernel_shape=[c["patch"]] * 2, strides=[c["patch"]] * 2)
    x = n.op("Conv", "x", n.random(d, 3, c["patch"], c["patch"]), **patch)
    x = n.op("Transpose", n.op("Reshape", x, n.const([1, d, side * side])), perm=[0, 2, 1])
    x = n.op("Concat", n.const(np.zeros((1, 1, d), np.float32)), x, axis=1)
    x = n.op("Add", x, n.random(1, side * side + 1, d))
    for _ in range(c["layers"]):
        y = norm(x)
        q, k, v = (split(n.linear(y, d, d), p) for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = n.op("Mul", n.op("MatMul", q, k), n.const(np.float32((d // heads) ** -0.5)))
        a = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = n.op("Add", x, n.linear(n.op("Reshape", a, n.const([1, -1, d])), d, d))
        x = n.op("Add", x, n.linear(n.op("Gelu", n.linear(norm(x), d, 4 * d)), 4 * d, d))
    n.linear(n.op("Gather", norm(x), n.const(0), axis=1), d, 1000)
    return n


NETS = {"W9_mlp": mlp, "W9_cnn": cnn, "resnet18_infer": resnet, "vit_infer": vit}


def make(name):
    if name not in NETS:
        raise Unsupported("inference only")
    from onnx import TensorProto, helper, numpy_helper

    x, net = C.batch(name)[0], NETS[name]()
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(net.nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in net.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = TH
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Case(lambda: session.run(None, {"x": x})[0], lambda y: float(y.sum()))
