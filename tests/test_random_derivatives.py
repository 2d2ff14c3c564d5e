"""Random programs of derivatives of derivatives give the same bits wherever they are looked at, and PyTorch's values."""

import random

import flambeau as fb
import pytest
import random_derivatives
import random_training
from flambeau import inline
from support import rounds


@pytest.fixture(scope="module", autouse=True)
def op_by_op():
    """Where traces are cut is the same on every tier, and this one compiles least."""
    with fb.compiler_options(mode="off"):
        yield


def ways(seed):
    """How a program is run, that must not be seen in what it does."""
    rng = random.Random(seed)
    yield "from the trie", {}
    yield "run after every line", {"between": lambda env: fb.flush()}
    yield "looked at now and then", {"between": random_derivatives.looks(seed, 0.3, fb)}
    yield "looked at often", {"between": random_derivatives.looks(seed + 1, 0.6, fb)}
    yield "by two threads in turn", {"elsewhere": lambda: rng.random() < 0.4}


VAR = "the gradient of var() of one number requires grad here"
RELU = "the gradient of relu() does not depend on its operand here, so that with create_graph it requires no grad"
ADDED = "a backward that is refused on its way has added to other leaves than in PyTorch"
#: Differences that docs/differences.md states, each with a test of its own, by the seeds that come upon them.
BESIDE_PYTORCH = {
    **dict.fromkeys((66, 179, 634, 750, 1055), VAR),
    **dict.fromkeys((137, 162, 300, 342, 385, 870, 904, 908, 1015, 1053, 1382), RELU),
    **dict.fromkeys((309, 1164), ADDED),
    **dict.fromkeys((392, 710), "the derivative is None where PyTorch has zeros"),
    93: "a write through x.detach() of what requires grad gives the alias no history",
}


def seeds(count, differences):
    faults = {seed: pytest.mark.xfail(strict=True, reason=why) for seed, why in differences.items()}
    return [pytest.param(seed, marks=faults.get(seed, ())) for seed in range(count)]


@pytest.mark.parametrize("seed", range(rounds(25, 400, 4000)))
def test_where_a_program_is_cut_cannot_be_seen(seed):
    program = random_derivatives.generate(seed)
    expected = random_derivatives.run(program, fb)
    for name, way in ways(seed):
        found = random_derivatives.run(program, fb, **way)
        difference = random_derivatives.difference(found, expected)
        assert difference is None, f"{name}: {difference}\n" + "\n".join(program)


def test_a_history_that_is_lost_at_a_cut_would_be_found(monkeypatch):
    """The fault that these programs were written for: derivatives that read a value of a trace that has run forgot how it had come
    about. The programs of `make test` find it."""
    tensors = inline.Tape.tensors

    def forgetful(tape, needed):
        imported = {v for v in needed if tape._slot_of(v) in tape.asm.imported}
        found = tensors(tape, needed)
        return {v: tape.builder.value(x.id.detach()) if v in imported else x for v, x in found.items()}

    monkeypatch.setattr(inline.Tape, "tensors", forgetful)

    def finds(seed):
        program = random_derivatives.generate(seed)
        found = random_derivatives.run(program, fb, between=lambda env: fb.flush())
        return random_derivatives.difference(found, random_derivatives.run(program, fb)) is not None

    assert any(finds(seed) for seed in range(25))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", seeds(rounds(15, 150, 1500), BESIDE_PYTORCH))
def test_derivatives_are_those_of_pytorch(seed):
    torch = pytest.importorskip("torch")
    program = random_derivatives.generate(seed + 10_000, common=True)
    program = random_derivatives.before_refusals(program, fb, torch)
    found, expected = (random_derivatives.run(program, library) for library in (fb, torch))
    difference = random_training.difference(found[1], expected[1], 1e-9)
    assert difference is None, f"{difference}\n" + "\n".join(program)
