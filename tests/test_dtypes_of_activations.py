"""Dtypes that activations take, and the error that tells of others: PyTorch's, which is a RuntimeError as well."""

import flambeau as fb
import pytest
from flambeau.nn import functional as F

pytestmark = pytest.mark.accept("PW-34")


def test_integers_are_limited_or_become_floats():
    x = fb.tensor([-3, 0, 1, 9])
    assert F.hardtanh(x, -2, 7.9).tolist() == [-2, 0, 1, 7] and F.hardtanh(x).dtype is fb.int64
    assert F.relu6(x).tolist() == [0, 0, 1, 6] and F.relu6(x).dtype is fb.int64
    assert F.softsign(x).tolist() == [-0.75, 0, 0.5, pytest.approx(0.9)]
    assert F.tanhshrink(x).tolist() == pytest.approx([-3 + 0.9950547, 0, 1 - 0.7615942, 8])
    with pytest.raises(RuntimeError, match=r"\[hardtanh\] min_val -1.0 is negative, and flambeau.uint8 has no sign"):
        F.hardtanh(x.to(fb.uint8))


@pytest.mark.parametrize(
    "name", ["gelu", "silu", "mish", "elu", "softplus", "hardswish", "softmax", "log_softmax", "softmin"]
)
def test_others_are_not_implemented(name):
    given = (0,) if name.startswith(("soft", "log_")) and name != "softplus" else ()
    with pytest.raises(
        NotImplementedError,
        match=r"has dtype flambeau.int64, expected a floating-point (or complex )?one. Cast it first",
    ):
        getattr(F, name)(fb.tensor([1, 2]), *given)


@pytest.mark.parametrize("name", ["hardtanh", "relu6", "softsign", "tanhshrink"])
def test_bools_are_refused(name):
    with pytest.raises(RuntimeError, match=rf"\[{name}\].*dtype flambeau\.bool"):
        getattr(F, name)(fb.tensor([True]))


#: What integers are refused with: by a kernel, as not implemented, or by a function before it comes to one.
BY_KERNELS = {
    "silu": F.silu,
    "elu": F.elu,
    "poisson": fb.poisson,
    "log_normal_": lambda x: x.log_normal_(),
    "histc": fb.histc,
}
BY_FUNCTIONS = {
    "mean": fb.mean,
    "nanmean": fb.nanmean,
    "var": fb.var,
    "std": fb.std,
    "norm": fb.norm,
    "normalize": F.normalize,
    "vector_norm": fb.linalg.vector_norm,
    "cdist": lambda x: fb.cdist(x, x),
    "addcdiv": lambda x: fb.addcdiv(x, x, x),
    "multinomial": lambda x: fb.multinomial(x, 1),
    "exponential_": lambda x: x.exponential_(),
    "cauchy_": lambda x: x.cauchy_(),
}


@pytest.mark.parametrize("name", [*BY_KERNELS, *BY_FUNCTIONS])
def test_the_class_of_an_error_is_that_of_pytorch(name):
    call = {**BY_KERNELS, **BY_FUNCTIONS}[name]
    with pytest.raises(RuntimeError, match=r"expected a floating-point (or complex )?one") as caught:
        call(fb.tensor([[1, 2], [3, 4]]))
    assert type(caught.value) is (NotImplementedError if name in BY_KERNELS else RuntimeError)
