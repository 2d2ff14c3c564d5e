"""Attention: scaled_dot_product_attention, multi_head_attention_forward. Vaswani and others, "Attention is all you need" (2017).

In: queries, keys and values, and masks of what may be looked at. Out: weighted sums of the values. The products and the softmax
are those of everywhere else, to the bit. Next: `nn/attention.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flambeau import generator as generators
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, int64
from flambeau.dialects.size import Int
from flambeau.function import Operand, Optional_, Static, Stream_, Tensor_, builder, function
from flambeau.functions.assemble import cat, pad
from flambeau.functions.choose import where
from flambeau.functions.common import broadcast_shapes, check_floating, moved, ops, part
from flambeau.functions.create import zeros
from flambeau.functions.dropout import changes_nothing, dropout, dropped
from flambeau.functions.linear import linear, matmul, product
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data, truth

_OP = "scaled_dot_product_attention"
#: Queries of a part of causal attention: of up to _FEW, of more, which are twice as many while there are more than _PARTS parts.
_FEW, _SHORT, _LONG, _PARTS = 512, 128, 256, 8


# ---- one head ---------------------------------------------------------------------------------------------------


def _check(q: Value, k: Value, v: Value) -> None:
    for what, x in (("query", q), ("key", k), ("value", v)):
        check_floating(_OP, x, what)
        if x.dtype is not q.dtype:
            raise RuntimeError(f"[{_OP}] query is {q.dtype}, {what} {x.dtype}. Convert them to one dtype with .to().")
        if len(x.shape) < 2:
            raise RuntimeError(f"[{_OP}] {what} has shape {x.shape}. Pass [..., length, features].")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(
            f"[{_OP}] query {q.shape}, key {k.shape} and value {v.shape} do not fit. "
            "Queries and keys need as many features, keys and values the same length."
        )


def _repeated(x: Value, heads: int) -> Value:
    """[..., fewer heads, S, E] with each head as often as needed for `heads`."""
    *batch, own, s, e = x.shape
    if own == 0 or heads % own:
        raise RuntimeError(f"[{_OP}] {heads} heads of queries do not share {own} heads of keys. Use a multiple.")
    wide = ops.reshape(x, shape=(*batch, own, 1, s, e)).expand((*batch, own, heads // own, s, e))
    return ops.reshape(wide, shape=(*batch, heads, s, e))


def _softmax(x: Value, may_be_empty: bool) -> Value:
    """Softmax along the last dimension; rows of nothing but -inf, which masks make, give zeros."""
    if 0 in x.shape:
        return x
    axis, kept = len(x.shape) - 1, (*x.shape[:-1], 1)
    top = ops.stop_gradient(ops.max(x, axes=(axis,)))
    if may_be_empty:
        top = ops.select(top.eq(-math.inf), top.like(0), top)
    grown = ops.exp(x - ops.reshape(top, shape=kept).expand(x.shape))
    total = ops.sum(grown, axes=(axis,))
    if may_be_empty:
        total = ops.select(total.eq(0), total.like(1), total)
    return grown / ops.reshape(total, shape=kept).expand(x.shape)


def _weights(q: Value, k: Value, mask: Value | None, scale: Value, first: Int | None = None) -> Value:
    """Softmax of the scores. With `first`, of causal ones: row i of `q` is query `first` + i, which looks at keys up to it."""
    rank = len(k.shape)
    scores = product(q * scale.cast(q.dtype).expand(q.shape), ops.permute(k, perm=moved(rank, rank - 1, rank - 2)))
    nothing = scores.builder.constant(-math.inf, scores.dtype)
    if first is not None:
        *batch, rows, columns = scores.shape
        axis, places = len(batch), {"dtype": int64, "builder": scores.builder}
        row = part(ops.iota(shape=(*batch, first + rows, columns), dim=axis, **places), axis, first, rows)
        column = ops.iota(shape=scores.shape, dim=axis + 1, **places)
        scores = ops.select(column <= row, scores, nothing.expand(scores.shape))
    if mask is not None:
        shape = broadcast_shapes(_OP, scores.shape, mask.shape)
        scores, mask = scores.expand(shape), mask.expand(shape)
        scores = (
            ops.select(mask, scores, nothing.expand(shape)) if mask.dtype is bool_ else scores + mask.cast(scores.dtype)
        )
    return _softmax(scores, mask is not None or first is not None)


def _parts(queries: Int, keys: Int) -> list[tuple[Int, Int, Int]]:
    """What causal attention is made of: (first query, how many, how many keys these look at). A row's sums end with its part; how
    long parts are is a meaning (docs/architecture.md, "One semantics"), never a matter of speed."""
    size = _SHORT if queries <= _FEW else _LONG
    while queries > size * _PARTS:
        size *= 2
    found: list[tuple[Int, Int, Int]] = []
    first = 0
    while queries - first >= size + size // 2:
        found.append((first, size, min(keys, first + size)))
        first += size
    return [*found, (first, queries - first, min(keys, queries))]


def _rows(x: Value, first: Int, count: Int) -> Value:
    return part(x, len(x.shape) - 2, first, count)


def _attend(
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None,
    scale: Value,
    causal: bool,
    shared: bool,
    change: Callable[[Value], Value],
) -> Value:
    """Weighted sums of the values, whose weights go through `change` before."""
    _check(query, key, value)

    def own(x: Value) -> Value:
        return _repeated(x, query.shape[-3]) if shared else x

    if not causal:
        return product(change(_weights(query, own(key), mask, scale)), own(value))
    found: list[Value] = []
    # From the last part on, of the keys that were left: gradients, which go the other way, add to one sum that grows.
    for first, count, seen in reversed(_parts(query.shape[-2], key.shape[-2])):
        q, (key, value) = _rows(query, first, count), (_rows(x, 0, seen) for x in (key, value))
        found.insert(0, product(change(_weights(q, own(key), None, scale, first)), own(value)))
    return ops.concat(*found, dim=len(found[0].shape) - 2) if len(found) > 1 else found[0]


@function(name=_OP)
def _attention(query: Tensor_, key: Tensor_, value: Tensor_, attn_mask: Optional_, scale: Operand):
    """The weights, and the values that they belong to."""
    _check(query, key, value)
    return _weights(query, key, attn_mask, scale), ops.reshape(value, shape=value.shape)


@function(name=_OP)
def _attended(
    query: Tensor_,
    key: Tensor_,
    value: Tensor_,
    attn_mask: Optional_,
    scale: Operand,
    is_causal: Static,
    enable_gqa: Static,
):
    return _attend(query, key, value, attn_mask, scale, is_causal, enable_gqa, lambda weights: weights)


@function(name=_OP)
def _attended_dropping(
    query: Tensor_,
    key: Tensor_,
    value: Tensor_,
    attn_mask: Optional_,
    scale: Operand,
    is_causal: Static,
    enable_gqa: Static,
    p: Operand,
    generator: Stream_ = generators.default_generator,
):
    seed, offset = generator

    def drop(weights: Value) -> Value:
        return dropped(weights, p, (seed, offset + builder().draws))

    return _attend(query, key, value, attn_mask, scale, is_causal, enable_gqa, drop)


@declared(
    free="nn.functional",
    samples=calls(
        lambda: [
            call(data(2, 3, 4), data(2, 5, 4), data(2, 5, 3)),
            call(data(2, 2, 3, 4), data(2, 2, 5, 4), data(2, 2, 5, 4), is_causal=True),
            call(data(3, 4), data(5, 4), data(5, 2), truth(3, 5), scale=0.3),
            call(data(2, 3, 4), data(2, 5, 4), data(2, 5, 3), data(3, 5)),
            call(data(2, 4, 3, 4), data(2, 2, 5, 4), data(2, 2, 5, 4), enable_gqa=True),
            call(data(3, 4), data(5, 3), data(5, 2), error=(RuntimeError, "Queries and keys need as many features")),
            call(data(3, 4), data(5, 4), data(5, 2), truth(3, 5), is_causal=True, error=(RuntimeError, "exclude each")),
        ]
    ),
    recalled="types",
)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value: query [..., L, E], key [..., S, E], value [..., S, V] give [..., L, V].

    `attn_mask`, which broadcasts to [..., L, S], is True where a query may look at a key, or is added. `is_causal`: query i looks
    at keys 0 to i; those of later parts of the sequence are not read. A query that may look at nothing gives zeros. `scale` is
    1 / sqrt(E) by default. `dropout_p` drops weights, always. `enable_gqa`: the third last dimension of keys and values is a
    divisor of that of queries, which share them. Raises RuntimeError for shapes or dtypes that do not fit, and for a mask with
    `is_causal`, ValueError for a `dropout_p` that is no probability.
    """
    if attn_mask is not None and is_causal:
        raise RuntimeError(f"[{_OP}] attn_mask and is_causal exclude each other. Put both into one mask.")
    if scale is None:
        features = query.shape[-1] if query.dim() else 1
        scale = 1.0 / math.sqrt(features) if features else 1.0
    if changes_nothing(_OP, dropout_p, True):
        return _attended(query, key, value, attn_mask, scale, is_causal, enable_gqa)
    return _attended_dropping(query, key, value, attn_mask, scale, is_causal, enable_gqa, dropout_p)


