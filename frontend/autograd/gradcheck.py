"""gradcheck and gradgradcheck: gradients of a function beside central differences.

In: a function of float64 tensors. Out: True, or GradcheckError. Next: `functional.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau import host
from flambeau.autograd.grad_mode import enable_grad, no_grad
from flambeau.autograd.gradients import grad
from flambeau.functions.complex import view_as_complex, view_as_real
from flambeau.functions.create import zeros_like
from flambeau.functions.random import randn_like
from flambeau.runtime.recorder import Tensor


class GradcheckError(RuntimeError):
    """A gradient is not what differences say."""


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _results(func: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    return [y for y in _tuple(func(*inputs)) if isinstance(y, Tensor) and y.dtype.is_inexact]


def _numerical(func: Callable[..., Any], inputs: tuple[Any, ...], x: Tensor, eps: float) -> list[np.ndarray]:
    """For each result the matrix [elements of x, elements of the result] of slopes."""
    columns: list[list[np.ndarray]] = []
    flat = x.detach().reshape(-1)
    for k in range(x.numel()):
        before = flat[k].item()
        ends = []
        for value in (before + eps, before - eps):
            with no_grad():
                x.detach().view(-1)[k] = value
            ends.append([host.array_of(y.detach()).reshape(-1).copy() for y in _results(func, inputs)])
        with no_grad():
            x.detach().view(-1)[k] = before
        columns.append([(high - low) / (2 * eps) for high, low in zip(*ends)])
    return [np.stack(rows) for rows in zip(*columns)] if columns else []


def _analytical(y: Tensor, x: Tensor) -> np.ndarray:
    """The same matrix from gradients, one for each element of the result."""
    rows = []
    for k in range(y.numel()):
        weight = zeros_like(y).detach()
        weight.view(-1)[k] = 1
        found = grad(y, x, weight, retain_graph=True, allow_unused=True)[0] if y.requires_grad else None
        rows.append(np.zeros(x.numel()) if found is None else host.array_of(found.detach()).reshape(-1).copy())
    return np.stack(rows, 1) if rows else np.zeros((x.numel(), 0))


def _on_parts(func: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function with complex tensors among arguments and results as the real ones of their parts, and such arguments."""
    wanted = {i for i, x in enumerate(given) if isinstance(x, Tensor) and x.is_complex() and x.requires_grad}

    def run(*args: Any) -> tuple[Any, ...]:
        found = _tuple(func(*(view_as_complex(a) if i in wanted else a for i, a in enumerate(args))))
        return tuple(view_as_real(y) if isinstance(y, Tensor) and y.is_complex() else y for y in found)

    parts = (view_as_real(x.detach()).clone().requires_grad_() if i in wanted else x for i, x in enumerate(given))
    return run, tuple(parts)


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func(*inputs)` with respect to the inputs that require grad are those that central differences with
    the step `eps` give, up to `atol + rtol * |slope|`. Every element is checked, whatever `fast_mode` says; of complex numbers both
    parts.

    Raises GradcheckError where one is not (False unless `raise_exception`), ValueError if no input requires grad,
    NotImplementedError for checks of forward mode and of batches.
    """
    if check_batched_grad or check_batched_forward_grad or check_forward_ad:
        raise NotImplementedError(
            "[gradcheck] there is no forward mode and no vmap to be checked. Leave these checks out."
        )
    func, given = _on_parts(func, _tuple(inputs))
    wanted = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError("[gradcheck] no input requires grad. Call requires_grad_() on one of float64.")
    with enable_grad():
        slopes = {i: _numerical(func, given, given[i], eps) for i in wanted}  # which writes to the inputs, for a while
        results = _results(func, given)
        for i in wanted:
            for number, (y, expected) in enumerate(zip(results, slopes[i])):
                found = _analytical(y, given[i])
                if not np.allclose(found, expected, rtol, atol, equal_nan=True):
                    if not raise_exception:
                        return False
                    raise GradcheckError(
                        f"[gradcheck] the gradient of result {number} with respect to input {i} differs from differences by up to "
                        f"{np.abs(found - expected).max():.3g}.\nnumerical:\n{expected}\nanalytical:\n{found}"
                    )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """`gradcheck` of the gradients of `func(*inputs)`, weighted by `grad_outputs` (random ones if None), with respect to the
    inputs and the weights."""
    if check_batched_grad or check_fwd_over_rev:
        raise NotImplementedError(
            "[gradgradcheck] there is no forward mode and no vmap to be checked. Leave these checks out."
        )
    given = _tuple(inputs)
    wanted = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    with enable_grad():
        results = [y for y in _results(func, given) if y.requires_grad]
    weights = [randn_like(y).detach() for y in results] if grad_outputs is None else list(_tuple(grad_outputs))
    weights = [w if w.requires_grad else w.detach().requires_grad_() for w in weights]

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        ins, outs = args[: len(given)], args[len(given) :]
        made = [y for y in _results(func, ins) if y.requires_grad]
        found: Sequence[Tensor | None] = grad(
            made, [ins[i] for i in wanted], list(outs), create_graph=True, allow_unused=True
        )
        return tuple(g for g in found if g is not None and g.requires_grad)

    return gradcheck(
        gradients,
        (*given, *weights),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
    )
