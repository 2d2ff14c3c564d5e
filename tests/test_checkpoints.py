"""Checkpoints of whole trainings: resumed to the bit, whole at every moment, checked, renamed, in part."""

import os
import random
import subprocess
import sys
import time

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.checkpoints import CheckpointManager, ResumableLoader, architecture, fingerprint, migrated, resharded
from support import rounds


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        return self.head(fb.nn.functional.dropout(self.encoder(x), 0.2))


def training(folder, **options):
    net = Net()
    optimizer = fb.optim.Adam(net.parameters(), lr=0.05)
    scheduler = fb.optim.lr_scheduler.StepLR(optimizer, 3)
    data = fb.utils.data.TensorDataset(fb.arange(60).view(20, 3).float() / 30)
    loader = ResumableLoader(fb.utils.data.DataLoader(data, batch_size=4, shuffle=True))
    manager = CheckpointManager(
        folder, model=net, optimizer=optimizer, scheduler=scheduler, loader=loader, config={"width": 4}, **options
    )
    return net, optimizer, scheduler, loader, manager


def steps(made, count, seen, save_at=None, **how):
    net, optimizer, scheduler, loader, manager = made
    done = 0
    while True:
        for (x,) in loader:
            optimizer.zero_grad()
            (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
            scheduler.step()
            seen.append((x.tolist(), random.random(), np.random.rand()))
            done += 1
            if done == save_at:
                manager.save(done, best=0.5, **how)
            if done == count:
                return [p.detach().clone() for p in net.parameters()]


@pytest.mark.accept("SER-07")
@pytest.mark.parametrize("how", [{}, {"wait": False}])
def test_a_training_goes_on_as_if_it_had_not_stopped(tmp_path, how):
    fb.manual_seed(3)
    first, whole = training(tmp_path), []
    expected = steps(first, 9, whole, save_at=3, **how)
    first[-1].wait()
    fb.manual_seed(77)
    again, rest = training(tmp_path), []
    report = again[-1].load()
    assert report == {"step": 3, "renamed": {}, "missing": [], "unexpected": [], "more": {"best": 0.5}}
    found = steps(again, 6, rest)
    assert rest == whole[3:]
    for a, b in zip(expected, found):
        assert a.tolist() == b.tolist()
    assert again[1].param_groups[0]["lr"] == first[1].param_groups[0]["lr"]


@pytest.mark.accept("SER-08")
def test_a_snapshot_is_of_the_moment(tmp_path):
    net = nn.Linear(300, 300)
    manager = CheckpointManager(tmp_path, model=net)
    before = net.weight.detach().clone().numpy().copy()
    manager.save(0, wait=False)
    with fb.no_grad():
        for _ in range(5):
            net.weight.add_(1.0)
    manager.wait()
    np.testing.assert_array_equal(fb.load(manager.path() / "model.safetensors")["weight"].numpy(), before)
    os.chmod(tmp_path, 0o700)
    manager.folder = tmp_path / "step-0000000000" / "model.safetensors"  # a file: nothing can be written there
    manager.save(1, wait=False)
    with pytest.raises(OSError):
        manager.wait()
    manager.wait()


@pytest.mark.accept("SER-07")
def test_the_last_ones_stay(tmp_path):
    net = nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path, keep=2, model=net)
    assert manager.latest() is None and manager.steps() == []
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint of step None\. There are none\."):
        manager.load()
    for step in (1, 5, 3, 20):
        manager.save(step)
    assert manager.steps() == [5, 20] and manager.latest() == 20 and len(os.listdir(tmp_path)) == 2
    manager.save(20)
    assert manager.path(5).is_dir() and manager.facts()["step"] == 20
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7\. There are \[5, 20\]"):
        manager.load(7)
    for keep in (0, -1):
        with pytest.raises(ValueError, match=r"\[CheckpointManager\] keep is"):
            CheckpointManager(tmp_path, keep=keep, model=net)
    with pytest.raises(TypeError, match="'optimizer' is a int, which has no state_dict"):
        CheckpointManager(tmp_path, optimizer=3)
    with pytest.raises(ValueError, match="step is -1"):
        manager.save(-1)


