"""Compiles emitter code that a test writes and runs it on NumPy arrays. In: a function of the emitter. Out: a callable."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from flambeau.compiler.backend import loader, object_code
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.options import Options

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_NAMES = {"bool": "i1", "int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64"}


class Kernel:
    """Machine code: call with arrays (bufs), dims and the range of items."""

    def __init__(self, write: Callable[[Emitter], None], target: str = "host") -> None:
        b = Emitter()
        write(b)
        self.source = b.source("test")
        self.entry = _KERNEL(loader.load(object_code.compile_object(self.source, Options(target=target))))

    def __call__(self, arrays, dims=(), lo: int = 0, hi: int = 1) -> None:
        bufs = (ctypes.c_void_p * max(len(arrays), 1))(*(a.ctypes.data for a in arrays))
        extents = (ctypes.c_int64 * max(len(dims), 1))(*dims)
        self.entry(bufs, extents, lo, hi, None)


class Map:
    """`function(b, *vals)` over equally long arrays, `lanes` at a time with a masked tail."""

    def __init__(self, function, inputs: tuple[str, ...], output: str, lanes: int, target: str = "host") -> None:
        self.output = np.dtype(output)
        types = [_NAMES[name] for name in inputs]

        def write(b: Emitter) -> None:
            pointers = [b.buffer(k) for k in range(len(types) + 1)]
            with b.loop(b.lo, b.hi, lanes) as loop:
                mask = None if lanes == 1 else b.tail_mask(b.sub(b.hi, loop.index), lanes)
                vals = [b.load(p, loop.index, t, lanes, mask) for p, t in zip(pointers, types)]
                b.store(b.splat(function(b, *vals), lanes), pointers[-1], loop.index, mask)

        self.kernel = Kernel(write, target)

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        out = np.zeros(arrays[0].size, self.output)
        self.kernel([*arrays, out], hi=out.size)
        return out
