"""`flambeau.multiprocessing`: tensors that are sent share memory, processes belong together; `random`, `autograd.profiler`."""

import json
import multiprocessing as pythons
import os
import signal
import subprocess
import sys
import time

import flambeau as fb
import pytest
from flambeau import multiprocessing as mp
from flambeau import nn, random
from flambeau.autograd import profiler
from flambeau.functions import sharing

sharing._moves = False  # which importing has set: what tests beside these send goes as it went before


@pytest.fixture
def moving(monkeypatch):
    monkeypatch.setattr(sharing, "_moves", True)


IMPORTED = """
from multiprocessing.reduction import ForkingPickler
import flambeau.multiprocessing as mp
import flambeau as fb
reader, writer = mp.Pipe(duplex=False)
class Mine(fb.Tensor): pass
for sent in (fb.nn.Linear(2, 1).weight, fb.nn.Parameter(fb.ones(2)), fb.ones(2)):  # whose classes are there after the import
    writer.send(sent)
    print(reader.recv().is_shared())
print(Mine in ForkingPickler._extra_reducers)
"""


def test_importing_it_shares_what_is_sent():
    told = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    assert told.stdout.split() == ["True"] * 4, told.stderr


@pytest.mark.accept("CRE-03")
def test_what_is_sent_shares_memory(moving):
    reader, writer = mp.Pipe(duplex=False)
    x = fb.zeros(2, 3)
    writer.send((x, x[1], {"layer": nn.Linear(2, 1)}))
    whole, part, rest = reader.recv()
    x.add_(1)
    fb.flush()
    assert whole.tolist() == [[1] * 3] * 2 and part.tolist() == [1] * 3 and x.is_shared()
    assert isinstance(rest["layer"].weight, nn.Parameter) and rest["layer"].weight.is_shared()
    with pytest.raises(RuntimeError, match=r"\[pickle\] only leaf tensors"):
        writer.send(fb.ones(2, requires_grad=True) * 2)


def test_it_has_what_pythons_has():
    for name in pythons.__all__:
        assert getattr(mp, name) is getattr(pythons, name)
    assert mp.get_sharing_strategy() in mp.get_all_sharing_strategies()
    before = mp.get_sharing_strategy()
    try:
        mp.set_sharing_strategy("file_system")
        assert mp.get_sharing_strategy() == "file_system"
        with pytest.raises(AssertionError, match=r"\[set_sharing_strategy\] there is no strategy 'other'"):
            mp.set_sharing_strategy("other")
    finally:
        mp.set_sharing_strategy(before)


def add(i, x, y):
    (x if i else y).add_(i + 1)
    fb.flush()


def test_processes_write_where_the_parent_reads(moving):
    x, y = fb.zeros(3).share_memory_(), fb.zeros(2).share_memory_()
    assert mp.start_processes(add, (x, y), 2, start_method="fork") is None
    assert x.tolist() == [2] * 3 and y.tolist() == [1] * 2


SPAWNED = """
import flambeau as torch
from multiprocessing.reduction import ForkingPickler
import flambeau.multiprocessing as mp

def add(i, x):
    x.add_(i + 1)
    torch.flush()

if __name__ == "__main__":
    x = torch.zeros(2)
    mp.spawn(add, args=(x,), nprocs=1)
    print(x.tolist())
"""


def test_spawned_processes_do_as_well(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPAWNED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["[1.0,", "1.0]"]


def fail(i, how):
    if i == 0:
        time.sleep(60)
    if how == "raise":
        raise KeyError("mine")
    if how == "exit":
        sys.exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_fails_ends_the_others():
    with pytest.raises(
        mp.ProcessRaisedException, match=r"\[spawn\] process 1 raised:(.|\n)*KeyError: 'mine'"
    ) as raised:
        mp.start_processes(fail, ("raise",), 2, start_method="fork")
    assert raised.value.error_index == 1 and raised.value.pid > 0
    context = mp.start_processes(fail, ("exit",), 2, join=False, start_method="fork")
    assert len(context.pids()) == 2
    with pytest.raises(mp.ProcessExitedException, match="process 1 ended with code 3") as exited:
        while not context.join():
            pass
    assert exited.value.exit_code == 3 and not any(p.is_alive() for p in context.processes)
    assert not any(os.path.exists(path) for path in context.error_files)
    with pytest.raises(mp.ProcessExitedException, match="process 1 was ended by SIGKILL"):
        mp.start_processes(fail, ("kill",), 2, start_method="fork")


def test_a_forked_generator_goes_on_as_if_nothing_had_been_drawn():
    fb.manual_seed(5)
    wanted = fb.rand(3).tolist()
    random.manual_seed(5)
    with random.fork_rng():
        assert fb.rand(3).tolist() == wanted
        random.seed()
    assert random.initial_seed() == 5 and fb.rand(3).tolist() == wanted
    random.manual_seed(5)
    with random.fork_rng(enabled=False):
        fb.rand(3)
    assert fb.rand(3).tolist() != wanted


def test_the_profiler_names_blocks_and_kernels(tmp_path):
    @profiler.record_function("whole")
    def work(x):
        with profiler.record_function("part"):
            return (x @ x).sum()

    x = fb.rand(32, 32)
    assert work(x).shape == ()  # without a profile nothing is measured
    with profiler.profile() as p:
        work(x)
        work(x)
    rows = {row.key: row for row in p.key_averages()}
    assert rows["whole"].count == rows["part"].count == 2
    assert rows["whole"].cpu_time_total >= rows["part"].cpu_time_total > 0
    assert any("matmul" in name for name in rows)
    text = p.key_averages().table(sort_by="self_cpu_time_total", row_limit=1).splitlines()
    assert " ".join(text[0].split()) == "Name CPU total us CPU time avg us # of Calls" and text[1].startswith("whole")
    assert p.total_average().count == sum(row.count for row in rows.values()) and str(p) == p.table("cpu_time_total")
    p.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"whole", "part"} < {event["name"] for event in events}
    with profiler.profile(enabled=False) as off:
        work(x)
    assert off.key_averages() == []
    for emit in (profiler.emit_itt, profiler.emit_nvtx):
        with emit(enabled=False):
            pass
        with pytest.raises(RuntimeError, match="no profiler of another maker"), emit():
            pass
