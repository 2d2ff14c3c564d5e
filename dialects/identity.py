"""The identity of programs and attributes: exact, and the same in every process.

In: graphs, attribute tuples. Out: bytes. Python says that 0.0 == -0.0, 1 == True and nan != nan; a compiler must not.
Next: `region.py`; `compiler/caches/identity.py` for digests.
"""

from __future__ import annotations

import marshal
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Size, Sized, repr_of

if TYPE_CHECKING:
    from flambeau.dialects.graph import Graph, Node

_VERSION = 2  # the last marshal format without back-references: equal values give equal bytes


def attrs_key(attrs: tuple[Hashable, ...]) -> bytes:
    """Equal for attributes that are equal to the bit and in type."""
    return marshal.dumps(_plain(attrs), _VERSION) if attrs else b""


def graph_bytes(graph: Graph) -> bytes:
    """A serialization that is equal for graphs that compute the same thing the same way. Locations are left out, and so
    are the values that symbols had."""
    avals = graph.avals
    return marshal.dumps(
        (
            tuple((_plain(avals[v].shape), avals[v].dtype.name, *_place(avals[v])) for v in graph.inputs),
            tuple((n.op.name, n.operands, _plain(n.attrs), n.results, *_made_at(graph, n)) for n in graph.nodes),
            tuple(graph.inputs),
            tuple(graph.outputs),
            tuple(sorted(graph.updates.items())),
            len(graph.sizes),
        ),
        _VERSION,
    )


def _place(aval: Aval) -> tuple[str, ...]:
    return () if aval.device == CPU else (aval.device,)


def _made_at(graph: Graph, node: Node) -> tuple[str, ...]:
    """Where the results of an op without operands lie; of others it follows from those."""
    return () if node.operands or not node.results else _place(graph.avals[node.results[0]])


_PLAIN = frozenset({int, float, bool, complex, str, bytes, type(None)})


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        return value if _PLAIN.issuperset(map(type, value)) else tuple([_plain(v) for v in value])
    if kind in _PLAIN:
        return value
    if isinstance(value, Size):
        return repr_of(value).encode()
    if isinstance(value, Sized):
        return value.key
    return "dtype " + value.name if isinstance(value, DType) else value
