"""Gradients recorded op by op: for `create_graph`, and where tensor hooks must see them.

In: tensors with history. Out: gradients as tensors, themselves differentiable with `create_graph`; hooks run each time.
The forward values that vjps read are the trace's own; what has no slot is recorded again. Next: `autograd/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flambeau import anomaly, expansions, regions, tensor_hooks
from flambeau.assembly import Assembly
from flambeau.dialects import autodiff, forward
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.batching import BatchBuilder
from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.history import graft, stop_gradient
from flambeau.dialects.record import OpRecord
from flambeau.dialects.tape.transfer import to_device
from flambeau.engine import GRAD_MODE
from flambeau.function import builder
from flambeau.reach import History
from flambeau.replays import Log
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor
from flambeau.shared_views import Place, SharedViews
from flambeau.sizing import assembled_as_is, bound

# ---- a builder that records -----------------------------------------------------------------------------------

_primitives: dict[str, Function] = {}


def primitive(op: OpRecord) -> Function:
    """A recorded function that is one primitive op: called with a list of tensors and the op's attributes in order."""
    found = _primitives.get(op.name)
    if found is None:
        kinds = [(name, regions.kind_of_attribute(op, name), REQUIRED, False) for name in op.attrs]

        def rule(operands: list[Value], **attrs: Any) -> Value | tuple[Value, ...]:
            results = builder().emit_all(op, operands, tuple(attrs[name] for name in op.attrs))
            return results[0] if len(results) == 1 else results

        params = (("operands", "tensors", REQUIRED, False), *kinds)

        found = _primitives[op.name] = Function(op.name, params, "pure", rule, fallible=op.fallible)
    return found


def aval_of(tensor: Tensor) -> Aval:
    """The type of a tensor."""
    return Aval(tensor.shape, tensor.dtype, tensor._place)


def _detached(operands: Sequence[Tensor]) -> Tensor:
    return operands[0].detach()


def _recorded(op: OpRecord, operands: Sequence[Tensor], *attrs: Any) -> tuple[Tensor, ...]:
    return regions.record(op, operands, attrs)


class TensorBuilder(Builder):
    """Records every op it is given, and notes it in a `log` if there is one; the `id` of its values is a tensor."""

    log: Log | None = None

    def emit_all(self, op: OpRecord, operands: Sequence[Value], attrs: tuple) -> tuple[Value, ...]:
        xs = [v.id for v in operands]
        if op is stop_gradient:  # no result of this may seem to have a history
            return (self.value(self._call(_detached, None, xs)),)
        if op.regions:
            return tuple(map(self.value, self._call(partial(_recorded, op), None, xs, *attrs)))
        made = self._call(primitive(op), op, xs, *attrs)
        if not operands and self.device != CPU:  # recorded functions do not say where what they make of nothing lies
            made = self._call(primitive(to_device), to_device, [made], self.device)
        return tuple(map(self.value, made)) if type(made) is tuple else (self.value(made),)

    def _call(self, function: Callable[..., Any], op: OpRecord | None, operands: list[Tensor], *attrs: Any) -> Any:
        return function(operands, *attrs) if self.log is None else self.log.call(function, op, operands, attrs)

    def value(self, tensor: Tensor) -> Value:
        return Value(self, tensor, aval_of(tensor))


#: A tensor with the same elements, computed from a tensor: its history goes on there. Users' own `view_as` is a view, and no call.
same = Function("view_as", (("input", "tensor", REQUIRED, False),), "pure", lambda input: input + input.like(-0.0))


# ---- the engine -----------------------------------------------------------------------------------------------


