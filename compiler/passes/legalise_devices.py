"""Ops that a device lacks: they are computed on the CPU, between transfers, and give the same bits.

In: a program on any devices. Out: one in which every op has a code generator where its operands lie. Next: `canonical_nans.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flambeau.compiler import families, targets
from flambeau.compiler.baseline.one_op import one_op
from flambeau.compiler.codegen.expand import expand
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.passes import Pass
from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.tape.transfer import crosses, to_device

#: Dtypes of the products that GPU kernels are written of.
_PRODUCTS = ("float32", "float64")


@dataclass(frozen=True)
class LegaliseDevices(Pass):
    """Move ops to the CPU that the code generators of their device do not write kernels of.

    In: any graph. Out: the same values in the same places; what such an op reads and gives is moved once, and only where it is
    read. Idempotent. `targets` says what each device is, as in `cuda:0=sm_90`, separated by semicolons.
    """

    name = "legalise-devices"
    targets: str = ""

    def __call__(self, graph: Graph) -> Graph:
        if all(aval.device == CPU for aval in graph.avals):
            return graph
        machines = {
            d: targets.find(t).family for d, _, t in (row.partition("=") for row in self.targets.split(";")) if t
        }
        work = _Moving(graph)
        for node in graph.nodes:
            work.add(node, _is_computed_there(graph, node, machines))
        return work.finish()


def has_kernels(dtype: DType) -> bool:
    """Whether GPU kernels compute with a dtype and move it. Smaller numbers than a word: no kernel of these has been run so far."""
    return dtype.is_bool or dtype.fills_word


def _is_computed_there(graph: Graph, node: Node, machines: dict[str, str]) -> bool:
    """Whether there are kernels of the node on the device where it is. Of a device that is not known, nothing is moved."""
    device = graph.device(node)
    if device == CPU or machines.get(device, "cpu") != "gpu" or crosses(graph, node):
        return True
    if not all(has_kernels(graph.avals[v].dtype) for v in (*node.operands, *node.results)):
        return False
    rules = families.rules(node.op)
    if not rules.on("gpu") or node.op.fallible or node.op.name == "dynamic_slice":
        return False
    if node.op.family.folds:
        alone = one_op(graph, node)
        here = replace(alone, avals=[a.on(CPU) for a in alone.avals])  # code generators know of no devices
        return Fragment(expand(here)).form() is not None
    return not rules.generators or graph.avals[node.results[0]].dtype.name in _PRODUCTS


class _Moving(Copy):
    """The graph being written. A value of the source is made in one place, and moved to others when it is read there."""

    def __init__(self, source: Graph) -> None:
        super().__init__(source)
        self._made: dict[int, int] = dict(self.ids)
        self._copies: dict[tuple[int, str], int] = {(v, source.avals[v].device): new for v, new in self.ids.items()}

    def add(self, node: Node, is_there: bool) -> None:
        if crosses(self.source, node):  # what it moves need not be moved back
            (x,), (result,) = node.operands, node.results
            origin = self.source.avals[x].device
            self._copies[result, origin] = self._at(node, x, origin)
        if is_there:
            operands = tuple([self._at(node, v, self.source.avals[v].device) for v in node.operands])
            avals = [self.source.avals[v] for v in node.results]
        else:
            operands = tuple([self._at(node, v, CPU) for v in node.operands])
            avals = [self.source.avals[v].on(CPU) for v in node.results]
        results = self.append(node, node.op, operands, node.attrs, avals)
        self._made.update(zip(node.results, results, strict=True))
        self._copies.update(((v, a.device), new) for v, a, new in zip(node.results, avals, results, strict=True))

    def _at(self, node: Node | None, value: int, device: str) -> int:
        """The new number of a value of the source on a device."""
        if (value, device) not in self._copies:
            new = self._made[value]
            aval = self.graph.avals[new].on(device)
            place = node or self.source.producers()[value]
            (self._copies[value, device],) = self.append(place, to_device, (new,), (device,), [aval])
        return self._copies[value, device]

    def finish(self) -> Graph:
        self.ids = {v: self._at(None, v, self.source.avals[v].device) for v in self.source.outputs}
        return super().finish()
