"""What the compiler makes of plug-ins: which programs involve them, what of them cache keys hold, how to name them.

In: graphs and `Options`; the offers of `dialects/plugins.py`. Out: bytes for keys, names for messages. Programs that
involve a plug-in are lowered and compiled in a worker process, whatever the mode: a plug-in may end its process.
Next: `passes/pipeline.py`, which runs the passes.
"""

from __future__ import annotations

import marshal
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

from flambeau.compiler.options import Options
from flambeau.dialects import plugins
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.plugins import Offer, PluginError
from flambeau.dialects.record import Kind, OpRecord

_banned: set[Offer] = set()  # passes that ended a worker of this process


def passes(options: Options) -> tuple[Offer, ...]:
    """The passes of plug-ins that take part in compiling with `options`."""
    if not options.plugins or not plugins.offers(plugins.PASSES):
        return ()
    return tuple(
        o for o in _usable(plugins.offers(plugins.PASSES)) if o.name not in options.without and o not in _banned
    )


def leave_out(offer: Offer) -> None:
    """Run a pass no more in this process: it ended its worker, or never came back."""
    _banned.add(offer)


def remembered(options: Options) -> Options:
    """`options` for a worker, which knows of nothing that happened to others."""
    banned = tuple(sorted(o.name for o in _banned if o.name not in options.without))
    return replace(options, without=(*options.without, *banned)) if banned else options


@cache
def _usable(offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """Those passes that have a name of their own."""
    from flambeau.compiler.passes.registry import BUILT_IN

    first = {o.name: o for o in reversed(offers)}
    return tuple(o for o in offers if o.name not in BUILT_IN and first[o.name] is o)


def warn_of_names() -> None:
    """Say once which passes and ops of plug-ins are not used."""
    offered = plugins.offers(plugins.PASSES), plugins.offers(plugins.OPS)
    if any(offered):
        _warn_of_names(*offered)


@cache
def _warn_of_names(passes: tuple[Offer, ...], ops: tuple[Offer, ...]) -> None:
    """Say which passes and ops of plug-ins are not used, for another one has their name."""
    from flambeau.dialects.record import REGISTRY

    mine = {name for name, record in REGISTRY.items() if not record_source(record)}
    for what, offers, used in (
        ("pass", passes, _usable(passes)),
        ("op", ops, tuple(o for o in {o.name: o for o in reversed(ops)}.values() if o.name not in mine)),
    ):
        for offer in set(offers) - set(used):
            other = next((named([o]) for o in used if o.name == offer.name), "one of Flambeau's own")
            warnings.warn(
                f"[plug-in] {what} {named([offer])} is not used: {other} has its name. Rename or uninstall it.",
                RuntimeWarning,
                stacklevel=2,
            )


def ops(graph: Graph) -> list[Offer]:
    """The plug-ins' ops in a graph, in order of first use."""
    if not plugins.offers(plugins.OPS):
        return []
    found = {n.op.name: plugins.op_offer(n.op.name) for n in graph.nodes}
    return [offer for offer in found.values() if offer is not None]


def involved(graph: Graph, options: Options) -> bool:
    """Whether code of a plug-in runs when the graph is compiled."""
    return bool(passes(options) or ops(graph))


def named(offers: tuple[Offer, ...] | list[Offer]) -> str:
    """The offers for people: `'fma' of flambeau-example 0.1, ...`."""
    return ", ".join(f"'{o.name}' of {o.package}" for o in offers)


# ---- lowerings ------------------------------------------------------------------------------------------------


def check_lowerings(graph: Graph) -> None:
    """Raise PluginError where the lowering of a plug-in's op gives a value of another type than its record says: that
    would be stored as it is, and only show as wrong numbers."""
    offered = {o.name: o for o in ops(graph)}
    for node in graph.nodes:
        if node.op.name in offered and node.op.kind is Kind.ELEMENTWISE:
            for lanes in (1, 4):
                _check_lowering(graph, node, offered[node.op.name], lanes)


def _check_lowering(graph: Graph, node: Node, offer: Offer, lanes: int) -> None:
    from flambeau.compiler.codegen.emitter import Emitter
    from flambeau.compiler.codegen.values import Val

    operands = [Val(f"%x{k}", graph.avals[v].dtype.mlir, lanes) for k, v in enumerate(node.operands)]
    results = node.op.run_lower(Emitter(), operands, node.attrs)
    if not isinstance(results, tuple) or len(results) != len(node.results):
        raise PluginError(f"[plug-in] the lowering of {named([offer])} does not give {len(node.results)} results.")
    for found, v in zip(results, node.results, strict=True):
        wanted = graph.avals[v].dtype.mlir
        if not isinstance(found, Val) or found.type != wanted or found.lanes not in (1, lanes):
            what = found.mlir if isinstance(found, Val) else type(found).__name__
            raise PluginError(f"[plug-in] the lowering of {named([offer])} gives {what} where the result is {wanted}.")


# ---- cache keys -----------------------------------------------------------------------------------------------


def sources(graph: Graph, options: Options) -> list[bytes]:
    """What of others' code decides what becomes of a graph: sources of plug-ins, and of records defined elsewhere."""
    offered = ops(graph)
    names = {o.name for o in offered}
    others = [
        origin for op in {n.op: None for n in graph.nodes} if op.name not in names and (origin := record_source(op))
    ]
    return [o.source() for o in (*passes(options), *offered)] + others


@cache
def record_source(op: OpRecord) -> bytes:
    """The source of the modules that define an op, where these are not ours; of functions without a file, their code."""
    parts = [f for f in (op.infer, op.reference, op.lower, op.fails) if callable(f)]
    foreign = {f: getattr(f, "__module__", None) or "" for f in parts}
    foreign = {f: name for f, name in foreign.items() if not name.startswith("flambeau.")}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in foreign.values()}
    found = [Path(file).read_bytes() for file in files.values() if file]
    codes = [code for f, name in foreign.items() if not files[name] and (code := getattr(f, "__code__", None))]
    return b"".join([*found, *map(marshal.dumps, codes)])
