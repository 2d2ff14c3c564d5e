"""`autograd.Function`: operations whose gradients users write in Python.

In: a class with `forward` and `backward`. Out: `apply`, whose results have the gradients that `backward` gives. Its history is a
structure without slopes: the inputs go through carriers, the results depend on these by a choice that never takes them. A
hook on each result notes the gradient that arrives; the first hook of a carrier that is met calls `backward`, and each
replaces the zeros that arrived by what that gave. So hooks, `create_graph` and the compiler see nothing special. Next: `inline.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from flambeau import inline, tensor_hooks
from flambeau.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad
from flambeau.autograd.saving import Packed, packed
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_
from flambeau.dialects.tape.common import ops
from flambeau.function import Tensor_, Tensors, function
from flambeau.functions.create import zeros
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


@lru_cache(maxsize=256)
def _depending(name: str) -> Callable[..., Tensor]:
    """What gives the results of the user's function of that name their history."""

    @function(name=name)
    def depending(input: Tensor_, carriers: Tensors):
        """`input`, whose gradient history goes on to the carriers, which get zeros."""
        result = input
        nowhere = input.builder.constant(False, bool_, input.shape)
        for x in carriers:
            result = ops.select(nowhere, _first(x).cast(input.dtype).expand(input.shape), result)
        return result

    return depending


def _first(x: Value) -> Value:
    """One number of x."""
    if 0 in x.shape:
        return ops.sum(x, axes=tuple(range(len(x.shape))))
    rank = len(x.shape)
    one = ops.slice(x, starts=(0,) * rank, sizes=(1,) * rank, steps=(1,) * rank) if rank else x
    return ops.reshape(one, shape=())


class _Saved:
    """A tensor that is kept for the backward. The history that the context belongs to may be its own."""

    packed: Packed | None = None

    def __init__(self, tensor: Tensor | None) -> None:
        self.replace(tensor)

    def replace(self, tensor: Tensor | None) -> None:
        self.tensor = tensor
        self.version = None if tensor is None else tensor._version
        if tensor is not None:
            recorder.track(tensor)

    def pack(self) -> None:
        """Keep what the hooks around the call make of the tensor; the tensor itself only where gradients go on to it."""
        self.packed = None if self.tensor is None else packed(self.tensor)
        if self.packed is not None and self.tensor is not None:
            tensor_hooks.track((self.packed.content,))
            self.tensor = self.tensor if self.tensor.requires_grad else None

    def read(self, name: str) -> Tensor | None:
        if self.packed is not None:
            found = self.packed.unpacked()
            return (
                found if self.tensor is None or not is_grad_enabled() else _Restored.apply(self.tensor, found.detach())
            )
        if self.tensor is not None and self.tensor._version != self.version:
            raise RuntimeError(
                f"[{name}] a tensor of shape {self.tensor.shape} that was saved for the backward has been modified in place since. "
                "Save a clone."
            )
        return self.tensor


class FunctionCtx:
    """What `forward` and `setup_context` keep for `backward`, which gets the same object. Takes attributes of any name."""

    needs_input_grad: tuple[bool, ...] = ()
    _name = "Function"

    def __init__(self) -> None:
        self._saved: list[_Saved] = []
        self._dirty: tuple[Tensor, ...] = ()
        self._without: tuple[Tensor, ...] = ()
        self._materialize = True

    def __setattr__(self, name: str, value: Any) -> None:
        tensor_hooks.track((value,))
        object.__setattr__(self, name, value)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (or None), inputs or results, for `saved_tensors`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"[save_for_backward] an argument is a {type(t).__name__}. Pass tensors or None.")
        self._saved = [_Saved(t) for t in tensors]

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Ignored: there is no forward mode."""

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept. Raises RuntimeError for a tensor that was modified in place since."""
        return tuple(saved.read(self._name) for saved in self._saved)

    def mark_dirty(self, *args: Tensor) -> None:
        """Say which inputs `forward` has modified in place; they must be among its results."""
        self._dirty = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Say which results have no gradient."""
        self._without = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros, not None, for results that do not matter."""
        self._materialize = bool(value)


