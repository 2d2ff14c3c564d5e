"""The passes of plug-ins that run in every compilation: those that say `after` which stage.

In: a graph, or a fusion group, as a stage left it. Out: the same after these passes, in order of name. What a pass gives is
verified; one that raises or gives something else ends the compilation with a PluginError that names it, and the driver compiles
the program again without that pass. Next: `boundary.py`, which runs them; `stages.py`, which calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, registry
from flambeau.compiler.plugins import boundary, foreign
from flambeau.dialects.graph import Graph
from flambeau.dialects.plugins import Offer, PluginError

#: The stage that makes fusion groups: what follows it works on those.
GROUPS = "linalg"
Loaded = tuple[Offer, type[Pass]]


def run(graph: Graph, stage: str, options: Options, stages: tuple[str, ...]) -> Graph:
    """`graph` after the plug-ins' passes that follow `stage`, one of `stages`. Raises PluginError."""
    for offer, cls in following(stage, options, stages):
        graph = _run(cls, offer, graph)
    return graph


def following(stage: str, options: Options, stages: tuple[str, ...]) -> list[Loaded]:
    """The plug-ins' passes that follow a stage; passes may follow `stages` and the one that makes groups. Raises PluginError."""
    allowed, found = (*stages, GROUPS), []
    for offer in foreign.passes(options):
        with boundary.beyond(offer, 0):
            cls = registry.load(offer)
        if cls.after and cls.after not in allowed:
            raise PluginError(
                f"[plug-in] pass {foreign.named([offer])} runs after '{cls.after}'. Choose of {', '.join(allowed)}."
            )
        if cls.after == stage:
            found.append((offer, cls))
    return found


def on_group(group: Group, passes: Iterable[Loaded], lower: Callable[[Group], object]) -> Group:
    """A fusion group after passes of plug-ins. What one changes must be something that `lower` follows. Raises PluginError."""
    for offer, cls in passes:
        with boundary.beyond(offer, len(group.ops)):
            found = cls()(group)
        check_group(offer, group, found, lower)
        group = found
    return group


def _run(cls: type[Pass], offer: Offer, graph: Graph) -> Graph:
    """One pass, on a copy."""
    with boundary.beyond(offer, len(graph.nodes)):
        found = cls()(boundary.copied(graph))
    check(offer, graph, found)
    return replace(found)


def check_group(offer: Offer, before: Group, after: Group, lower: Callable[[Group], object]) -> None:
    """Raise PluginError unless what a pass gave is a group that stands for the one before, and that `lower` follows."""
    from flambeau.compiler.passes import on_groups  # a compile does without

    if after == before:
        return
    refusal = "gave an invalid group: {}. Report it there."
    try:
        on_groups.check(before, after)
        refusal = "gave a group that the code generators do not follow: {}."
        lower(after)
    except Exception as e:
        words = refusal.format(str(e).rstrip("."))
        raise PluginError(f"[plug-in] pass {boundary.named(offer)} {words} It was given\n{print_group(before)}") from e


def check(offer: Offer, before: Graph, after: Graph) -> None:
    """Raise PluginError unless what a pass gave is well formed and stands for the same program."""
    try:
        boundary.check(before, after)
    except Exception as e:
        words = str(e).rstrip(".")
        raise PluginError(
            f"[plug-in] pass {boundary.named(offer)} gave an invalid program: {words}. Report it there."
        ) from e
