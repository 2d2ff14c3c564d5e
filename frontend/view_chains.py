"""Chains of views that come back to where they were: they stay short.

In: a chain with a new link. Out: the chain within it that shows the same, if there is one; the recorder then goes on from that.
So a loop of views that goes there and back makes no new views after a while. Next: `engine.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from flambeau import host
from flambeau.dialects.aval import Aval

LONG = 16  #: links from which on it is looked: what hooks and gradients of views could tell apart in shorter chains they do


def same_before(view: Any) -> Any | None:
    """The view from which `view` was made that shows the same elements in the same places, among the last links, where none
    drops or repeats elements (so that starts are 0)."""
    if len(view.steps) <= LONG:
        return None
    links = [view]
    while len(links) <= LONG and links[-1].parent.steps and links[-1].parent.aval.size == view.aval.size:
        links.append(links[-1].parent)
    links.reverse()
    shown = _nothing(links[0].aval)
    places = [_place(shown)]
    for before, link in itertools.pairwise(links):
        shown = host.view_of(shown, link.after(before), (0,) * (link.n_starts - before.n_starts))
        places.append(_place(shown))
    cut = (view.detached, view.aside)
    same = [x for x, place in zip(links[:-1], places) if place == places[-1] and (x.detached, x.aside) == cut]
    return same[-1] if same else None


def _nothing(aval: Aval) -> np.ndarray:
    """An array of one byte per element that takes up no memory."""
    strides = [int(np.prod(aval.shape[i + 1 :], dtype=np.int64)) for i in range(len(aval.shape))]
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.bool_), aval.shape, strides)


def _place(array: np.ndarray) -> tuple:
    """Where the elements lie; the step along a dimension of size 1 does not count."""
    steps = tuple(step if n != 1 else 0 for n, step in zip(array.shape, array.strides, strict=True))
    return array.shape, steps, array.__array_interface__["data"][0]
