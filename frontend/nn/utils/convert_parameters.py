"""Parameters as one vector, and back.

In: parameters on one device. Out: a vector; parameters with the elements of one. Next: `../parameter.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from flambeau.functions.assemble import cat
from flambeau.runtime.recorder import Tensor


def _checked(op: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    given = list(parameters)
    if places := {p._place for p in given[1:]} - {p._place for p in given[:1]}:
        raise TypeError(f"[{op}] parameters lie on {given[0]._place} and {places.pop()}. Move them to one device.")
    return given


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after the other, with history. Raises TypeError for several devices."""
    return cat([p.reshape(-1) for p in _checked("parameters_to_vector", parameters)])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Set the data of parameters to the elements of a vector, one after the other. Raises TypeError for what is
    no tensor, and for several devices."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"[vector_to_parameters] vec is a {type(vec).__name__}. Pass a Tensor.")
    at = 0
    for p in _checked("vector_to_parameters", parameters):
        count = p.numel()
        p.data = vec[at : at + count].view_as(p).detach().clone()  # type: ignore[attr-defined]
        at += count
