"""`Optimizer`: parameter groups, state, and steps that are one recorded call each.

In: parameters with gradients. Out: parameters updated in place. A subclass gives defaults, state and `_updates`.
Next: `sgd.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

from flambeau import host
from flambeau.autograd import enable_grad
from flambeau.device import Device, place
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import DType
from flambeau.engine import GRAD_MODE, WHOLE_MODE
from flambeau.function import Tensor_, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.functions.create import full, full_like
from flambeau.functions.transfer import moved
from flambeau.nn.hooks import RemovableHandle
from flambeau.promotion import get_default_dtype
from flambeau.runtime import OutOfMemory, recorder
from flambeau.runtime.recorder import Tensor


def _check_ordered(what: str, params: Any) -> None:
    """Refuse sets: state dicts follow the order of the parameters, and that of a set changes from run to run."""
    if isinstance(params, (set, frozenset)):
        raise TypeError(
            f"[Optimizer] {what} is a {type(params).__name__}, whose order changes from run to run. Pass a list."
        )


#: Flags by which PyTorch chooses how a step runs.
WAYS = ("foreach", "capturable", "differentiable", "fused")


def ways(op: str, **flags: bool | None) -> dict[str, Any]:
    """The flags `foreach`, `fused`, `capturable` and `differentiable` as options of a group. They change nothing: a step is one
    program, and counts its steps in tensors. Raises RuntimeError for what cannot be honoured or excludes each other."""
    if flags.get("differentiable"):
        raise RuntimeError(
            f"[{op}] differentiable=True is not there. Write the update with tensors, under create_graph=True."
        )
    if flags.get("foreach") and flags.get("fused"):
        raise RuntimeError(
            f"[{op}] foreach and fused exclude each other. Give one, or neither: both mean the same here."
        )
    return {name: flags[name] for name in WAYS if name in flags}


class Optimizer:
    """Base class of optimizers.

    `params` is an iterable of tensors, of (name, tensor) pairs, or of dicts with "params" and options of their own.
    Options are read at every step: changing `param_groups[0]["lr"]` never compiles anew. Subclasses name options of theirs that
    must not be negative in `_NOT_NEGATIVE`, and of their state that counts, with its first value, in `_COUNTERS`.
    """

    _NOT_NEGATIVE: tuple[str, ...] = ()
    _COUNTERS: ClassVar[dict[str, float]] = {"step": 0.0}
    _skipped_if: dict[str, Tensor] | None = (
        None  # by device: a step changes nothing where this is above 0 (`GradScaler`)
    )

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("[Optimizer] params is a Tensor. Pass a list of tensors, or dicts with 'params'.")
        _check_ordered("params", params)
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._step_pre_hooks: dict | None = None
        self._step_hooks: dict | None = None
        self._state_pre_hooks: dict | None = None
        self._state_hooks: dict | None = None
        self._load_pre_hooks: dict | None = None
        self._load_hooks: dict | None = None
        self._begun: list[
            tuple[Tensor, Callable[[], Any]]
        ] = []  # by the step that is being recorded, and how to forget it
        #: Whether a step was taken, for schedulers; None where a class has a step of its own.
        self._has_stepped = False if type(self).step is Optimizer.step else None
        groups = list(params)
        if not groups:
            raise ValueError("[Optimizer] there are no parameters. Pass model.parameters() of a model that has some.")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add tensors with options of their own. Raises TypeError for a set and for what is not a tensor, ValueError for
        duplicates and for tensors that are no leaves."""
        if not isinstance(param_group, dict):
            raise TypeError(
                f"[Optimizer] a parameter group is a {type(param_group).__name__}. Pass a dict with 'params'."
            )
        given = param_group["params"]
        _check_ordered("'params' of a group", given)
        params = [given] if isinstance(given, Tensor) else list(given)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        others = ["param_names" in group for group in self.param_groups]
        if 0 < len(names) < len(params) or (others and others[0] != bool(names)):
            raise ValueError("[Optimizer] some parameters have names and some have none. Name all of them, or none.")
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"[Optimizer] a parameter is a {type(p).__name__}. Pass tensors.")
            if not p.is_leaf:
                raise ValueError("[Optimizer] a parameter is the result of an operation. Pass leaf tensors.")
            if id(p) in known:
                raise ValueError("[Optimizer] a parameter is in more than one group or twice in one. Pass each once.")
            known.add(id(p))
        group = {**param_group, "params": params}
        if names:
            group["param_names"] = names
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self._check_options(group)
        self.param_groups.append(group)
        if not recorder.capturing():  # else the first call that reads one would cut the first step there
            for p in params:
                recorder.flush_if_pending(p)

    def _check_options(self, group: dict[str, Any]) -> None:
        """Raise ValueError for options without meaning; subclasses add theirs."""
        rate = group.get("lr")
        if isinstance(rate, Tensor) and rate.numel() != 1:
            raise ValueError(
                f"[{type(self).__name__}] lr is a tensor of {rate.numel()} elements. Use a number or one element."
            )
        for name in ("lr", "weight_decay", "eps", "momentum", *self._NOT_NEGATIVE):
            if name in group and not isinstance(group[name], Tensor) and not group[name] >= 0.0:
                raise ValueError(f"[{type(self).__name__}] {name} is {group[name]}. Use at least 0.")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or fill them with zeros."""
        for p in self._all_params():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.detach().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient, then run everything recorded so far.

        `closure`, if given, computes the loss (with gradients) first; its result is returned. Raises OutOfMemory, and then
        nothing has changed: neither parameters nor gradients nor state. An interrupt comes before the updates of all groups or
        after them.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if self._step_pre_hooks is not None:
            self._run_hooks(self._step_pre_hooks)
        self._has_stepped, self._begun = True, []
        if recorder.capturing() and (outside := self._outside()):  # a model that is being exported keeps its parameters
            recorder.capture_note(f"{type(self).__name__}.step", outside)
            return loss
        try:
            with recorder.ModeScope(GRAD_MODE | WHOLE_MODE, WHOLE_MODE):  # all groups, or none
                updates = tuple(update for group in self.param_groups for update in self._updates_of(group))
                recorder.together((*updates, *(self._restores() if self._skipped_if else ())))
                for tensor, undo in self._begun:
                    recorder.if_lost(tensor, undo)
        except (OutOfMemory, MemoryError) as error:  # groups before this one were recorded
            for _, undo in self._begun:
                undo()
            recorder.abandon(error)
        self._begun = []
        recorder.flush()
        if self._step_hooks is not None:
            self._run_hooks(self._step_hooks)
        return loss

    def _restores(self) -> list[Callable[[], Any]]:
        """The calls that put back what a step has written, where it is to be skipped."""
        params = [p for p in self._all_params() if p.grad is not None]
        written = {id(t): t for p in params for t in (p, *self.state[p].values()) if isinstance(t, Tensor)}
        calls: list[Callable[[], Any]] = []
        for where, skipped in (self._skipped_if or {}).items():
            tensors = [t for t in written.values() if t._place == where]
            calls.append(partial(_restore, tensors, [t.detach().clone() for t in tensors], skipped))
        return calls

    def _outside(self) -> list[Tensor]:
        """The parameters to be stepped that existed before the capture began."""
        return [p for p in self._all_params() if p.grad is not None and recorder.capture_outside(p)]

    def _run_hooks(self, hooks: dict) -> None:
        for hook in tuple(hooks.values()):
            hook(self, (), {})

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before every step."""
        return RemovableHandle(self, "_step_pre_hooks", hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after every step."""
        return RemovableHandle(self, "_step_hooks", hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before every `state_dict`."""
        return RemovableHandle(self, "_state_pre_hooks", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` at the end of `state_dict`; what it returns, unless None, is returned instead."""
        return RemovableHandle(self, "_state_hooks", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before every `load_state_dict`; what it returns, unless None, is loaded instead."""
        return RemovableHandle(self, "_load_pre_hooks", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` after every `load_state_dict`."""
        return RemovableHandle(self, "_load_hooks", hook, prepend)

    def _updates_of(self, group: dict[str, Any]) -> Sequence[Callable[[], Any]]:
        """The calls that update a group's parameters: those on one device together."""
        params = [p for p in group["params"] if p.grad is not None]
        places = dict.fromkeys([p._place for p in params])
        if len(places) == 1:
            return self._updates(group, params, [p.grad for p in params])
        apart = [[p for p in params if p._place == place] for place in places]
        return [update for each in apart for update in self._updates(group, each, [p.grad for p in each])]

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> Sequence[Callable[[], Any]]:
        """The calls that update `params`, whose gradients are `grads`, with the options of `group`. Each is one call of an
        in-place function: what it writes must not be read before all of them are known."""
        raise NotImplementedError(f"[Optimizer] {type(self).__name__} has no _updates(). Define it.")

    # ---- state -----------------------------------------------------------------------------------------

    def _remember(self, p: Tensor, **made: Tensor) -> None:
        """Put tensors that were just made into the state of `p`; if their values, or those that the step gives them, are lost, as
        where memory runs out, the entries are what they were before."""
        entry = self.state[p]
        for name, tensor in made.items():
            undo = partial(entry.__setitem__, name, entry[name]) if name in entry else partial(entry.pop, name, None)
            recorder.if_lost(tensor, undo)
            self._begun.append((tensor, undo))
        entry.update(made)

    def state_dict(self) -> dict[str, Any]:
        """Options and state, parameters replaced by their positions: what `load_state_dict` takes."""
        for hook in tuple((self._state_pre_hooks or {}).values()):
            hook(self)
        position = {id(p): i for i, p in enumerate(self._all_params())}
        groups = [
            {k: [position[id(p)] for p in v] if k == "params" else v for k, v in group.items()}
            for group in self.param_groups
        ]
        met: set[int] = set()
        state = {
            position[id(p)]: {name: _once(value, met) for name, value in entry.items()}
            for p, entry in self.state.items()
            if entry and id(p) in position
        }
        return _through(self._state_hooks, self, {"state": state, "param_groups": groups})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and (copied) state of an optimizer with groups of the same sizes. The state of a parameter lies where
        the parameter does and, but for counters, has its dtype. Raises ValueError for other sizes."""
        state_dict = _through(self._load_pre_hooks, self, state_dict)
        groups = state_dict["param_groups"]
        sizes, mine = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != mine:
            raise ValueError(
                f"[load_state_dict] the state has groups of {sizes} parameters, this optimizer of {mine}. Make them equal."
            )
        params = self._all_params()
        order = [i for g in groups for i in g["params"]]
        found = {index: params[k] for k, index in enumerate(order)}
        copies: dict[Any, Any] = {}
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for index, entry in state_dict["state"].items():
            p = found[int(index)]
            dtype = p.dtype if p.is_floating_point() else None
            state[p] = {
                k: _copied(v, copies, p._place, None if k in self._COUNTERS else dtype) for k, v in entry.items()
            }
        self._share(state)
        recorder.flush()  # where memory runs out, the state is still the old one
        self.state = state
        for group, given in zip(self.param_groups, groups):
            group.update({k: deepcopy(v) for k, v in given.items() if k != "params"})
        for hook in tuple((self._load_hooks or {}).values()):
            hook(self)

    def _share(self, state: dict[Tensor, dict[str, Any]]) -> None:
        """Let the parameters of a state that was loaded share what they share in a state that grew here."""

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join(lines) + "\n)"


@inplace(name="step", writes="tensors")
def _restore(tensors: Tensors, before: Tensors, skipped: Tensor_):
    """What tensors were before, where a step is skipped."""
    is_skipped = skipped > 0.0
    return [ops.select(is_skipped.expand(t.shape), old, t) for t, old in zip(tensors, before)]


def begun(p: Tensor, first: complex = 0.0, shape: tuple[int, ...] | None = None) -> Tensor:
    """What a state begins with: a tensor like `p`, or of another shape, filled with a number. It is in memory at once, so that a
    first step reads it as all others do, and is the same program; where that cannot be, it is recorded."""
    if recorder.capturing() or p._place != CPU or recorder.view_info(p)[0] is not None:
        return full_like(p, first) if shape is None else full(shape, first, dtype=p.dtype, device=p.device)
    return host.filled(first, tuple(p.shape) if shape is None else shape, p.dtype)


def begun_number(first: float, device: Device) -> Tensor:
    """A counter before its first step, likewise."""
    if recorder.capturing() or place(device) != CPU:
        return full((), first, device=device)
    return host.filled(first, (), get_default_dtype())


def _through(hooks: dict | None, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state as hooks leave it: each may return another one."""
    for hook in tuple((hooks or {}).values()):
        found = hook(optimizer, state)
        state = state if found is None else found
    return state


def _once(value: Any, met: set[int]) -> Any:
    """A value of a state; a copy of a tensor that another parameter has too, for PyTorch adds to that of each parameter."""
    if not isinstance(value, Tensor) or id(value) not in met:
        met.add(id(value))
        return value
    return value.detach().clone()


def _copied(value: Any, copies: dict[Any, Any], place: str, dtype: DType | None = None) -> Any:
    """A copy on a device, in a dtype if one is given; what was one tensor stays one there."""
    if type(value) in (list, tuple):
        return type(value)(_copied(each, copies, place, dtype) for each in value)
    key = id(value), place, dtype
    if key not in copies:
        copies[key] = _moved(value, place, dtype) if isinstance(value, Tensor) else deepcopy(value)
    return copies[key]


def _moved(value: Tensor, place: str, dtype: DType | None) -> Tensor:
    value = value.detach()
    return moved(value.clone() if dtype in (None, value.dtype) else value.to(dtype), place)
