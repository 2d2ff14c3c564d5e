"""Transfers: the ops whose results lie on another device than their operands. All other ops stay on one device.

In: an operand anywhere, and the name of a device. Out: `to_device`, and `crosses`, which tells its uses that move memory from those
that move none. Next: `../record.py`, where the devices of results come from.
"""

from __future__ import annotations

import numpy as np
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import SUPPORTED
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape.common import check_dtype, ops, random


def _infer_to_device(x: Aval, device: str) -> Aval:
    check_dtype("to_device", x, SUPPORTED)
    if not isinstance(device, str) or not device:
        raise TypeError(f"[to_device] {device!r} is no device. Give its name, as in 'cpu' or 'cuda:0'.")
    return x


to_device = OpRecord(
    name="to_device",
    kind=Kind.TRANSFER,
    attrs=("device",),
    infer=_infer_to_device,
    reference=lambda x, device: x,
    vjp=lambda ct, result, x, device: (ops.to_device(ct, device=x.aval.device),),
    lower=None,
    dtypes=SUPPORTED,
    samples=lambda: [
        *(Sample((random(shape),), {"device": CPU}) for shape in ((), (7,), (0, 4), (3, 5, 2))),
        Sample((np.zeros(3),), {"device": 0}, error=(TypeError, "[to_device] 0 is no device. Give its name, as in")),
        Sample((np.zeros(3),), {"device": ""}, error=(TypeError, "[to_device] '' is no device. Give its name, as in")),
    ],
    doc="The same elements in the memory of a device.",
    moves_to="device",
)


def crosses(graph: Graph, node: Node) -> bool:
    """Whether the node moves memory from one device to another."""
    return node.op is to_device and graph.avals[node.operands[0]].device != graph.avals[node.results[0]].device
