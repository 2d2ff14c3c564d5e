"""Calls of the host: the one op that does something besides giving a result.

In: a token, the call's number, values. Out: the token of what comes after. A token is an int64 whose value means nothing: that one
op reads what another gives is their order, in every pass, plan and trace. Next: `dialects/effects.py`, for how it is carried out.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects import effects
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float64, int64
from flambeau.dialects.record import Kind, NoGradient, OpRecord, Sample
from flambeau.dialects.tape.common import check_scalar, random


def _infer(token: Aval, number: Aval, *values: Aval) -> Aval:
    check_scalar("host_call", token, int64, "the token")
    check_scalar("host_call", number, int64, "the number of the call")
    return token


def _reference(token: np.ndarray, number: np.ndarray, *values: np.ndarray) -> np.ndarray:
    effects.note(int(number), values)
    return np.array(token)


def _samples() -> list[Sample]:
    token, number = np.array(0), np.array(7)
    return [
        Sample((token, number), gradient=False),
        Sample((token, number, random((2, 3))), gradient=False),
        Sample((token, number, random((2, 3)), random((67,)), np.arange(3)), gradient=False),
        Sample(
            (token, np.array(1.5), random((2,))), error=(RuntimeError, "[host_call] the number of the call is float64")
        ),
        Sample((np.zeros(2, np.int64), number), error=(RuntimeError, "[host_call] the token is int64 of shape (2,).")),
    ]


host_call = OpRecord(
    name="host_call",
    kind=Kind.HOST_CALL,
    attrs=(),
    infer=_infer,
    reference=_reference,
    vjp=NoGradient("it gives no number"),
    lower=None,
    dtypes=(float64,),  # of the samples: it takes any
    effect=True,
    results=("token",),
    samples=_samples,
    doc="Calls the host's function `number` on the values once the program has succeeded; gives the token of what comes after.",
)
