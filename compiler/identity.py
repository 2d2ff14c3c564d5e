"""The identity of programs and attributes: exact, and the same in every process.

In: graphs, attribute tuples. Out: hashable keys and digests. Python says that 0.0 == -0.0, 1 == True and nan != nan;
a compiler must not. Used by cse, by the plan cache and by the driver's memory of what was lowered.
"""

from __future__ import annotations

from hashlib import blake2b

from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import attrs_key, graph_bytes

__all__ = ["attrs_key", "digest", "graph_bytes", "graph_key"]


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
