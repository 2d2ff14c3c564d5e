"""What layers, and functions that change how a tensor is laid out, do with names of dimensions.

In: a `NamedCall`. Out: its result, with names. A dimension that a function makes anew (features of a layer, what is reshaped or
stacked) has the name that its weight or its argument gives, else none; all others keep theirs. Next: `named_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.dim_names import Names, checked, unified, unique
from flambeau.named_calls import NamedCall, each
from flambeau.named_tensor import names_of, with_names


def _reshaped(call: NamedCall) -> Any:
    """Dimensions that the shapes have in common at both ends keep their names."""
    old, result = call.operands[0].shape, call.run()
    new = result.shape
    least = min(len(old), len(new))
    front = next((k for k in range(least) if old[k] != new[k]), least)
    back = next((k for k in range(least - front) if old[-1 - k] != new[-1 - k]), least - front)
    last = call.names[len(old) - back :] if back else ()
    return with_names(result, (*call.names[:front], *(None,) * (len(new) - front - back), *last))


def _stack(call: NamedCall) -> Any:
    """The names of all, and a dimension without one."""
    names: Names = ()
    for x in call.operands:
        names = unified(call.op, names, names_of(x))
    at = call.dim() % (len(names) + 1)
    return with_names(call.run(), (*names[:at], None, *names[at:]))


def _diagonal(call: NamedCall) -> Any:
    """The two dimensions go; the diagonal is the last, and its name is `outdim`."""
    outdim = call.kwargs.pop("outdim", None)
    gone = {call.dim(d) % len(call.names) for d in ("dim1", "dim2")}
    left = [n for d, n in enumerate(call.names) if d not in gone]
    return with_names(call.run(), checked(call.op, (*left, outdim), len(left) + 1))


def _moved(call: NamedCall) -> Any:
    rank, names = len(call.names), call.names
    source, target = ([d] if isinstance(d, int) else list(d) for d in (call.given["source"], call.given["destination"]))
    places = {t % rank: names[s % rank] for s, t in zip(source, target, strict=True)}
    rest = iter([n for d, n in enumerate(names) if d not in {s % rank for s in source}])
    return with_names(call.run(), tuple(places[d] if d in places else next(rest) for d in range(rank)))


def _linear(call: NamedCall) -> Any:
    """The features are those of the weight's rows."""
    weight = names_of(call.given["weight"])
    return with_names(call.run(), unique(call.op, (*call.names[:-1], *weight[:-1])))


def _convolution(call: NamedCall) -> Any:
    """Samples and places keep their names, channels are those of the weight: its rows, or the columns where it is transposed."""
    weight = names_of(call.given["weight"])
    at = len(call.names) - (len(weight) - 1)
    channel = weight["transpose" in call.op]
    return with_names(call.run(), unique(call.op, (*call.names[:at], channel, *call.names[at + 1 :])))


def _embedding(call: NamedCall) -> Any:
    weight = names_of(call.given["weight"])
    return with_names(call.run(), unique(call.op, (*names_of(call.given["input"]), weight[-1])))


def _same_rank(call: NamedCall) -> Any:
    """Dimensions that the function looks through by their places, of maybe other sizes."""
    names = call.names
    return each(call.run(), lambda x: names if x.ndim == len(names) else (None,) * x.ndim)


def _loss(call: NamedCall) -> Any:
    """One number has no names; losses one by one have those of the target, where they lie as it does."""
    target = call.operands[1]
    names = names_of(target)
    if target.ndim == len(call.names):
        names = unified(call.op, call.names, names)
    return each(call.run(), lambda x: names if x.ndim == len(names) else (None,) * x.ndim)


#: Which function has which.
LISTED: dict[Callable[[NamedCall], Any], str] = {
    _reshaped: "reshape view view_as reshape_as",
    _stack: "stack",
    _diagonal: "diagonal",
    _moved: "movedim",
    _linear: "linear",
    _convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    _embedding: "embedding",
    _same_rank: """batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm max_pool1d max_pool2d max_pool3d
        avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d pad interpolate glu dropout1d dropout2d dropout3d alpha_dropout
        feature_alpha_dropout""",
    _loss: """mse_loss l1_loss smooth_l1_loss huber_loss nll_loss cross_entropy binary_cross_entropy
        binary_cross_entropy_with_logits kl_div""",
}
