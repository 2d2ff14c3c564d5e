"""MultiheadAttention. Vaswani and others, "Attention is all you need" (2017).

In: queries, keys, values. Out: weighted sums of the values, and the weights. Next: `transformer.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.device import Device
from flambeau.functions.attention import multi_head_attention_forward
from flambeau.functions.create import empty
from flambeau.nn import init
from flambeau.nn.linear import NonDynamicallyQuantizableLinear
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Tensor


class MultiheadAttention(Module):
    """Attention by `num_heads` heads of `embed_dim` / `num_heads` features each; keys have `kdim` features, values `vdim`.

    Weights start as `xavier_uniform_` draws them, those of the output as Linear's, biases 0. Raises ValueError for sizes below 1,
    AssertionError where `embed_dim` does not divide by `num_heads`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"[MultiheadAttention] embed_dim is {embed_dim}, num_heads {num_heads}. Use numbers above 0."
            )
        if embed_dim % num_heads:
            raise AssertionError(
                f"[MultiheadAttention] embed_dim {embed_dim} does not divide by num_heads {num_heads}. Use a multiple."
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn

        def parameter(name: str, wanted: bool, *shape: int) -> None:
            made = Parameter(empty(shape, dtype=dtype, device=device)) if wanted else None
            self.register_parameter(name, made)

        same = self._qkv_same_embed_dim
        parameter("q_proj_weight", not same, embed_dim, embed_dim)
        parameter("k_proj_weight", not same, embed_dim, self.kdim)
        parameter("v_proj_weight", not same, embed_dim, self.vdim)
        parameter("in_proj_weight", same, 3 * embed_dim, embed_dim)
        parameter("in_proj_bias", bias, 3 * embed_dim)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        parameter("bias_k", add_bias_kv, 1, 1, embed_dim)
        parameter("bias_v", add_bias_kv, 1, 1, embed_dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights or None): see `nn.functional.multi_head_attention_forward`; with `batch_first` the batch is the first
        dimension of queries, keys, values and output."""
        turned = self.batch_first and query.dim() == 3
        if turned:
            same = query is key and key is value
            query, key, value = (
                (query.transpose(0, 1),) * 3 if same else (x.transpose(0, 1) for x in (query, key, value))
            )
        output, weights = multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return output.transpose(0, 1) if turned else output, weights
