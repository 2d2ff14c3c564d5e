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
from typing import Any

from flambeau.compiler import targets
from flambeau.compiler.options import Options
from flambeau.compiler.plugins import boundary
from flambeau.dialects import entry_points, plugins
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.plugins import Offer, PluginError
from flambeau.dialects.record import REGISTRY, OpRecord
from flambeau.dialects.registry import Registry

_banned: dict[Offer, str] = {}  # passes and ops whose code ended a worker of this process, and how


def passes(options: Options) -> tuple[Offer, ...]:
    """The passes of plug-ins that take part in compiling with `options`."""
    if not options.plugins or not plugins.offers(plugins.PASSES):
        return ()
    from flambeau.compiler.passes.registry import PASS_REGISTRY  # a start from the caches does without

    return _taking_part(PASS_REGISTRY, options)


def schedules(options: Options) -> tuple[Offer, ...]:
    """The plug-ins that choose schedules when compiling with `options`."""
    if not options.plugins or not plugins.offers(entry_points.SCHEDULES):
        return ()
    from flambeau.compiler.schedules.registry import SCHEDULE_REGISTRY  # a start from the caches does without

    return _taking_part(SCHEDULE_REGISTRY, options)


def _taking_part(registry: Registry[Any], options: Options) -> tuple[Offer, ...]:
    return tuple(o for o in registry.usable() if o.name not in options.without and o not in _banned)


def leave_out(offer: Offer, why: str) -> None:
    """Run a pass, or an op's lowering, no more in this process: it ended its worker, or never came back."""
    _banned.setdefault(offer, why.rstrip("."))


def left_out(graph: Graph) -> str:
    """Which op's lowering in the graph is run no more, and why; "" where all are."""
    banned = [o for o in ops(graph) if o in _banned] if _banned else []
    return f"the lowering of {named(banned[:1])} is left out: {_banned[banned[0]]}" if banned else ""


def culprits(options: Options, error: str, crashed: bool, running: str) -> list[Offer]:
    """The passes and schedules that may be why a worker could not make a program: the one that is named, or that `running` says ran
    when the worker ended; all of them where it ended and did not say."""
    suspects, told = (*passes(options), *schedules(options)), running if crashed else error
    blamed = [s for s in suspects if named([s]) in told]
    return list(suspects) if not blamed and crashed and not running else blamed


def leave_out_ops(graph: Graph, running: str, why: str) -> None:
    """Leave out those ops of the graph whose lowerings, `running` says, ended their worker."""
    for op in {n.op: None for _, n in graph.walk()}:
        if any(named([o]) in running for o in offers(op)):
            leave_out(offers(op)[0], why)


def remembered(options: Options) -> Options:
    """`options` for a worker, which knows of nothing that happened to others."""
    if not _banned:
        return options
    groups = plugins.PASSES, entry_points.SCHEDULES, plugins.OPS
    passes_, schedules_, ops_ = map(_banned_names, groups)
    without, on_host = ({*options.without, *passes_, *schedules_}, {*options.on_host, *ops_})
    return replace(options, without=tuple(sorted(without)), on_host=tuple(sorted(on_host)))


def _banned_names(group: str) -> list[str]:
    offered = plugins.offers(group)
    return [o.name for o in _banned if o in offered]


def for_host(graph: Graph, options: Options, error: str, running: str = "") -> tuple[str, ...]:
    """The ops of others that may be why a graph could not be compiled, and could run on the host: those that are named, else
    all of them."""
    found = {n.op.name: n.op for _, n in graph.walk() if n.op.name not in options.on_host}
    others = {n: op for n, op in found.items() if record_source(op) and not op.effect and not op.regions}
    blamed = tuple(n for n, op in others.items() if any(named([o]) in f"{error} {running}" for o in offers(op)))
    return blamed or tuple(others)


def registries() -> tuple[Registry[Any], ...]:
    """All kinds of things that other packages offer."""
    from flambeau.compiler.passes.registry import PASS_REGISTRY  # a start from the caches does without
    from flambeau.compiler.schedules.registry import SCHEDULE_REGISTRY  # a start from the caches does without

    return PASS_REGISTRY, plugins.ops, SCHEDULE_REGISTRY, targets.REGISTRY, plugins.dialects, plugins.families


