"""The passes of plug-ins that run in every compilation: those that say `after` which stage.

In: a graph as a stage left it. Out: the graph after these passes, in order of name. What a pass gives is verified; one
that raises or gives something else ends the compilation with a PluginError that names it, and the driver compiles the
program again without that pass. Next: `boundary.py`, which runs them; `stages.py`, which calls this.
"""

from __future__ import annotations

from dataclasses import replace

from flambeau.compiler import boundary, foreign
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, registry
from flambeau.dialects.graph import Graph
from flambeau.dialects.plugins import Offer, PluginError


def run(graph: Graph, stage: str, options: Options, stages: tuple[str, ...]) -> Graph:
    """`graph` after the plug-ins' passes that follow `stage`, one of `stages`. Raises PluginError."""
    for offer in foreign.passes(options):
        with boundary.beyond(offer, 0):
            cls = registry.load(offer)
        if cls.after and cls.after not in stages:
            raise PluginError(
                f"[plug-in] pass {foreign.named([offer])} runs after '{cls.after}'. Choose of {', '.join(stages)}."
            )
        if cls.after == stage:
            graph = _run(cls, offer, graph)
    return graph


def _run(cls: type[Pass], offer: Offer, graph: Graph) -> Graph:
    """One pass, on a copy."""
    with boundary.beyond(offer, len(graph.nodes)):
        found = cls()(boundary.copied(graph))
    check(offer, graph, found)
    return replace(found)


def check(offer: Offer, before: Graph, after: Graph) -> None:
    """Raise PluginError unless what a pass gave is well formed and stands for the same program."""
    try:
        boundary.check(before, after)
    except Exception as e:
        words = str(e).rstrip(".")
        raise PluginError(
            f"[plug-in] pass {boundary.named(offer)} gave an invalid program: {words}. Report it there."
        ) from e
