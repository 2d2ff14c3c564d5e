"""Shared by the tests of compiler processes: a process without any, and ways to make them fail."""

import subprocess
import sys
import textwrap
import time

from flambeau.compiler import driver
from flambeau.compiler.baseline import one_op, op_plans
from flambeau.compiler.caches import kernel_cache, plan_cache
from flambeau.compiler.workers import pool


def without(tmp_path, monkeypatch):
    """For fixtures: empty caches and no workers; gives the caches' folder."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    clear()
    yield tmp_path / "cache"
    clear()


def clear():
    pool.shutdown()
    driver._compiled.clear()
    op_plans._plans.clear()
    op_plans._asked.clear()
    one_op._known.clear()
    plan_cache.shared.cache_clear()
    kernel_cache.shared.cache_clear()


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def sabotage(monkeypatch, text, parent="0"):
    """Run `text` in every worker as it serves its first request. With `parent`, it ends with that process."""
    code = f"import flambeau.compiler.workers.worker as w\n{textwrap.dedent(text)}\nw.main(30.0, 10, {parent})"
    real = subprocess.Popen

    def start(command, **kwargs):
        return real([sys.executable, "-P", "-c", code], **kwargs)

    monkeypatch.setattr(subprocess, "Popen", start)
