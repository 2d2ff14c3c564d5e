"""Runs launches on a real GPU through the C runtime, by ctypes.

In: PTX, a `Launch` and its operands as arrays. Out: the arrays as the kernel leaves them. `driver` is the path of the
driver's library, None the system's.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from flambeau.compiler.kernel import Launch
from flambeau.runtime import _binding

_OK = 0


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(Path(_binding.__file__).parent / "lib" / "libflambeau_rt.so"))
    library.fb_last_error.restype = ctypes.c_char_p
    for name in ("fb_cuda_close", "fb_cuda_release", "fb_cuda_unload"):
        getattr(library, name).restype = None
    return library


def _call(name: str, *arguments) -> None:
    library = _library()
    if getattr(library, name)(*arguments) != _OK:
        raise RuntimeError(library.fb_last_error().decode())


class Device:
    """An open GPU; use it in a `with`."""

    def __init__(self, driver: str | None = None) -> None:
        self.handle = ctypes.c_void_p()
        _call("fb_cuda_open", driver.encode() if driver else None, 0, ctypes.byref(self.handle))

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_) -> None:
        _library().fb_cuda_close(self.handle)

    def run(self, ptx: str, launch: Launch, operands: list[np.ndarray]) -> None:
        """Upload all operands, launch, and download those that are written."""
        kernel = ctypes.c_void_p()
        _call("fb_cuda_load", self.handle, ptx.encode(), ctypes.byref(kernel))
        blocks = []
        try:
            for x in operands:
                block = ctypes.c_void_p()
                _call("fb_cuda_alloc", self.handle, ctypes.c_size_t(x.nbytes), ctypes.byref(block))
                blocks.append(block)
                _call("fb_cuda_upload", self.handle, block, _SIZE(0), ctypes.c_void_p(x.ctypes.data), _SIZE(x.nbytes))
            self._launch(kernel, launch, blocks)
            for k in launch.writes:
                x = operands[k]
                _call(
                    "fb_cuda_download",
                    self.handle,
                    ctypes.c_void_p(x.ctypes.data),
                    blocks[k],
                    _SIZE(0),
                    _SIZE(x.nbytes),
                )
        finally:
            for block in blocks:
                _library().fb_cuda_release(self.handle, block)
            _library().fb_cuda_unload(self.handle, kernel)

    def _launch(self, kernel: ctypes.c_void_p, launch: Launch, blocks: list[ctypes.c_void_p]) -> None:
        pointers = (ctypes.c_void_p * max(len(blocks), 1))(*(b.value for b in blocks))
        dims = (ctypes.c_int64 * max(len(launch.dims), 1))(*launch.dims)
        grid, block = ((ctypes.c_uint * 3)(*extents) for extents in (launch.grid, launch.block))
        counts = ctypes.c_size_t(len(blocks)), ctypes.c_size_t(len(launch.dims))
        _call("fb_cuda_launch", self.handle, kernel, grid, block, pointers, counts[0], dims, counts[1])
        _call("fb_cuda_wait", self.handle)


_SIZE = ctypes.c_size_t