@pytest.mark.accept("SER-06", "SER-09")
def test_another_model_is_refused_and_nothing_loaded(tmp_path):
    net = Net()
    manager = CheckpointManager(tmp_path, model=net, config={"width": 4, "tags": ["a"]})
    manager.save(1)
    facts = manager.facts()
    assert facts["config"] == {"width": 4, "tags": ["a"]} and facts["hash"] == fingerprint(architecture(Net()))
    assert fingerprint(architecture(Net(5))) != facts["hash"]
    other = Net(5)
    before = other.head.weight.tolist()
    with pytest.raises(
        RuntimeError, match=r"is of another model: the checkpoint has 'encoder\.0: Linear\(in_features=3, out"
    ):
        CheckpointManager(tmp_path, model=other).load()
    assert other.head.weight.tolist() == before
    activated = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    CheckpointManager(tmp_path / "b", model=activated).save(1)
    with pytest.raises(RuntimeError, match=r"the checkpoint has '1: ReLU\(\)', the model '1: Tanh\(\)'"):
        CheckpointManager(tmp_path / "b", model=nn.Sequential(nn.Linear(2, 2), nn.Tanh())).load()
    CheckpointManager(tmp_path / "b", model=nn.Sequential(nn.Linear(2, 2), nn.Tanh())).load(check=False)
    with pytest.raises(RuntimeError, match=r"has no scheduler\. It has \['model'\]"):
        CheckpointManager(tmp_path, model=net, scheduler=net).load()


@pytest.mark.accept("SER-03", "SER-04", "SER-05")
def test_names_that_changed(tmp_path):
    old = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    CheckpointManager(tmp_path, model=old).save(1)
    assert CheckpointManager(tmp_path).keys()["0.weight"] == ((3, 2), "float32")

    class New(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.tail = nn.Linear(2, 3), nn.Linear(3, 1)

    new = New()
    rules = [(r"^0\.", "body."), (r"^1\.", "tail.")]
    report = CheckpointManager(tmp_path, model=new, version=2, migrations={1: rules}).load()
    assert report["renamed"]["0.weight"] == "body.weight" and new.body.weight.tolist() == old[0].weight.tolist()
    report = CheckpointManager(tmp_path, model=New()).load(
        rules=[*rules, lambda n: None if "tail" in n else n], strict=False
    )
    assert report["missing"] == ["tail.weight", "tail.bias"] and report["renamed"]["1.bias"] is None
    CheckpointManager(tmp_path, model=new, version=2).save(2)
    with pytest.raises(RuntimeError, match="has names of version 2, this program of 1"):
        CheckpointManager(tmp_path, model=new).load()
    with pytest.raises(ValueError, match=r"\[migrated\] 'b' and another name both become 'x'"):
        migrated({"a": 1, "b": 2}, [("[ab]", "x")])


@pytest.mark.accept("SER-10")
def test_one_part_by_its_path(tmp_path):
    net, other = Net(), Net()
    manager = CheckpointManager(tmp_path, model=net)
    manager.save(4)
    head = other.head.weight.tolist()
    manager.load_part(other.encoder, "encoder")
    assert other.encoder[0].weight.tolist() == net.encoder[0].weight.tolist() and other.head.weight.tolist() == head
    with pytest.raises(KeyError, match="the saved model has nothing at 'decoder'"):
        manager.load_part(other.encoder, "decoder")


@pytest.mark.accept("SER-10")
def test_slices_of_what_was_saved_whole(tmp_path):
    whole = nn.Linear(4, 6)
    manager = CheckpointManager(tmp_path, model=whole)
    manager.save(1)
    rows = [slice(0, 4), slice(4, 6)]
    shards = [nn.Linear(4, 4), nn.Linear(4, 2)]
    for shard, part in zip(shards, rows):
        manager.load_slices(shard, {"weight": part, "bias": part})
        assert shard.weight.tolist() == whole.weight[part].tolist() and shard.bias.tolist() == whole.bias[part].tolist()
    narrow = nn.Linear(2, 6)
    manager.load_slices(
        narrow, lambda name, shape: (slice(None), slice(shape[1] - 2, None)) if len(shape) == 2 else None
    )
    assert narrow.weight.tolist() == whole.weight[:, 2:].tolist() and narrow.bias.tolist() == whole.bias.tolist()
    with pytest.raises(RuntimeError, match="weight"):
        manager.load_slices(nn.Linear(4, 3), {"weight": rows[0]})
    states = [shard.state_dict() for shard in shards]
    axes = {"weight": 0, "bias": 0}
    (again,) = resharded(states, axes, 1)
    assert again["weight"].tolist() == whole.weight.tolist() and again["bias"].tolist() == whole.bias.tolist()
    three = resharded(states, {"weight": 0}, 3)
    assert [s["weight"].tolist() for s in three] == [whole.weight[k : k + 2].tolist() for k in (0, 2, 4)]
    assert all(s["bias"].tolist() == shards[0].bias.tolist() for s in three)
    with pytest.raises(KeyError, match=r"\[resharded\] the state has no 'scale'\. It has weight, bias"):
        resharded(states, {"scale": 0}, 2)
    with pytest.raises(ValueError, match="2 state dicts are to become 0"):
        resharded(states, axes, 0)


@pytest.mark.accept("SER-07")
def test_a_training_goes_on_in_another_dtype(tmp_path):
    def made(dtype):
        net = nn.Linear(3, 2).to(dtype)
        return (
            net,
            (optimizer := fb.optim.Adam(net.parameters())),
            CheckpointManager(tmp_path, model=net, optimizer=optimizer),
        )

    net, optimizer, manager = made(fb.float32)
    net(fb.ones(1, 3)).sum().backward()
    optimizer.step()
    manager.save(1)
    other, others, again = made(fb.float64)
    with pytest.raises(RuntimeError, match=r"'weight: \(2, 3\) float32', the model 'weight: \(2, 3\) float64'"):
        again.load()
    again.load(check=False)
    state = others.state[other.weight]
    assert other.weight.dtype is state["exp_avg"].dtype is fb.float64
    assert other.weight.tolist() == net.weight.tolist() and state["step"].item() == 1


FULL_DISK = """
import os, resource, sys, flambeau as fb
from flambeau.checkpoints import CheckpointManager
net = fb.nn.Linear(200, 200)
manager = CheckpointManager(sys.argv[1], model=net)
manager.save(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for wait in (True, False):
    try:
        manager.save(1, wait=wait)
        manager.wait()
    except OSError as error:
        print("refused", error.strerror or error)
print(os.listdir(sys.argv[1]), manager.load()["step"])
"""


@pytest.mark.accept("SER-07")
def test_where_the_disk_is_full_the_last_one_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "c")], capture_output=True, text=True)
    *refused, last = done.stdout.splitlines()
    assert len(refused) == 2 and all(line.startswith("refused") for line in refused), done.stderr
    assert last == "['step-0000000000'] 0"


