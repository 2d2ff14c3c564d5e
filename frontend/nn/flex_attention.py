"""Attention whose scores and masks are functions of positions, as `torch.nn.attention.flex_attention`. Dong and others, "Flex
attention" (2024).

In: queries, keys, values [batch, heads, length, features], and functions of a score and of the numbers of its batch, head, query
and key. Out: weighted sums of the values. The functions are called once, on tensors that broadcast to [batch, heads, queries,
keys], and become part of the program: nothing is kept of a mask but its function. Next: `../functions/attention.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

from flambeau import border as _border
from flambeau.device import Device
from flambeau.dialects.dtypes import bool_, float32, float64
from flambeau.functions.choose import where
from flambeau.functions.create import ones, zeros
from flambeau.functions.ramps import arange
from flambeau.runtime.recorder import Tensor

_DEFAULT_SPARSE_BLOCK_SIZE = 128


class AuxRequest(NamedTuple):
    """What `flex_attention` is to give beside the result."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What it gives: tensors, or None for what was not asked for."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def _positions(shape: tuple[int, ...], device: Any) -> list[Tensor]:
    """The numbers along each of four dimensions, as tensors that broadcast to `shape`."""
    return [
        arange(n, device=device).reshape(tuple(n if k == dim else 1 for k in range(4))) for dim, n in enumerate(shape)
    ]


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """A mask that lets everything through."""
    return ones((), dtype=bool_, device=batch.device)


