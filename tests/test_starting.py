"""What a process does until its first step: imports that leave the collector no work, sources that are not read again."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import flambeau.dialects
import pytest
from flambeau.compiler.caches import plan_cache
from flambeau.runtime.imports import imported, settled

# ---- imports and the collector


@pytest.fixture(autouse=True)
def nothing_is_frozen():
    gc.unfreeze()


def is_old(x):
    return any(x is each for each in gc.get_objects(generation=2))


def test_what_is_settled_is_old_and_collected_as_ever():
    seen = []

    def made():
        seen.append(gc.isenabled())
        return [[k] for k in range(3000)]

    found = settled(made)
    assert seen == [False] and gc.isenabled() and gc.get_freeze_count() == 0
    assert is_old(found) and is_old(found[-1])


def test_what_a_user_has_frozen_stays_frozen():
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        found = settled(lambda: [[]])
        assert gc.get_freeze_count() == count and not is_old(found)
    finally:
        gc.unfreeze()


def test_the_collector_works_after_an_error():
    with pytest.raises(ZeroDivisionError):
        settled(lambda: 1 // 0)
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_module_is_settled_where_it_is_imported_first(tmp_path, monkeypatch):
    (tmp_path / "settled_here.py").write_text("rows = [[k] for k in range(3000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = imported("settled_here")
    assert is_old(module.rows) and imported("settled_here") is module
    module.rows = young = [[]]
    assert imported("settled_here").rows is young and not is_old(young)
    del sys.modules["settled_here"]


def test_an_import_is_never_collected_while_it_is_young():
    code = """
import gc, numpy
found = []
gc.callbacks.append(lambda phase, info: found.append(len(gc.get_objects())) if phase == "start" else None)
import flambeau
print(len(found), gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects(generation=0)) < 2000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_collected, *rest = done.stdout.split()
    assert int(n_collected) <= 8 and rest == ["True", "0", "True"]  # it was 78 times


# ---- the digest of the sources


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder that counts as one of ours, with a file; and an empty cache."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(flambeau.dialects, "__path__", [*flambeau.dialects.__path__, str(tmp_path / "ours")])
    (tmp_path / "ours" / "inner").mkdir(parents=True)
    path = tmp_path / "ours" / "inner" / "source.py"
    path.write_text("x = 1\n")
    return path


def digest_of_sources():
    return plan_cache.toolchain.__wrapped__()


def test_sources_are_read_once(sources, monkeypatch):
    monkeypatch.setattr(plan_cache, "_SETTLED_NS", -(10**12))  # as if the file had been there for long
    first, read = digest_of_sources(), []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or real(self))
    assert digest_of_sources() == first and read == []


def test_a_change_of_the_same_size_and_time_is_seen(sources, monkeypatch):
    monkeypatch.setattr(plan_cache, "_SETTLED_NS", -(10**12))
    first, before = digest_of_sources(), sources.stat()
    sources.with_name("new").write_text("x = 2\n")
    os.replace(sources.with_name("new"), sources)
    os.utime(sources, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = digest_of_sources()
    assert second != first
    sources.write_text("x = 1\n")
    assert digest_of_sources() == first  # it goes by contents
    sources.with_name("more.py").write_text("")
    assert digest_of_sources() not in (first, second)


def test_what_has_just_changed_is_not_remembered(sources, tmp_path):
    digest_of_sources()
    assert not [p for p in (tmp_path / "cache" / "toolchains").rglob("*") if p.is_file()]
