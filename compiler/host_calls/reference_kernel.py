"""Kernels that call Python: one step of a plan runs an op's NumPy reference on the plan's memory.

In: the cluster of one `reference_call`. Out: a kernel whose text says what is called (JSON), as other kernels' says what is
computed, without numbers, which come with the sizes when it is called; and its address in this process, a C function that takes the
GIL: there are as many as forms of calls. The function gets copies of the operands,
which it may keep, and what it gives is copied into the results. Whatever it raises is a failure of the step, which is
one of those that may fail: running op by op finds the error and its line. Next: `addresses.py`.
"""

from __future__ import annotations

import ctypes
import json
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.locks import process_lock
from flambeau.dialects.record import find
from flambeau.dialects.reference import fitted
from flambeau.dialects.size import Int, Size, Sized
from flambeau.dialects.tape.on_host import run

_KERNEL = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_int64),
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
)
_BITS, _FLOAT = struct.Struct("=q"), struct.Struct("=d")
_made: dict[str, Any] = {}  # C functions by text; plans hold their addresses, so they live as long as the process
_lock = process_lock()
_interrupted = threading.local()


def lower(cluster: Cluster) -> Lowered:
    """The call of the cluster's one op. Raises RuntimeError where an attribute cannot be handed over."""
    (node,) = cluster.graph.nodes
    op, attrs = node.attrs
    avals = cluster.graph.avals
    values = (*node.operands, *node.results)
    numbers: list[Int] = []
    description = {
        "host kernel": 1,  # as `kernel.HOST_KERNEL` says
        "op": op,
        "attrs": _written(attrs, op, numbers),
        "operands": [(avals[v].dtype.name, avals[v].rank) for v in node.operands],
        "results": [(avals[v].dtype.name, avals[v].rank) for v in node.results],
        "numbers": len(numbers),
    }
    shapes: list[Int] = [n for v in values for n in avals[v].shape]
    call = KernelCall(
        KernelSource(json.dumps(description), f"{op} on the host"),
        (*(Operand("value", v) for v in values), Operand("status")),
        (*shapes, *numbers),
        n=1,
        grain=1,
        writes=tuple(range(len(node.operands), len(values))),
        fallible=True,
    )
    return Lowered([call])


def address(text: str) -> int:
    """Where the kernel with this text is in this process. Raises KeyError where its op is not there any more."""
    with _lock:
        if text not in _made:
            _made[text] = _KERNEL(_kernel(json.loads(text)))
        return ctypes.cast(_made[text], ctypes.c_void_p).value or 0


def check_interrupt() -> None:
    """Raise what interrupted the last call on this thread, if anything did."""
    error, _interrupted.error = getattr(_interrupted, "error", None), None
    if error is not None:
        raise error


# ---- one call -------------------------------------------------------------------------------------------------


def _kernel(description: dict[str, Any]) -> Callable[..., None]:
    op, attrs = description["op"], description["attrs"]
    find(op)
    given = [(dtypes.by_name(name), rank) for name, rank in description["operands"]]
    made = [(dtypes.by_name(name), rank) for name, rank in description["results"]]
    n, first = len(given) + len(made), sum(rank for _, rank in (*given, *made))
    last = first + description["numbers"]

    def kernel(bufs: Any, dims: Any, lo: int, hi: int, scratch: Any) -> None:
        try:
            arrays = _arrays(bufs, dims, (*given, *made))
            said = _read(attrs, iter(dims[first:last]))
            found = run(op, said, [a.copy() for a in arrays[: len(given)]])
            for array, result, (dtype, _) in zip(arrays[len(given) :], found, made, strict=True):
                array[...] = fitted(result, Aval(array.shape, dtype), op)
        except BaseException as error:
            if not isinstance(error, Exception):
                _interrupted.error = error
            ctypes.c_int64.from_address(bufs[n]).value = dims[last] << 48

    return kernel


def _arrays(bufs: Any, dims: Any, types: Sequence[tuple[DType, int]]) -> list[np.ndarray]:
    """The plan's memory, as arrays."""
    found, at = [], 0
    for k, (dtype, rank) in enumerate(types):
        shape = tuple(dims[at : at + rank])
        at += rank
        size = prod(shape)
        if not size:  # there need be no memory
            found.append(np.empty(shape, dtype.numpy))
            continue
        memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(bufs[k])
        found.append(np.frombuffer(memory, dtype.numpy, size).reshape(shape))
    return found


# ---- attributes -------------------------------------------------------------------------------------------------


def _written(value: Any, op: str, numbers: list[Int]) -> Any:
    """An attribute as JSON: lists are tuples, "int" and "float" stand for what is appended to `numbers`, as 64 bits, and what JSON
    has no form for is a pair of its kind and a string. Raises RuntimeError for what cannot be handed over."""
    if isinstance(value, tuple):
        return [_written(v, op, numbers) for v in value]
    if isinstance(value, DType | str):
        return {"dtype": value.name} if isinstance(value, DType) else {"str": value}
    if isinstance(value, Size) or (type(value) is int and -(1 << 63) <= value < 1 << 63):
        numbers.append(value)
        return "int"
    if isinstance(value, float):
        numbers.append(*_BITS.unpack(_FLOAT.pack(value)))
        return "float"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Sized):
        raise RuntimeError(
            f"[{op}] an attribute depends on a size known at run time only, which the host does not get."
        )
    raise RuntimeError(f"[{op}] an attribute is a {type(value).__name__}, which cannot be handed to the host.")


def _read(value: Any, numbers: Iterator[int]) -> Any:
    if isinstance(value, list):
        return tuple([_read(v, numbers) for v in value])
    if isinstance(value, dict):
        return dtypes.by_name(value["dtype"]) if "dtype" in value else value["str"]
    if isinstance(value, str):
        return next(numbers) if value == "int" else _FLOAT.unpack(_BITS.pack(next(numbers)))[0]
    return value
