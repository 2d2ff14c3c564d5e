"""Reverse mode as users see it: `backward`, `grad`, grad modes, tensor hooks.

In: tensors with history. Out: gradients. Without hooks or `create_graph` a backward is one recorded entry whose
expansion comes from `expansions.expand_backward`, on a miss only; with them `inline.py` records every op of the gradient as
it goes. Both call the same `dialects/autodiff.vjp`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from functools import partial, wraps
from typing import Any, Self

from flambeau import anomaly, expansions, inline, tensor_hooks
from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import Unsampled, attribute, declare, declared
from flambeau.dialects.dtypes import DType
from flambeau.dialects.tape.common import ops
from flambeau.engine import GRAD_MODE
from flambeau.function import Static, Tensor_, Tensors, function, view
from flambeau.inline import aval_of
from flambeau.placing import apart
from flambeau.promotion import result_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.samples import unary

# ---- grad mode ------------------------------------------------------------------------------------------------


class set_grad_enabled(recorder.GradScope):
    """Turn gradient recording on or off: at once when called, until the end of the block when used as a context
    manager, or inside a function when used as a decorator."""

    def __new__(cls, mode: bool) -> Self:
        return super().__new__(cls, mode)  # in no local: that would live on in the traceback of an interrupt

    def __call__(self, fn: Callable) -> Callable:
        self.undo()
        return _decorated("set_grad_enabled", fn, partial(set_grad_enabled, bool(self._bits)))


class _GradMode(recorder.ModeScope):
    """A grad mode that takes effect on entering."""

    enabled = False

    def __new__(cls, fn: Callable | None = None) -> Any:
        made = super().__new__(cls, GRAD_MODE, GRAD_MODE if cls.enabled else 0)
        return made if fn is None else made(fn)

    def __call__(self, fn: Callable) -> Callable:
        return _decorated(type(self).__name__, fn, type(self))


class no_grad(_GradMode):
    """No gradient history inside: `with no_grad():`, `@no_grad()` or `@no_grad`."""


class enable_grad(_GradMode):
    """Gradient history inside, also within `no_grad`."""

    enabled = True


class inference_mode(_GradMode):
    """As `no_grad`."""


def _decorated(name: str, fn: Callable, manager: Callable) -> Callable:
    """`fn` in the mode. A generator is in it while it runs, not while it waits."""
    from inspect import isgeneratorfunction

    if not callable(fn):
        raise TypeError(
            f"[{name}] what is decorated must be a function, got {type(fn).__name__}. Pass one, or nothing."
        )

    @wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with manager():
            return fn(*args, **kwargs)

    @wraps(fn)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with manager():
            inside = fn(*args, **kwargs)
        resume: Callable[[], Any] = partial(next, inside)
        while True:
            try:
                with manager():
                    value = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = partial(inside.send, (yield value))
            except GeneratorExit:
                with manager():
                    inside.close()
                raise
            except BaseException as error:
                resume = partial(inside.throw, error)

    return generator if isgeneratorfunction(fn) else inner


@declared(free="flambeau", samples=Unsampled("tells the mode of the thread"))
def is_grad_enabled() -> bool:
    """Whether new operations get gradient history."""
    return bool(recorder.get_mode() & GRAD_MODE)


# ---- backward and grad ----------------------------------------------------------------------------------------


def _backward(
    tensor: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of this tensor to the `.grad` of the leaves it was computed from (of `inputs` only, if given).

    `gradient` is the cotangent, of the tensor's shape and dtype; it may be left out for a scalar. The graph can be gone
    through again only with `retain_graph`; `create_graph` makes the gradients differentiable and retains it too.
    Raises RuntimeError without history, for a freed graph, and for a value that was needed but modified in place.
    """
    _run_backward([tensor], [gradient], retain_graph, create_graph, inputs)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Tensor | Sequence[Tensor | None] | None = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of one or several tensors, weighted by `grad_tensors`, to the `.grad` of the leaves they were computed
    from (of `inputs` only, if given), in one go through the graph.

    Arguments as for `Tensor.backward`; `grad_variables` is an old name of `grad_tensors`. Raises RuntimeError as that does,
    and for a different number of tensors and gradients.
    """
    outs = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grad_tensors is not None and grad_variables is not None:
        raise RuntimeError("[backward] grad_tensors and grad_variables are names of one argument. Give grad_tensors.")
    weights = grad_variables if grad_tensors is None else grad_tensors
    given: list[Tensor | None] = (
        [None] * len(outs) if weights is None else [weights] if isinstance(weights, Tensor) else []
    )
    given = given or list(weights or ())
    if len(given) != len(outs):
        raise RuntimeError(f"[backward] there are {len(outs)} tensors and {len(given)} gradients. Give one for each.")
    for t in (*outs, *(g for g in given if g is not None)):
        if not isinstance(t, Tensor):
            raise TypeError(f"[backward] an item is a {type(t).__name__}. Pass tensors.")
    if outs:
        _run_backward(outs, given, retain_graph, create_graph, inputs)


def _run_backward(
    outs: list[Tensor], given: list[Tensor | None], retain_graph: bool | None, create_graph: bool, inputs: Any
) -> None:
    wanted = [inputs] if isinstance(inputs, Tensor) else inputs
    retain = create_graph if retain_graph is None else bool(retain_graph)
    if (
        create_graph
        or tensor_hooks.hooked()
        or anomaly.is_on()
        or (wanted is not None and not all(t.is_leaf for t in wanted))
    ):
        inline.backward(outs, given, wanted, create_graph, retain)
    elif len(outs) == 1:
        recorder.backward(outs[0], given[0], retain, wanted)
    else:
        recorder.backward(_joined(outs, given), None, retain, wanted)


def _joined(outs: list[Tensor], given: list[Tensor | None]) -> Tensor:
    """A scalar whose gradients are those of the tensors, each weighted by what was given for it."""
    for t, g in zip(outs, given, strict=True):
        if not t.requires_grad:
            raise RuntimeError(
                f"[backward] a tensor of shape {t.shape} does not require grad and has no gradient history. "
                "Compute it from tensors that require grad, while gradients are enabled."
            )
        expansions.check_seed("backward", aval_of(t), None if g is None else aval_of(g))
    weights = tuple(i for i, g in enumerate(given) if g is not None)
    with enable_grad():
        return _weighted(outs, [g.detach() for g in given if g is not None], weights)


@function(name="backward")
def _weighted(tensors: Tensors, weights: Tensors, places: Static):
    """The sum of all elements, those of tensor `places[i]` times `weights[i]`. Nobody looks at it: 1 * g is g."""
    weight = dict(zip(places, weights))
    terms = [t * weight[i] if i in weight else t for i, t in enumerate(tensors)]
    totals = [ops.sum(t, axes=tuple(range(len(t.shape)))) if t.shape else t for t in terms]
    dtype = result_dtype(totals)
    total, *rest = [t.cast(dtype) for t in totals]
    for t in rest:
        total = total + t
    return total


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs`, weighted by `grad_outputs`, with respect to `inputs`, as new tensors.

    Arguments as for `Tensor.backward`. With `is_grads_batched` the weights have one more dimension in front, a batch of as many
    weights, and so have the gradients: they are recorded once, with no loop, and the graph is kept. `only_inputs` changes nothing.

    Raises RuntimeError for an input that does not matter, unless `allow_unused`, which gives None for it, or `materialize_grads`,
    which gives zeros in its shape; ValueError for these two against each other.
    """
    outs, ins = ([x] if isinstance(x, Tensor) else list(x) for x in (outputs, inputs))
    given = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    given = given * len(outs) if given == [None] else given
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "[grad] materialize_grads gives zeros for unused inputs, and allow_unused is False. Leave it out."
        )
    for t in ins:
        if not t.requires_grad:
            raise RuntimeError("[grad] an input does not require grad. Call requires_grad_() before using it.")
    if is_grads_batched:
        found = _batched(outs, ins, given, create_graph)
    else:
        found = _single(outs, ins, given, create_graph, create_graph if retain_graph is None else bool(retain_graph))
    if materialize_grads:
        return tuple([create.zeros_like(x) if g is None else g for g, x in zip(found, ins, strict=True)])
    if not allow_unused and any(g is None for g in found):
        raise RuntimeError(
            f"[grad] input {[g is None for g in found].index(True)} was not used to compute the outputs. "
            "Pass allow_unused=True to get None for it."
        )
    return tuple(found)


