"""The passes of plug-ins that run in every compilation: those that say `after` which stage.

In: a graph as a stage left it. Out: the graph after these passes, in order of name. What a pass gives is verified; one
that raises or gives something else ends the compilation with a PluginError that names it, and the driver compiles the
program again without passes of plug-ins. Next: `stages.py`, which calls this.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.compiler import foreign
from flambeau.compiler.identity import graph_bytes
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, registry
from flambeau.dialects.graph import Graph
from flambeau.dialects.plugins import Offer, PluginError
from flambeau.dialects.verify import verify, verify_same_interface


def run(graph: Graph, stage: str, options: Options, stages: tuple[str, ...]) -> Graph:
    """`graph` after the plug-ins' passes that follow `stage`, one of `stages`. Raises PluginError."""
    for offer in foreign.passes(options):
        if offer.name in registry.BUILT_IN:
            continue
        cls = registry.load(offer)
        if cls.after and cls.after not in stages:
            raise PluginError(
                f"[plug-in] pass {foreign.named([offer])} runs after '{cls.after}'. Choose of {', '.join(stages)}."
            )
        if cls.after == stage:
            graph = _run(cls, offer, graph)
    return graph


def _run(cls: type[Pass], offer: Offer, graph: Graph) -> Graph:
    """One pass, on a copy: what it does to its input is its own affair."""
    copy = replace(graph, avals=list(graph.avals), inputs=list(graph.inputs), nodes=list(graph.nodes))
    copy.outputs, copy.updates = list(graph.outputs), dict(graph.updates)
    try:
        found = cls()(copy)
    except Exception as e:
        raise PluginError(
            f"[plug-in] pass {foreign.named([offer])} raised {type(e).__name__}: {e}. Report it there."
        ) from e
    try:
        verify(found)
        verify_same_interface(graph, found)
        graph_bytes(found)  # attributes that cannot be told apart cannot be cached
    except Exception as e:
        raise PluginError(
            f"[plug-in] pass {foreign.named([offer])} gave an invalid program: {e}. Report it there."
        ) from e
    return replace(found)