class _Node:
    """One call: what arrives at its results, and what `backward` makes of that."""

    def __init__(self, cls: type[Function], ctx: FunctionCtx, inputs: tuple[Any, ...]) -> None:
        self.cls, self.ctx = cls, ctx
        self.places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
        self.count = len(inputs)
        self.kinds: list[tuple[Any, Any, Any]] = []  # shape, dtype, device of each result
        self.arrived: dict[int, Tensor] = {}
        self.found: dict[int, Tensor | None] | None = None

    def carrier(self, place: int, x: Tensor) -> Tensor:
        made = inline.same(x)
        tensor_hooks.attach(made, lambda gradient: self.gradient(place, gradient), self.end)
        return made

    def result(self, number: int, value: Tensor, carriers: list[Tensor]) -> Tensor:
        with enable_grad():
            made = _depending(f"{self.cls.__name__}Backward")(value, carriers)
        tensor_hooks.attach(made, lambda gradient: self.note(number, gradient), self.end)
        return made

    def note(self, number: int, gradient: Tensor) -> None:
        self.arrived[number] = gradient

    def end(self) -> None:
        self.found, self.arrived = None, {}

    def gradient(self, place: int, zero: Tensor) -> Tensor:
        if self.found is None:
            self.found = self.differentiated()
        given = self.found[place]
        if given is None:
            return zero
        if given.shape != zero.shape:
            try:
                given = given.sum_to_size(zero.shape)
            except RuntimeError:
                raise RuntimeError(
                    f"[{self.cls.__name__}] backward gave a gradient of shape {given.shape} for input {place} of shape "
                    f"{zero.shape}."
                ) from None
        return given.to(zero.dtype)

    def differentiated(self) -> dict[int, Tensor | None]:
        grads = [self.arrived.get(i) for i in range(len(self.kinds))]
        if self.ctx._materialize:
            grads = [
                zeros(kind[0], dtype=kind[1], device=kind[2]) if g is None and kind[1].is_inexact else g
                for g, kind in zip(grads, self.kinds)
            ]
        given = self.cls._backward_of()(self.ctx, *grads)
        made = given if isinstance(given, tuple) else (given,)
        extra = made[self.count :]
        if len(made) < self.count or any(g is not None for g in extra):
            raise RuntimeError(
                f"[{self.cls.__name__}] backward gave {len(made)} gradients for {self.count} inputs. Give one for each, None where "
                "there is none."
            )
        for g in made:
            if g is not None and not isinstance(g, Tensor):
                raise TypeError(f"[{self.cls.__name__}] backward gave a {type(g).__name__}. Give tensors or None.")
        return {i: made[i] for i in self.places}


class Function:
    """An operation with gradients of the user's: a class with static methods `forward(ctx, *args)` (or `forward(*args)` and
    `setup_context(ctx, inputs, output)`) and `backward(ctx, *grads)`, called as `apply(*args)`.

    `forward` runs without history. `backward` gets a gradient for each result and gives one for each argument, None where there is
    none. An input of None gets zeros.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """What the operation computes. To be written by the user."""
        raise NotImplementedError("[Function] there is no forward. Write it as a static method.")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """What to keep for the backward, where `forward` takes no `ctx`. To be written by the user."""
        raise NotImplementedError("[Function] there is no setup_context. Write it as a static method.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the inputs. To be written by the user."""
        raise NotImplementedError("[Function] there is no backward. Write it as a static method.")

    vjp = backward

    @classmethod
    def _backward_of(cls) -> Callable[..., Any]:
        return cls.vjp if cls.backward is Function.backward else cls.backward

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """What `forward` gives for these arguments, with history if one of the tensors requires grad."""
        ctx = FunctionCtx()
        ctx._name = cls.__name__
        ctx.needs_input_grad = tuple(isinstance(x, Tensor) and x.requires_grad for x in args)
        wanted = is_grad_enabled() and any(ctx.needs_input_grad)
        node = _Node(cls, ctx, args) if wanted else None
        carriers = [node.carrier(i, args[i]) for i in node.places] if node else []
        if node:
            tensor_hooks.track(args)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args, **kwargs)
            else:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
        if node is None:
            return output
        results = output if isinstance(output, tuple) else (output,)
        made = tuple(_result(node, i, x, carriers, args) for i, x in enumerate(results))
        for saved in ctx._saved:
            saved.pack()
        return made if isinstance(output, tuple) else made[0]


def _result(node: _Node, number: int, value: Any, carriers: list[Tensor], inputs: tuple[Any, ...]) -> Any:
    """A result of `forward`, with the history of the call where it is a tensor that has one."""
    if not isinstance(value, Tensor):
        node.kinds.append(((), bool_, None))
        return value
    node.kinds.append((value.shape, value.dtype, value.device))
    is_dirty = any(value is t for t in node.ctx._dirty)
    if not value.dtype.is_inexact or any(value is t for t in node.ctx._without):
        return value
    if is_dirty and value.is_leaf and value.requires_grad:
        raise RuntimeError(f"[{node.cls.__name__}] a leaf that requires grad was modified in place. Use a copy of it.")
    made = node.result(number, value.detach(), carriers)
    if is_dirty:
        recorder.set_cell(value, made)
        recorder.track(value)
        return value
    for saved in node.ctx._saved:
        if saved.tensor is value and all(value is not x for x in inputs):
            saved.replace(made)
    return made


class _Restored(Function):
    """A tensor that was unpacked, with the history of the one that was packed."""

    @staticmethod
    def forward(ctx: FunctionCtx, original: Tensor, unpacked: Tensor) -> Tensor:
        return unpacked.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Any:
        return grad, None


class _NoSecond(Function):
    """Passes gradients on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: FunctionCtx, *tensors: Tensor) -> Any:
        return tuple(t.clone() for t in tensors)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Any:
        raise RuntimeError(
            "[once_differentiable] the gradient of this function cannot be differentiated. It is marked so."
        )


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of `backward`, which then runs without history; differentiating its results raises RuntimeError."""

    @wraps(fn)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            given = fn(ctx, *args)
        if not is_grad_enabled():
            return given
        made = given if isinstance(given, tuple) else (given,)
        tensors = [g.detach().clone().requires_grad_() for g in made if isinstance(g, Tensor)]
        passed = iter(_NoSecond.apply(*tensors))
        kept = tuple(next(passed) if isinstance(g, Tensor) else g for g in made)
        return kept if isinstance(given, tuple) else kept[0]

    return wrapper
