"""An op that runs on the host: what another record's NumPy reference gives.

In: the operands of an op that has no compiled form, its name and attributes. Out: its results. Programs are recorded and
differentiated without it; the compiler puts it in the place of such ops (`compiler/passes/reference_calls.py`), so that all
others stay fused around them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32, float64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample, find
from flambeau.dialects.tape.common import one_nan, random
from flambeau.dialects.tape.nan import handed_on


def _infer(*args: Any) -> tuple[Aval, ...]:
    *operands, op, attrs = args
    try:
        record = find(op)
    except KeyError:
        raise RuntimeError(f"[reference_call] there is no op '{op}'. Name one.") from None
    if record.effect or record.regions:
        raise RuntimeError(f"[reference_call] '{op}' does more than compute. Name an op without effects and regions.")
    return record.infer_results(operands, attrs)


def run(op: str, attrs: tuple[Hashable, ...], arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What the op's reference gives; NaNs that it computes are canonical, as those of kernels are in the end."""
    record = find(op)
    found = record.run_reference(arrays, attrs)
    return found if handed_on(record, ()) is not None else tuple(map(one_nan, map(np.asarray, found)))


def _reference(*args: Any) -> tuple[np.ndarray, ...]:
    *arrays, op, attrs = args
    return run(op, attrs, arrays)


def _failure(position: int, *args: Any) -> Exception:
    return RuntimeError(f"[{args[-2]}] the computation failed on the host. Look at its operands.")


def _samples() -> list[Sample]:
    def call(op: str, *attrs: Hashable) -> dict[str, Any]:
        return {"op": op, "attrs": attrs}

    x, y = random((2, 3)), random((2, 3), seed=1)
    token = np.array(0)
    return [
        Sample((x,), call("exp"), gradient=False),
        Sample((x, y), call("add"), gradient=False),
        Sample((random((67, 5)),), call("sum", (1,)), gradient=False),
        Sample((random((3, 0)),), call("neg"), gradient=False),
        Sample((x,), call("cast", float32), gradient=False),
        Sample((x,), call("frexp"), gradient=False),
        Sample((x, y), call("nothing"), error=(RuntimeError, "[reference_call] there is no op 'nothing'.")),
        Sample((token, token), call("host_call"), error=(RuntimeError, "[reference_call] 'host_call' does more than")),
    ]


reference_call = OpRecord(
    name="reference_call",
    kind=Kind.REFERENCE_CALL,
    attrs=("op", "attrs"),
    infer=_infer,
    reference=_reference,
    vjp=NoGradient("programs are differentiated before it stands for an op"),
    lower=None,
    dtypes=(float32, float64),  # of the samples: it takes any
    fallible=True,
    failure=_failure,
    results=None,
    samples=_samples,
    doc="What the NumPy reference of the op `op` gives with the attributes `attrs`.",
)
