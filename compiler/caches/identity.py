"""Names for programs and for what becomes of them: digests of what `dialects/identity.py` says.

In: graphs, bytes, text. Out: hexadecimal names, the same in every process. Used by the plan cache and by the driver's memory of
what was lowered.
"""

from __future__ import annotations

from hashlib import blake2b

from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import graph_bytes


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
