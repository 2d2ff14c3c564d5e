"""Comparisons used by several test files: against NumPy always, against PyTorch where it is installed."""

import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest
from flambeau.dialects.bugs import is_internal, tells_of_bug
from flambeau.runtime import recorder


def rounds(quick, long, full):
    """How often a test of chance repeats itself: `make test` runs it `quick` times, `.ci/run` (FLAMBEAU_TESTS=long) `long`
    times, `tools/full_tests.sh` (FLAMBEAU_TESTS=full) `full` times. docs/testing.md has the minutes and the results."""
    return {"quick": quick, "long": long, "full": full}[os.environ.get("FLAMBEAU_TESTS", "quick")]


def for_users(error):
    """The class of an error that a public call raised, whose message must not be one that only our own code can cause."""
    assert not is_internal(error) and not tells_of_bug(error), f"no message for users: {error}"
    return type(error)


def tool(name):
    """A module of `tools/`."""
    path = Path(__file__).resolve().parent.parent / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def arrays(*shape, seed=0, dtype=np.float32):
    """Reproducible normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def against_numpy(result, wanted, ulp=4):
    """Same shape, dtype and values, up to `ulp` units in the last place."""
    wanted = np.asarray(wanted)
    assert tuple(result.shape) == wanted.shape
    assert result.dtype.name == wanted.dtype.name
    if wanted.dtype.kind == "f":
        np.testing.assert_array_max_ulp(result.numpy(), wanted, ulp)
    else:
        np.testing.assert_array_equal(result.numpy(), wanted)


def against_torch(op, *data, ulp=4):
    """`op(module, *tensors)` gives what PyTorch gives: shape, dtype, values."""
    torch = pytest.importorskip("torch")
    ours = op(fb, *(fb.tensor(a) for a in data))
    theirs = op(torch, *(torch.tensor(a) for a in data))
    against_numpy(ours, theirs.numpy(), ulp)


def gradients_against_torch(op, *data, rtol=3e-6):
    """Values and gradients of `op(module, *tensors)` under one random cotangent are those of PyTorch."""
    torch = pytest.importorskip("torch")
    ours = [fb.tensor(a, requires_grad=True) for a in data]
    theirs = [torch.tensor(a, requires_grad=True) for a in data]
    mine, other = op(fb, *ours), op(torch, *theirs)
    scale = max(1.0, float(np.abs(other.detach().numpy()[np.isfinite(other.detach().numpy())]).max(initial=0)))
    np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=rtol, atol=rtol * scale * 0.1)
    cotangent = arrays(*other.shape, seed=9).astype(other.detach().numpy().dtype)
    mine.backward(fb.tensor(cotangent))
    other.backward(torch.tensor(cotangent))
    for x, y in zip(ours, theirs):
        if y.grad is None:
            assert x.grad is None
            continue
        size = max(1.0, float(np.abs(y.grad.numpy()).max(initial=0)))
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=rtol, atol=rtol * size)


@contextmanager
def every_size_by_itself():
    """No size becomes a symbol inside: what programs whose sizes change are compared with."""
    recorder.clear()
    before = recorder.set_hooks(fit_sizes=None)
    try:
        yield
    finally:
        recorder.clear()
        recorder.set_hooks(**before)


def python_calls(call):
    """The names of the Python functions that a call enters, in order."""
    found = []

    def note(frame, event, arg):
        if event == "call":
            found.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found[1:]  # without `call`
