"""The identity of programs and attributes: exact, and the same in every process.

In: graphs, attribute tuples. Out: hashable keys and digests. Python says that 0.0 == -0.0, 1 == True and nan != nan;
a compiler must not. Used by cse, by the plan cache and by the driver's memory of what was lowered.
"""

from __future__ import annotations

import marshal
from collections.abc import Hashable
from hashlib import blake2b
from typing import Any

from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Size, repr_of

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
            tuple((_plain(avals[v].shape), avals[v].dtype.name) for v in graph.inputs),
            tuple((n.op.name, n.operands, _plain(n.attrs), n.results) for n in graph.nodes),
            tuple(graph.inputs),
            tuple(graph.outputs),
            tuple(sorted(graph.updates.items())),
            len(graph.sizes),
        ),
        _VERSION,
    )


def digest(*parts: bytes | str) -> str:
    """A name for `parts`, 40 hexadecimal digits."""
    h = blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def graph_key(graph: Graph) -> str:
    """The digest of `graph_bytes`."""
    return digest(graph_bytes(graph))


def _plain(value: Any) -> Any:
    if type(value) is tuple:
        return tuple([_plain(v) for v in value])
    if isinstance(value, Size):
        return repr_of(value).encode()
    return "dtype " + value.name if isinstance(value, DType) else value
