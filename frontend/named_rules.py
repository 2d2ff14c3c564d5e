"""What functions do with names of dimensions: one rule per kind of function, chosen by what functions declare.

In: a call with named tensors. Out: its results, with names. Functions with a `dim` and a `keepdim` are reductions; those
of one elementwise record are elementwise; the others are listed by what they do, and any that is not here refuses names. Next:
`dim_names.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flambeau import named_layers
from flambeau.dialects.dtypes import bool_
from flambeau.dialects.record import REGISTRY
from flambeau.dim_names import Names, checked, position, resolved, unified, unique
from flambeau.named_calls import NamedCall, each, refusal, signature_of
from flambeau.named_tensor import names_of, plain, set_names, with_names
from flambeau.runtime.recorder import Tensor

# ---- rules ------------------------------------------------------------------------------------------------------


def _joint(call: NamedCall) -> Names:
    names: Names = ()
    for x in call.operands:
        names = unified(call.op, names, names_of(x))
    return names


def _elementwise(call: NamedCall) -> Any:
    """Operands broadcast, and their names with them."""
    names = _joint(call)
    return each(call.run(), lambda x: names)


def _stored(call: NamedCall) -> Any:
    """The first operand is written: it has the names of all."""
    target, names = call.operands[0], _joint(call)
    call.run()
    set_names(target, names)
    return target


def _reduction(call: NamedCall) -> Any:
    """The dims that are folded go, unless they are kept."""
    names, dim = call.names, call.dim()
    if isinstance(dim, Tensor):  # of two tensors: max(x, y)
        return _elementwise(call)
    gone = (
        range(len(names))
        if dim is None or isinstance(dim, bool) or dim == ()
        else dim
        if isinstance(dim, tuple | list)
        else (dim,)
    )
    at = {d % max(len(names), 1) for d in gone}
    left = tuple(n for d, n in enumerate(names) if d not in at)
    return each(
        call.run(), lambda x: names if x.ndim == len(names) else left if x.ndim == len(left) else (None,) * x.ndim
    )


def _kept(call: NamedCall) -> Any:
    """The result has the dimensions of the first operand, of maybe other sizes."""
    names = call.names
    return each(call.run(), lambda x: names)


def _looked_at(call: NamedCall) -> Any:
    """Names mean nothing to the function."""
    return call.run()


def _of_itself(call: NamedCall) -> Any:
    """The tensor's own state, which another handle does not have: it is plain meanwhile."""
    target, names = call.operands[0], call.names
    set_names(target, (None,) * len(names))
    try:
        return call.run()
    finally:
        set_names(target, names)


def _without_dim(call: NamedCall) -> Any:
    at = call.dim() % max(len(call.names), 1)
    left = call.names[:at] + call.names[at + 1 :]
    return each(call.run(), lambda x: left)


def _squeeze(call: NamedCall) -> Any:
    dim, shape = call.dim(), call.operands[0].shape
    if isinstance(dim, tuple) and len(dim) == 1 and isinstance(dim[0], tuple | list):
        dim = resolved(call.op, dim[0], call.names)
    dims = range(len(shape)) if dim in (None, (None,)) else dim if isinstance(dim, tuple | list) else (dim,)
    at = {d % max(len(shape), 1) for d in dims}
    left = tuple(n for d, n in enumerate(call.names) if d not in at or shape[d] != 1)
    return each(call.run(), lambda x: left)


def _unsqueeze(call: NamedCall) -> Any:
    at = call.dim() % (len(call.names) + 1)
    return each(call.run(), lambda x: (*call.names[:at], None, *call.names[at:]))


def _transpose(call: NamedCall) -> Any:
    names, result = list(call.names), call.run()
    a, b = call.dim("dim0"), call.dim("dim1")
    if b is None:
        return with_names(result, tuple(names[d] for d in a))
    if names:
        names[a], names[b] = names[b], names[a]
    return with_names(result, tuple(names))


def _permute(call: NamedCall) -> Any:
    dims = call.dim("dims")
    dims = resolved(call.op, dims[0], call.names) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return with_names(call.run(), tuple(call.names[d] for d in dims))


def _reverse(call: NamedCall) -> Any:
    return with_names(call.run(), call.names[::-1])


def _swap_last(call: NamedCall) -> Any:
    return with_names(call.run(), (*call.names[:-2], *call.names[:-3:-1]))