class Tape:
    """The current trace, seen as a graph whose values are tensors."""

    def __init__(self, name: str, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        self.name = name
        self.roots = [self._place_of(t, recorder.import_history(t)) for t in outputs]
        slots = [(t, recorder.known_history(t)) for t in inputs]  # elsewhere it does not matter for the outputs
        targets = [None if slot is None else self._place_of(t, slot) for t, slot in slots]
        marked = tensor_hooks.slots()
        seen = [Place(slot, hook.view, hook.starts) for slot, hook in marked if hook.view is not None]
        self.asm = self._assembly([*seen, *self.roots, *filter(None, targets)])
        self.graph = History(self.asm, map(self.value_at, self.roots), ())
        self.hooks = self._met(marked)
        self.builder: Builder = TensorBuilder()
        self.log: Log | None = None
        self.targets = [None if p is None else self.graph.meeting(self.value_at(p)) for p in targets]

    def _assembly(self, places: Sequence[Place]) -> Assembly:
        """The trace; with one value for each of the places that are views."""
        export = recorder.trace_export()
        plain = assembled_as_is(export)
        views = [p for p in places if p.view is not None]
        if not views:
            return plain
        notes = recorder.trace_notes()
        notes["assembled"] = notes.get("assembled", 0) + len(export)
        return SharedViews(bound(export), plain, views, recorder.trace_scalars())

    @staticmethod
    def _place_of(tensor: Tensor, slot: int) -> Place:
        view, _, starts = recorder.view_info(tensor)
        return Place(slot, view, starts)

    def value_at(self, place: Place) -> int:
        """The graph's value for a place."""
        if place.view is None:
            return self.asm.slots[self.asm.root_of(place.slot)]
        assert isinstance(self.asm, SharedViews)
        return self.asm.alias(place)

    def of_batch(self, n: int) -> None:
        """From now on gradients are those of `n` calls at once, whose forward is the same."""
        self.builder = BatchBuilder(self.builder, n)

    def logged(self, log: Log) -> None:
        """From now on what is recorded is noted. Before `of_batch`."""
        self.builder.log = self.log = log  # type: ignore[attr-defined]

    def value(self, tensor: Tensor, many: bool = False) -> Value:
        """A tensor in the builder; `many`: the calls of a batch are in front."""
        if isinstance(self.builder, BatchBuilder):
            return self.builder.value(Value(self.builder.inner, tensor, aval_of(tensor)), many)
        return Value(self.builder, tensor, aval_of(tensor))

    def tensor(self, value: Value) -> Tensor:
        """What a value of the builder is, with the calls in front where it is one of a batch."""
        return self.builder.whole(value).id if isinstance(self.builder, BatchBuilder) else value.id

    def _slot_of(self, value: int) -> int | None:
        """The slot whose tensor has a value and its history."""
        for found in (self.asm.joined.get(value), self.asm.provided.get(value)):
            if found is not None:
                return found
        return next(iter(self.asm.slots_of.get(value, ())), None)

    def tensors(self, needed: Sequence[int]) -> dict[int, Value]:
        """Tensors for the needed values, or for the slots from which they can be recorded again.

        The tensor of a slot has the history of that slot, also in an imported trace, whether its value was kept or is
        computed once more: so derivatives of what is recorded here go the way they would have gone in one trace.
        """
        computable = self.asm.facts.computable
        found: dict[int, Value] = {}
        pending, seen = list(needed), set()
        while pending:
            v = pending.pop()
            if v in seen:
                continue
            seen.add(v)
            slot = self._slot_of(v)
            number = None if slot is None else recorder.trace_scalar(slot)
            if number is not None:
                found[v] = self._source(slot, regions.number(number), True)
            elif slot is not None and self.asm.slots[slot] in computable:
                found[v] = self._source(slot, recorder.tensor_for_slot(slot))
            elif (node := self.graph.producer(v)) is not None:
                self.graph.others.update((r, node) for r in node.results)
                pending.extend(node.operands)
        return found

    def _source(self, slot: int | None, tensor: Tensor, is_number: bool = False) -> Value:
        if self.log is not None and slot is not None:
            self.log.source(slot, is_number, tensor)
        return self.value(tensor)

    def prepared(
        self, seeds: dict[int, Value], wrt: Sequence[int], passed: Sequence[int], retain_graph: bool
    ) -> Callable[[], list[Value | None]]:
        """What gives the gradients of `wrt`, and of `passed` on the way there, given the cotangents of some values. It
        has no slots in hand, so the hooks that it calls may do anything."""
        wanted = [*wrt, *passed]
        read = autodiff.readers(self.graph, list(seeds), wanted)
        expansions.check_alive(self.name, self.asm, read)
        expansions.check_unmodified(self.name, self.asm, read)
        values = self.tensors(list(read))
        run = partial(
            autodiff.vjp, self.builder, self.graph, values, seeds, wanted, self._hooks_by_value(), anomaly.check()
        )
        passed_by = frozenset() if retain_graph else expansions.between(self.graph, seeds, wrt, passed)
        if not retain_graph:
            recorder.free_history(expansions.slots_of(self.asm, passed_by))
        met = [(hook, value in passed_by) for value, hook in self.hooks]
        return partial(_run, run, met) if met else run

    def advanced(self, tangents: dict[int, Value]) -> Callable[[], list[Value | None]]:
        """What gives the tangents of the outputs, given those of some values. They need the same values as gradients do."""
        if any(hook.end is not None for _, hook in self.hooks):
            raise RuntimeError(
                f"[{self.name}] an autograd.Function is on the way, and its backward says nothing of tangents. Use jacrev or vjp."
            )
        outputs = [self.value_at(root) for root in self.roots]
        read = forward.readers(self.graph, outputs, list(tangents))
        expansions.check_alive(self.name, self.asm, read)
        expansions.check_unmodified(self.name, self.asm, read)
        return partial(forward.jvp, self.builder, self.graph, self.tensors(list(read)), tangents, outputs)

    def _met(self, marked: Sequence[tuple[int, tensor_hooks.Hook]]) -> list[tuple[int, tensor_hooks.Hook]]:
        """Of the hooks of the trace those that gradients can meet, with the values where they do, in the order in which they run.

        What waits in the trace may have any number of others: these cost a look into sets and no call.
        """
        asm, made = self.asm, self.asm.facts.producers
        met = {self.value_at(root) for root in self.roots}
        for node in self.graph.nodes:
            met.update(node.results, node.operands)
        near = [
            (slot, hook)
            for slot, hook in marked
            if hook.view is not None
            or slot in asm.links
            or slot in asm.grafts
            or (value := asm.slots[slot]) in met
            or value in asm.bridges
            or (value in made and made[value].op is graft)
        ]
        near.sort(key=lambda pair: pair[1].order)
        return [
            (self.graph.meeting(self.value_at(Place(slot, hook.view, hook.starts))), hook)
            for slot, hook in near
            if hook.fn is not None
        ]

    def hooked(self) -> list[int]:
        """The values that have hooks: these run also where no leaf is alive any more."""
        return [value for value, _ in self.hooks]

    def _hooks_by_value(self) -> dict[int, Callable[[Value], Value]]:
        groups: dict[int, list[tensor_hooks.Hook]] = {}
        for value, hook in self.hooks:
            groups.setdefault(value, []).append(hook)
        return {value: partial(_run_hooks, hooks) for value, hooks in groups.items()}


def _run(run: Callable[[], list[Value | None]], hooks: Sequence[tuple[tensor_hooks.Hook, bool]]) -> list[Value | None]:
    """What `run` gives; the hooks learn that it is over. No gradient gets to those any more whose places in the history it frees:
    what they hold goes, which may be what holds the history."""
    try:
        found = run()
    finally:
        for hook, _ in hooks:
            if hook.end is not None:
                hook.end()
    for hook, is_freed in hooks:
        if is_freed and hook.owner is None:
            hook.forget()
    return found


def _run_hooks(hooks: Sequence[tensor_hooks.Hook], ct: Value) -> Value:
    gradient = ct.id
    for hook in hooks:
        gradient = hook.run(gradient)
    return Value(ct.builder, gradient, ct.aval)


def seed(tape: Tape, tensor: Tensor, gradient: Tensor | None, many: bool = False) -> Value:
    output = tape.value(tensor)
    ct = None if gradient is None else tape.value(gradient, many)
    expansions.check_seed(tape.name, output.aval, None if ct is None else ct.aval)
    return output.like(1) if ct is None else ct


def _differentiate(
    name: str,
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor] | None,
    create_graph: bool,
    retain_graph: bool,
) -> tuple[list[Tensor | None], list[Any]]:
    """Gradients of `inputs`, or of all leaves; and the objects whose `grad` they belong to."""
    for t in outputs:
        if not t.requires_grad:
            raise RuntimeError(
                f"[{name}] a tensor of shape {t.shape} does not require grad and has no gradient history. "
                "Compute it from tensors that require grad, while gradients are enabled."
            )
    with recorder.ModeScope(GRAD_MODE, GRAD_MODE if create_graph else 0):
        run, targets, owners = recorder.held(_prepared, name, outputs, gradients, inputs, retain_graph)
        reached = iter(run())
        found = [None if v is None else next(reached) for v in targets]
    return [None if g is None else g.id for g in found], owners


