"""Parametrizations of weights: orthogonal, weight_norm, spectral_norm.

In: a module and the name of its weight. Out: the same module, whose weight is computed from what is trained.
Next: `parametrize.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flambeau import host
from flambeau.autograd import no_grad
from flambeau.dialects.dtypes import float64
from flambeau.functions.assemble import cat
from flambeau.functions.choose import where
from flambeau.functions.create import eye, zeros
from flambeau.functions.linear import mv
from flambeau.functions.normalize import normalize
from flambeau.functions.random import randn
from flambeau.nn.module import Module
from flambeau.nn.utils import parametrize
from flambeau.nn.utils.spectral_norm import as_matrix, iterate, usual_dim
from flambeau.nn.utils.weight_norm import composed, norm_except_dim
from flambeau.runtime.recorder import Tensor

_MAPS = ("matrix_exp", "cayley", "householder")


# ---- orthogonal -------------------------------------------------------------------------------------------


def _exponential(a: Tensor) -> Tensor:
    """exp(a) of square matrices: the first terms of Taylor's sum for a / 2**s, squared s times, such that the sum of a row is at
    most one half there; s is at most 10. Nothing is read back."""
    steps, blocks = 10, 4 if a.dtype is float64 else 2
    size = a.abs().sum(-1).amax(-1)[..., None, None].detach()
    halvings = (size * 2).clamp(min=1.0).log2().ceil().clamp(max=steps)
    x = a / (2.0**halvings)
    one = eye(a.shape[-1], dtype=a.dtype, device=a.device)
    square = x @ x
    powers = [one, x, square, square @ x]
    fourth = square @ square
    found = fourth / math.factorial(4 * blocks)
    for block in reversed(range(blocks)):  # four terms at a time, as Paterson and Stockmeyer (1973)
        part = sum(p / math.factorial(4 * block + i) for i, p in enumerate(powers))
        found = part + (found if block == blocks - 1 else fourth @ found)
    for n in range(steps):
        found = where(halvings > n, found @ found, found)
    return found


def _reflected(a: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of the reflections 1 - tau[i] v[i] v[i]^T, where v[i] is column i of `a` with 1 at i."""
    n, k = a.shape[-2:]
    q = eye(n, k, dtype=a.dtype, device=a.device)
    vectors = a + q
    for i in reversed(range(k)):
        v = vectors[..., i : i + 1]
        q = q - tau[..., i : i + 1, None] * (v @ (v.mT @ q))
    return q


def _orthogonalized(q: Tensor) -> Tensor:
    """Matrices with orthonormal columns, near those of `q`; computed on the host."""
    found, r = np.linalg.qr(host.array_of(q.detach()))
    signs = np.sign(np.diagonal(r, axis1=-2, axis2=-1))
    return host.copied(found * signs[..., None, :], q.dtype, there=q._place)


def _is_orthogonal(q: Tensor) -> bool:
    matrix = host.array_of(q.detach())
    product = np.swapaxes(matrix, -1, -2) @ matrix
    return np.allclose(product, np.eye(matrix.shape[-1]), atol=10 * np.finfo(matrix.dtype).eps * matrix.shape[-1])


class _Orthogonal(Module):
    """See `orthogonal`."""

    def __init__(self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        transposed = X.shape[-2] < X.shape[-1]
        x = X.mT if transposed else X
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            tau = 2.0 / (1.0 + (a * a).sum(-2))
            q = _reflected(a, tau) * x.diagonal(dim1=-2, dim2=-1).detach().trunc().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = cat([x, zeros(*x.shape[:-1], n - k, dtype=x.dtype, device=x.device)], -1)
            q = self._of_skew(x - x.mT)[..., :k]
        if "base" in self._buffers:
            q = self.base @ q
        return q.mT if transposed else q

    def _of_skew(self, a: Tensor) -> Tensor:
        if self.orthogonal_map == "matrix_exp":
            return _exponential(a)
        from flambeau import linalg  # a start from the caches does without

        one = eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return linalg.solve(one - a / 2, one + a / 2)

    def right_inverse(self, Q: Tensor) -> Tensor:
        """What `forward` makes a matrix near `Q` of. Raises ValueError for another shape, NotImplementedError for maps that
        cannot be inverted."""
        if Q.shape != self.shape:
            raise ValueError(f"[orthogonal] the matrix has shape {tuple(Q.shape)}. Pass one of {tuple(self.shape)}.")
        transposed = Q.shape[-2] < Q.shape[-1]
        q = (Q.mT if transposed else Q).detach()
        with no_grad():
            if "base" not in self._buffers:
                found = self._reflectors(q)
                return found.mT if transposed else found
            n, k = q.shape[-2:]
            if n != k:
                q = cat([q, randn(*q.shape[:-2], n, n - k, dtype=q.dtype, device=q.device)], -1)
            self.base = q.clone() if n == k and _is_orthogonal(q) else _orthogonalized(q)
            return -eye(*Q.shape[-2:], dtype=Q.dtype, device=Q.device).expand(Q.shape).clone()

    def _reflectors(self, q: Tensor) -> Tensor:
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                f"[orthogonal] '{self.orthogonal_map}' without use_trivialization cannot be inverted. Assign no values."
            )
        matrices = host.array_of(q)
        flat = matrices.reshape(-1, *matrices.shape[-2:])
        found = np.empty_like(flat)
        for made, matrix in zip(found, flat):
            h, tau = np.linalg.qr(matrix, mode="raw")
            made[...] = h.T
            rows = np.arange(len(tau))
            made[rows, rows] = np.where(tau == 0, -1, 1) * np.sign(made[rows, rows])
        return host.copied(found.reshape(matrices.shape), q.dtype, there=q._place)