# ---- many heads -------------------------------------------------------------------------------------------------

_MHA = "multi_head_attention_forward"


def _refuse(text: str) -> None:
    raise AssertionError(f"[{_MHA}] {text}")


def _check_heads(q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, mask: Tensor | None, embed_dim: int) -> None:
    """Raise AssertionError for ranks and features that do not fit."""
    if q.dim() not in (2, 3):
        _refuse(f"query has {q.dim()} dimensions. Pass [length, features], or with a batch 3 dimensions.")
    if k.dim() != q.dim() or v.dim() != q.dim():
        _refuse(f"query, key and value have {q.dim()}, {k.dim()} and {v.dim()} dimensions. Give all as many.")
    if padding is not None and padding.dim() != q.dim() - 1:
        _refuse(f"key_padding_mask has {padding.dim()} dimensions. Pass {q.dim() - 1}: one element for each key.")
    if mask is not None and mask.dim() not in (2, 3):
        _refuse(f"attn_mask has {mask.dim()} dimensions. Pass [queries, keys], or that for each head.")
    if q.shape[-1] != embed_dim:
        _refuse(f"queries have {q.shape[-1]} features, expected {embed_dim}.")


def _added(what: str, mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask that is added: -inf where a bool one says that a key is not looked at."""
    if mask is None or mask.dtype.is_floating_point:
        return mask
    if mask.dtype is not bool_:
        _refuse(f"{what} has dtype {mask.dtype}. Pass a bool or floating-point mask.")
    nothing = zeros((), dtype=like.dtype, device=like.device)
    return where(mask, nothing - math.inf, nothing)


def _projected(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: Tensor | None,
    apart: tuple[Tensor | None, Tensor | None, Tensor | None] | None,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values through their weights; in one product where they are one tensor."""
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if apart is not None:
        if any(w is None for w in apart):
            _refuse("use_separate_proj_weight needs q_proj_weight, k_proj_weight and v_proj_weight. Pass them.")
        return tuple(linear(x, w, b) for x, w, b in zip((q, k, v), apart, biases))  # type: ignore[return-value]
    if packed is None:
        _refuse("in_proj_weight is None. Pass it, or use_separate_proj_weight=True.")
    assert packed is not None
    if q is k and k is v:
        return linear(q, packed, bias).chunk(3, dim=-1)
    return tuple(linear(x, w, b) for x, w, b in zip((q, k, v), packed.chunk(3), biases))  # type: ignore[return-value]


def _by_heads(x: Tensor, batch: int, heads: int, head_dim: int) -> Tensor:
    """[length, batch, features] as [batch, heads, length, head_dim]."""
    return x.reshape(x.shape[0], batch, heads, head_dim).permute(1, 2, 0, 3)


def _static(what: str, x: Tensor, batch: int, heads: int, head_dim: int) -> Tensor:
    if x.shape[0] != batch * heads or x.shape[2] != head_dim:
        _refuse(f"{what} has shape {tuple(x.shape)}, expected [{batch * heads}, length, {head_dim}].")
    return x.reshape(batch, heads, x.shape[1], head_dim)


def _longer(mask: Tensor | None) -> Tensor | None:
    """A mask with one key more, which is looked at."""
    return None if mask is None else pad(mask, (0, 1))


def _checked_mask(mask: Tensor | None, batch: int, heads: int, queries: int, keys: int) -> Tensor | None:
    """[queries, keys] or [batch * heads, queries, keys], as what broadcasts to [batch, heads, queries, keys]."""
    if mask is None:
        return None
    wanted = (queries, keys) if mask.dim() == 2 else (batch * heads, queries, keys)
    if tuple(mask.shape) != wanted:
        raise RuntimeError(f"[{_MHA}] attn_mask has shape {tuple(mask.shape)}, expected {wanted}.")
    return mask if mask.dim() == 2 else mask.reshape(batch, heads, queries, keys)


@declared(
    free="nn.functional", samples=Unsampled("its arguments depend on each other; tests/test_attention.py has calls")
)
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes, from its parameters: query [L, N, E], key [S, N, K] and value [S, N, V], or all
    without N, give [L, N, E] and, with `need_weights`, the weights [N, L, S], averaged over heads or for each: [N, heads, L, S].

    Bool masks are True where a key is not looked at, others are added. `bias_k` and `bias_v` [1, 1, E] are one more key and value,
    `add_zero_attn` adds one of zeros. `is_causal` says that `attn_mask` is causal. Raises AssertionError for ranks, features and
    dtypes that do not fit, RuntimeError for masks of other shapes and for `is_causal` without a mask.
    """
    _check_heads(query, key, value, key_padding_mask, attn_mask, embed_dim_to_check)
    if is_causal and attn_mask is None:
        raise RuntimeError(f"[{_MHA}] is_causal says what attn_mask is. Pass the mask, too.")
    head_dim = embed_dim_to_check // num_heads
    if head_dim * num_heads != embed_dim_to_check:
        _refuse(f"{embed_dim_to_check} features do not divide by {num_heads} heads.")
    is_batched = query.dim() == 3
    if not is_batched:
        same = query is key and key is value
        query, key, value = (query.unsqueeze(1),) * 3 if same else (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    if key.shape[:2] != value.shape[:2] or not (use_separate_proj_weight or key.shape == value.shape):
        _refuse(f"key has shape {tuple(key.shape)}, value {tuple(value.shape)}. They need the same length and batch.")
    length, batch, _ = query.shape
    only_causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if only_causal else _added("attn_mask", attn_mask, query)
    mask = _checked_mask(mask, batch, num_heads, length, key.shape[0])
    padding = _added("key_padding_mask", key_padding_mask, query)
    apart = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected(query, key, value, in_proj_weight, apart, in_proj_bias)
    if (bias_k is None) != (bias_v is None):
        _refuse("bias_k and bias_v go together. Pass both or none.")
    if bias_k is not None and bias_v is not None:
        if static_k is not None or static_v is not None:
            _refuse("bias_k and bias_v cannot be added to static_k and static_v. Leave them out.")
        k, v = (cat([x, b.reshape(1, 1, -1).expand(1, batch, -1)]) for x, b in ((k, bias_k), (v, bias_v)))
        mask, padding = _longer(mask), _longer(padding)
    q, k, v = (_by_heads(x, batch, num_heads, head_dim) for x in (q, k, v))
    k = k if static_k is None else _static("static_k", static_k, batch, num_heads, head_dim)
    v = v if static_v is None else _static("static_v", static_v, batch, num_heads, head_dim)
    if add_zero_attn:
        k, v = (pad(x, (0, 0, 0, 1)) for x in (k, v))
        mask, padding = _longer(mask), _longer(padding)
    if padding is not None:
        if tuple(padding.shape) != (batch, k.shape[2]):
            _refuse(f"key_padding_mask has shape {tuple(padding.shape)}, expected {(batch, k.shape[2])}.")
        padding = padding.reshape(batch, 1, 1, k.shape[2])
        mask = padding if mask is None else mask + padding
    dropped = dropout_p if training else 0.0
    scale, weights = 1.0 / math.sqrt(head_dim), None
    if need_weights:
        weights, values = _attention(q, k, v, mask, scale)
        weights = dropout(weights, dropped)
        found = matmul(weights, values)
    else:
        found = scaled_dot_product_attention(q, k, v, mask, dropped, only_causal, scale)
    found = linear(found.permute(2, 0, 1, 3).reshape(length, batch, embed_dim_to_check), out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = weights.mean(dim=1)
    if is_batched:
        return found, weights
    return found.squeeze(1), None if weights is None else weights.squeeze(0)
