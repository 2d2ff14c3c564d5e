"""`vmap`: a function of single samples, for a whole batch at once.

In: a function on tensors, and which axes of its arguments count samples. Out: a function on tensors with these axes. What the
function records for one sample, as a region, is written anew with the batch in front of every value that depends on it
(`dialects/batching.py`): no loop, and one recorded call, whose rule runs when its program is first met. Next: `regions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

from flambeau import regions, trees, unread
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.batching import BatchBuilder, replayed
from flambeau.dialects.builder import Value
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.dialects.size import Int
from flambeau.function import builder
from flambeau.functions.assemble import cat
from flambeau.functions.create import zeros
from flambeau.generator import default_generator
from flambeau.regions import Template, Traced
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor

_RANDOMNESS = ("error", "different", "same")


# ---- the recorded call ----------------------------------------------------------------------------------------


def _rule(
    operands: list[Value],
    region: Template,
    sizes: tuple[Int, ...],
    many: tuple[bool, ...],
    bases: tuple[tuple[int, int], ...],
    n: tuple[Int],
) -> list[Value]:
    """What the region gives for a batch of `n[0]`; operands and results have it in front where they depend on the sample.
    `bases`: (position of a node that draws, operand that says where its stream began)."""
    b = BatchBuilder(builder(), n[0])
    graph = region.filled(iter(sizes)).graph
    inputs = [b.value(x, is_many) for x, is_many in zip(operands, many, strict=True)]
    found = replayed(b, graph, inputs, {node: operands[k] for node, k in bases})
    return [x.id for x in found]


_batch = Function(
    "vmap",
    (
        ("operands", "tensors", REQUIRED, False),
        ("region", "static", REQUIRED, False),
        ("sizes", "size", REQUIRED, False),
        ("many", "static", REQUIRED, False),
        ("bases", "static", REQUIRED, False),
        ("n", "size", REQUIRED, False),
    ),
    "pure",
    _rule,
    fallible=True,
)

_inside = Function("vmap", (("x", "tensor", REQUIRED, False),), "pure", lambda x: find("reshape")(x, shape=x.shape))


# ---- arguments ------------------------------------------------------------------------------------------------


class Mapped(NamedTuple):
    """The arguments of a call: `leaves` of the nesting `tree`, each with the axis that counts samples, or None; there are `n`."""

    leaves: list[Any]
    dims: list[int | None]
    tree: Any
    n: int

    def samples(self) -> list[Tensor]:
        """The tensors with samples, these in front."""
        pairs = zip(self.leaves, self.dims, strict=True)
        return [x if d == 0 else x.movedim(d, 0) for x, d in pairs if d is not None]

    def with_samples(self, given: Sequence[Tensor]) -> Any:
        """The arguments with these in place of the tensors with samples."""
        left = iter(given)
        values = iter([x if d is None else next(left) for x, d in zip(self.leaves, self.dims, strict=True)])
        return trees.changed(lambda leaf: next(values), self.tree)

    def part(self, first: int, count: int) -> Mapped:
        """The arguments with some of the samples."""
        pairs = zip(self.leaves, self.dims, strict=True)
        return self._replace(leaves=[x if d is None else x.narrow(d, first, count) for x, d in pairs], n=count)


def _is_dim(x: Any) -> bool:
    return x is None or (isinstance(x, int) and not isinstance(x, bool))


def _arguments(in_dims: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapped:
    if not _is_dim(in_dims) and not isinstance(in_dims, tuple | list):
        raise ValueError(f"[vmap] in_dims is {in_dims!r}. Give an int, None, or a tuple nested as the arguments.")
    positional = in_dims if _is_dim(in_dims) else tuple(in_dims)
    dims = trees.spread(positional, args, _is_dim)
    if dims is None:
        raise ValueError(
            f"[vmap] in_dims is {in_dims!r}, which is not nested as the {len(args)} arguments are. Give one for each."
        )
    dims += trees.spread(None, kwargs, _is_dim) or []
    tree, leaves = (args, kwargs), list[Any]()
    trees.changed(leaves.append, tree)
    found = [_checked_dim(x, d) for x, d in zip(leaves, dims, strict=True)]
    counts = dict.fromkeys(x.shape[d] for x, d in zip(leaves, found, strict=True) if d is not None)
    if not counts:
        raise ValueError("[vmap] no argument has samples: every one of in_dims is None. Name an axis of at least one.")
    if len(counts) > 1:
        raise ValueError(f"[vmap] arguments have {', '.join(map(str, counts))} samples. Make these numbers equal.")
    return Mapped(leaves, found, tree, next(iter(counts)))


def _checked_dim(x: Any, dim: int | None) -> int | None:
    if dim is None:
        return None
    if not isinstance(x, Tensor):
        raise ValueError(
            f"[vmap] an argument with in_dims {dim} is a {type(x).__name__}. Pass a tensor, or give None for it."
        )
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"[vmap] in_dims has {dim} for a tensor of shape {tuple(x.shape)}. Name one of its axes.")
    return dim % x.ndim


# ---- one call -------------------------------------------------------------------------------------------------


@contextmanager
def _single(given: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of the samples' types that stand for those of one sample."""
    recorder.region_begin("vmap")
    try:
        with_one = [x if x.shape[0] else zeros((1, *x.shape[1:]), dtype=x.dtype, device=x.device) for x in given]
        yield [_inside(x[0]) for x in with_one]
    finally:
        recorder.region_end()


