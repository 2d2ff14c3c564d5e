"""Whole programs through the public API with tensors on another device: the bits of the CPU, looked into or not, fused or op by op.

In: the pretend device, to which `.to(device)` and `device=` move what they are given. Next: `test_device_tensors.py`, function by
function; `test_device_programs.py`, the same below the recorder.
"""

from __future__ import annotations

import flambeau as fb
import numpy as np
import pretend_device
import pytest
from flambeau import nn
from flambeau.compiler.plans import devices
from flambeau.dialects.aval import CPU
from flambeau.nn import functional as F
from flambeau.runtime import recorder
from flambeau.runtime.plan_spec import KERNEL_TRANSFER
from support import arrays

pytestmark = pytest.mark.skipif(not pretend_device.can_open(), reason="needs a C compiler for the fake driver")


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> str:
    return pretend_device.open_device(tmp_path_factory.mktemp("driver"))


@pytest.fixture(autouse=True)
def no_faults():
    pretend_device.faults.clear()
    yield
    assert not pretend_device.faults


def model() -> nn.Module:
    """W1's model, small."""
    fb.manual_seed(3)
    return nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4))


def trained(device: str, looks: bool, steps: int = 2, rows: int = 5) -> list[np.ndarray]:
    """What W1's model is after some steps: losses and gradients on the way if one looks, parameters, Adam's state."""
    seen = []
    net = model().to(device)
    optimizer = fb.optim.Adam(net.parameters(), lr=0.01)
    for k in range(steps):
        x = fb.from_numpy(arrays(rows, 10, seed=k)).to(device)
        y = fb.tensor(np.arange(rows) * (k + 1) % 4, device=device)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        if looks:
            seen += [np.float32(loss.item()), net[0].weight.grad.cpu().numpy().copy()]
        optimizer.step()
    kept = [s for p in net.parameters() for s in optimizer.state[p].values()]
    assert {str(t.device) for t in (*net.parameters(), *kept)} == {device}
    return seen + [np.array(t.detach().cpu().numpy()) for t in (*net.parameters(), *kept)]


@pytest.mark.parametrize(
    ("mode", "looks"), [("blocking", False), ("blocking", True), ("off", True), ("background", False)]
)
def test_training_there_gives_the_bits_of_the_cpu(there, mode, looks):
    with fb.compiler_options(mode=mode):
        before = len(pretend_device.launches)
        found = trained(there, looks)
        assert len(pretend_device.launches) > before
        expected = trained(CPU, looks)
    assert len(found) == len(expected) == 16 + 4 * looks
    for x, y in zip(found, expected, strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_a_step_is_one_plan_with_steps_on_both_devices(there, monkeypatch):
    """The loss picks elements, which the device has no kernels for: they are moved, within the plan."""
    made, link = [], devices.link
    monkeypatch.setattr(devices, "link", lambda *a: made.append(a[0]) or link(*a))
    with fb.compiler_options(mode="blocking"):
        trained(there, looks=False, steps=1, rows=3)
    steps = max(made, key=lambda program: len(program.kernels))
    assert {k.device for k in steps.kernels} == {CPU, there}
    assert [row[0] for row in steps.spec.steps].count(KERNEL_TRANSFER) >= 3


def test_steps_of_a_model_on_two_devices(there):
    """Layers on different devices, activations moved by hand: gradients go back the way, and one optimizer updates both."""

    def run(first: str, second: str) -> list[bytes]:
        net = model()
        net[0].to(first), net[2].to(second)
        optimizer = fb.optim.Adam(net.parameters(), lr=0.01)
        for k in range(2):
            x = fb.from_numpy(arrays(5, 10, seed=k)).to(first)
            loss = net[2](net[1](net[0](x)).to(second)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert [str(p.device) for p in net.parameters()] == [first, first, second, second]
        return [p.detach().cpu().numpy().tobytes() for p in net.parameters()]

    with fb.compiler_options(mode="blocking"):
        assert run(there, CPU) == run(CPU, CPU)


def test_a_step_that_was_seen_asks_no_rule(there):
    """Values on a device are recorded as others are: the second time the trie knows them."""
    with fb.compiler_options(mode="blocking"):
        net = model().to(there)
        optimizer = fb.optim.SGD(net.parameters(), lr=0.5)

        def step() -> None:
            loss = net(fb.ones(2, 10, device=there)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        for _ in range(4):
            step()
        before = recorder.stats()["misses"]
        step()
        assert recorder.stats()["misses"] == before