def test_malformed_facts(tmp_path):
    manager = CheckpointManager(tmp_path, model=nn.Linear(1, 1))
    manager.save(1)
    for content in ("", "[1]", '{"format": 9}', "[" * 100_000):
        (manager.path() / "checkpoint.json").write_text(content)
        with pytest.raises(ValueError, match=r"checkpoint\.json is malformed"):
            manager.load()


SAVER = """
import sys, flambeau as fb
from flambeau.checkpoints import CheckpointManager
net = fb.nn.Linear(64, 64)
manager = CheckpointManager(sys.argv[1], keep=2, model=net, optimizer=fb.optim.SGD(net.parameters(), 0.1))
print("ready", flush=True)
for k in range(1 << 30):
    net.weight.data.fill_(float(k))
    manager.save(k, wait=k % 2 == 0)
"""


@pytest.mark.accept("SER-07")
def test_killed_at_any_moment_it_leaves_whole_checkpoints(tmp_path):
    moments = random.Random(15)
    for n in range(rounds(2, 20, 1000)):
        folder = tmp_path / str(n)
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        while not (folder.is_dir() and any(name.startswith("step") for name in os.listdir(folder))):
            time.sleep(0.01)
        time.sleep(moments.uniform(0.02, 0.3))
        process.kill()
        process.wait()
        net = fb.nn.Linear(64, 64)
        manager = CheckpointManager(folder, keep=2, model=net, optimizer=fb.optim.SGD(net.parameters(), 0.1))
        assert 1 <= len(manager.steps()) <= 4
        for step in manager.steps():
            manager.load(step)
            assert net.weight.unique().tolist() == [float(step)]
        manager.save(manager.latest() + 1)
        assert sorted(os.listdir(folder)) == [f"step-{k:010d}" for k in manager.steps()]
