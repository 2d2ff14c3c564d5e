"""Gradients recorded op by op: for `create_graph`, and where tensor hooks must see them.

In: tensors with history. Out: gradients as tensors, themselves differentiable with `create_graph`; hooks run each time.
The forward values that vjps read are the trace's own; what has no slot is recorded again. Next: `autograd.py`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from flambeau import programs
from flambeau.assembly import Assembly
from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Builder, GraphBuilder, Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.history import graft
from flambeau.dialects.record import OpRecord, find
from flambeau.engine import GRAD_MODE
from flambeau.function import builder
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor

# ---- a builder that records -----------------------------------------------------------------------------------

_primitives: dict[str, Function] = {}


def primitive(op: OpRecord) -> Function:
    """A recorded function that is one primitive op: called with a list of tensors and the op's attributes."""
    found = _primitives.get(op.name)
    if found is None:
        params = (("operands", "tensors", REQUIRED, False), ("attrs", "static", REQUIRED, False))

        def rule(operands: list[Value], attrs: tuple) -> Value:
            return builder().emit(op, operands, attrs)

        found = _primitives[op.name] = Function(op.name, params, "pure", rule, fallible=op.fallible)
    return found


class TensorBuilder(Builder):
    """Records every op it is given; the `id` of its values is a tensor."""

    def emit(self, op: OpRecord, operands: Sequence[Value], attrs: tuple) -> Value:
        return self.value(primitive(op)([v.id for v in operands], attrs))

    def value(self, tensor: Tensor) -> Value:
        return Value(self, tensor, Aval(tensor.shape, tensor.dtype))


_number = Function(
    "number", (("value", "operand", REQUIRED, False),), "pure", lambda value: find("reshape")(value, shape=())
)  # a Python number as a 0-d tensor


# ---- hooks ----------------------------------------------------------------------------------------------------


class Handle:
    """A registered hook; `remove()` takes it away."""

    def __init__(self, hooks: Hooks, fn: Callable) -> None:
        self.hooks, self.fn = hooks, fn

    def remove(self) -> None:
        if self.fn in self.hooks.fns:
            self.hooks.fns.remove(self.fn)


class Hooks:
    """The hooks of one tensor. An intermediate result is kept alive until its graph has been gone through."""

    def __init__(self, tensor: Tensor) -> None:
        self.fns: list[Callable] = []
        self.retain = False  # keep the gradient that the hooks leave in `.grad`
        self.weak = weakref.ref(tensor)
        self.strong = None if tensor.is_leaf else tensor
        self.ran = False

    @property
    def tensor(self) -> Tensor | None:
        return self.weak()

    def run(self, ct: Value) -> Value:
        self.ran = True
        gradient = ct.id
        for fn in list(self.fns):
            replaced = fn(gradient)
            if replaced is not None:
                if (replaced.shape, replaced.dtype) != (gradient.shape, gradient.dtype):
                    raise RuntimeError(
                        f"[hook] a hook returned a gradient of shape {replaced.shape} for one of {gradient.shape}."
                    )
                gradient = replaced
        if self.retain and (tensor := self.tensor) is not None:
            before = tensor.grad
            tensor.__dict__["_retained_grad"] = gradient if before is None else before + gradient
        return Value(ct.builder, gradient, ct.aval)


_hooks: list[Hooks] = []


