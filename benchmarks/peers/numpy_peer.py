"""NumPy (OpenBLAS) as a reference line: W6 forward, W7, W8, W9_mlp."""

import workloads as C
from workloads import Case, Unsupported


def load(variant, threads):
    global np
    import numpy as np

    return {"numpy": np.__version__}


def make(name):
    if name.startswith("W6_fwd_"):
        x = C.batch(name)[0]
        sg = lambda x: 1 / (1 + np.exp(-x))
        return Case(lambda: (np.tanh(x * 2 + 1) * sg(x) - np.maximum(x, 0) ** 2).sum(), float)
    if name.startswith("W7_mm"):
        a, b = C.batch(name)
        return Case(lambda: a @ b, lambda r: float(r[0, 0]))
    if name == "W8_add":
        x0, y = np.zeros(10, np.float32), np.full(10, 1e-3, np.float32)

        def step():
            x = x0
            for _ in range(200):
                x = x + y
            return x

        return Case(step, lambda r: float(r[0]), inner=200)
    raise Unsupported("reference only")
