"""What the caches execute was put there by this user: whoever else could have written it, by whatever path, is refused."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import workers
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.caches import kernel_cache, plan_cache, private
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.export import linker
from flambeau.compiler.targets import platforms
from flambeau.compiler.tools import report
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from random_graphs import same_bits
from test_crew import BLOCKING, X, program

NAME, OTHER = f"ab{'0' * 38}", f"ab{'1' * 38}"


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    yield from workers.without(tmp_path, monkeypatch)


def entries(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def entry(folder, name=NAME):
    return folder / name[:2] / name


def filled(folder, kind="kernel"):
    store = ObjectStore.open(folder, kind)
    store.write(NAME, b"code")
    return store


# ---- entries are what their names say


def test_an_entry_is_bound_to_its_name_kind_and_form(tmp_path):
    store = filled(tmp_path / "k")
    sound = entry(tmp_path / "k").read_bytes()
    assert store.read(NAME) == b"code"
    entry(tmp_path / "k", OTHER).write_bytes(sound)
    assert store.read(OTHER) is None and not entry(tmp_path / "k", OTHER).exists()
    assert ObjectStore.open(tmp_path / "k", "plan").read(NAME) is None
    for damaged in (b"FLMB\x01" + sound[5:], sound[:-1], sound + b"x", sound[:37], b"", b"FLMB", sound[5:]):
        entry(tmp_path / "k").write_bytes(damaged)
        assert store.read(NAME) is None


@pytest.mark.parametrize("kind", ["kernels", "plans"])
def test_programs_survive_entries_under_each_others_names(fresh, kind):
    """Rotated, swapped between kinds, cut: what is no entry is compiled anew, to the same bits."""
    programs = program(), _smaller()
    wanted = [results(g) for g in programs]
    for change in (lambda c: c[1:] + c[:1], lambda c: c[::-1], lambda c: [x[: len(x) // 2] for x in c]):
        files = entries(fresh / kind)
        assert len(files) > 1
        for file, content in zip(files, change([f.read_bytes() for f in files])):
            file.write_bytes(content)
        workers.clear()
        for graph, expected in zip(programs, wanted):
            assert all(map(same_bits, results(graph), expected))


def results(graph):
    """What the program gives, compiled or found."""
    executable = driver.compile(graph, BLOCKING)
    assert executable.ready()
    inputs = [np.resize(X, graph.avals[v].shape) for v in graph.inputs]
    return [to_array(o, graph.avals[v]) for o, v in zip(executable(inputs), graph.outputs, strict=True)]


def _smaller():
    builder = GraphBuilder()
    x = builder.input(Aval((3,), float32))
    builder.graph.outputs = [(x * x - x).id]
    return builder.graph


def test_what_is_no_file_of_ours_is_no_entry(tmp_path, monkeypatch):
    """A link, a pipe, a folder, a file with a second name, one that others may write, one of another user."""
    path = entry(tmp_path / "k")

    def link():
        os.rename(path, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")

    def pipe():
        path.unlink()
        os.mkfifo(path, 0o600)

    for change in (link, pipe, lambda: os.link(path, tmp_path / "second"), lambda: path.chmod(0o660)):
        store = filled(tmp_path / "k")
        assert store.read(NAME) == b"code"
        change()
        assert store.read(NAME) is None and store.damaged == 1
        for left in ("elsewhere", "second"):
            (tmp_path / left).unlink(missing_ok=True)
    store = filled(tmp_path / "k")
    path.unlink()
    path.mkdir()
    assert store.read(NAME) is None
    path.rmdir()
    store = filled(tmp_path / "k")
    monkeypatch.setattr(private, "is_foreign", lambda status: True)
    assert store.read(NAME) is None


# ---- folders


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777, 0o775])
@pytest.mark.parametrize("place", ["a/b/k/ab", "a/b/k", "a/b", "a"])
def test_a_folder_that_others_can_write_is_refused_wherever_it_is_on_the_path(tmp_path, monkeypatch, mode, place):
    """When the store is opened, and when the folder is opened to others later; closed again, it serves again."""
    monkeypatch.setattr(private, "_is_private_group", lambda number: False)
    folder, changed = tmp_path / "a" / "b" / "k", tmp_path / place
    store = filled(folder)
    before = entries(tmp_path)
    changed.chmod(mode)
    if mode == 0o1777 and place == "a":  # sticky, and the next folder is ours: nobody can replace it
        assert store.read(NAME) == b"code"
        return
    message = rf"\[cache\] .* can be written by others \(mode {mode:04o}\).*FLAMBEAU_CACHE"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        assert store.read(NAME) is None
        store.write(OTHER, b"more")
        assert store.read(NAME) is None
    assert len(caught) == 1 and entries(tmp_path) == before and store.damaged == 0
    if place != "a/b/k/ab":
        with pytest.warns(RuntimeWarning, match=message):
            assert ObjectStore.open(folder, "kernel") is None
    changed.chmod(0o700)
    assert store.read(NAME) == b"code"


def test_a_group_of_the_user_alone_may_write_above_the_cache_but_not_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(private, "_is_private_group", lambda number: True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o770)
    assert private.make(tmp_path / "a" / "b" / "k") is None
    monkeypatch.setattr(private, "_has_acl", lambda path: True)
    assert "can be written by others" in private.make(tmp_path / "a" / "b" / "k")
    monkeypatch.setattr(private, "_has_acl", lambda path: False)
    (tmp_path / "a" / "b").chmod(0o770)
    assert "can be written by others" in private.make(tmp_path / "a" / "b" / "k")


def test_links_are_followed_and_what_they_lead_through_is_checked(tmp_path):
    safe, open_, cache = tmp_path / "safe", tmp_path / "open", tmp_path / "open" / "cache"
    for folder in (safe, open_, cache):
        folder.mkdir(mode=0o700)
    (safe / "through").symlink_to(cache)
    (safe / "relative").symlink_to("../open/./cache")
    (safe / "loop").symlink_to("loop")
    for link in ("through", "relative"):
        assert private.exposure(safe / link) is None
    open_.chmod(0o777)
    for link in ("through", "relative"):
        assert f"lies in {open_}, which can be written by others" in private.exposure(safe / link)
    with pytest.raises(OSError, match="symbolic links"):
        private.exposure(safe / "loop")
    open_.chmod(0o1777)
    assert private.exposure(safe / "through") is None


class Owned:
    """The status of a path as if another user owned it."""

    def __init__(self, status, uid):
        self.st_mode, self.st_gid, self.st_uid = status.st_mode, status.st_gid, uid


@pytest.mark.parametrize("which, words", [("link", "through"), ("above", "belongs"), ("k", "belongs")])
def test_folders_and_links_of_other_users_are_refused(tmp_path, monkeypatch, which, words):
    folder = tmp_path / "above" / "k"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to("above")
    assert private.exposure(tmp_path / "link" / "k") is None
    real, other = os.lstat, os.geteuid() + 4321
    monkeypatch.setattr(
        os, "lstat", lambda p, **k: Owned(real(p), other) if os.path.basename(p) == which else real(p, **k)
    )
    reason = private.exposure(tmp_path / "link" / "k")
    assert words in reason and f"(uid {other})" in reason


def test_missing_folders_are_made_for_this_user_alone(tmp_path):
    before = os.umask(0)
    try:
        assert private.make(tmp_path / "a" / "b" / "k") is None
    finally:
        os.umask(before)
    for made in ("a", "a/b", "a/b/k"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o700


def test_a_user_without_a_home_gets_memory_only(monkeypatch):
    for name in ("FLAMBEAU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.warns(RuntimeWarning, match="there is no home folder. Compiled code is kept in memory only"):
        assert ObjectStore.of_user("kernel") is None


# ---- everything else that lies in the cache


def test_nothing_of_an_open_cache_is_used(tmp_path, monkeypatch, fresh):
    """Kernels, plans, what Zig compiled, reproducers."""
    fresh.mkdir()
    fresh.chmod(0o777)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert driver.compile(program(), BLOCKING).ready()
        zig = linker.zig(platforms.find("x86_64-linux"))
        path = report.reproducer(program(), "k" * 40, "no reason")
    assert kernel_cache.shared().store is None and plan_cache.shared().store is None
    assert zig is None or zig.cache is None
    assert "tape.matmul" in Path(path).read_text() and Path(path).parent.stat().st_mode & 0o777 == 0o700
    assert entries(fresh) == [] and all("[cache]" in str(w.message) for w in caught)
    shutil.rmtree(Path(path).parent)


def test_reproducers_are_bounded(fresh, monkeypatch):
    monkeypatch.setattr(report, "_KEPT", 3)
    paths = [report.reproducer(_smaller(), f"{k:040d}"[::-1], "no reason") for k in range(6)]
    assert len(set(paths)) == 6 and len(entries(fresh / "failed")) == 3 and Path(paths[-1]).exists()


OPENED = """
import os, sys, warnings
import flambeau as fb
warnings.simplefilter("always")
def step(k):
    with fb.compiler_options(mode="blocking"):
        return (fb.ones(3) * k + k).sum().item()
def files():
    return sum(len(f) for _, _, f in os.walk(os.environ["FLAMBEAU_CACHE"]))
step(1.5); first = files()
os.chmod(os.environ["FLAMBEAU_CACHE"], 0o777)
with fb.compiler_options(fuse=False): values = step(2.5), (fb.ones(7, 3) @ fb.ones(3, 5)).exp().sum().item() > 0
print(first > 0, files() - first, *values)
"""


def test_a_cache_that_is_opened_to_others_while_a_program_runs_is_left_alone(tmp_path):
    env = {**os.environ, "FLAMBEAU_CACHE": str(tmp_path / "cache"), "FLAMBEAU_COMPILE": "blocking"}
    done = subprocess.run([sys.executable, "-c", OPENED], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "0", "15.0", "True"], done.stderr
    assert "can be written by others (mode 0777)" in done.stderr