def hooked() -> bool:
    """Whether any tensor has hooks."""
    if _hooks:
        _hooks[:] = [h for h in _hooks if (h.fns or h.retain) and h.tensor is not None]
    return bool(_hooks)


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Tensor | None]) -> Handle:
    """Call `hook(gradient)` in every backward, once the gradient of this tensor is complete; what it returns, if anything,
    takes its place. Returns a handle with `remove()`. Raises RuntimeError for a tensor that does not require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("[register_hook] the tensor does not require grad. Call requires_grad_() first.")
    hooks = _hooks_of(tensor)
    hooks.fns.append(hook)
    return Handle(hooks, hook)


def _hooks_of(tensor: Tensor) -> Hooks:
    if recorder.view_info(tensor)[0] is not None:  # gradients of a view have no place of their own
        recorder.set_cell(tensor, primitive(find("add"))([tensor, _zeros(tensor)], ()))
    hooks = next((h for h in _hooks if h.tensor is tensor), None)
    if hooks is None:
        hooks = Hooks(tensor)
        _hooks.append(hooks)
    return hooks


def _zeros(tensor: Tensor) -> Tensor:
    return TensorBuilder().constant(-0.0, tensor.dtype, tensor.shape).id


def retain_grad(tensor: Tensor) -> None:
    """Have `backward()` set `.grad` of this intermediate result too."""
    if not tensor.requires_grad:
        raise RuntimeError("[retain_grad] the tensor does not require grad. Compute it from tensors that do.")
    if tensor.is_leaf:
        return
    _hooks_of(tensor).retain = True


# ---- the engine -----------------------------------------------------------------------------------------------


class _Tape:
    """The current trace, seen as a graph whose values are tensors."""

    def __init__(self, name: str, roots: Sequence[Tensor]) -> None:
        self.name = name
        for t in roots:
            recorder.import_history(t)
        self.hooks = {h: recorder.import_history(h.tensor) for h in list(_hooks) if self._importable(h)}
        self.asm = Assembly(recorder.trace_export())
        history = self.asm.history()
        self.graph = Graph(list(history.avals), history.inputs, list(history.nodes), [])
        self.slot_of = self.asm.slot_of()
        self.builder = TensorBuilder()
        self.scalars = recorder.trace_scalars()

    def _importable(self, hooks: Hooks) -> bool:
        tensor = hooks.tensor
        if tensor is None:
            return False
        try:
            recorder.import_history(tensor)
        except RuntimeError:  # its graph is gone
            _hooks.remove(hooks)
            return False
        return True

    def value_of(self, tensor: Tensor) -> int:
        """The graph's value for a tensor; a view is read in nodes added to the graph."""
        slot = recorder.import_history(tensor)
        view, starts, *_ = recorder.view_info(tensor)
        if view is None:
            return self.asm.slots[slot]
        b = GraphBuilder(self.graph)
        return view.read(b.value(self.asm.slots[slot]), [b.constant(s, int64) for s in starts]).id

    def target_of(self, tensor: Tensor) -> int:
        """Where the gradients of a tensor meet: its history, if that has parted from its data."""
        return self._history_of(self.value_of(tensor))

    def _history_of(self, value: int) -> int:
        producers = self.graph.producers()
        while value in producers and producers[value].op is graft:
            value = producers[value].operands[1]
        return value

    def tensors(self, needed: Sequence[int]) -> dict[int, Value]:
        """Tensors for the needed values, or for the slots from which they can be recorded again."""
        producers = self.graph.producers()
        found: dict[int, Value] = {}
        pending, seen = list(needed), set()
        while pending:
            v = pending.pop()
            if v in seen:
                continue
            seen.add(v)
            slot = self.slot_of.get(self.asm.available(v))
            if slot in self.scalars:
                found[v] = self.builder.value(_number(self.scalars[slot]))
            elif slot is not None and self._has_value(slot):
                found[v] = self.builder.value(recorder.tensor_for_slot(slot))
            elif v in producers:
                operands = producers[v].operands
                place = self._place(operands[1]) if producers[v].op is graft else None
                if place is not None:  # of a history only the place is needed
                    found[operands[1]] = place
                    operands = operands[:1]
                pending.extend(operands)
        return found

    def _place(self, value: int) -> Value | None:
        """A tensor where a value's history is, of which nothing may read the data."""
        slot = self.slot_of.get(self.asm.available(value))
        return None if slot is None else self.builder.value(recorder.tensor_for_slot(slot))

    def _has_value(self, slot: int) -> bool:
        """Whether the trace computes or was given the slot: not so in imported traces, unless it was provided."""
        return slot not in self.asm.imported

    def run(self, seeds: dict[int, Value], wrt: Sequence[int]) -> list[Value | None]:
        read = autodiff.readers(self.graph, list(seeds), wrt)
        programs.check_alive(self.name, self.asm, read)
        programs.check_unmodified(self.name, self.asm, self.graph, read)
        hooks = {self._history_of(self.asm.slots[slot]): h.run for h, slot in self.hooks.items()}
        return autodiff.vjp(self.builder, self.graph, self.tensors(list(read)), seeds, wrt, hooks)


def _seed(tape: _Tape, tensor: Tensor, gradient: Tensor | None) -> Value:
    output = tape.builder.value(tensor)
    ct = None if gradient is None else tape.builder.value(gradient)
    programs.check_seed(tape.name, output.aval, None if ct is None else ct.aval)
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
                "Compute it from tensors that require grad, outside of no_grad()."
            )
    before = recorder.get_mode()
    recorder.set_mode(before | GRAD_MODE if create_graph else before & ~GRAD_MODE)
    try:
        tape = _Tape(name, [*outputs, *(inputs or ())])
        seeds: dict[int, Value] = {}
        for t, gradient in zip(outputs, gradients, strict=True):
            value, ct = tape.value_of(t), _seed(tape, t, gradient)
            seeds[value] = seeds[value] + ct if value in seeds else ct
        leaves = recorder.trace_leaves()
        owners = [leaf for _, leaf in leaves] if inputs is None else list(inputs)
        wrt = [tape.asm.slots[s] for s, _ in leaves] if inputs is None else [tape.target_of(t) for t in inputs]
        found = tape.run(seeds, wrt)
    finally:
        recorder.set_mode(before)
    if not retain_graph:  # intermediate results whose hooks ran are not needed again
        _hooks[:] = [h for h in _hooks if h.strong is None or not h.ran]
    return [None if g is None else g.id for g in found], owners


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
    recorder.flush_point()
    return found


def backward(
    tensor: Tensor,
    gradient: Tensor | None,
    inputs: Sequence[Tensor] | None,
    create_graph: bool,
    retain_graph: bool,
) -> None:
    """As `autograd.backward`, recorded op by op."""
    found, owners = _differentiate("backward", [tensor], [gradient], inputs, create_graph, retain_graph)
    for owner, new in zip(owners, found, strict=True):
        if new is None:
            continue
        old = owner.grad
        if old is None:
            owner.grad = new if create_graph else new.detach()
        elif create_graph:
            owner.grad = old + new
        else:
            before = recorder.set_mode(recorder.get_mode() & ~GRAD_MODE)
            try:
                old.add_(new)
            finally:
                recorder.set_mode(before)
    recorder.flush_point()
