"""`autograd.graph`: what a tensor's history looks like, as nodes: one for each function that was called, with those before it.

In: tensors that require grad. Out: `Node`s, read from what the recorder keeps; asking for one records and runs nothing. Gradients
do not go through nodes (see `dialects/autodiff.py`). And hooks on several tensors at once. Next: `inline.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from flambeau import border as _border
from flambeau import inline, tensor_hooks
from flambeau import missing as _missing
from flambeau.autograd.saving import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks
from flambeau.declarations import attribute
from flambeau.dialects.autodiff import requires_gradient
from flambeau.dialects.size import evaluate
from flambeau.dialects.size_guards import scope
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

Edge = tuple["Node | None", int]


class _Made(NamedTuple):
    """A slot that a call made: its entry, where the slots of that begin, which result it is, the values of its trace's symbols."""

    entry: tuple
    base: int
    result: int
    sizes: Sequence[int]


class _RecordedEntries:
    """The entries of the current trace up to now, with those of traces imported into it, by the slots that they made."""

    def __init__(self, export: Sequence[tuple]) -> None:
        self.made: dict[int, _Made] = {}
        self.alias: dict[int, int] = {}
        self.leaves: set[int] = set()
        self.entered: dict[int, Tensor | None] = {}  # slots whose history is in a trace that is not imported
        self.lost: set[int] = set()  # likewise, of imported traces, whose values nobody has to have
        self._known: dict[int, bool] = {}
        self._read(export, 0, recorder.trace_sizes())

    def _read(self, export: Sequence[tuple], base: int, sizes: Sequence[int]) -> None:
        for entry in export:
            kind = entry[0]
            if kind == "call":
                self.made.update({base + slot: _Made(entry, base, k, sizes) for k, slot in enumerate(entry[3])})
            elif kind == "leaf":
                self.leaves.add(base + entry[1])
            elif kind == "input" and entry[4] and not entry[5]:
                if base:
                    self.lost.add(base + entry[1])
                else:
                    self.entered[entry[1]] = None
            elif kind == "graft":
                self.alias[base + entry[1]] = base + entry[3]
            elif kind == "link" and not base:
                self.alias[entry[1]] = entry[2]
            elif kind == "segment":
                self._read(entry[2], base + entry[1], [evaluate(size, sizes) for size in entry[-1]])

    def go_on(self) -> _RecordedEntries:
        """Let what entered the current trace lead on to what made it."""
        self.entered = {s: recorder.tensor_for_slot(s) for s in self.entered if s not in self.alias}
        return self

    def has_all(self, slot: int) -> bool:
        """Whether a slot was made here, and nothing that its history leads to is lost."""
        slot = self.root(slot)
        if slot in self.entered or not self.requires_grad(slot):
            return False
        pending, seen = [slot] if self.lost else [], set[int]()
        while pending:
            here = pending.pop()
            if here in self.lost:
                return False
            if here in self.made and here not in seen:
                seen.add(here)
                pending += self._passed(here)
        return True

    def root(self, slot: int) -> int:
        """Where the history of a slot is."""
        while slot in self.alias:
            slot = self.alias[slot]
        return slot

    def requires_grad(self, slot: int) -> bool:
        """Whether gradients of a slot reach a leaf."""
        pending = [self.root(slot)]
        while pending:
            here = pending[-1]
            if here in self._known or here not in self.made:
                self._known.setdefault(here, here in self.leaves or self.entered.get(here) is not None)
                pending.pop()
                continue
            missing = [s for s in self._passed(here) if s not in self._known]
            if missing:
                pending += missing
            else:
                self._known[here] = any(self._known[s] for s in self._passed(here))
                pending.pop()
        return self._known[self.root(slot)]

    def _passed(self, slot: int) -> list[int]:
        """The slots that gradients of a call's result go on to."""
        return [s for s, passes in self.operands(slot) if passes]

    def operands(self, slot: int) -> list[tuple[int, bool]]:
        """The roots of what a call took, and whether gradients of this result of it go on there."""
        entry, base, result, sizes = self.made[slot]
        graph = entry[1].graph
        found, at = [], 0
        for operand in entry[2]:
            if operand is not None:
                value = graph.inputs[at]
                with scope(sizes):
                    reached = requires_gradient(graph, [value]) if graph.avals[value].dtype.is_inexact else ()
                passes = graph.outputs[result] in reached
                found.append((self.root(base + operand[0]), passes and not (operand[1] and operand[1].detached)))
                at += 1 + len(operand[2])
        return found

    def edge(self, slot: int, view: Any) -> Edge:
        """What made a tensor: its last view, or its call."""
        slot = self.root(slot)
        if not self.requires_grad(slot) or (view is not None and view.detached):
            return None, 0
        made = self.made.get(slot)
        if made is not None and made.entry[1].name == inline.same.name:  # what hooks and users' functions stand on
            operand = made.entry[2][0]
            return self.edge(made.base + operand[0], operand[1])
        before = self.entered.get(slot) if view is None or not view.steps else None
        node = (
            Node(self, slot, view if view is not None and view.steps else None) if before is None else node_of(before)
        )
        return node, 0 if node is None else node.result


