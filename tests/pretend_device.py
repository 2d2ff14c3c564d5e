"""A device that is none, for tests: its memory faults when it is touched from outside, and its kernels are PTX that an interpreter
runs behind the launch of a fake CUDA driver. All between, runtime, plans and caches, is what a real device has.

In: a C compiler, which builds `c/fake_cuda.c`. Out: `open_device`, known to the compiler as `pretend:<number>`; arrays moved there
and back. Next: `test_device_programs.py`.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import ptx_interpreter
from flambeau.compiler.kernel import KernelSource, Launch, Operand
from flambeau.runtime import _binding as runtime
from flambeau.runtime import devices
from ptx_text import parse

TARGET = "sm_90"
_C = Path(__file__).parent / "c"
_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_void_p)
)  # fmt: skip
#: What went wrong in a launch, which the driver only calls a failure.
faults: list[BaseException] = []
launches: list[str] = []
_parsed = cache(parse)


class _State(ctypes.Structure):
    """`fake_cuda_state`."""

    _fields_ = [
        ("devices", ctypes.c_int), ("memory", ctypes.c_size_t), ("live_bytes", ctypes.c_size_t),
        ("live_modules", ctypes.c_int), ("contexts", ctypes.c_int), ("fail_call", ctypes.c_int), ("error", ctypes.c_int),
        ("fail", ctypes.c_char * 64), ("calls", ctypes.c_char * (1 << 15)), ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3), ("parameters", ctypes.c_ulonglong * 8), ("unreadable", ctypes.c_int),
        ("launch", _LAUNCH),
    ]  # fmt: skip


def can_open() -> bool:
    return shutil.which("cc") is not None


class _Driver:
    """The library, built and loaded, with an interpreter behind its launches."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "libfake_cuda.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-pthread", "-o", self.path, _C / "fake_cuda.c"], check=True)
        self.library = ctypes.CDLL(self.path)
        self.library.fake_cuda.restype = ctypes.POINTER(_State)
        self.library.fake_cuda_seen.restype = ctypes.c_void_p
        self.library.fake_cuda_extent.restype = ctypes.c_size_t
        for function in (self.library.fake_cuda_seen, self.library.fake_cuda_extent):
            function.argtypes = [ctypes.c_ulonglong]
        self.state = self.library.fake_cuda().contents
        self.state.devices, self.state.memory, self.state.unreadable = 2, 1 << 32, 1
        self.callback = _LAUNCH(self.launch)
        self.state.launch = self.callback

    def seen(self, address: int) -> int | None:
        """Where memory of the device can be read; None for what is no address of it."""
        found = self.library.fake_cuda_seen(address)
        return None if found == address else found

    def launch(self, image: bytes, grid, block, parameters) -> int:
        try:
            self.state.calls = b""  # it has room for so many names only
            self._run(image.decode(), grid, block, parameters)
            return 0
        except BaseException as error:
            faults.append(error)
            return 719

    def _run(self, ptx: str, grid, block, parameters) -> None:
        words = [ctypes.c_longlong.from_address(parameters[k]).value for k in range(len(_parsed(ptx).parameters))]
        pointers = [w for w in words if w > 0 and self.seen(w) is not None]
        assert words[: len(pointers)] == pointers, "an operand lies elsewhere"
        launches.append(ptx)
        operands = [self._memory(address) for address in pointers]
        ours = tuple(Operand("value", k) for k in range(len(operands)))
        launch = Launch(
            KernelSource(ptx, "ptx"), ours, tuple(words[len(operands) :]), 1, 1, (), grid=tuple(grid[:3]), block=tuple(block[:3])
        )  # fmt: skip
        ptx_interpreter.run(launch, ptx, operands)

    def _memory(self, address: int) -> np.ndarray:
        """The bytes from an address on the device to the end of its block."""
        size, at = self.library.fake_cuda_extent(address), self.seen(address)
        assert at is not None
        return np.frombuffer((ctypes.c_uint8 * size).from_address(at), np.uint8)


_driver: list[_Driver] = []


def open_device(folder: Path | None, number: int = 0) -> str:
    """The name of the device, known to the compiler from now on."""
    name = f"pretend:{number}"
    if not _driver:
        assert folder is not None
        _driver.append(_Driver(folder))
    if name not in devices._known:
        devices.register(devices.Device(name, TARGET, runtime.Device(_driver[0].path, number)))
    return name


def upload(name: str, array: np.ndarray):
    return devices.find(name).handle.upload(np.ascontiguousarray(array))


def download(name: str, buffer, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    found = np.frombuffer(devices.find(name).handle.download(buffer), np.uint8)
    return found[: int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
