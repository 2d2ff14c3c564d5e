"""Reverse mode as users see it: `backward`, `grad`.

In: tensors with history. Out: gradients. Without hooks or `create_graph` a backward is one recorded entry whose
expansion comes from `expansions.expand_backward`, on a miss only; with them `inline.py` records every op of the gradient as
it goes. Both call the same `dialects/autodiff.vjp`. Next: `leaves.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau import along_history, anomaly, expansions, inline, tensor_hooks
from flambeau.autograd.grad_mode import enable_grad
from flambeau.autograd.graph import listed
from flambeau.dialects.tape.common import ops
from flambeau.function import Static, Tensors, function
from flambeau.functions import assemble, create
from flambeau.functions.convert import cast
from flambeau.inline import aval_of
from flambeau.promotion import result_dtype
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


def backward_of(
    tensor: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of this tensor to the `.grad` of the leaves it was computed from (of `inputs` only, if given).

    `gradient` is the cotangent, of the tensor's shape and converted to its dtype; it may be left out for a scalar. The graph can be
    gone through again only with `retain_graph`; `create_graph` makes the gradients differentiable and retains it too. Results
    among `inputs` retain their gradients from then on, as after `retain_grad()`.
    Raises RuntimeError without history, for a freed graph, for a value that was needed but modified in place, and for `inputs`
    that are empty or do not require grad.
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


def fitted(weight: Tensor, tensor: Tensor) -> Tensor:
    """What weighs a tensor, in its dtype: real numbers are converted."""
    if weight.dtype is tensor.dtype or weight.dtype.is_complex or tensor.dtype.is_complex:
        return weight
    return cast(weight, tensor.dtype)


def _fitted(outs: list[Tensor], given: list[Tensor | None]) -> list[Tensor | None]:
    """Weights in the dtypes of what they weigh; what is no tensor is left to what refuses it."""
    return [fitted(g, t) if isinstance(g, Tensor) else g for t, g in zip(outs, given)]


def _run_backward(
    outs: list[Tensor], given: list[Tensor | None], retain_graph: bool | None, create_graph: bool, inputs: Any
) -> None:
    if len(given) != 1 or given[0] is not None:  # of a loss nobody asks
        given = _fitted(outs, given)
    wanted = None if inputs is None else _accumulating(inputs)
    retain = create_graph if retain_graph is None else bool(retain_graph)
    if (
        create_graph
        or anomaly.is_on()
        or (wanted is not None and not all(t.is_leaf for t in wanted))
        or tensor_hooks.meets(outs)
    ):
        inline.backward(outs, given, wanted, create_graph, retain)
    elif len(outs) == 1:
        recorder.backward(outs[0], given[0], retain, wanted)
    else:
        recorder.backward(_joined(outs, given), None, retain, wanted)


def _accumulating(inputs: Any) -> list[Tensor]:
    """The tensors whose `.grad` a backward adds to, all of them able to: results among them retain theirs from now on. Raises
    RuntimeError for none, and for what has no gradient."""
    wanted = listed(inputs)
    if not wanted:
        raise RuntimeError("[backward] inputs is empty. Name the tensors to get gradients, or leave it out for all.")
    for t in wanted:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"[backward] an item of inputs is a {type(t).__name__}. Pass tensors.")
        if not t.requires_grad:
            raise RuntimeError(
                f"[backward] an input of shape {tuple(t.shape)} does not require grad. Call requires_grad_() before using it."
            )
    for t in wanted:
        tensor_hooks.retain_grad(t)
    return wanted


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
    outs, ins = listed(outputs), listed(inputs)
    if not ins:
        raise RuntimeError("[grad] inputs is empty. Name the tensors to differentiate with respect to.")
    given = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    given = given * len(outs) if given == [None] else _fitted(outs, given) + given[len(outs) :]
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
    if create_graph or views or anomaly.is_on() or tensor_hooks.meets(outs):
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
    if not tensor_hooks.meets(outs):
        return along_history.gradients_of_batch("grad", outs, weights, ins, n, create_graph)
    rows = [_single(outs, ins, [g[k] for g in weights], create_graph, True) for k in range(n)]  # a hook sees one
    columns = zip(*rows, strict=True)
    return [None if parts[0] is None else assemble.stack(list(parts)) for parts in columns]
