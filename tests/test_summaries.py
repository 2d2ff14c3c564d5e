"""`summary`: modules, shapes, parameters and floating-point operations of a model, found without running it."""

import flambeau as fb
import flambeau.nn as nn
import pytest
from flambeau.runtime import recorder


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8 * 4 * 4, 10)
        self.unused = nn.Linear(2, 2, bias=False)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


@pytest.mark.accept("GRB-25")
def test_a_summary_has_shapes_parameters_and_operations():
    net = Net()
    net.head.bias.requires_grad_(False)
    found = fb.summary(net, fb.zeros(2, 3, 8, 8))
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["", "features", "features.0", "features.1", "features.2", "features.3", "head", "unused"]
    assert (
        rows["features.0"].output == (2, 8, 8, 8)
        and rows["features"].output == (2, 8, 4, 4)
        and rows[""].output == (2, 10)
    )
    assert rows["features.0"].parameters == 3 * 8 * 9 + 8 and rows["unused"].output is None and not rows["unused"].calls
    maps = 2 * 8 * 8 * 8
    assert rows["features.0"].flops == 2 * maps * 27 + maps  # products and the bias
    assert rows["head"].flops == 2 * 2 * 128 * 10 + 20
    assert rows["features.2"].flops == maps
    assert rows["features"].flops == sum(rows[f"features.{i}"].flops for i in range(4))
    assert found.flops == rows[""].flops == rows["features"].flops + rows["head"].flops
    assert found.parameters == sum(p.numel() for p in net.parameters()) and found.trainable == found.parameters - 10
    assert found.parameter_bytes == 4 * found.parameters and found.buffer_bytes == 4 * 16 + 8
    text = repr(found)
    assert text.splitlines()[0].split() == ["module", "output", "parameters", "FLOPs"]
    assert (
        "  features: Sequential" in text and "    0: Conv2d" in text and "(2, 8, 4, 4)" in text and "trainable" in text
    )
    assert [row.name for row in fb.summary(net, fb.zeros(1, 3, 8, 8), depth=1).rows] == [
        "",
        "features",
        "head",
        "unused",
    ]


def test_a_summary_changes_nothing_and_runs_nothing():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    x = fb.ones(8, 4)
    before = net[0].num_batches_tracked.item(), net[0].running_mean.tolist()
    fb.manual_seed(3)
    wanted = fb.rand(2).tolist()
    fb.manual_seed(3)
    flushes = recorder.stats()["flushes"]
    fb.summary(net, x)
    assert recorder.stats()["flushes"] - flushes <= 1 and fb.rand(2).tolist() == wanted
    assert (net[0].num_batches_tracked.item(), net[0].running_mean.tolist()) == before
    assert not net._forward_hooks and not net[2]._forward_pre_hooks


def test_shared_modules_count_each_call_and_several_results_are_shown():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(3, 5)
            self.twin = nn.Linear(5, 5)

        def forward(self, x):
            y, (h, _) = self.cell(x)
            return {"y": self.twin(self.twin(y)), "h": h}

    found = fb.summary(Twice(), fb.zeros(4, 2, 3))
    rows = {row.name: row for row in found.rows}
    assert rows["twin"].calls == 2 and rows["twin"].flops == 2 * (2 * 8 * 25 + 40)
    assert rows["cell"].output == ((4, 2, 5), ((1, 2, 5), (1, 2, 5))) and rows[""].output == ((4, 2, 5), (1, 2, 5))
    assert rows["cell"].flops > 2 * 8 * (3 + 5) * 20 and "(4, 2, 5), (1, 2, 5), (1, 2, 5)" in repr(found)


def test_what_summaries_refuse():
    class Looks(nn.Module):
        def forward(self, x):
            return x * (2 if x.sum().item() > 0 else 3)

    with pytest.raises(TypeError, match=r"\[summary\] the model is a int"):
        fb.summary(3, fb.ones(1))
    net = Looks()
    with pytest.raises(RuntimeError):
        fb.summary(net, fb.ones(1))
    assert not net._forward_hooks and net(fb.ones(1)).tolist() == [2.0]
