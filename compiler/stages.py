"""The stages from program to machine code, in order, one function each.

    tape -> legalise-complex -> simplify -> transpose-products -> cse -> dead-code -> push-broadcasts -> legalise-dtypes
         -> reference-calls -> legalise-devices -> canonical-nans -> cluster -> linalg -> schedule -> kernels -> plan
         -> llvm (for GPUs: nvvm) -> ir -> optimised -> assembly

In: a graph and `Options`. Out: `Compilation`, which holds what the stages so far have made. `flambeau-opt --to STAGE` prints
it, `Options.dump` writes it. A graph with symbols is worked on inside the scope of its sizes: what the stages ask about
them becomes the plan's guards. Stages up to `plan` run once per program; those after it once per kernel, in
`backend/object_code.py`. Next: `driver.py`, which runs them; `tools/stage_text.py`, which shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from flambeau.compiler import targets
from flambeau.compiler.caches.identity import digest, graph_key
from flambeau.compiler.codegen.blocks.block import NoBlocks
from flambeau.compiler.groups import generate
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster, KernelSource, Lowered
from flambeau.compiler.memo import Memo, Shared
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, pipeline, registry
from flambeau.compiler.passes.cluster_blocks import BLOCKS
from flambeau.compiler.plans import control, devices
from flambeau.compiler.plans import plan as plan_module
from flambeau.compiler.plans.program import Program
from flambeau.compiler.plans.settle import settle
from flambeau.compiler.plugins import boundary, foreign
from flambeau.compiler.schedules import overrides, scheduling
from flambeau.compiler.schedules.scheduling import Scheduled, Scheduler
from flambeau.dialects import size_scopes
from flambeau.dialects.aval import CPU
from flambeau.dialects.entry_points import Offer
from flambeau.dialects.graph import Graph
from flambeau.dialects.identity import graph_bytes
from flambeau.dialects.size_guards import Scope

Announce = Callable[[KernelSource], None]


@dataclass
class Compilation:
    """A program on its way: each stage fills in its part."""

    graph: Graph
    options: Options
    announce: Announce = lambda source: None  # told of every kernel once it is lowered
    clusters: list[Cluster] = field(default_factory=list)
    groups: list[Group | None] = field(default_factory=list)  # of the clusters; None: nothing to compute, or no groups
    scheduled: list[Scheduled | None] = field(default_factory=list)  # the groups, with how each is looped
    lowered: list[Lowered] = field(default_factory=list)
    blocks: bool = True  # whether clusters that share their rows become one
    taken: set[overrides.Entry] = field(default_factory=set)  # entries of the user's for schedules that some nest took
    program: Program = field(init=False, repr=False)  # made by the last stage
    origins: list[Cluster | None] = field(default_factory=list)  # the clusters of its plan's steps
    asked: Scope = field(init=False, repr=False)  # what the stages so far have asked about sizes

    def __post_init__(self) -> None:
        self.asked = Scope(self.graph.sizes, by_form=True)


def tape(work: Compilation) -> None:
    """The program as it was recorded, its sizes settled."""
    work.graph = settle(work.graph)


def legalise_complex(work: Compilation) -> None:
    """Complex arithmetic in real one: behind this there are no complex values."""
    work.graph = registry.find("legalise-complex")()(work.graph)


def simplify(work: Compilation) -> None:
    work.graph = registry.find("simplify")()(work.graph)


def transpose_products(work: Compilation) -> None:
    work.graph = registry.find("transpose-products")()(work.graph)


def cse(work: Compilation) -> None:
    work.graph = registry.find("cse")()(work.graph)


def dead_code(work: Compilation) -> None:
    work.graph = registry.find("dead-code")()(work.graph)


def push_broadcasts(work: Compilation) -> None:
    if work.options.fuse:
        work.graph = registry.find("push-broadcasts")()(work.graph)


def legalise_dtypes(work: Compilation) -> None:
    make: Callable[..., Pass] = registry.find("legalise-dtypes")
    work.graph = make(native="+".join(targets.find(work.options.target).native))(work.graph)


def reference_calls(work: Compilation) -> None:
    make: Callable[..., Pass] = registry.find("reference-calls")
    work.graph = make(ops="+".join(work.options.on_host))(work.graph)


def legalise_devices(work: Compilation) -> None:
    """Ops that a device has no kernels for are computed on the CPU."""
    make: Callable[..., Pass] = registry.find("legalise-devices")
    work.graph = make(targets=";".join(work.options.devices))(work.graph)


def canonical_nans(work: Compilation) -> None:
    work.graph = registry.find("canonical-nans")()(work.graph)


def cluster(work: Compilation) -> None:
    """Fragments to compile together. Results of ops that may fail count as read: dropping them would lose the error."""
    graph = work.graph
    read = {v for n in graph.nodes for v in n.operands}.union(graph.outputs)
    unread = [v for n in graph.nodes if n.may_fail or n.has_effect for v in n.results if v not in read]
    make: Callable[..., Pass] = registry.find("cluster")
    by_blocks = work.blocks and work.options.fuse and targets.find(work.options.target).family == "cpu"
    grouping = make(fuse=work.options.fuse, max_ops=work.options.max_cluster_ops, blocks=by_blocks)
    work.clusters = grouping(replace(graph, outputs=[*graph.outputs, *unread]) if unread else graph)


def linalg(work: Compilation) -> None:
    """The fusion group of every cluster: structured ops on tensors, which are all that code generators get."""
    foreign.check_lowerings(work.graph)
    passes = pipeline.following(pipeline.GROUPS, work.options, OPEN)
    memo = Memo()

    def group(cluster: Cluster) -> Group | None:
        if generate.steps_of(cluster):
            return None
        return group_of(devices.at_home(cluster), work.options, passes, cluster.device)

    work.groups = [
        group(c) if c.form is None else memo.answer(("group", c.kind, c.form), group, c) for c in work.clusters
    ]


def schedule(work: Compilation) -> None:
    """How every group is looped, as data: the default choice for the machine, or what a plug-in or the user wants. Of equal
    clusters there is one group."""
    plugins, memo = _schedulers(work.options), Memo()
    pairs = zip_longest(work.clusters, work.groups)  # groups that were read have no clusters
    for part, group in pairs:
        device = CPU if part is None else part.device
        work.scheduled.append(
            memo.answer(("schedule", id(group), device), scheduled, group, work.options, plugins, device)
        )
    work.taken.update(entry for found in work.scheduled if found is not None for entry in found.taken)


def kernels(work: Compilation) -> None:
    """Kernel text for every group; equal groups are lowered once. Branches and loops are made of what their regions become."""
    memo = Memo()
    for part, found in zip_longest(work.clusters, work.scheduled):
        if part is not None and (steps := generate.steps_of(part)) is not None:
            work.lowered.append(_steps(work, part, steps))
            continue
        device = CPU if part is None else part.device
        form = "kernels", id(found), device
        work.lowered.append(memo.answer(form, devices.lower, device, found, work.options, lower))
        for call in work.lowered[-1].calls:
            if call.source.text and not call.spare:  # the runtime has transfers built in; what is spare may be left out
                work.announce(call.source)


def _steps(work: Compilation, part: Cluster, steps: Callable[..., Lowered]) -> Lowered:
    """A cluster that is no fusion group, lowered. One that is computed by blocks is a kernel of several groups, whose own are not
    compiled alone."""
    if part.kind != BLOCKS:
        made = steps(part, lambda graph: _region(work, graph, work.announce, work.taken))
        for call in made.calls:
            if call.source.text:
                work.announce(call.source)
        return made
    target = work.options.target

    def make() -> tuple[Lowered, set[overrides.Entry]]:
        taken = set[overrides.Entry]()
        try:
            return steps(part, lambda graph: _region(work, graph, _told_nobody, taken), targets.find(target)), taken
        except NoBlocks:  # its clusters, one after the other
            inner = replace(work, blocks=False)
            return control.lower_graph(part.graph, lambda graph: _region(inner, graph, work.announce, taken)), taken

    name = digest(target, repr(work.options.schedules), graph_bytes(part.graph))
    made, taken = _lowered.answer(name, make).made
    work.taken.update(taken)
    for call in made.calls:
        for source in call.sources():
            work.announce(source)
    return made


def _told_nobody(source: KernelSource) -> None:
    """Of kernels that are part of another one."""


def _region(
    work: Compilation, graph: Graph, announce: Announce, taken: set[overrides.Entry]
) -> list[tuple[Cluster, Lowered]]:
    """The clusters of a region, lowered."""
    inner = Compilation(graph, work.options, announce, blocks=work.blocks, taken=taken)
    for stage in (cluster, linalg, schedule, kernels):
        stage(inner)
    return list(zip(inner.clusters, inner.lowered, strict=True))


def plan(work: Compilation) -> None:
    keeps = work.options.target == "host"  # a program for others has its weights, and the memory that it was made with
    lowered = list(zip(work.clusters, work.lowered, strict=True))
    program = plan_module.build(work.graph, lowered, work.origins, keeps)
    work.program = replace(program, unread=tuple(p for p, f in work.options.schedules if (p, f) not in work.taken))


#: The stages of a program, in order.
PROGRAM: dict[str, Callable[[Compilation], None]] = {
    "tape": tape,
    "legalise-complex": legalise_complex,
    "simplify": simplify,
    "transpose-products": transpose_products,
    "cse": cse,
    "dead-code": dead_code,
    "push-broadcasts": push_broadcasts,
    "legalise-dtypes": legalise_dtypes,
    "reference-calls": reference_calls,
    "legalise-devices": legalise_devices,
    "canonical-nans": canonical_nans,
    "cluster": cluster,
    "linalg": linalg,
    "schedule": schedule,
    "kernels": kernels,
    "plan": plan,
}
#: Of these a kernel goes through the one of its target.
DIALECTS = ("llvm", "nvvm")
#: The stages of a kernel, in order; `backend/object_code.py` runs them.
KERNEL = (*DIALECTS, "ir", "optimised", "assembly")


#: The stages that work on whole programs.
ON_PROGRAMS = tuple(PROGRAM)[: list(PROGRAM).index("cluster")]
#: Those that passes of other packages may follow: what they would add behind the others would compute in dtypes that the
#: machine lacks, and have NaNs of any kind.
OPEN = ON_PROGRAMS[: ON_PROGRAMS.index("legalise-dtypes")]


def advance(work: Compilation, stage: str) -> None:
    """One stage of a program, and the passes of other packages that follow it."""
    PROGRAM[stage](work)
    if stage in OPEN and foreign.passes(work.options):
        work.graph = pipeline.run(work.graph, stage, work.options, OPEN)


def names() -> list[str]:
    """Every stage, in order."""
    return [*PROGRAM, *KERNEL]


def of_kernels(target: str) -> tuple[str, ...]:
    """The stages of kernels for a target, in order."""
    ours = targets.find(target).dialect
    return tuple(name for name in KERNEL if name == ours or name not in DIALECTS)


def run(graph: Graph, options: Options, announce: Announce = lambda source: None) -> Compilation:
    """All stages of a program. Each is written to `options.dump` when that is set. `announce` is called with every kernel
    as soon as there is one; the plan may find that it can do without some."""
    work = Compilation(graph, options, announce)
    folder = _dumped_to(graph, options.dump) if options.dump else None
    with size_scopes.within(work.asked):
        for number, name in enumerate(PROGRAM):
            advance(work, name)
            if folder:
                from flambeau.compiler.tools import stage_text  # that module imports this one

                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number:02}-{name}.mlir").write_text(stage_text.text(work, name))
    return work


def _dumped_to(graph: Graph, folder: str) -> Path:
    return Path(folder) / "-".join(["program", graph_key(graph)[:12], *map(str, graph.sizes)])


# ---- what equal clusters and groups become, made once ----------------------------------------------------------

_MOST = 1024  # clusters or groups
_groups, _schedules, _lowered = Shared(_MOST), Shared(_MOST), Shared(_MOST)
_Plugins = Sequence[tuple[Offer, Scheduler]]


def group_of(
    cluster: Cluster, options: Options, passes: Sequence[pipeline.Loaded] = (), device: str = CPU
) -> Group | None:
    """The cluster's fusion group after `passes`, remembered by the cluster's structure. `device` is where its kernels will run."""
    target = options.target_of(device) if passes else ""  # what a pass leaves was lowered for a target
    names = [boundary.named(offer) for offer, _ in passes]

    def make() -> Group | None:
        with boundary.among(foreign.ops(cluster.graph), len(cluster.graph.nodes)):
            group = generate.group_of(cluster, options.through_mlir)
        return group and pipeline.on_group(group, passes, lambda g: lower(scheduled(g, options, device=device), target))

    name = digest(str(options.through_mlir), target, *names, graph_bytes(cluster.graph))
    return _groups.answer(name, make).made


def _schedulers(options: Options) -> _Plugins:
    """The plug-ins that choose schedules. Raises PluginError."""
    if not (offers := foreign.schedules(options)):
        return ()
    from flambeau.compiler.schedules.registry import SCHEDULE_REGISTRY  # a compile does without

    loaded = []
    for offer in offers:
        with boundary.beyond(offer, 0, "schedule"):
            loaded.append((offer, SCHEDULE_REGISTRY.load(offer)))
    return loaded


def scheduled(group: Group | None, options: Options, plugins: _Plugins = (), device: str = CPU) -> Scheduled | None:
    """A group with the schedules of its nests on a device, remembered by the group's text."""
    if group is None:
        return None
    target, cuts = options.target_of(device), []

    def make() -> Scheduled:
        found = scheduling.scheduled(group, targets.find(target), options.schedules, plugins)
        cuts.append(found.cut)
        return replace(found, cut=None)

    names = [boundary.named(offer) for offer, _ in plugins]
    name = digest(target, repr(options.schedules), *names, print_group(group))
    found, guards = _schedules.answer(name, make)
    return replace(found, group=group, cut=cuts[0] if cuts else None, guards=guards)


def lower(found: Scheduled | None, target: str) -> Lowered:
    """What the target's code generator makes of a group by its schedules, remembered by the text of both."""
    if found is None:
        return Lowered()
    machine = targets.find(target)

    def make() -> Lowered:
        if (asked := size_scopes.current()) is not None:
            for guard in found.guards:
                asked.note(guard)  # on which the nests depend
        cut = found.cut or generate.cut(found.group, machine)
        return cut.lower(found.schedules, machine)

    name = digest(target, print_group(found.group), *map(str, found.schedules))
    return _lowered.answer(name, make).made