class Node:
    """A function in the history of a tensor: `name()`, and `next_functions`, those whose results it took."""

    def __init__(self, recorded: _RecordedEntries, slot: int, view: Any) -> None:
        self._recorded, self._slot, self._view = recorded, slot, view
        self.__class__ = _named(self.name())  # type: ignore[assignment]  # as PyTorch's, whose classes people ask for

    def name(self) -> str:
        """What the function is called, as `MulBackward0`; `AccumulateGrad` for a leaf."""
        if self._view is not None:
            return _camel(self._view.steps[-1].function.name)
        if self._slot in self._recorded.made:
            return _camel(self._recorded.made[self._slot].entry[1].name)
        return "AccumulateGrad"

    @property
    def result(self) -> int:
        """Which result of the call it is."""
        made = self._recorded.made
        return 0 if self._view is not None or self._slot not in made else made[self._slot].result

    @property
    def next_functions(self) -> tuple[Edge, ...]:
        """(node, which of its results) for each tensor that it took; (None, 0) where no gradient goes."""
        recorded, slot = self._recorded, self._slot
        if self._view is not None:
            return (recorded.edge(slot, _before(self._view)),)
        if slot not in recorded.made:
            return ()
        views = [o[1] for o in recorded.made[slot].entry[2] if o is not None]
        pairs = zip(recorded.operands(slot), views, strict=True)
        return tuple([recorded.edge(s, view) if passes else (None, 0) for (s, passes), view in pairs])

    @property
    def line(self) -> tuple[str, int] | None:
        """(file, line) of the call, where it is known."""
        return self._recorded.made[self._slot].entry[5] if self._slot in self._recorded.made else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        made = self._recorded.made.get(self._slot)
        return (self._slot, id(made.entry[1]) if made else None, self._view)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


@lru_cache(maxsize=1024)
def _named(name: str) -> type[Node]:
    """The class of nodes of that name."""
    return type(name, (Node,), {"__module__": __name__})


def _before(view: Any) -> Any:
    """The view that one was made from, None for its base."""
    parent = view.parent
    return parent if parent is not None and len(parent.steps) < len(view.steps) and parent.steps else None


def _camel(name: str) -> str:
    """What PyTorch calls the node of a function; one of the user's is named already."""
    if name.endswith("Backward"):
        return name
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Backward0"


@attribute("grad_fn")
def node_of(tensor: Tensor) -> Node | None:
    """`tensor.grad_fn`: what made it, None for leaves and for what does not require grad."""
    return None if not tensor.requires_grad or tensor.is_leaf else _node(tensor)


def _node(tensor: Tensor) -> Node:
    """What made a tensor that requires grad; of a leaf, what its gradient arrives at."""
    view = recorder.view_info(tensor)[0]
    slot = recorder.known_history(tensor)
    found = None if slot is None else _RecordedEntries(recorder.trace_export()).go_on()
    if found is None or slot is None or not found.has_all(slot):
        recorder.region_begin("grad_fn")  # beside the trace, which goes on as if nobody had asked
        try:
            slot = recorder.import_history(tensor)
            found = _RecordedEntries(recorder.trace_export())
        finally:
            recorder.region_end()
    return Node(found, found.root(slot), view if view is not None and view.steps else None)


class GradientEdge(NamedTuple):
    """A place in the history: a node, which of its results, and the tensor that stands for it."""

    node: Node
    output_nr: int
    ownership_token: Tensor


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Where a tensor is in the history: what `grad` and `backward` take in its place. Raises RuntimeError for one that does not
    require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("[get_gradient_edge] the tensor does not require grad. Call requires_grad_() first.")
    node = _node(tensor)
    return GradientEdge(node, node.result, tensor)


def listed(given: Any) -> list[Any]:
    """One tensor, or several, as a list; those of edges."""
    several = [given] if isinstance(given, Tensor | GradientEdge) else given
    return [x.ownership_token if isinstance(x, GradientEdge) else x for x in several]


def reaches_others(outputs: Sequence[Tensor], ours: Sequence[Tensor]) -> bool:
    """Whether gradients of `outputs` go on to leaves other than `ours`. Records and runs nothing."""
    with_history = [y for y in outputs if y.requires_grad]
    return bool(with_history) and recorder.held(_reaches_others, with_history, ours)


def _reaches_others(outputs: Sequence[Tensor], ours: Sequence[Tensor]) -> bool:
    slots = [recorder.import_history(y) for y in outputs]
    mine = {recorder.known_history(x) for x in ours}
    if mine.issuperset([slot for slot, _ in recorder.trace_leaves()]):
        return False
    export = recorder.trace_export()
    notes = recorder.trace_notes()  # see `inline.flush_point`
    notes["assembled"] = notes.get("assembled", 0) + len(export)
    recorded = _RecordedEntries(export)
    recorded.leaves -= {recorded.root(slot) for slot in mine if slot is not None}
    return any(recorded.requires_grad(slot) for slot in slots)


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[..., None], *, mode: str = "all"
) -> tensor_hooks.Handles:
    """Call `fn(gradients)` in every backward, at its end, with the gradients of all tensors, None for those it did not reach; with
    the mode "any", `fn(gradient)` as soon as the first one is there. Returns a handle with `remove()`.

    Raises ValueError for another mode, RuntimeError for a tensor that does not require grad.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"[register_multi_grad_hook] mode is {mode!r}. Give 'all' or 'any'.")
    arrived: dict[int, Tensor] = {}

    def note(place: int, gradient: Tensor) -> None:
        arrived[place] = gradient
        if mode == "any" and len(arrived) == 1:
            fn(gradient)

    def end() -> None:
        found = [arrived.get(k) for k in range(len(tensors))]
        some = bool(arrived)
        arrived.clear()
        if some and mode == "all":
            fn(found)

    for t in tensors:
        if not t.requires_grad:
            raise RuntimeError(
                "[register_multi_grad_hook] a tensor does not require grad. Call requires_grad_() first."
            )
    return tensor_hooks.Handles([tensor_hooks.attach(t, partial(note, k), end) for k, t in enumerate(tensors)])


__all__ = [
    "GradientEdge",
    "Node",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]

_border.publish(globals(), ["get_gradient_edge", "register_multi_grad_hook"])
__getattr__ = _missing.module_getattr("flambeau.autograd.graph")