def _prepared(
    name: str,
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor] | None,
    retain_graph: bool,
) -> tuple[Callable[[], list[Value | None]], Sequence[int | None], list[Any]]:
    """What gives the gradients, the values they are of, and their owners. Has slots of the trace in hand: no other
    thread may run it meanwhile. May be called anew."""
    tape = Tape(name, outputs, inputs or ())
    if any(root.slot in tape.asm.facts.freed for root in tape.roots):
        raise expansions.freed_graph(name)
    seeds: dict[int, Value] = {}
    for t, root, gradient in zip(outputs, tape.roots, gradients, strict=True):
        value, ct = tape.value_at(root), seed(tape, t, gradient)
        seeds[value] = seeds[value] + ct if value in seeds else ct
    leaves = recorder.trace_leaves()
    owners = [leaf for _, leaf in leaves] if inputs is None else list(inputs)
    targets = [tape.asm.slots[s] for s, _ in leaves] if inputs is None else tape.targets
    wrt = [v for v in targets if v is not None]
    return tape.prepared(seeds, wrt, tape.hooked() if inputs is None else [], retain_graph), targets, owners


_MOST_ASSEMBLED = 8  # times its length


def flush_point() -> None:
    """A trace may end here, and does where it was assembled for the sake of views so often that another round would cost too
    much: what all rounds cost stays in proportion to what they record."""
    assembled = recorder.trace_notes().get("assembled", 0)
    recorder.flush_point(assembled > 0 and assembled > _MOST_ASSEMBLED * len(recorder.trace_export()))


