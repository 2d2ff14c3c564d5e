"""What scatters read: views and constants where they lie, without a step that copies them."""

from __future__ import annotations

import counting
import flambeau as fb
import numpy as np
import pytest


def _kernels(run) -> tuple[np.ndarray, list[str]]:
    """What the call gives, and the kernels of the one program that it compiles."""
    found = []
    with fb.compiler_options(mode="blocking"):
        (made,) = counting.new_programs(lambda: found.append(run().numpy()))
    return found[0], list(made.kernels)


@pytest.mark.accept("IDX-07")
def test_views_and_constants_are_no_kernels():
    rng = np.random.default_rng(3)
    at, rows = rng.integers(0, 7, 41), rng.standard_normal((41, 5)).astype(np.float32)
    index, updates = fb.tensor(at), fb.tensor(rows)
    whole = np.zeros((7, 5), np.float32)
    np.add.at(whole, at, rows)
    found, kernels = _kernels(lambda: fb.zeros(7, 5).scatter_add(0, index[:, None].expand_as(updates), updates))
    np.testing.assert_array_equal(found, whole)
    assert kernels == ["copy", "scatter"]
    found, kernels = _kernels(lambda: fb.zeros(7).scatter_add(0, index, fb.ones(41)))
    np.testing.assert_array_equal(found, np.bincount(at, minlength=7))
    assert kernels == ["copy", "scatter"]
    turned = fb.tensor(np.ascontiguousarray(rows.T))
    found, kernels = _kernels(lambda: fb.zeros(7, 5).scatter_add(0, index[:, None].expand(41, 5), turned.T))
    np.testing.assert_array_equal(found, whole)
    assert kernels == ["copy", "scatter"]
