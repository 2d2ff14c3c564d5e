"""Compiling for several devices: their targets, and what is lowered and linked for whatever device.

In: programs whose types name devices. Out: the targets of a program's devices, for `Options.devices`; lowered groups; linked plans.
Next: `runtime/devices.py`, which knows devices by name; `driver.py`, `stages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flambeau.compiler.kernel import Cluster, KernelCall, Launch, Lowered
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.runtime import _binding as runtime
from flambeau.runtime.devices import find

if TYPE_CHECKING:
    from flambeau.compiler.schedules.scheduling import Scheduled


def with_targets(graph: Graph, options: Options) -> Options:
    """The options under which a program is compiled: they say what its devices are. Raises RuntimeError for unknown ones."""
    names = sorted({a.device for a in graph.avals} - {CPU})
    return replace(options, devices=tuple(f"{name}={find(name).target}" for name in names)) if names else options


def at_home(cluster: Cluster) -> Cluster:
    """The cluster with the CPU's types: groups and code generators know of no devices, and equal ones are equal everywhere."""
    if cluster.device == CPU:
        return cluster
    return replace(cluster, graph=replace(cluster.graph, avals=[a.on(CPU) for a in cluster.graph.avals]))


def lower(
    device: str,
    found: Scheduled | None,
    options: Options,
    generate: Callable[[Scheduled | None, str], Lowered],
) -> Lowered:
    """What the code generator of a device makes of a group."""
    lowered = generate(found, options.target_of(device))
    return lowered if device == CPU else replace(lowered, calls=[_on(device, call) for call in lowered.calls])


def _on(device: str, call: KernelCall) -> KernelCall:
    found = replace(call, source=replace(call.source, device=device))
    if isinstance(found, Launch) and found.in_place_source is not None:
        return replace(found, in_place_source=replace(found.in_place_source, device=device))
    return found


def link(program: Program, addresses: Sequence[int]) -> Any:
    """The runtime's plan of a program whose kernels are at `addresses`."""
    handles = tuple(find(row[0]).handle for row in program.spec.devices)
    return runtime.Plan(tuple(program.spec), tuple(addresses), handles)