class _SampleProgram(NamedTuple):
    """What the function does with one sample: `traced` gives its results, then the new values of the arguments `written`."""

    traced: Traced
    returned: Any
    written: list[int]


def _record(func: Callable[..., Any], mapped: Mapped, single: Sequence[Tensor], randomness: str) -> _SampleProgram:
    kept: dict[str, Any] = {}

    def run(*places: Tensor) -> list[Tensor]:
        own = [_inside(x) for x in places]
        before = [x._version for x in own]
        args, kwargs = mapped.with_samples(own)
        kept["returned"] = func(*args, **kwargs)
        kept["written"] = [k for k, x in enumerate(own) if x._version != before[k]]
        results = [*_results(kept["returned"]), *[own[k] for k in kept["written"]]]
        if recorder.trace_marks() and any(x.requires_grad for x in results):
            raise RuntimeError(
                "[vmap] the function calls an autograd.Function, or has hooks, which gradients from outside would not meet. "
                "Differentiate within it."
            )
        return results

    traced = regions.trace("vmap", run, single, draws=True)
    if traced.drawn and randomness == "error":
        raise RuntimeError(
            "[vmap] the function draws random numbers. Pass randomness='different' for others in each sample, or 'same'."
        )
    if traced.has_effect:
        raise RuntimeError("[vmap] the function calls the host, which has no batch. Do that outside of it.")
    return _SampleProgram(traced, kept["returned"], kept["written"])


def _results(returned: Any) -> list[Tensor]:
    def checked(leaf: Any) -> None:
        if not isinstance(leaf, Tensor):
            raise ValueError(f"[vmap] the function gives a {type(leaf).__name__}. Give tensors, alone or nested.")
        found.append(leaf)

    found: list[Tensor] = []
    trees.changed(checked, returned)
    return found


