"""Programs whose values lie on another device. Next: `test_devices.py`."""

from __future__ import annotations

from dataclasses import replace

from flambeau.dialects.graph import Graph


def placed(graph: Graph, device: str) -> Graph:
    """The same program with all its values on a device."""
    return replace(graph, avals=[a.on(device) for a in graph.avals])