def _single(
    outs: list[Tensor], ins: list[Tensor], given: list[Tensor | None], create_graph: bool, retain: bool
) -> Sequence[Tensor | None]:
    views = any(recorder.view_info(t)[0] is not None for t in ins)  # these are no values of a trace
    if create_graph or views or tensor_hooks.hooked() or anomaly.is_on():
        return inline.gradients("grad", outs, given, ins, create_graph, retain)
    return recorder.grad_entry(outs, ins, given, flags=int(retain))


def _batched(
    outs: list[Tensor], ins: list[Tensor], given: list[Tensor | None], create_graph: bool
) -> Sequence[Tensor | None]:
    """The gradients for each of a batch of weights."""
    weights = [g for g in given if g is not None and g.ndim]
    if len(weights) < len(outs) or len({g.shape[0] for g in weights}) > 1:
        raise RuntimeError("[grad] with is_grads_batched every output has weights, as many of each. Pass grad_outputs.")
    n = weights[0].shape[0]
    if not tensor_hooks.hooked():
        return along_history.gradients_of_batch("grad", outs, weights, ins, n, create_graph)
    rows = [_single(outs, ins, [g[k] for g in weights], create_graph, True) for k in range(n)]  # a hook sees one
    columns = zip(*rows, strict=True)
    return [None if parts[0] is None else assemble.stack(list(parts)) for parts in columns]


# ---- detaching ------------------------------------------------------------------------------------------------


@view(free="flambeau", method=True, detach=True, samples=unary())
def detach(input: Tensor_):
    """The same storage without gradient history: writes to either are seen by both."""
    return input


