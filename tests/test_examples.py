"""The examples, on little data: they run, write their pictures, learn, and compile nothing new after the third step."""

import importlib
import math
import sys
from pathlib import Path

import flambeau as fb
import pytest
from flambeau import programs
from flambeau.runtime import recorder

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Steps:
    """`tqdm.trange`, but that it counts the programs built by the end of every step."""

    made: list = []

    def __init__(self, count):
        self.count, self.built = count, []
        Steps.made.append(self)

    def __iter__(self):
        for k in range(self.count):
            yield k
            stats = recorder.stats()
            self.built.append((stats["misses"], stats["builds"]))

    def set_description(self, text):
        assert "nan" not in text


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an example; its result, the folder of its pictures, and the steps of each training."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setattr(Steps, "made", [])
    monkeypatch.setattr(programs, "walker", lambda: None)  # when a walked trace is assembled, clocks decide
    before = fb.get_rng_state()

    def call(name, *arguments):
        module = importlib.import_module(name)
        for each in (module, sys.modules.get("cnn")):
            if each is not None and hasattr(each, "trange"):
                monkeypatch.setattr(each, "trange", Steps)
        with fb.compiler_options(mode="background" if name in COMPILED else "off"):
            found = module.main([*arguments, "--out", str(tmp_path)])
        return found, sorted(p.name for p in tmp_path.iterdir() if p.stat().st_size > 1000), Steps.made

    yield call
    fb.set_rng_state(before)
    for name in ("pictures", *CASES):
        sys.modules.pop(name, None)


CASES = {
    "autoencoder": (("--steps", "6"), ["autoencoder_digits.png", "autoencoder_loss.png"]),
    "cnn": (("--steps", "9"), ["cnn_loss.png", "cnn_wrong.png"]),
    "vae": (("--steps", "9"), ["vae_digits.png", "vae_loss.png"]),
    "dcgan": (("--steps", "6"), ["dcgan_digits.png", "dcgan_loss.png"]),
    "char_rnn": (("--steps", "6", "--letters", "5"), ["char_rnn_loss.png"]),
    "gpt": (("--steps", "6", "--letters", "5"), ["gpt_loss.png"]),
    "vit": (("--steps", "6"), ["vit_loss.png", "vit_saliency.png"]),
    "resnet": (("--steps", "5", "--width", "4", "--batch", "8"), ["resnet18_images.png", "resnet18_loss.png"]),
    "actor_critic": (("--steps", "6", "--carts", "16"), ["actor_critic.png"]),
    "transfer": (("--steps", "6"), ["transfer_loss.png"]),
    "mixed_precision": (("--steps", "6"), ["mixed_precision_loss.png"]),
}


#: Of these the programs are compiled as well, which takes seconds.
COMPILED = ("cnn", "vae", "gpt")


@pytest.mark.accept("EXA-02", "EXA-03", "EXA-06", "EXA-07", "EXA-09", "VIS-04")
@pytest.mark.parametrize("name", CASES)
def test_an_example_runs_and_compiles_nothing_new_after_the_third_step(name, run):
    arguments, pictures = CASES[name]
    found, written, trainings = run(name, *arguments)
    assert written == pictures and trainings
    for steps in trainings:
        assert len(set(steps.built[2:])) == 1, steps.built
    losses = found if name in ("autoencoder", "vae", "resnet", "actor_critic") else found[0]
    assert all(math.isfinite(x) for x in losses)


@pytest.mark.accept("EXA-01", "EXA-04")
def test_the_digits_compile_nothing_new_after_the_third_step(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    digits, built = importlib.import_module("digits"), []

    class Bar:
        def __init__(self, total, unit):
            self.total = total

        def update(self):
            stats = recorder.stats()
            built.append((stats["misses"], stats["builds"]))

        def set_description(self, text):
            assert "nan" not in text

        def close(self):
            assert len(built) == self.total

    monkeypatch.setattr(digits, "tqdm", Bar)
    monkeypatch.setattr(programs, "walker", lambda: None)
    before = fb.get_rng_state()
    try:
        data, test_x, test_y = digits.load_data()
        model = digits.Classifier(32)
        losses, _ = digits.train(model, data, 3, 64)
        digits.plot_losses(losses, tmp_path / "loss.png")
        assert digits.accuracy(model, test_x, test_y) > 0.5
    finally:
        fb.set_rng_state(before)
        sys.modules.pop("digits", None)
    assert len(set(built[2:])) == 1, built
    assert losses[-1] < losses[0] and (tmp_path / "loss.png").stat().st_size > 1000


def test_a_bottleneck_network_of_a_folder_of_images(run, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, colour in (("dark", (20, 0, 0)), ("light", (230, 255, 240))):
        (tmp_path / "images" / label).mkdir(parents=True)
        for k in range(2):
            image.new("RGB", (12, 10), colour).save(tmp_path / "images" / label / f"{k}.png")
    arguments = ("--images", str(tmp_path / "images"), "--model", "resnet50", "--width", "2", "--batch", "4")
    losses, _, (steps,) = run("resnet", *arguments, "--steps", "4", "--size", "16")
    assert len(losses) == 4
    assert len(set(steps.built[2:])) == 1, steps.built


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 150, path
