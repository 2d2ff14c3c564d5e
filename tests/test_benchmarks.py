"""The benchmark harness: peers take turns, compilation is reported apart from the timed steps, spread beside the median."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"


def loaded(monkeypatch, path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch):
    return loaded(monkeypatch, RUN)


@pytest.fixture
def decode(monkeypatch):
    return loaded(monkeypatch, RUN.parent / "decode.py")


@pytest.mark.accept("VER-08")
def test_peers_take_turns_and_compilation_is_not_timed(run, monkeypatch, capsys):
    turns, peers = [], {}

    class Peer(run.Peer):
        def measure(self, seconds):
            peers[self.name] = self
            turns.append((self.name, seconds))
            super().measure(seconds)

    monkeypatch.setattr(run, "Peer", Peer)
    core = str(min(os.sched_getaffinity(0)))
    args = argparse.Namespace(peers="flambeau,numpy", threads=1, core=core, rounds=3, seconds=0.04, cache="")
    rows = run.bench("W6_fwd_1e3", args)
    warm, timed = turns[:2], turns[2:]
    assert warm == [("flambeau", 0.02), ("numpy", 0.02)]
    assert timed == [("flambeau", 0.04), ("numpy", 0.04)] * 3
    for name, row in rows.items():
        assert len(peers[name].times) == args.rounds
        assert row["median_ms"] == sorted(peers[name].times)[1] * 1e3
        assert row["spread"] == max(peers[name].times) / min(peers[name].times) >= 1
    compiling = peers["flambeau"].report["first"][0]  # into a cache of its own, so that it does compile
    assert compiling > 10 * max(peers["flambeau"].times)
    assert rows["flambeau"]["third_step_s"] > compiling
    assert rows["flambeau"]["loss"] == pytest.approx(rows["numpy"]["loss"], rel=1e-5)
    run.show("W6_fwd_1e3", rows)
    shown = capsys.readouterr().out
    assert "spread" in shown and "3 steps" in shown and "flambeau" in shown and "numpy" in shown


@pytest.mark.accept("VER-08")
def test_a_peer_that_cannot_run_is_said_to(run, capsys):
    core = str(min(os.sched_getaffinity(0)))
    args = argparse.Namespace(peers="numpy", threads=1, core=core, rounds=1, seconds=0.01, cache="")
    rows = run.bench("W1_b64", args)
    assert "median_ms" not in rows["numpy"]
    run.show("W1_b64", rows)
    assert rows["numpy"]["unsupported"] in capsys.readouterr().out


@pytest.mark.accept("VER-08")
def test_decoding_reports_its_cold_episode_apart(decode, capsys):
    core = str(min(os.sched_getaffinity(0)))
    args = argparse.Namespace(peers="flambeau", threads=1, core=core, rounds=2, cache="")
    row = decode.bench("decode", args)["flambeau"]
    assert 2 <= row["compilations"] <= 12  # not one per token
    assert 0 < row["step_ms"] * 1e-3 * 256 < 2 * row["episode_s"] and row["cold_s"] > row["episode_s"]
    decode.show("decode", {"flambeau": row})
    assert "1.00x" in capsys.readouterr().out


def test_a_peer_that_computes_something_else_is_an_error(decode):
    def peer(name, answers):
        return argparse.Namespace(name=name, report={"answers": answers})

    decode.check(peer("a", [3, 1.00001]), peer("b", [3, 1.0]))
    for answers in ([4, 1.0], [3, 1.1]):
        with pytest.raises(SystemExit, match="a computes something else than b"):
            decode.check(peer("a", answers), peer("b", [3, 1.0]))