@view(detach=True, aside=True, name="data")
def _data(input: Tensor_):
    return input


def detach_(tensor: Tensor) -> Tensor:
    """Cut this tensor from its gradient history: it becomes a leaf that does not require grad."""
    if tensor.is_leaf:
        return recorder.set_requires_grad(tensor, False)
    recorder.set_cell(tensor, detach(tensor))
    return tensor


def _set_data(tensor: Tensor, value: Tensor) -> None:
    """`tensor.data = value`: a leaf shares the storage of `value` from now on; a result keeps its history and gets a
    copy of the elements. Raises RuntimeError for a result of another shape or dtype."""
    if tensor.is_leaf:
        recorder.set_cell(tensor, detach(value))
        return
    if tensor._place != value._place:
        raise apart("data", (tensor._place, value._place))
    if (tensor.shape, tensor.dtype) != (value.shape, value.dtype):
        raise RuntimeError(
            f"[data] {value.dtype.name} of shape {value.shape} is assigned to a result that is {tensor.dtype.name} of "
            f"shape {tensor.shape} and has gradient history. Detach the tensor first."
        )
    with no_grad():
        new = detach(value).clone()
    with enable_grad():
        recorder.set_cell(tensor, inline.same(tensor))
    with no_grad():
        detach(tensor).copy_(new)


# ---- tensor methods -------------------------------------------------------------------------------------------


def requires_grad_(tensor: Tensor, requires_grad: bool = True) -> Tensor:
    """Make a leaf tensor require grad, or not. A view gets elements of its own, with a warning where what it was a view of is held
    elsewhere. Raises RuntimeError for integer dtypes and for tensors with history."""
    if requires_grad:
        prepare_leaf(tensor, "requires_grad_")
    found = recorder.set_requires_grad(tensor, bool(requires_grad))
    if found.requires_grad > requires_grad:  # it shares elements that have a history, from which it was detached
        recorder.set_cell(tensor, detach(tensor))
    return found


def prepare_leaf(tensor: Tensor, op: str) -> None:
    """What `op` does before `tensor` becomes a leaf that requires grad: refuses dtypes that have no gradients, and gives a view
    elements of its own, as a leaf has. Where somebody holds what the view shows, who would see writes in PyTorch: warns, and
    refuses writes to the leaf."""
    dtype: DType = tensor.dtype
    if not dtype.is_inexact:
        raise RuntimeError(
            f"[{op}] only floating-point tensors can require grad, this one is {dtype.name}. Cast it first."
        )
    if tensor.requires_grad or not recorder.is_part(tensor):
        return
    is_lone = recorder.is_lone_view(tensor)
    if not is_lone:
        text = f"[{op}] a leaf has elements of its own: this view's are copied, and what it is of is no longer seen."
        warnings.warn(f"{text} Clone it first.", stacklevel=3)
    with no_grad():
        recorder.set_cell(tensor, tensor.clone())
    if not is_lone:
        recorder.set_apart(tensor)


def _set_requires_grad(tensor: Tensor, value: bool) -> None:
    requires_grad_(tensor, value)


_requires_grad = Tensor.__dict__["requires_grad"]
Tensor.requires_grad = property(  # type: ignore[assignment]
    _requires_grad.__get__, _set_requires_grad, doc=_requires_grad.__doc__
)
Tensor.data = property(_data, _set_data, doc="The storage without gradient history; assignable.")  # type: ignore


_GRADIENTS = Unsampled("changes the gradient history of tensors that are there: see the tests of gradients")
declare(requires_grad_, "requires_grad_", method=True, samples=_GRADIENTS)
declare(detach_, "detach_", method=True, samples=_GRADIENTS)
declare(_backward, "backward", method=True, samples=_GRADIENTS)
declare(tensor_hooks.register_hook, "register_hook", method=True, samples=_GRADIENTS)
declare(tensor_hooks.retain_grad, "retain_grad", method=True, samples=_GRADIENTS)
attribute("retains_grad")(lambda self: "_retained" in self.__dict__)
declare(
    tensor_hooks.register_post_accumulate_grad_hook,
    "register_post_accumulate_grad_hook",
    method=True,
    samples=_GRADIENTS,
)

from flambeau import along_history  # noqa: E402, I001
from flambeau.functions import assemble, create  # noqa: E402
from flambeau.autograd import functional  # noqa: E402
from flambeau.anomaly import detect_anomaly, set_detect_anomaly  # noqa: E402
from flambeau.autograd import forward_ad, graph  # noqa: E402
from flambeau.autograd.custom import custom_vjp  # noqa: E402
from flambeau.autograd.function import Function  # noqa: E402
from flambeau.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck  # noqa: E402
from flambeau.autograd.variable import Variable  # noqa: E402, F401

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "custom_vjp",
    "detect_anomaly",
    "enable_grad",
    "forward_ad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

_border.publish(globals(), ["backward", "grad", "gradcheck", "gradgradcheck", "is_grad_enabled"])
__getattr__ = _missing.module_getattr("flambeau.autograd")
