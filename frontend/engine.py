"""Between the recorder and the compiler: expands calls, assembles traces into graphs, asks for programs.

In: the recorder's hooks, called on a miss only. Out: expansions (`Graph` fragments kept on trie edges), result types,
`Program`s. Nothing here runs when a recording is seen again. Next: `assembly.py` for traces as graphs,
`autograd/` for backward, `function.py` for how functions are declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flambeau import autocasting
from flambeau.dialects import dtypes
from flambeau.dialects.autodiff import requires_gradient
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import overwrite, stop_gradient
from flambeau.dialects.record import find
from flambeau.dialects.rounding import accumulated, rounds_within
from flambeau.dialects.size import Int
from flambeau.dialects.size_scopes import current
from flambeau.function import RuleBuilder, building
from flambeau.naming import told_of
from flambeau.placing import apart, place_of, placed
from flambeau.runtime import recorder
from flambeau.view_chains import same_before

GRAD_MODE, WHOLE_MODE = 1, 1 << 11  # bits of the recorder's mode word; the second: nothing is cut in between
SCALARS = {"float": dtypes.float64, "int": dtypes.int64, "bool": dtypes.bool_}
START = Aval((), dtypes.int64)


class Weak(Value):
    """A Python number inside a rule: a 0-d value that yields to tensors in type promotion."""

    __slots__ = ()
    weak = True


# ---- views ----------------------------------------------------------------------------------------------------


class ViewStep(NamedTuple):
    """One view function applied. `statics` are its keyword arguments, without the starts."""

    function: Any
    statics: dict[str, Any]
    n_starts: int

    def arguments(self, x: Value, starts: Sequence[Value]) -> dict[str, Any]:
        """Those after the first, `x`. Starts come from the CPU."""
        name = next((p[0] for p in self.function.params if p[1] == "starts"), None)
        return {**self.statics, name: tuple([placed(s, x.aval.device) for s in starts])} if name else self.statics

    def read(self, x: Value, starts: Sequence[Value]) -> Value:
        with x.builder.on(x.aval.device):
            return self.function.rule(x, **self.arguments(x, starts))

    def put(self, base: Value, new: Value, starts: Sequence[Value]) -> Value:
        put = getattr(self.function, "put", None)
        if put is None:
            raise RuntimeError(
                f"[{self.function.name}] elements of this view share memory. Write to a copy: x.clone()."
            )
        with base.builder.on(base.aval.device):
            return put(base, new, **self.arguments(base, starts))


@dataclass(frozen=True, slots=True)
class View:
    """A chain of view functions from the base storage of type `base` to what a tensor of type `aval` shows. `parent` is the
    chain that it was made from. It is `detached` from history, and what is written through it is written `aside` of it."""

    base: Aval
    steps: tuple[ViewStep, ...]
    aval: Aval
    detached: bool = False
    aside: bool = False
    parent: View | None = field(default=None, compare=False, repr=False)

    @property
    def n_starts(self) -> int:
        return sum(step.n_starts for step in self.steps)

    def after(self, first: View) -> View:
        """The rest of this chain, of which `first` is the beginning."""
        return View(first.aval, self.steps[len(first.steps) :], self.aval)

    def _split(self, starts: Sequence[Value]) -> list[Sequence[Value]]:
        parts, at = [], 0
        for step in self.steps:
            parts.append(starts[at : at + step.n_starts])
            at += step.n_starts
        return parts

    def read(self, base: Value, starts: Sequence[Value]) -> Value:
        """What the tensor shows, given the base."""
        x = stop_gradient(base) if self.detached else base
        for step, own in zip(self.steps, self._split(starts)):
            x = step.read(x, own)
        return x

    def write(self, base: Value, new: Value, starts: Sequence[Value]) -> Value:
        """The base after the elements that the tensor shows have been replaced by `new`."""
        values, parts = [base], self._split(starts)
        for step, own in zip(self.steps[:-1], parts):
            values.append(step.read(values[-1], own))
        for step, own, before in zip(reversed(self.steps), reversed(parts), reversed(values)):
            new = step.put(before, new, own)
        return new


# ---- operands of a call ---------------------------------------------------------------------------------------


class BoundOperand:
    """One tensor or number of a call, as its rule sees it: `value`, on the builder's device; `info` is what the recorder said of
    it."""

    def __init__(self, info: Any, b: GraphBuilder) -> None:
        self.info, self.graph = info, b.graph
        self.value: Any = None
        self.view: View | None = None
        self.requires_grad = self.is_leaf = False
        if info is None:
            return
        if info[0] == "scalar":
            v = placed(b.input(Aval((), SCALARS[info[1]])), b.device)
            self.value = Weak(b, v.id, v.aval)
        elif info[0] == "number" and (own := _beyond_scalars(info[1])):
            v = b.constant(info[1], own)
            self.value = Weak(b, v.id, v.aval)
        elif info[0] == "number":
            self.value = info[1]
        else:
            self._tensor(info, b)

    def _tensor(self, info: tuple, b: GraphBuilder) -> None:
        _, shape, dtype, self.requires_grad, self.is_leaf, self.view, _, device = info
        self.base = b.input(self.view.base if self.view else Aval(shape, dtype, device))
        self.starts = [b.input(START) for _ in range(self.view.n_starts)] if self.view else []
        self.value = placed(self.view.read(self.base, self.starts) if self.view else self.base, b.device)

    def replaced(self, new: Value) -> Value:
        """The base after this operand was overwritten by `new`."""
        return self.view.write(self.base, new, self.starts) if self.view else new

    def succeeded(self, new: Value) -> Value:
        """`new`, the next base, such that gradients go on to this one: zeros, where nothing of it is left."""
        return new if new.id in requires_gradient(self.graph, [self.base.id]) else overwrite(new, self.base)


def _beyond_scalars(number: Any) -> DType | None:
    """The dtype of a number that is none of the scalars of a trace."""
    if isinstance(number, complex):
        return dtypes.complex128
    return dtypes.uint64 if isinstance(number, int) and number > dtypes.int64.greatest else None


class Expansion(NamedTuple):
    """What a call computes: inputs of `graph` are the operands in order (base, then starts), outputs the results."""

    name: str
    graph: Graph
    cost: int  # the estimated run time in ns: the recorder cuts traces that have grown too long
    draws: Int  # numbers taken from a stream

    @property
    def may_fail(self) -> bool:
        return any(node.may_fail for node in self.graph.nodes)


def expand(function: Any, infos: Sequence[Any], statics: dict[str, Any], mode: int) -> tuple:
    """Hook: run the rule of `function` on values.

    Returns (payload, result types, writes, single); for a view (payload, result type).
    """
    if function.kind == "view":
        info, n_starts = infos
        return _expand_view(function, info, n_starts, statics, mode)
    call = _FragmentCall(function, infos, statics, mode)
    found = call.results()
    dtypes = [r.dtype for r in _several(found)]
    if any(d.is_narrow for d in dtypes) and call.rounds_within():
        call = _FragmentCall(function, infos, statics, mode)
        found = call.results(wide=dtypes)
    b, operands, places = call.b, call.operands, call.places
    single = isinstance(found, Value)
    results = _several(found)
    writes = [-1] * len(results)
    grads = _requires_grad(results, operands, mode)
    if function.kind == "inplace":
        targets = _targets(function, operands, places, infos)
        _write(function.name, results, operands, targets, grads, mode)
        writes[: len(targets)] = targets
    b.graph.outputs = _own(b, results)
    if any(o.requires_grad for o in operands):
        b.graph.outputs = [v if g else _cut(b, v) for v, g in zip(b.graph.outputs, grads)]
    types = tuple((r.shape, r.dtype, g, r.aval.device) for r, g in zip(results, grads))
    cost = 0 if current() else nanoseconds(b.graph)
    return Expansion(function.name, b.graph, cost, b.draws), types, tuple(writes), single


class _FragmentCall:
    """A call of a function on values of a fragment: `operands` in order, `places` where those of each argument begin."""

    def __init__(self, function: Any, infos: Sequence[Any], statics: dict[str, Any], mode: int) -> None:
        self.b, self.name, self.rule = RuleBuilder(), function.name, function.rule
        self.b.device = place_of(function, infos, statics)
        self.operands: list[BoundOperand] = []
        self.arguments, self.places = dict(statics), {}
        names = [p[0] for p in function.params if p[1] not in ("static", "size", "starts", "default")]
        for name, info in zip(names, infos, strict=True):
            self.places[name] = len(self.operands)
            if isinstance(info, list):
                group = [BoundOperand(i, self.b) for i in info]
                self.operands += group
                self.arguments[name] = [o.value for o in group]
            else:
                self.operands.append(BoundOperand(info, self.b))
                self.arguments[name] = self.operands[-1].value
        self.dtype: DType | None = None  # of the results, where it is another than they are made in
        if mode & autocasting.ON:
            self.arguments, self.dtype = autocasting.cast(function, self.arguments, self.b.device, mode)

    def results(self, wide: Sequence[DType] | None = None) -> Any:
        """What the rule gives. `wide`: on operands in the dtypes that they accumulate in, rounded to these dtypes."""
        arguments = self.arguments if wide is None else {n: _widened(v) for n, v in self.arguments.items()}
        try:
            with building(self.b):
                found = self.rule(**arguments)
        except Exception as error:
            told_of(error, self.name)
            raise
        if wide is None and self.dtype is None:
            return found
        to = wide or [self.dtype or r.dtype if r.dtype.is_inexact else r.dtype for r in _several(found)]
        rounded = [r.cast(dtype) for r, dtype in zip(_several(found), to, strict=True)]
        return rounded[0] if isinstance(found, Value) else type(found)(rounded)

    def rounds_within(self) -> bool:
        """Whether the rule has rounded narrow numbers that it went on with. Random numbers are drawn in the dtype asked for."""
        values = (v for a in self.arguments.values() for v in (a if isinstance(a, list) else (a,)))
        is_narrow = any(isinstance(v, Value) and v.dtype.is_narrow for v in values)
        return is_narrow and not self.b.draws and rounds_within(self.b.graph)


def _several(found: Any) -> list[Value]:
    """The results of a rule, which gives a value, several, or None."""
    return [found] if isinstance(found, Value) else list(found or ())


def _widened(argument: Any) -> Any:
    """An argument of a rule, with its narrow numbers in the dtype that they accumulate in."""
    if isinstance(argument, list):
        return [_widened(a) for a in argument]
    if isinstance(argument, Value):
        return argument.cast(argument.dtype.accumulation) if argument.dtype.is_narrow else argument
    return accumulated(argument)


def _cut(b: GraphBuilder, value: int) -> int:
    """The value without gradient history: it was computed outside of grad mode."""
    return stop_gradient(b.value(value)).id


def _own(b: GraphBuilder, results: Sequence[Value]) -> list[int]:
    """The results' ids, each a value of its own: gradients find an operand and its copy in different places."""
    taken = set(b.graph.inputs)
    ids = []
    for r in results:
        own = r if r.id not in taken else find("reshape")(r, shape=r.shape)
        taken.add(own.id)
        ids.append(own.id)
    return ids