def _combined(op: str, masks: tuple[Any, ...], first: bool) -> Callable[..., Tensor]:
    if not all(map(callable, masks)):
        raise RuntimeError(f"[{op}] an argument is no function. Pass functions of batch, head, query and key.")

    def mask(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        found = ones((), dtype=bool_, device=b.device) if first else zeros((), dtype=bool_, device=b.device)
        for each in masks:
            one = each(b, h, q_idx, kv_idx)
            found = found & one if first else found | one
        return found

    return mask


def and_masks(*mask_mods: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The mask of what all masks let through. Raises RuntimeError for what is no function."""
    return _combined("and_masks", mask_mods, True)


def or_masks(*mask_mods: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The mask of what one of the masks lets through. Raises RuntimeError for what is no function."""
    return _combined("or_masks", mask_mods, False)


def create_mask(
    mod_fn: Callable[..., Tensor], B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Device = None
) -> Tensor:
    """What a function of a mask, or of scores (five arguments), lets through: bool [B, H, Q_LEN, KV_LEN]; None stands for 1."""
    shape = (B or 1, H or 1, Q_LEN, KV_LEN)
    at = _positions(shape, device)
    taken = [p for p in signature(mod_fn).parameters.values() if p.default is p.empty]
    if len(taken) > 4:
        found = mod_fn(zeros(shape, device=device), *at).ne(-math.inf)
    else:
        found = mod_fn(*at)
    return found.expand(shape)


class BlockMask:
    """A mask by its function, for sequences of these lengths. PyTorch's kernels skip blocks in which it lets nothing through; here
    they are computed, or not, as the compiler decides, and `to_dense` and `sparsity` tell of them for those who ask."""

    def __init__(
        self, mask_mod: Callable[..., Tensor], shape: tuple[int, int, int, int], block: tuple[int, ...], device: Any
    ):
        self.mask_mod, self.shape, self.BLOCK_SIZE, self.device = mask_mod, shape, block, device
        self.seq_lengths = shape[2:]

    def numel(self) -> int:
        """How many places there are."""
        return math.prod(self.shape)

    def to_dense(self) -> Tensor:
        """[B, H, blocks of queries, blocks of keys]: 1 where a block lets something through, as int32."""
        mask = create_mask(self.mask_mod, *self.shape, self.device)
        (rows, cols), (m, n) = self.BLOCK_SIZE, self.seq_lengths
        padded = zeros((*self.shape[:2], -(-m // rows) * rows, -(-n // cols) * cols), dtype=bool_, device=self.device)
        padded[:, :, :m, :n] = mask
        return padded.reshape(*self.shape[:2], -(-m // rows), rows, -(-n // cols), cols).any(5).any(3).int()

    def sparsity(self) -> float:
        """The share of places, in percent, that lie in blocks which let nothing through."""
        held = self.to_dense().sum().item() * self.BLOCK_SIZE[0] * self.BLOCK_SIZE[1]
        return 100.0 * (1.0 - held / self.numel())

    def to(self, device: Any) -> BlockMask:
        """The mask for another device."""
        return BlockMask(self.mask_mod, self.shape, self.BLOCK_SIZE, device)

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, BLOCK_SIZE={self.BLOCK_SIZE})"


def create_block_mask(
    mask_mod: Callable[..., Tensor],
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Device = None,
    BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE,
    **options: Any,
) -> BlockMask:
    """The mask of a function of batch, head, query and key, for `flex_attention`. Other options of PyTorch's change nothing. Raises
    RuntimeError for what is no function."""
    if not callable(mask_mod):
        raise RuntimeError("[create_block_mask] mask_mod is no function. Pass one of batch, head, query and key.")
    block = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else tuple(BLOCK_SIZE)
    return BlockMask(mask_mod, (B or 1, H or 1, Q_LEN, KV_LEN), block, device)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask | None, is_grouped: bool) -> None:
    op, shapes = "flex_attention", [tuple(x.shape) for x in (query, key, value)]
    if any(len(s) != 4 for s in shapes):
        raise NotImplementedError(f"[{op}] shapes are {shapes}. Pass [batch, heads, length, features].")
    heads, others = query.shape[1], key.shape[1]
    if query.shape[-1] != key.shape[-1] or key.shape[1:3] != value.shape[1:3]:
        raise ValueError(
            f"[{op}] query, key and value of shapes {shapes} do not fit. Check features, heads and lengths."
        )
    if heads != others and (not is_grouped or heads % others):
        raise ValueError(
            f"[{op}] query has {heads} heads, key {others}. Make them equal, or a multiple with enable_gqa=True."
        )
    if mask is not None and mask.seq_lengths != (query.shape[2], key.shape[2]):
        raise ValueError(
            f"[{op}] the mask is of lengths {mask.seq_lengths}, query and key have {query.shape[2]} and {key.shape[2]}. "
            "Make one for these."
        )


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Tensor] | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    return_aux: AuxRequest | None = None,
) -> Any:
    """softmax(score_mod(query @ key.T * scale)) @ value, where the mask lets through: query [B, H, L, E], key [B, G, S, E] and
    value [B, G, S, V] give [B, H, L, V]. `score_mod(score, b, h, q_idx, kv_idx)` gets all scores at once, and numbers that
    broadcast to them. `scale` is 1 / sqrt(E) by default; `enable_gqa` lets G divide H. A query that may look at nothing gives
    zeros. `return_lse` gives the logarithms of the sums, too, `return_aux` what it names. `kernel_options` change nothing.

    Raises NotImplementedError for other than four dimensions, ValueError for sizes that do not fit.
    """
    _check(query, key, value, block_mask, enable_gqa)
    times = query.shape[1] // key.shape[1]
    if times > 1:
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    wide = float64 if query.dtype is float64 else float32
    factor = 1.0 / math.sqrt(query.shape[-1] or 1) if scale is None else scale
    scores = (query.to(wide) @ key.to(wide).transpose(-2, -1)) * factor
    at = _positions(tuple(scores.shape), query.device)
    scores = score_mod(scores, *at).to(wide) if score_mod is not None else scores
    if block_mask is not None:
        scores = where(block_mask.mask_mod(*at).expand(scores.shape), scores, -math.inf)
    lse = scores.logsumexp(-1)
    nothing = (lse == -math.inf).unsqueeze(-1)
    weights = where(nothing, 0.0, (scores - where(nothing, 0.0, lse.unsqueeze(-1))).exp())
    found = (weights @ value.to(wide)).to(query.dtype)
    if return_aux is not None:
        return found, AuxOutput(lse if return_aux.lse else None, scores.amax(-1) if return_aux.max_scores else None)
    return (found, lse) if return_lse else found


__all__ = [
    "AuxOutput",
    "AuxRequest",
    "BlockMask",
    "and_masks",
    "create_block_mask",
    "create_mask",
    "flex_attention",
    "noop_mask",
    "or_masks",
]

_border.publish(globals(), __all__)