def _expand(call: NamedCall) -> Any:
    result = call.run()
    return with_names(result, (None,) * (result.ndim - len(call.names)) + call.names)


def _cat(call: NamedCall) -> Any:
    tensors = call.operands
    call.names = names = _joint(call)
    if any(x.ndim != len(names) for x in tensors):
        names = (None,) * len(names)
    return each(call.run(), lambda x: names)


def product_names(op: str, x: Names, y: Names) -> Names:
    """The names of a matrix product: those that are summed over go, whatever they are."""
    rows, columns = x[:-1][-1:], y[-1:] if len(y) > 1 else ()
    return unique(op, (*unified(op, x[:-2], y[:-2]), *rows, *columns))


def _product(call: NamedCall) -> Any:
    names = product_names(call.op, *map(names_of, call.operands))
    return with_names(call.run(), names)


def _added_product(call: NamedCall) -> Any:
    added, x, y = map(names_of, call.operands)
    return with_names(call.run(), unified(call.op, product_names(call.op, x, y), added))


# ---- the forms that only named tensors have ---------------------------------------------------------------------


def _flatten(call: NamedCall) -> Any:
    """`flatten(dims, out_dim)`, `flatten(start_dim, end_dim, out_dim)`: neighbours merged into one dimension with a name."""
    x, rest = call.args[0], (*call.args[1:], *call.kwargs.values())
    rank = len(call.names)
    if not rest or not isinstance(rest[-1], str) or len(rest) == 1:
        dims = [resolved("flatten", d, call.names) for d in rest] or [0]
        start, end = dims[0] % rank, (dims[1] if len(dims) > 1 else -1) % rank
        if any(call.names[start : end + 1]) and start != end:
            raise refusal("flatten")
        merged: str | None = call.names[start]
    else:
        *ends, merged = rest
        dims = list(ends[0]) if isinstance(ends[0], tuple | list) else ends
        at = [d % rank if isinstance(d, int) else position("flatten", d, call.names) for d in dims]
        start, end = at[0], at[-1]
        if isinstance(ends[0], tuple | list) and at != list(range(start, end + 1)):
            raise RuntimeError(
                f"[flatten] {tuple(dims)} are no neighbours, in order, in {call.names}. Use x.align_to(...)."
            )
    names = (*call.names[:start], merged, *call.names[end + 1 :])
    return with_names(plain(x).flatten(start, end), checked("flatten", names, len(names)))


def _unflatten(call: NamedCall) -> Any:
    """`unflatten(dim, ((name, size), ...))`: one dimension split into several with names."""
    at, given = call.dim(), call.given["sizes"]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
        raise RuntimeError(f"[unflatten] {given!r} has no names. Give pairs: x.unflatten('C', [('A', 2), ('B', 3)]).")
    at = at % len(call.names)
    names = (*call.names[:at], *(name for name, _ in given), *call.names[at + 1 :])
    result = plain(call.operands[0]).unflatten(at, tuple(size for _, size in given))
    return with_names(result, checked("unflatten", names, result.ndim))