def _expand_view(function: Any, info: tuple, n_starts: int, statics: dict[str, Any], mode: int) -> tuple:
    """The chain of the operand with one more step. Outside of grad mode a view is cut from history, as in PyTorch."""
    _, shape, dtype, requires_grad, _, parent, _, device = info
    if parent is not None and getattr(function, "of_storage", False):
        n_starts += (
            parent.n_starts
        )  # the chain begins anew, and the recorder keeps the starts of the old one all the same
        parent = View(parent.base, (), parent.base, parent.detached, parent.aside)
        shape = parent.base.shape
    step = ViewStep(function, statics, n_starts)
    b = RuleBuilder()
    x = b.input(Aval(shape, dtype, device))
    try:
        with building(b):
            result = step.read(x, [b.input(START) for _ in range(n_starts)])
    except Exception as error:
        told_of(error, function.name)
        raise
    detached = getattr(function, "detach", False) or (requires_grad and not mode & GRAD_MODE)
    aside = getattr(function, "aside", False)
    parent = parent or View(x.aval, (), x.aval)
    sized = any(p[1] == "size" for p in function.params)  # of these the recorder keeps the sizes, so the step stays
    steps = parent.steps if result is x and not sized else (*parent.steps, step)
    made = View(parent.base, steps, result.aval, parent.detached or bool(detached), parent.aside or aside, parent)
    return same_before(made) or made, (result.shape, result.dtype)