def orthogonal(
    module: Any, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Any:
    """Have the matrix (or matrices [..., m, n]) `name` be orthogonal: its columns orthonormal, or its rows where they are fewer.

    `orthogonal_map` is "matrix_exp" (the usual one of square matrices), "cayley" or "householder" (the usual one of others).
    `use_trivialization`: it is a product with a fixed matrix, near which training goes on. Lezcano-Casado (2019). Raises ValueError
    for other maps, and for tensors that are no matrices.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"[orthogonal] {type(module).__name__} has no parameter or buffer '{name}'. Choose one that it has."
        )
    if weight.ndim < 2:
        raise ValueError(f"[orthogonal] '{name}' has {weight.ndim} dimensions. Pass a matrix.")
    chosen = orthogonal_map or ("matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder")
    if chosen not in _MAPS:
        raise ValueError(f"[orthogonal] orthogonal_map is {orthogonal_map!r}. Use one of {', '.join(_MAPS)}.")
    made = _Orthogonal(weight, chosen, use_trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, made, unsafe=True)


# ---- weight norm ------------------------------------------------------------------------------------------


class _WeightNorm(Module):
    """See `weight_norm`."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return composed(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths and direction."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Have the weight be lengths along `dim` (of all of it for None) times a direction: `original0` and `original1`. Loads state
    dicts of `nn.utils.weight_norm`, too. Salimans and Kingma (2016)."""
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state: Any, prefix: str, *rest: Any) -> None:
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state for key in old):
            for i, key in enumerate(old):
                state[f"{prefix}parametrizations.{name}.original{i}"] = state.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


# ---- spectral norm ----------------------------------------------------------------------------------------


class _SpectralNorm(Module):
    """See `spectral_norm`."""

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(f"[spectral_norm] dim {dim} is out of range for {weight.ndim} dimensions.")
        if n_power_iterations <= 0:
            raise ValueError(f"[spectral_norm] n_power_iterations is {n_power_iterations}. Use at least 1.")
        self.dim, self.n_power_iterations, self.eps = dim % weight.ndim, n_power_iterations, eps
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            draw = {"dtype": weight.dtype, "device": weight.device}
            self.register_buffer("_u", normalize(randn(matrix.shape[0], **draw), dim=0, eps=eps))
            self.register_buffer("_v", normalize(randn(matrix.shape[1], **draw), dim=0, eps=eps))
            iterate(matrix.T, self._v, self._u, 15, eps)  # u first

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            iterate(matrix.T, self._v, self._u, self.n_power_iterations, self.eps)
        return weight / (self._u.clone() * mv(matrix, self._v.clone())).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        """The value itself: it is divided when it is read."""
        return value


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Have the weight divided by its spectral norm, which the power method follows: some steps whenever it is computed in training.

    `dim` is the one of the outputs. Raises ValueError for a name that the module has not, and for no steps. Miyato et al. (2018).
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"[spectral_norm] {type(module).__name__} has no parameter or buffer '{name}'. Choose one that it has."
        )
    made = _SpectralNorm(weight, n_power_iterations, usual_dim(module) if dim is None else dim, eps)
    return parametrize.register_parametrization(module, name, made)