def gradients(
    name: str,
    outputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    create_graph: bool,
    retain_graph: bool,
) -> list[Tensor | None]:
    """As `autograd.grad`, recorded op by op."""
    found, _ = _differentiate(name, outputs, grad_outputs, inputs, create_graph, retain_graph)
    flush_point()
    return found


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor] | None,
    create_graph: bool,
    retain_graph: bool,
) -> None:
    """As `autograd.backward`, recorded op by op. Inputs that are results retain their gradients by hooks."""
    found, owners = _differentiate("backward", tensors, gradients, inputs, create_graph, retain_graph)
    of_leaves = [(o, new) for o, new in zip(owners, found, strict=True) if new is not None and _is_leaf(o)]
    for owner, new in of_leaves:
        _accumulate(owner, new, create_graph)
    tensor_hooks.accumulated([owner for owner, _ in of_leaves])
    flush_point()


def _is_leaf(owner: Any) -> bool:
    return not isinstance(owner, Tensor) or owner.is_leaf  # else it is what a leaf's tensors share


def _accumulate(owner: Any, new: Tensor, create_graph: bool) -> None:
    """Add to `owner.grad`. Another thread may do so at the same time."""
    done = False
    while not done:
        old = owner.grad
        if old is None or create_graph:
            total = new if old is None else old + new
            total = total if create_graph else total.detach()
            recorder.if_lost(new, partial(recorder.replace_grad, owner, total, old))
            done = recorder.replace_grad(owner, old, total)
        else:
            with recorder.ModeScope(GRAD_MODE, 0):
                old.add_(new)
            done = True
