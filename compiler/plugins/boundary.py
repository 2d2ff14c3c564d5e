"""The border between the compiler and code of plug-ins: whatever happens beyond it is told as a PluginError.

In: an offer and what is to be run of it. Out: what that gives, or a PluginError that says what was raised, in which file
and line. A worker also says beforehand what it is about to run, so that a death or a hang blames one plug-in, and ends
what takes too long. Next: `passes/pipeline.py` and `foreign.py`, the users; `workers/worker.py` and `opt.py`, which set `watch`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from flambeau.dialects.entry_points import Offer, PluginError, is_interrupt, own_line, place
from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import graph_bytes
from flambeau.dialects.verify import verify, verify_same_interface

#: Seconds of processor time that a plug-in has for one pass, or the lowerings of one kernel: so many, and so many for
#: each node.
SECONDS, PER_NODE = 5.0, 0.002


class TooLong(BaseException):
    """Raised by a watch inside of what has used up its time; no `except Exception` of a plug-in's holds it."""


def _unwatched(name: str, seconds: float) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


#: Stands around what runs: its name, and the seconds that it has. A worker puts its own here.
watch: Callable[[str, float], AbstractContextManager[None]] = _unwatched


def named(offer: Offer) -> str:
    """An offer for people: `'fma' of flambeau-example 0.1`."""
    return f"'{offer.name}' of {offer.package}"


@contextlib.contextmanager
def beyond(
    offer: Offer, n_nodes: int, what: str = "pass", refusals: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Run code of a plug-in. Raises PluginError for whatever it raises but a Ctrl-C of the user's and `refusals`, by which it says
    that it does not do what it was asked for."""
    try:
        with watch(named(offer), SECONDS + PER_NODE * n_nodes):
            yield
    except BaseException as e:
        if isinstance(e, (PluginError, *refusals)) or is_interrupt(e):
            raise
        raise _blame(e, offer, what) from e


@contextlib.contextmanager
def among(offers: Sequence[Offer], n_nodes: int) -> Iterator[None]:
    """Run code of ours that calls the lowerings of plug-ins. Raises PluginError for what was raised in one of them."""
    if not offers:
        yield
        return
    try:
        with watch(", ".join(map(named, offers)), SECONDS + PER_NODE * n_nodes):
            yield
    except PluginError:
        raise
    except BaseException as e:
        guilty = next((o for o in offers if own_line(e, o)), None)
        if guilty is None or is_interrupt(e):
            raise
        raise _blame(e, guilty, LOWERING) from e


LOWERING = "the lowering of"


def _blame(error: BaseException, offer: Offer, what: str) -> PluginError:
    said = place(error, offer)
    said = said.removeprefix("TooLong: ") if isinstance(error, TooLong) else f"raised {said}"
    return PluginError(f"[plug-in] {what} {named(offer)} {said}. Report it there.")


def copied(graph: Graph) -> Graph:
    """A copy for a pass to run on: what it does to its input is its own affair."""
    copy = replace(graph, avals=list(graph.avals), inputs=list(graph.inputs), nodes=list(graph.nodes))
    copy.outputs, copy.updates = list(graph.outputs), dict(graph.updates)
    return copy


def check(before: Graph, after: Graph) -> None:
    """Raise an exception unless what a pass gave is well formed and stands for the same program."""
    verify(after)
    verify_same_interface(before, after)
    graph_bytes(after)  # attributes that cannot be told apart cannot be cached