def warn_of_names() -> None:
    """Say once which entry points of packages are not used: what cannot be read, and what has the name of another one."""
    offered = tuple(entry_points.offers(group) for group in entry_points.INTERFACES)  # a warm start loads no registries
    if any(offered) or entry_points.problems():
        _warn_of_names(offered, entry_points.problems())


@cache
def _warn_of_names(offered: tuple[tuple[Offer, ...], ...], problems: tuple[str, ...]) -> None:
    for problem in problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    mine = {name for name, record in REGISTRY.items() if not record_source(record)}
    for registry in registries():
        used = {o.name: o for o in registry.usable() if registry is not plugins.ops or o.name not in mine}
        for offer in registry.offers():
            if used.get(offer.name) != offer:
                other = named([used[offer.name]]) if offer.name in used else "one of Flambeau's own"
                warnings.warn(
                    f"[plug-in] {registry.what} {named([offer])} is not used: {other} has its name. Rename or uninstall it.",
                    RuntimeWarning,
                    stacklevel=2,
                )


def ops(graph: Graph) -> list[Offer]:
    """The plug-ins' ops in a graph, in order of first use, and the families of plug-ins that ops of it are of."""
    if not plugins.offers(plugins.OPS) and not plugins.offers(plugins.FAMILIES):
        return []
    used = {n.op: None for _, n in graph.walk()}
    return list(dict.fromkeys(offer for op in used for offer in offers(op)))


def offers(op: OpRecord) -> list[Offer]:
    """What plug-ins offer of an op: itself, and its family."""
    return [o for o in (plugins.op_offer(op.name), plugins.families.offer(op.family.name)) if o is not None]


def involved(graph: Graph, options: Options) -> bool:
    """Whether code of a plug-in runs when the graph is compiled."""
    return bool(passes(options) or schedules(options) or ops(graph) or target(options))


def target(options: Options) -> list[Offer]:
    """The plug-in's target that `options` name, if it is one."""
    offer = targets.REGISTRY.offer(options.target) if options.target not in ("host", *targets.KNOWN) else None
    return [] if offer is None else [offer]


def named(offers: tuple[Offer, ...] | list[Offer]) -> str:
    """The offers for people: `'fma' of flambeau-example 0.1, ...`."""
    return ", ".join(f"'{o.name}' of {o.package}" for o in offers)


# ---- lowerings ------------------------------------------------------------------------------------------------


def check_lowerings(graph: Graph) -> None:
    """Raise PluginError where the lowering of a plug-in's op gives a value of another type than its record says: that
    would be stored as it is, and only show as wrong numbers."""
    offered = {o.name: o for o in ops(graph)}
    for inner, node in graph.walk():
        if node.op.name in offered and node.op.family.is_pointwise:
            for lanes in (1, 4):
                _check_lowering(inner, node, offered[node.op.name], lanes)


def _check_lowering(graph: Graph, node: Node, offer: Offer, lanes: int) -> None:
    from flambeau.compiler.codegen.emitter import Emitter  # a start from the caches does without
    from flambeau.compiler.codegen.values import Val  # a start from the caches does without

    operands = [Val(f"%x{k}", graph.avals[v].dtype.mlir, lanes) for k, v in enumerate(node.operands)]
    with boundary.beyond(offer, 1, boundary.LOWERING):
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
        origin for op in {n.op: None for _, n in graph.walk()} if op.name not in names and (origin := record_source(op))
    ]
    return [o.source() for o in (*passes(options), *schedules(options), *offered, *target(options))] + others


@cache
def record_source(op: OpRecord) -> bytes:
    """The source of the modules that define an op, where these are not ours; of functions without a file, their code."""
    parts = [f for f in (op.infer, op.reference, op.lower, op.fails) if callable(f)]
    foreign = {f: getattr(f, "__module__", None) or "" for f in parts}
    foreign = {f: name for f, name in foreign.items() if not name.startswith(("flambeau.", "numpy"))}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in foreign.values()}
    found = [Path(file).read_bytes() for file in files.values() if file]
    codes = [code for f, name in foreign.items() if not files[name] and (code := getattr(f, "__code__", None))]
    return b"".join([*found, *map(marshal.dumps, codes)])
