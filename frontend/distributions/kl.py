"""kl_divergence, and register_kl for pairs of types.

In: two distributions. Out: how far the first is from the second, in nats. Next: `kl_pairs.py`, the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flambeau.distributions.distribution import Distribution
from flambeau.runtime.recorder import Tensor

_Formula = Callable[[Any, Any], Tensor]
_formulas: dict[tuple[type, type], _Formula] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[_Formula], _Formula]:
    """A decorator: use the function of (p, q) for these types and those that inherit from them.

    A type may be a base of several, which need be no Distribution itself. Raises TypeError for what is no type.
    """
    for kind in (type_p, type_q):
        if not isinstance(kind, type):
            raise TypeError(f"[register_kl] {kind!r} is no class. Pass classes of distributions.")

    def register(formula: _Formula) -> _Formula:
        _formulas[type_p, type_q] = formula
        _found.cache_clear()
        return formula

    return register


@cache
def _found(type_p: Any, type_q: Any) -> _Formula | None:
    """The formula of the nearest types: nearest to that of p, then of q, in the order in which they inherit."""
    for p in type_p.__mro__:
        for q in type_q.__mro__:
            if (p, q) in _formulas:
                return _formulas[p, q]
    return None


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The mean under `p` of log p(x) - log q(x), of the shape of the batch; infinite where p has values that q has not.

    Raises NotImplementedError for types without a formula.
    """
    import flambeau.distributions.kl_pairs  # noqa: F401  (registers the formulas)

    types: Any = (type(p), type(q))
    formula = _found(*types)
    if formula is None:
        names = f"{type(p).__name__} and {type(q).__name__}"
        raise NotImplementedError(f"[kl_divergence] there is no formula for {names}. Register one with register_kl.")
    return formula(p, q)
