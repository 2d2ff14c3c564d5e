"""What sizes that change cost once they are known: no Python to pick a plan, no further memory."""

import flambeau as fb
import flambeau.nn.functional as F
import pytest
from flambeau import programs
from flambeau.runtime import recorder


def attention(length):
    q, k, v = (fb.ones(1, 4, length, 16) * 0.1 for _ in range(3))
    return F.softmax(q @ k.transpose(-1, -2), dim=-1) @ v


@pytest.fixture
def built(monkeypatch):
    """Programs that are built."""
    found = []

    def build(*args):
        found.append(programs.build_program(*args))
        return found[-1]

    recorder.clear()
    before = recorder.set_hooks(build_program=build)
    yield found
    recorder.set_hooks(**before)
    recorder.clear()


def test_regimes_that_alternate_run_without_python(built, monkeypatch):
    for length in (20, 30, 40, 50, 100, 30, 120):
        attention(length).numpy()
    program = built[-1]
    assert len(program.others) == 1  # a plan for short sequences and one for long ones
    calls, run = [], programs.Runner.__call__
    monkeypatch.setattr(programs.Runner, "__call__", lambda *args: calls.append(1) or run(*args))
    runs = program.runs
    for length in (21, 101, 31, 121):
        assert attention(length).numpy() == pytest.approx(0.1)
    assert program.runs == runs + 4 and not calls


def test_sizes_that_return_keep_nothing_more(built):
    def decode():
        keys = fb.ones(1, 4, 1, 16)
        for _ in range(40):
            keys = fb.cat([keys, fb.ones(1, 4, 1, 16)], dim=2)
            part, _ = keys.split([1, keys.shape[2] - 1], dim=2)
            (part @ keys.transpose(-1, -2)).sum().item()

    def known():
        stats = recorder.stats()
        return {name: stats[name] for name in ("types", "views", "states", "misses", "builds")}

    before = known()
    decode()
    once = known()
    assert once["types"] >= before["types"] + 40 and once["views"] >= before["views"] + 40  # they are kept per size
    decode()
    twice = known()
    decode()
    assert known() == twice
    assert (twice["types"], twice["views"]) == (once["types"], once["views"])


@pytest.mark.accept("SER-14")
def test_a_model_of_an_onnx_file_is_built_for_all_batches_together(built):
    pytest.importorskip("onnx")
    model = fb.nn.Sequential(fb.nn.Linear(5, 4), fb.nn.ReLU())
    with fb.compiler_options(mode="off"):
        loaded = fb.onnx.load(fb.onnx.export(model, fb.ones(1, 5), dynamic_axes={"input": [0]}).model_proto)
    del built[:]
    with fb.no_grad():
        for batch in (20, 30, 41, 52, 63, 74, 85):
            assert loaded(fb.ones(batch, 5)).shape == (batch, 4)
            assert loaded(fb.ones(batch, 5)).sum().item() == pytest.approx(
                model(fb.ones(batch, 5)).sum().item(), rel=1e-5
            )
    assert len(built) <= 9  # of three kinds of calls each: for two sizes, and for all
