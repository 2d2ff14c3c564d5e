"""Schedules that other packages choose: entry points in the group `flambeau.schedules`."""

import sys
import warnings

import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.caches import plan_cache
from flambeau.compiler.options import Options
from flambeau.compiler.workers import pool
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from test_plugin import offer

PLUGIN = """
from dataclasses import replace


def single(group, machine, default):
    assert group.ops and machine.registers
    return replace(default, unroll=1) if default.kind == "points" else None


def wrong(group, machine, default):
    return replace(default, part=64)


def raising(group, machine, default):
    raise KeyError("no such loop")


def number(group, machine, default):
    return 3


nothing = None
"""


@pytest.fixture
def offers(tmp_path, monkeypatch):
    """Install a package that offers these schedules."""

    def install(*names: str) -> None:
        site = tmp_path / "site"
        entries = {name: f"schedules_of_tests_module:{name}" for name in names}
        offer(site, "schedules-of-tests", "1.0", {"flambeau.schedules": entries})
        (site / "schedules_of_tests_module.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(str(site))

    pool.shutdown()  # workers keep what they have imported
    yield install
    pool.shutdown()
    sys.modules.pop("schedules_of_tests_module", None)


X = np.linspace(-1, 1, 640, dtype=np.float32)


def program() -> Graph:
    b = GraphBuilder()
    x = b.input(Aval(X.shape, float32))
    b.graph.outputs = [find("maximum")(x * x, x).id]
    return b.graph


def run(**options) -> tuple[list[float], str]:
    """The result, and the schedule of the one kernel."""
    graph = program()
    executable = driver.compile(graph, Options(mode="blocking", **options))
    (found,) = executable([X])
    assert executable.report.tier == "fused"
    (schedule,) = executable.report.schedules
    return to_array(found, graph.avals[graph.outputs[0]]).tolist(), schedule


def test_a_plug_in_chooses_and_a_user_has_the_last_word(offers):
    wanted, plain = run()
    key = plan_cache.key(program(), Options())
    offers("single")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, schedule = run()
        assert (found, schedule) == (wanted, plain.replace("unroll = 4", "unroll = 1")) and schedule != plain
        assert run(without=("single",)) == (wanted, plain)
        replaced = run(schedules={"points": {"lanes": 4}})[1]
    assert "lanes = 4, unroll = 1" in replaced
    assert plan_cache.key(program(), Options()) != key


@pytest.mark.parametrize(
    "name, message",
    [
        ("wrong", "does not fit: [schedule] points("),
        ("raising", "raised KeyError: 'no such loop'"),
        ("number", "gave int. Give a Schedule, or None."),
        ("nothing", "is None. Make it a function (group, machine, default)"),
    ],
)
def test_what_is_no_schedule_for_the_nest_is_refused_by_name_and_left_out(offers, name, message):
    wanted, plain = run()
    offers(name)
    with pytest.warns(RuntimeWarning) as caught:
        assert run() == (wanted, plain)
    (warning,) = [str(w.message) for w in caught if "schedules-of-tests" in str(w.message)]
    assert f"schedule '{name}' of schedules-of-tests 1.0 {message}" in warning
    if name == "wrong":
        assert "part = 64" in warning and "points nest of 640: mul+maximum" in warning and "linalg.generic" in warning
