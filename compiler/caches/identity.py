"""Names for programs and for what becomes of them: digests of what `dialects/identity.py` says.

In: graphs, bytes, text. Out: hexadecimal names, the same in every process. Used by the plan cache and by the driver's memory of
what was lowered.
"""

from __future__ import annotations

import importlib.util
from hashlib import blake2b
from pathlib import Path

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


def installed(package: str) -> str:
    """The version of a package, told from the name of its metadata: importing it would be slow. Empty where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return ""
    site = Path(next(iter(spec.submodule_search_locations))).parent
    return " ".join(sorted(p.name for p in site.glob(f"{package}*.dist-info")))


def graph_key(graph: Graph) -> str:
    """The digest of `graph_bytes`."""
    return digest(graph_bytes(graph))
