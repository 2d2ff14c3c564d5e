"""The passes of plug-ins that run in every compilation: those that say `after` which stage.

In: a graph, or a fusion group, as a stage left it. Out: the same after these passes, in order of name. What a pass gives is
verified; one that raises or gives something else ends the compilation with a PluginError that names it, and the driver compiles
the program again without that pass. Next: `boundary.py`, which runs them; `stages.py`, which calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from flambeau.compiler import boundary, foreign
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, registry
from flambeau.dialects.graph import Graph
from flambeau.dialects.plugins import Offer, PluginError


def run(graph: Graph, stage: str, options: Options, stages: tuple[str, ...]) -> Graph:
    """`graph` after the plug-ins' passes that follow `stage`, one of `stages`. Raises PluginError."""
    for offer, cls in _loaded(options, stages):
        if cls.after == stage:
            graph = _run(cls, offer, graph)
    return graph


def on_group(group: Group, options: Options, stages: tuple[str, ...], lower: Callable[[Group], object]) -> Group:
    """A fusion group after the plug-ins' passes that follow the stage that makes groups. What a pass changes must be something
    that `lower` follows. Raises PluginError."""
    for offer, cls in _loaded(options, stages):
        if cls.after == "linalg":
            with boundary.beyond(offer, len(group.ops)):
                found = cls()(group)
            check_group(offer, group, found, lower)
            group = found
    return group


def names_on_groups(options: Options, stages: tuple[str, ...]) -> list[str]:
    """The passes that `on_group` runs."""
    return [boundary.named(offer) for offer, cls in _loaded(options, stages) if cls.after == "linalg"]


def _loaded(options: Options, stages: tuple[str, ...]) -> Iterator[tuple[Offer, type[Pass]]]:
    for offer in foreign.passes(options):
        with boundary.beyond(offer, 0):
            cls = registry.load(offer)
        if cls.after and cls.after not in (*stages, "linalg"):
            raise PluginError(
                f"[plug-in] pass {foreign.named([offer])} runs after '{cls.after}'. Choose of {', '.join((*stages, 'linalg'))}."
            )
        yield offer, cls


def _run(cls: type[Pass], offer: Offer, graph: Graph) -> Graph:
    """One pass, on a copy."""
    with boundary.beyond(offer, len(graph.nodes)):
        found = cls()(boundary.copied(graph))
    check(offer, graph, found)
    return replace(found)


def check_group(offer: Offer, before: Group, after: Group, lower: Callable[[Group], object]) -> None:
    """Raise PluginError unless what a pass gave is a group that stands for the one before, and that `lower` follows."""
    from flambeau.compiler.passes import on_groups

    if after == before:
        return
    try:
        on_groups.check(before, after)
        lower(after)
    except Exception as e:
        raise PluginError(
            f"[plug-in] pass {boundary.named(offer)} gave an invalid group: {str(e).rstrip('.')}. Report it there. "
            f"It was given\n{print_group(before)}"
        ) from e


def check(offer: Offer, before: Graph, after: Graph) -> None:
    """Raise PluginError unless what a pass gave is well formed and stands for the same program."""
    try:
        boundary.check(before, after)
    except Exception as e:
        words = str(e).rstrip(".")
        raise PluginError(
            f"[plug-in] pass {boundary.named(offer)} gave an invalid program: {words}. Report it there."
        ) from e