def _first_offsets(graph: Graph, reads: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """For each node that draws: where it stands, and which input says where its stream began: the offset of the first draw from a
    stream of that seed."""
    inputs = {v: k for k, v in enumerate(graph.inputs)}
    producers = graph.producers()

    def source(value: int) -> int:
        while value not in inputs:
            value = producers[value].operands[0]
        return inputs[value]

    drawing = [(k, node) for k, node in enumerate(graph.nodes) if node.op.name == "random_bits"]
    first: dict[Any, int] = {}
    return tuple([(k, first.setdefault(reads[source(n.operands[0])], source(n.operands[1]))) for k, n in drawing])


def _call(func: Callable[..., Any], mapped: Mapped, randomness: str) -> tuple[Any, list[Tensor], list[bool]]:
    """(what the function returned for one sample, the results for all, whether each has the samples in front)."""
    given = mapped.samples()
    with _single(given) as single:
        found = _record(func, mapped, single, randomness)
        traced = found.traced
        operands, many = [], []
        for read in traced.reads:
            at = _index(read, single)
            many.append(at is not None)
            operands.append(given[at] if at is not None else read)
    apart = randomness == "different"
    bases = _first_offsets(traced.graph, operands) if apart else ()
    operands = [x if isinstance(x, Tensor) else regions.number(x) for x in operands]
    region = traced.program.template
    results = list(_batch(operands, region, region.sizes, tuple(many), bases, (mapped.n,)))
    for stream, drawn in traced.drawn.items():
        stream._advance(drawn * (mapped.n if apart else 1))
    batched = [x.ndim > one.ndim for x, one in zip(results, traced.results, strict=True)]
    n_results = len(results) - len(found.written)
    for k, x, is_batched in zip(found.written, results[n_results:], batched[n_results:], strict=True):
        given[k].copy_(x if is_batched else x.expand(given[k].shape))
    return found.returned, results[:n_results], batched[:n_results]


def _index(read: Any, single: Sequence[Tensor]) -> int | None:
    """Which of the samples' tensors a region has read."""
    if not isinstance(read, Tensor):
        return None
    return next((k for k, x in enumerate(single) if recorder.same_storage(x, read)), None)


def _placed(x: Tensor, is_batched: bool, dim: int | None, n: int) -> Tensor:
    """A result with its samples along the axis that is asked for."""
    if dim is None:
        if is_batched:
            raise ValueError("[vmap] out_dims is None for a result that differs from sample to sample. Give an axis.")
        return x
    rank = x.ndim if is_batched else x.ndim + 1
    if not -rank <= dim < rank:
        raise IndexError(f"[vmap] out_dims has {dim} for a result of {rank} axes. Give one of these.")
    whole = x if is_batched else x.expand(n, *x.shape)
    return whole if dim % rank == 0 else whole.movedim(0, dim)


def _out_dims(out_dims: Any, returned: Any) -> list[int | None]:
    dims = trees.spread(tuple(out_dims) if isinstance(out_dims, list) else out_dims, returned, _is_dim)
    if dims is None and isinstance(out_dims, tuple) and len(out_dims) == 1 and isinstance(returned, Tensor):
        dims = list(out_dims)
    if dims is None:
        raise ValueError(f"[vmap] out_dims is {out_dims!r}, which is not nested as the results are. Give one for each.")
    return dims


# ---- vmap -----------------------------------------------------------------------------------------------------


@declared(free="flambeau", samples=Unsampled("gives a function: see tests/test_vmap.py"))
def vmap(
    func: Callable[..., Any],
    in_dims: int | tuple | None = 0,
    out_dims: int | tuple | None = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that gives for a batch of samples what `func` gives for each, as one program without a loop.

    `in_dims`: which axis of each argument counts the samples, None for what is the same for all; an int for all of them, or nested
    as the arguments are. Keyword arguments are the same for all. `out_dims`: where results have them. Within `func`, tensors are of
    the shapes of a single sample. Writes in place to an argument reach the batch. `randomness`: whether random numbers are refused
    ("error"), drawn for each sample ("different"), or once for all ("same"). `chunk_size`: samples at a time, to save memory.

    Raises ValueError where axes do not fit the arguments or results, RuntimeError where `func` reads a value, changes a tensor from
    outside, or draws random numbers without leave, NotImplementedError for ops that have no rule.
    """
    if not _is_dim(in_dims) and not isinstance(in_dims, tuple | list):
        raise ValueError(f"[vmap] in_dims is {in_dims!r}. Give an int, None, or a tuple nested as the arguments.")
    if randomness not in _RANDOMNESS:
        raise RuntimeError(f"[vmap] randomness is {randomness!r}. Give 'error', 'different' or 'same'.")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"[vmap] chunk_size is {chunk_size}. Give at least 1, or None.")

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        mapped = _arguments(in_dims, args, kwargs)
        size = mapped.n if chunk_size is None else chunk_size
        try:
            returned, results, batched = _chunked(func, mapped, randomness, size)
        except regions.Unfinished:
            if unread.is_unread():
                raise
            with regions.after_running():
                returned, results, batched = _chunked(func, mapped, randomness, size)
        dims = _out_dims(out_dims, returned)
        placed = [_placed(x, b, d, mapped.n) for x, b, d in zip(results, batched, dims, strict=True)]
        return trees.filled(returned, placed)

    return wrapper


def _chunked(
    func: Callable[..., Any], mapped: Mapped, randomness: str, size: int
) -> tuple[Any, list[Tensor], list[bool]]:
    """As `_call`, so many samples at a time."""
    if size >= mapped.n:
        return _call(func, mapped, randomness)
    start = default_generator._seed, default_generator._offset
    parts = []
    for first in range(0, mapped.n, size):
        if first and randomness == "same":
            default_generator._start(*start)
        parts.append(_call(func, mapped.part(first, min(size, mapped.n - first)), randomness))
    returned, _, batched = parts[0]
    columns = zip(*[results for _, results, _ in parts])
    return returned, [cat(c) if b else c[0] for c, b in zip(columns, batched, strict=True)], batched
