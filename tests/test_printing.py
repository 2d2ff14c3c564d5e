"""The text of tensors: stored examples, and PyTorch's own text for many shapes, dtypes and ranges of values."""

import re

import flambeau as fb
import numpy as np
import pytest

STORED = [
    ([1.0, 2.0], "tensor([1., 2.])"),
    (3, "tensor(3)"),
    (2.5, "tensor(2.5000)"),
    ([True, False], "tensor([ True, False])"),
    ([], "tensor([])"),
    ([[1, 20], [-3, 4]], "tensor([[ 1, 20],\n        [-3,  4]])"),
    ([0.1, 1000.5], "tensor([1.0000e-01, 1.0005e+03])"),
    ([float("nan"), float("inf"), -1.0], "tensor([nan, inf, -1.])"),
    ([1e10, 2e10], "tensor([1.0000e+10, 2.0000e+10])"),
    ([[[1.5]]], "tensor([[[1.5000]]])"),
]


@pytest.mark.accept("DTY-07")
@pytest.mark.parametrize(("data", "text"), STORED)
def test_stored_text(data, text):
    assert repr(fb.tensor(data)) == str(fb.tensor(data)) == text


@pytest.mark.accept("DTY-07")
def test_suffixes():
    assert repr(fb.tensor([1, 2], dtype=fb.int32)) == "tensor([1, 2], dtype=flambeau.int32)"
    assert repr(fb.ones(2, dtype=fb.float64)) == "tensor([1., 1.], dtype=flambeau.float64)"
    assert repr(fb.ones(2, requires_grad=True)) == "tensor([1., 1.], requires_grad=True)"
    assert repr(fb.ones(2, requires_grad=True) * 2) == "tensor([2., 2.], grad_fn=<MulBackward0>)"
    assert repr(fb.zeros(2, 0)) == "tensor([], size=(2, 0))"
    assert repr(fb.zeros(0, dtype=fb.int64)) == "tensor([], dtype=flambeau.int64)"
    wide = fb.full((2, 8), 0.5, dtype=fb.float64)
    assert repr(wide).endswith("],\n       dtype=flambeau.float64)")


def same(ours, theirs):
    """Equal but for the package's name, which is longer, so that a suffix may have to move to the next line."""
    return re.sub(r",\s+dtype=flambeau", ", dtype=torch", ours) == re.sub(r",\s+dtype=torch", ", dtype=torch", theirs)


SHAPES = [
    (),
    (1,),
    (7,),
    (0,),
    (2, 0),
    (3, 4),
    (2, 3, 4),
    (40,),
    (999,),
    (1001,),
    (30, 40),
    (11, 12, 13),
    (7, 200),
    (2000, 2),
    (1, 1, 1, 2),
]


@pytest.mark.accept("DTY-07")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_text_is_that_of_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    cases = [rng.standard_normal(shape) * scale for scale in (1, 1e-6, 1e5, 1e9)]
    if dtype.startswith("float"):
        mixed = np.asarray(cases[0].copy())
        mixed.reshape(-1)[::3], mixed.reshape(-1)[1::3], mixed.reshape(-1)[2::7] = np.nan, np.inf, -np.inf
        cases += [mixed, np.zeros(shape), np.round(cases[0] * 5), -np.zeros(shape)]
    for case in cases:
        array = np.asarray(np.clip(case, -(2**31), 2**31 - 1) if dtype == "int32" else case).astype(dtype)
        assert same(repr(fb.tensor(array)), repr(torch.tensor(array)))


def test_print_options():
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(1).standard_normal((60, 30))
    for options in (
        {"precision": 2},
        {"edgeitems": 1},
        {"threshold": 5},
        {"linewidth": 40},
        {"sci_mode": True},
        {"profile": "short"},
        {"profile": "full"},
    ):
        fb.set_printoptions(**options), torch.set_printoptions(**options)
        try:
            assert same(repr(fb.tensor(array)), repr(torch.tensor(array)))
        finally:
            fb.set_printoptions(profile="default"), torch.set_printoptions(profile="default")
    with pytest.raises(ValueError, match=r"\[set_printoptions\] profile 'tiny' is unknown"):
        fb.set_printoptions(profile="tiny")


def test_printing_a_view_shows_the_view():
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert repr(x.t()[1]) == "tensor([2., 4.])"


def test_results_along_a_dim_have_names():
    text = repr(fb.tensor([[1.0, 5.0]]).max(1))
    assert text == "flambeau.return_types.max(\nvalues=tensor([5.]),\nindices=tensor([1]))"


def test_limits_of_dtypes_are_written_shortly():
    assert repr(fb.iinfo(fb.int8)) == "iinfo(min=-128, max=127, dtype=int8)"
    found = repr(fb.finfo(fb.float32))
    assert found.startswith("finfo(resolution=1e-06, min=-3.40282e+38, max=3.40282e+38, eps=1.19209e-07, ")
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    for name in ("float16", "bfloat16", "float32", "float64"):
        assert repr(fb.finfo(getattr(fb, name))) == repr(torch.finfo(getattr(torch, name)))


def test_classes_that_write_themselves_are_printed_so():
    class Named(fb.Tensor):
        def __repr__(self) -> str:
            return f"Named of {tuple(self.shape)}"

    assert str(fb.nn.Parameter(fb.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert str(fb.ones(2).as_subclass(Named)) == f"{fb.ones(2).as_subclass(Named)}" == "Named of (2,)"
    assert str(fb.ones(2)) == f"{fb.ones(2)}" == "tensor([1., 1.])"
