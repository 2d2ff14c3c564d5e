"""Traces that come again are compiled whole: no op of them stays with what ran it at first, unless `explain()` says so."""

import time
from dataclasses import replace

import flambeau as fb
import pytest
from flambeau import programs
from flambeau.compiler.tools import report

SECONDS = 60


def made(before):
    return [p for p in report.programs() if not any(p is known for known in before)]


def step(x, w):
    y = (x @ w).softmax(1).sort(1).values[:, 1:].cumsum(0)
    loss = (y * y).mean() + y.amax() + x[0].exp().sum()
    loss.backward()
    w.grad, found = None, w.grad
    return loss.item(), found.tolist()


@pytest.mark.accept("ERR-07")
def test_a_hot_trace_is_one_fused_program_of_all_its_ops():
    fb.manual_seed(0)
    x, w = fb.rand(5, 4), fb.rand(4, 6, requires_grad=True)
    before = report.programs()
    with fb.compiler_options(mode="background"):
        first, until, settled = step(x, w), time.monotonic() + SECONDS, 0
        while settled < 10 and time.monotonic() < until:
            known = made(before)
            assert step(x, w) == first
            new = made(before)
            settled = settled + 1 if len(new) == len(known) and all(p.tier == "fused" for p in new) else 0
        assert new and {p.tier for p in new} == {"fused"}
        assert max(p.ops for p in new) > 20 and all(p.kernels and not p.error for p in new)


def test_what_stays_op_by_op_is_told(monkeypatch):
    monkeypatch.setattr(programs, "walker", lambda: None)  # when a walked trace is assembled, clocks decide
    x, before = fb.rand(7, 3), report.programs()
    with fb.compiler_options(mode="off"):
        for _ in range(3):
            found = (x * 3 - x.tanh().amax(0)).tolist()
    assert len(found) == 7
    off = [p for p in made(before) if p.mode == "off"]
    assert off and {p.tier for p in off} == {"generic"}
    told = fb.explain()
    assert any(r is off[-1] for r in told.reports)
    rows = [
        line.split() for line in str(replace(told, reports=tuple(off))).splitlines()
    ]  # it shows the first ones only
    assert any(row[:4] == ["generic", "not", "fused", str(off[-1].ops)] for row in rows)