def _requires_grad(results: Sequence[Value], operands: Sequence[BoundOperand], mode: int) -> list[bool]:
    wanted = bool(mode & GRAD_MODE) and any(o.requires_grad for o in operands)
    return [wanted and r.dtype.is_inexact for r in results]


def _targets(
    function: Any, operands: Sequence[BoundOperand], places: dict[str, int], infos: Sequence[Any]
) -> list[int]:
    """The operands that leading results of an in-place call replace, in order."""
    writes = getattr(function, "writes", 1)
    if isinstance(writes, int):
        return list(range(writes))
    sizes = {name: len(info) if isinstance(info, list) else 1 for name, info in zip(places, infos)}
    named = [places[n] + k for n in writes.split(",") for k in range(sizes[n])]
    return [k for k in named if operands[k].info is not None]


def _write(
    name: str, results: list[Value], operands: list[BoundOperand], targets: list[int], grads: list[bool], mode: int
) -> None:
    """Turn leading results into new values of the targets' bases, checking what PyTorch checks."""
    for i, k in enumerate(targets):
        target = operands[k]
        if target.requires_grad and target.is_leaf and mode & GRAD_MODE:
            what = "a view of a leaf" if target.view else "a leaf"
            raise RuntimeError(
                f"[{name}] {what} tensor that requires grad is changed in place. Use fb.no_grad() or a copy."
            )
        if target.base.aval.device != results[i].aval.device:
            raise apart(name, (target.base.aval.device, results[i].aval.device))
        results[i] = target.replaced(_fit(name, results[i], target.value))
        detached = target.view is not None and target.view.detached
        keeps = not detached and bool(mode & GRAD_MODE and target.requires_grad)
        grads[i] = keeps or (grads[i] and not detached)
        if keeps and target.base.dtype.is_inexact:
            results[i] = target.succeeded(results[i])


def _fit(name: str, new: Value, old: Value) -> Value:
    """`new` in the type of the operand it replaces."""
    if new.dtype.category > old.dtype.category:
        raise RuntimeError(
            f"[{name}] the result is {new.dtype.name} and cannot be stored in {old.dtype.name}. Cast an operand first."
        )
    new = new.cast(old.dtype)
    try:
        return new if new.shape == old.shape else new.expand(old.shape)
    except (RuntimeError, ValueError):
        raise RuntimeError(
            f"[{name}] the result has shape {new.shape}, the tensor it replaces {old.shape}. "
            "Use the form that returns a new tensor."
        ) from None


class shadow_mode(recorder.Context):
    """Run every rule again inside, also when the trie knows the call, and raise where it says something else."""

    def enter(self) -> None:
        recorder.set_shadow(True)

    def leave(self) -> None:
        recorder.set_shadow(False)
