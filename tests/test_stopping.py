"""Ctrl-C in a training loop: the step at hand ends, what was learned is saved, nothing remains."""

import os
import signal
import subprocess
import sys
import threading

import flambeau as fb
import pytest
from flambeau.utils.stopping import StopOnInterrupt


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.accept("GRB-28")
def test_the_step_at_hand_ends_and_what_was_learned_is_saved(tmp_path, capsys):
    path, weight, before = tmp_path / "model.safetensors", fb.zeros(1), signal.getsignal(signal.SIGINT)
    steps = []
    with StopOnInterrupt(lambda: fb.save({"weight": weight}, path)) as stop:
        for i in stop.over(range(100)):
            if i == 3:
                interrupt()
            weight += 1
            steps.append(i)
    assert stop.requested and steps == [0, 1, 2, 3] and fb.load(path)["weight"].tolist() == [4.0]
    assert signal.getsignal(signal.SIGINT) is before
    assert "[stopping] SIGINT: this step ends first" in capsys.readouterr().err


def test_without_an_interrupt_and_with_an_error_nothing_is_saved():
    saved = []
    with StopOnInterrupt(lambda: saved.append(1)) as stop:
        assert list(stop.over(range(3))) == [0, 1, 2]
    assert not stop.requested and not saved
    with pytest.raises(ZeroDivisionError), StopOnInterrupt(lambda: saved.append(1)):
        raise ZeroDivisionError
    assert not saved


@pytest.mark.accept("GRB-28")
def test_a_second_interrupt_stops_at_once_and_one_within_saving_waits():
    saved = []

    def save():
        interrupt()
        saved.append("whole")

    with pytest.raises(KeyboardInterrupt), StopOnInterrupt(save) as stop:
        interrupt()
        assert stop.requested
        interrupt()
        raise AssertionError("not reached")
    assert saved == ["whole"]
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt(save):
        interrupt()
    assert saved == ["whole", "whole"]


def test_other_signals_and_other_threads():
    with StopOnInterrupt(signals=[signal.SIGTERM]) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    failed = []

    def enter():
        try:
            StopOnInterrupt().__enter__()
        except ValueError as error:
            failed.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert failed == ["[StopOnInterrupt] signals reach the main thread only. Enter this there."]


PROGRAM = """
import os, signal, sys, time
import flambeau as fb
from flambeau.data import DataLoader, TensorDataset
from flambeau.utils.stopping import StopOnInterrupt

model = fb.nn.Linear(4, 1)
optimizer = fb.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(fb.randn(64, 4)), 8, num_workers=2)
with StopOnInterrupt(lambda: fb.save(model.state_dict(), sys.argv[1])) as stop:
    while not stop.requested:
        for (x,) in stop.over(loader):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        print("epoch", flush=True)
print("stopped", stop.requested)
"""


@pytest.mark.accept("GRB-28")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_program_with_workers_stops_cleanly(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model.safetensors")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == "epoch\n"
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does: to all processes of the terminal
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0 and out.endswith("stopped True\n"), err
    assert "Traceback" not in err
    assert set(fb.load(tmp_path / "model.safetensors")) == {"weight", "bias"}
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
