"""The built-in families of ops, and how to find any.

In: the name that a record says. Out: its `Family`. Other packages add to them by the entry-point group `flambeau.families`; one is
imported when the record of an op of it is made. Next: `compiler/families`, their other halves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flambeau.dialects.entry_points import FAMILIES
from flambeau.dialects.family import Family, free, no_family, traffic
from flambeau.dialects.registry import Registry
from flambeau.dialects.size import hint

if TYPE_CHECKING:
    from flambeau.dialects.graph import Graph, Node
    from flambeau.dialects.record import OpRecord

_FLOPS_PER_NS = 100.0


def _scalar_code(record: OpRecord) -> str | None:
    if not callable(record.lower):
        return "has no lowering. Give `lower`: (b, operands..., attrs...) -> value."
    if record.fallible and not callable(record.fails):
        return "may fail, and does not say where. Give `fails`: (b, operands..., attrs...) -> i1."
    return None


def _no_scalar_code(record: OpRecord) -> str | None:
    if record.lower is not None:
        return "has a lowering, which nobody asks for: family and attributes say it all. Leave out `lower`."
    return None


def _one_result(record: OpRecord) -> str | None:
    return _no_scalar_code(record) if record.is_single else "has several results. Give one, or another family."


def _monoid(record: OpRecord) -> str | None:
    if record.attrs[:1] != ("axes",):
        return f"has attributes {record.attrs}. Make the first `axes`, those that are folded."
    if record.lower is not None and not hasattr(record.lower, "combine"):
        return "has a lowering that is no Monoid. Give `lower` a Monoid: an identity, and how two are combined."
    return None


def _axis(record: OpRecord) -> str | None:
    if record.attrs[:1] != ("axis",):
        return f"has attributes {record.attrs}. Make the first `axis`, the one that the index counts along."
    return _one_result(record)


def _combiner(record: OpRecord) -> str | None:
    if record.attrs != ("axis",):
        return f"has attributes {record.attrs}. Make it `axis`, the one that the index counts along."
    if not callable(record.lower):
        return "combines nothing. Give `lower`: (b, old, new) -> value."
    return None if record.is_single else "has several results. Give one, or another family."


def _step(record: OpRecord) -> str | None:
    if record.attrs != ("axis", "reverse"):
        return f"has attributes {record.attrs}. Make them `axis` and `reverse`: along which axis it goes, and from which end."
    if not callable(record.lower):
        return "has no step. Give `lower`: (b, so far, an element of each operand) -> so far."
    return None if record.is_single else "has several results. Give one, or another family."


def _device(record: OpRecord) -> str | None:
    if record.moves_to not in record.attrs:
        return "does not say where it moves. Name the attribute that is the device: `moves_to`."
    return _one_result(record)


def _regions(record: OpRecord) -> str | None:
    return None if record.regions else "has no regions. Name them: `regions`, and how they are run: `run`."


def _effect(record: OpRecord) -> str | None:
    return None if record.effect else "has no effect. Set `effect`, or it would be dropped."


def _may_fail(record: OpRecord) -> str | None:
    return None if record.fallible else "cannot fail, and what it calls may raise. Set `fallible`, and give `failure`."


def _multiplied(graph: Graph, node: Node) -> float:
    return 2.0 * hint(graph.avals[node.results[0]].size * graph.avals[node.operands[0]].shape[-1])


def _factored(graph: Graph, node: Node) -> float:
    """Within a factor of ten, whatever the algorithm is."""
    a = graph.avals[node.operands[0]]
    return 2.0 * hint(a.size * (a.shape[-1] if a.shape else 1))


def _transformed(graph: Graph, node: Node) -> float:
    """About 5 n log2 n of a line; within a factor of two."""
    y = graph.avals[node.results[0]]
    return 5.0 * hint(y.size) * max(1, hint(node.attrs[0])).bit_length()


def _convolved(graph: Graph, node: Node) -> float:
    from flambeau.dialects.tape.convolution import by_role  # that module imports this one

    _, w, y = by_role(node.op.name, [graph.avals[v] for v in (*node.operands, *node.results)])
    return 2.0 * hint(y.size * w.size) / max(1, hint(w.shape[0]))


def _arithmetic(graph: Graph, node: Node) -> float:
    """The time of memory traffic and of arithmetic."""
    return traffic(graph, node) + node.op.family.flops(graph, node) / _FLOPS_PER_NS


def _once_each(graph: Graph, node: Node) -> float:
    """Every region counts as often as is known that it runs, else once."""
    from flambeau.dialects.cost import nanoseconds  # that module imports this one

    return _turns(graph, node) * sum(nanoseconds(region.graph) for region in node.regions)


def _turns(graph: Graph, node: Node) -> int:
    if node.op.attrs[:3] != ("carried", "sliced", "size"):
        return 1
    from flambeau.dialects.tape.loop import turns  # that module imports this one

    return hint(turns([graph.avals[v] for v in node.operands], *node.attrs[:3]))


def _flops_once_each(graph: Graph, node: Node) -> float:
    from flambeau.dialects.cost import flops  # that module imports this one

    return _turns(graph, node) * sum(flops(region.graph) for region in node.regions)


#: What a batch of calls becomes, where all ops of a family are batched alike.
_BATCHING = "flambeau.dialects.batching_rules:"

BUILT_IN = (
    Family(
        "elementwise",
        "result[i] = f(operands[i]...), all shapes equal.",
        demands=_scalar_code,
        is_pointwise=True,
        batch=_BATCHING + "same",
    ),
    Family(
        "source",
        "result[i] = f(i, 0-d operands): constant, iota, random bits.",
        demands=_scalar_code,
        is_placed=True,
        one_nan=True,
    ),
    Family(
        "reduction",
        "Folds the axes named by attribute `axes`; folds make their NaNs canonical themselves.",
        demands=_monoid,
        folds=True,
        one_nan=True,
        batch=_BATCHING + "axes_further",
    ),
    Family(
        "view",
        "result[i] = operand[affine(i)]: reshape, permute, broadcast, slice, flip.",
        demands=_one_result,
        cost=free,
        is_view=True,
        moves=True,
    ),
    Family(
        "assemble", "Places operands into a larger result: pad, concat, update_slice.", demands=_one_result, moves=True
    ),
    Family(
        "contraction",
        "A matrix product.",
        demands=_one_result,
        cost=_arithmetic,
        flops=_multiplied,
        sums_products=True,
        is_product=True,
        batch=_BATCHING + "product",
    ),
    Family(
        "convolution",
        "Maps and kernels: sums over places along spatial axes.",
        demands=_one_result,
        cost=_arithmetic,
        flops=_convolved,
        sums_products=True,
        batch=_BATCHING + "convolution",
    ),
    Family(
        "gather",
        "result[i] = operand[index[i]] along an axis.",
        demands=_axis,
        reads_table=True,
        moves=True,
        batch=_BATCHING + "looked_up",
    ),
    Family(
        "scan",
        "result[i] along an axis is what a step makes of result[i - 1] and the operands' elements in its place.",
        demands=_step,
        one_nan=True,
        batch=_BATCHING + "axis_further",
    ),
    Family(
        "sort",
        "Positions in the order of the elements along an axis, or of others in it.",
        demands=_axis,
        batch=_BATCHING + "axis_further",
    ),
    Family(
        "window",
        "What is made of windows over the last axes: extremes, sums, what these were made of; and elements at places of a plane.",
        demands=_one_result,
        one_nan=True,
        batch=_BATCHING + "same",
    ),
    Family(
        "scatter",
        "result[index[i]] is combined with update[i] along an axis, in order.",
        demands=_combiner,
        keeps=True,
        batch=_BATCHING + "axis_further",
    ),
    Family(
        "put",
        "result[index[i]] = update[i] along an axis, in order.",
        demands=_combiner,
        moves=True,
        batch=_BATCHING + "axis_further",
    ),
    Family(
        "transfer",
        "The same elements in the memory of a device; where they are there already, a view.",
        demands=_device,
        is_view=True,
        moves=True,
        cost=free,
        batch=_BATCHING + "same",
    ),
    # what it computes has canonical NaNs as the results of its regions have; what these hand on is as it was
    Family(
        "control",
        "Runs its regions, none, one or several times.",
        demands=_regions,
        cost=_once_each,
        flops=_flops_once_each,
        dialect="control",
        moves=True,
    ),
    Family(
        "host_call",
        "Calls the host, in the order of tokens.",
        demands=_effect,
        cost=free,
        dialect="control",
        moves=True,
        batch=_BATCHING + "host_call",
    ),
    Family(
        "reference_call",
        "Runs another op's NumPy reference, whose NaNs are canonical where it computes.",
        demands=_may_fail,
        dialect="control",
        moves=True,
    ),
    Family(
        "linear_algebra",
        "LAPACK on matrices in the last two axes: factors, solutions, values and vectors.",
        demands=_no_scalar_code,
        cost=_arithmetic,
        flops=_factored,
        calls="SciPy's LAPACK",
        one_nan=True,
        batch=_BATCHING + "same",
    ),
    Family(
        "fourier",
        "pocketfft on lines: Fourier transforms of complex and of real numbers.",
        demands=_no_scalar_code,
        cost=_arithmetic,
        flops=_transformed,
        calls="NumPy's pocketfft",
        one_nan=True,
        batch=_BATCHING + "same",
    ),
)

#: The built-in ones, and those that packages offer.
FAMILY_REGISTRY: Registry[Family] = Registry(FAMILIES, "family", {f.name: f for f in BUILT_IN}, no_family)


def find(name: str) -> Family:
    """The family of that name. Raises ValueError with the known names where there is none, PluginError where a package's
    cannot be used."""
    return FAMILY_REGISTRY.find(name)
