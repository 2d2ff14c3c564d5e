"""Sizes that no memory holds, or that int64 does not count, raise OutOfMemory everywhere; life goes on."""

import flambeau as fb
import pytest

F = fb.nn.functional
ONE = (1.0,)

#: What makes tensors of a size that the caller chooses: n numbers, at least.
MAKERS = {
    **{name: getattr(fb, name) for name in ("zeros", "ones", "empty", "rand", "randn", "arange", "eye", "randperm")},
    "full": lambda n: fb.full((n,), 2.0),
    "zeros(2 sizes)": lambda n: fb.zeros(2, n),
    "randn(float64)": lambda n: fb.randn(n, dtype=fb.float64),
    "randint": lambda n: fb.randint(0, 5, (n,)),
    "linspace": lambda n: fb.linspace(0, 1, n),
    "one_hot": lambda n: F.one_hot(fb.tensor([1]), n),
    "new_zeros": lambda n: fb.tensor(ONE).new_zeros(n),
    "expand": lambda n: fb.tensor(ONE).expand(n).clone(),
    "repeat": lambda n: fb.tensor(ONE).repeat(n),
    "tile": lambda n: fb.tensor(ONE).tile(n),
    "pad": lambda n: F.pad(fb.tensor(ONE), (0, n)),
    "dropout": lambda n: F.dropout(fb.tensor(ONE).expand(n)),
    "outer": lambda n: fb.tensor(ONE).expand(n // 4).unsqueeze(1) + fb.tensor(ONE).expand(n // 4),
    "Linear": lambda n: fb.nn.Linear(n, n).weight,
    "Embedding": lambda n: fb.nn.Embedding(n, 3).weight,
}


@pytest.fixture(autouse=True)
def nothing_pending():
    """What waits to be computed where memory runs out is dropped with it, also what other tests hold."""
    fb.runtime.recorder.flush()


@pytest.mark.parametrize("bits", [48, 62, 63, 64, 70])
@pytest.mark.parametrize("name", MAKERS)
def test_too_large_tensors_are_out_of_memory(name, bits):
    with pytest.raises(fb.OutOfMemory, match=r"^\[memory\] .*[.]"):
        MAKERS[name](2**bits).tolist()
    assert fb.ones(3).sum().item() == 3


def test_products_of_sizes_do_not_wrap():
    """2**64 bytes are not none."""
    with pytest.raises(fb.OutOfMemory, match=r"\(65536, 65536, 65536, 16384\)"):
        fb.zeros(2**16, 2**16, 2**16, 2**14)
    with pytest.raises(fb.OutOfMemory):
        fb.tensor(ONE).expand(2**31, 2**31)


def test_where_one_size_is_0_there_are_no_bytes():
    assert fb.zeros(2**40, 0, 2**40).numel() == 0


def test_a_permutation_that_fails_draws_nothing():
    before = fb.get_rng_state().tolist()
    with pytest.raises(fb.OutOfMemory):
        fb.randperm(2**48)
    assert fb.get_rng_state().tolist() == before
