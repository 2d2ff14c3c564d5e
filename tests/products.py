"""Contraction clusters run by themselves: kernels called chunk by chunk through ctypes, and operands for them."""

from __future__ import annotations

import ctypes
from functools import cache

import contraction_order
import numpy as np
from flambeau.compiler import targets
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.codegen.products import cut as gemm
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.schedules.choose import choose
from flambeau.dialects.builder import Value
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)
_CACHE = kernel_cache.KernelCache(None)


def lower(graph: Graph, target="host", fixed=None):
    """What becomes of a cluster where some fields of its schedule are fixed."""
    machine, found = targets.find(target), gemm.cut(Cluster("contraction", graph))
    return found.lower([choose(unit, machine, fixed) for unit in found.units], machine)


def run(graph: Graph, inputs, target="host", fixed=None, backwards=False, overwrite=None):
    """The outputs of a cluster. `overwrite` maps an output's position to the input whose memory it takes."""
    lowered = lower(graph, target, fixed)
    memory = {v: np.ascontiguousarray(x) for v, x in zip(graph.inputs, inputs, strict=True)}
    for k, v in enumerate(graph.outputs):
        aval = graph.avals[v]
        if overwrite and k in overwrite:
            memory[graph.inputs[overwrite[k]]] = memory[v] = memory[graph.inputs[overwrite[k]]].copy()
        else:
            memory[v] = np.full(aval.shape, 77, aval.dtype.numpy)
    temps = [np.full(size, 255, np.uint8) for size in lowered.temps]
    for call in lowered.calls:
        kernel = _KERNEL(_CACHE.get([call.source], Options(target=target))[0])
        places = [memory[o.index] if o.kind == "value" else temps[o.index] for o in call.operands]
        pointers = np.array([p.ctypes.data + o.offset for p, o in zip(places, call.operands, strict=True)], np.int64)
        dims = np.array(call.dims, np.int64)
        chunks = [(lo, min(call.n, lo + call.grain)) for lo in range(0, call.n, call.grain)]
        for lo, hi in reversed(chunks) if backwards else chunks:
            scratch = np.full(call.scratch + 64, 255, np.uint8)  # NaNs: nothing may be expected there
            kernel(pointers.ctypes.data, dims.ctypes.data, lo, hi, scratch.ctypes.data)
            assert (scratch[call.scratch :] == 255).all(), "written outside of scratch"
    return [memory[v] for v in graph.outputs]


def transpose(x: Value) -> Value:
    rank = len(x.shape)
    return find("permute")(x, perm=(*range(rank - 2), rank - 1, rank - 2))


@cache
def random(shape, dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.startswith("int"):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-8, 8, shape))).astype(dtype)


def expected(a, b):
    """The product, to the bit."""
    if a.dtype.kind == "i":
        return np.matmul(a, b)
    return contraction_order.matmul(a, b)


def bits(x):
    return x.view(np.uint8) if x.ndim else x[None].view(np.uint8)