def indexed(index: Any, names: Names) -> Names:
    """The names of `x[index]`: ints take a dimension away, slices keep it, None gives one without a name. So do positions and
    masks, and what they give stands in front where they are not neighbours."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(part, bool) for part in parts):
        raise RuntimeError("[getitem] bools do not index named dimensions. Call x.rename(None) first.")
    used = sum(_taken(part) for part in parts)
    at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    parts[at : at + 1] = [slice(None)] * (len(names) - used)
    left = iter(names)
    found: list[str | None] = []
    picked: list[int] = []  # where in what is found, and of what rank, positions stand
    rank, neighbours = 0, True
    for part in parts:
        dropped = [next(left, None) for _ in range(_taken(part))]
        if isinstance(part, Tensor | list):
            neighbours = neighbours and (not picked or picked[0] == len(found))
            picked.append(len(found))
            rank = max(rank, _picks(part))
        elif part is None or isinstance(part, slice):
            found += dropped or [None]
    if picked:
        start = picked[0] if neighbours else 0
        found[start:start] = [None] * rank
    return tuple(found)


def _taken(part: Any) -> int:
    """How many dimensions a part of an index is for."""
    if part is None or part is ...:
        return 0
    return part.ndim if isinstance(part, Tensor) and part.dtype is bool_ else 1


def _picks(part: Any) -> int:
    """How many dimensions positions or a mask give."""
    if isinstance(part, Tensor):
        return 1 if part.dtype is bool_ else part.ndim
    return 1 + max((_picks(x) for x in part if isinstance(x, list)), default=0)


# ---- which function has which -----------------------------------------------------------------------------------

_LISTED: dict[Callable[[NamedCall], Any], str] = {
    _elementwise: """rsub floor_divide positive sgn square reciprocal float_power ldexp bitwise_and bitwise_or bitwise_xor
        bitwise_not bitwise_left_shift bitwise_right_shift logical_and logical_or logical_xor logical_not isnan isinf isposinf
        isneginf isreal signbit isfinite isclose fmax fmin nan_to_num clamp_min clamp_max clamp clip where masked_fill lerp addcmul
        addcdiv fill relu leaky_relu gelu silu elu selu softplus logsigmoid mish hardtanh relu6 hardsigmoid hardswish
        prelu threshold celu softsign tanhshrink softshrink hardshrink
        lcm heaviside frac deg2rad rad2deg sinc xlogy xlog1py erf frexp""",
    _stored: "zero_ fill_ copy_ clamp_ pow_ uniform_ normal_ bernoulli_ exponential_ geometric_ cauchy_ log_normal_ random_",
    _kept: """clone contiguous detach to type type_as bool byte char short int long half bfloat16 float double cfloat cdouble cpu
        cuda alias_copy detach_copy zeros_like ones_like full_like empty_like rand_like randn_like randint_like dropout bernoulli
        softmax log_softmax softmin cumsum cumprod cummax cummin logcumsumexp sort argsort topk flip roll normalize renorm narrow
        tril triu gather take_along_dim scatter scatter_add scatter_reduce index_add index_copy index_reduce masked_scatter
        split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk index_select index_fill diff real imag conj
        conj_physical resolve_conj resolve_neg expand_as pin_memory""",
    _reduction: "count_nonzero",
    _looked_at: """item tolist numpy __array__ tobytes numel nelement dim size stride dim_order is_contiguous element_size
        is_floating_point is_complex is_signed is_tensor data_ptr storage_offset untyped_storage get_device is_set_to is_pinned
        equal allclose __complex__ __format__ __contains__ is_nonzero is_conj is_neg backward grad masked_select new_zeros new_ones
        new_empty new_full new_tensor result_type""",
    _of_itself: "requires_grad_ retain_grad register_hook register_post_accumulate_grad_hook",
    _without_dim: "select unbind",
    _squeeze: "squeeze",
    _unsqueeze: "unsqueeze",
    _transpose: "transpose swapaxes",
    _permute: "permute",
    _reverse: "t T",
    _swap_last: "mT",
    _expand: "expand broadcast_to repeat tile",
    _cat: "cat",
    _product: "matmul mm mv dot bmm",
    _added_product: "addmm addmv baddbmm",
    _flatten: "flatten",
    _unflatten: "unflatten",
    **named_layers.LISTED,
}
_BY_NAME = {name: rule for rule, names in _LISTED.items() for name in names.split()}
#: What concerns names alone knows them.
_OWN = frozenset(["has_names", "refine_names", "rename", "rename_", "align_to", "align_as", "names"])
#: Reductions that add dimensions, or whose own rule is another.
_NONE = frozenset(["quantile", "nanquantile", "matrix_norm", "pairwise_distance"])


@cache
def _rule(op: str, function: Any) -> Callable[[NamedCall], Any] | None:
    if op in _NONE or op in _BY_NAME:
        return _BY_NAME.get(op)
    if op in REGISTRY and REGISTRY[op].family.is_pointwise:
        return _elementwise
    if {"dim", "keepdim"} <= signature_of(function).parameters.keys():
        return _reduction
    is_stored = op.endswith("_") and not op.endswith("__")
    return _stored if is_stored and _rule(op[:-1], function) is _elementwise else None


def apply(function: Any, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call with named tensors gives. Raises RuntimeError for names that do not fit, and for functions without a rule."""
    if op in _OWN:
        return function.__wrapped__(*args, **kwargs)
    rule = _rule(op, function)
    if rule is None or kwargs.get("out") is not None:
        raise refusal(op)
    return rule(NamedCall(op, function, args, kwargs))
