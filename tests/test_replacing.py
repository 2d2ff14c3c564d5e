"""What save and export write is there whole or not at all, whoever is killed, and nothing is left lying about."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest
from flambeau import replacing
from support import rounds

SAVER = """
import sys, flambeau as fb
values = [fb.full((1 << 20,), float(k)) for k in range(2)]
print("ready", flush=True)
for k in range(1 << 30):
    fb.save({"w": values[k % 2], "v": values[k % 2]}, sys.argv[1])
"""
EXPORTER = """
import sys, flambeau as fb
def model(k):
    return lambda x: x * float(k + 2)
print("ready", flush=True)
for k in range(1 << 30):
    fb.export(model(k % 2), fb.ones(4), sys.argv[1])
"""


def killed(program, path, delay):
    """Run the program until it is ready, and kill it a while later."""
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(delay)
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path):
    rng, path, left = np.random.default_rng(2), tmp_path / "model.safetensors", 0
    for _ in range(rounds(2, 20, 150)):
        killed(SAVER, path, rng.uniform(0, 0.05))
        left += len(list(tmp_path.glob(".flambeau-*")))
        if path.exists():
            found = fb.load(path)
            w = found["w"].numpy()
            assert w.size == 1 << 20 and (w == w[0]).all() and found["v"].tolist()[:3] == w[:3].tolist()
    fb.save({"w": fb.ones(3)}, path)
    assert os.listdir(tmp_path) == [path.name], f"{left} leftovers"


def test_a_killed_export_leaves_the_old_folder_or_the_new_one(tmp_path):
    rng, folder, objects = np.random.default_rng(3), tmp_path / "model", set()
    names = {p.name for p in fb.export(lambda x: x * 2.0, fb.ones(4), folder).folder.rglob("*")}
    for _ in range(rounds(1, 10, 100)):
        killed(EXPORTER, folder, rng.uniform(0, 0.8))
        assert {p.name for p in folder.rglob("*")} == names
        objects.add((folder / "model.o").read_bytes())
    fb.export(lambda x: x * 2.0, fb.ones(4), folder)
    assert os.listdir(tmp_path) == ["model"]
    assert objects <= {
        (fb.export(lambda x, k=k: x * k, fb.ones(4), folder).object_file).read_bytes() for k in (2.0, 3.0)
    }


# ---- what is replaced ---------------------------------------------------------------------------------------------


def loaded(path):
    return fb.load(path)["w"].tolist()


def test_permissions_and_links_remain(tmp_path):
    path, link = tmp_path / "model", tmp_path / "link"
    umask = os.umask(0o027)
    try:
        fb.save({"w": fb.ones(1)}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(umask)
    path.chmod(0o604)
    link.symlink_to("model")
    fb.save({"w": fb.zeros(1)}, link)
    assert link.is_symlink() and loaded(path) == [0] and stat.S_IMODE(path.stat().st_mode) == 0o604
    (tmp_path / "dangling").symlink_to("new")
    fb.save({"w": fb.ones(2)}, str(tmp_path / "dangling").encode())
    assert loaded(tmp_path / "new") == [1, 1]
    assert sorted(os.listdir(tmp_path)) == ["dangling", "link", "model", "new"]


def test_devices_and_pipes_are_written_to_not_replaced(tmp_path):
    fb.save({"w": fb.ones(1)}, os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(loaded(pipe)))
    reader.start()
    fb.save({"w": fb.arange(5)}, pipe, format="safetensors")  # the other formats are read from their end
    reader.join()
    assert found == [[0, 1, 2, 3, 4]] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_long_and_strange_names(tmp_path):
    for name in ("x" * 255, "модель", "a b'\"", "-", "~"):
        fb.save({"w": fb.ones(1)}, tmp_path / name)
        assert loaded(tmp_path / name) == [1]


def test_a_file_that_loaded_tensors_may_lie_in_is_replaced(tmp_path):
    path = tmp_path / "model.safetensors"
    fb.save({"w": fb.arange(1000)}, path)
    found = fb.load(path)
    mapped = fb.from_numpy(np.memmap(path, np.uint8, "c")[-8000:].view(np.int64))
    fb.save({"w": found["w"] * 2, "v": mapped}, path)
    again = fb.load(path)
    assert again["w"].tolist() == [2 * k for k in range(1000)] and again["v"].tolist() == list(range(1000))
    assert mapped.tolist() == list(range(1000))


def test_order_and_contents_of_flat_dicts_remain(tmp_path):
    given = {"z": fb.ones(2), "a": fb.tensor(True), "m": fb.zeros(0, 3), "b": fb.arange(3).int()}
    fb.save(given, tmp_path / "f")
    found = fb.load(tmp_path / "f")
    assert list(found) == list(given)
    assert all(
        (found[k].shape, found[k].dtype, found[k].tolist()) == (v.shape, v.dtype, v.tolist()) for k, v in given.items()
    )


# ---- failures -----------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys, flambeau as fb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
big = fb.ones(1 << 18)
big.tolist()[:1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
for target in (sys.argv[1], sys.argv[2]):
    try:
        fb.save({"w": big}, target)
    except OSError as error:
        print(type(error).__name__, error.errno, error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model"
    fb.save({"w": fb.ones(2)}, path)
    done = subprocess.run([sys.executable, "-c", FULL, path, "/dev/full"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"OSError {errno.EFBIG} [save] cannot write {path}: File too large. The file is as it was."
    assert second.startswith(f"OSError {errno.ENOSPC} [save] cannot write /dev/full: No space left on device")
    assert loaded(path) == [1, 1] and os.listdir(tmp_path) == ["model"]


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\[save\] cannot write .*absent"):
        fb.save({"w": fb.ones(1)}, tmp_path / "absent" / "model")
    with pytest.raises(IsADirectoryError, match=r"\[save\]"):
        fb.save({"w": fb.ones(1)}, tmp_path)
    with pytest.raises(ValueError, match="not Unicode"):
        fb.save({"\ud800": fb.ones(1)}, tmp_path / "x.safetensors")
    deep, again = [], []
    again.append(again)
    for _ in range(100_000):
        deep = [deep]
    for obj, name in ((deep, "x"), (deep, "x.safetensors"), (again, "x.safetensors")):
        with pytest.raises(ValueError, match="nested too deeply"):
            fb.save(obj, tmp_path / name)
    with pytest.raises(ValueError, match="a number cannot be written"):
        fb.save({"n": 10**5000}, tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def interrupts():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background, which shells let ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    fb.save({"w": fb.ones(2)}, path)
    for step in ("sync", "_own"):
        with monkeypatch.context() as m:
            m.setattr(replacing, step, lambda *_: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                fb.save({"w": fb.zeros(2)}, path)
        assert loaded(path) == [1, 1] and os.listdir(tmp_path) == ["model"]


# ---- several at a time --------------------------------------------------------------------------------------------


def test_many_savers_of_one_file(tmp_path):
    path, failed = tmp_path / "model", []

    def saves(k):
        try:
            x = fb.full((1 << 12,), float(k))
            for _ in range(10):
                fb.save({"w": x}, path)
                found = fb.load(path)["w"].numpy()
                assert (found == found[0]).all()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=saves, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed and os.listdir(tmp_path) == ["model"]


def test_only_what_nobody_holds_is_removed(tmp_path):
    dead = tmp_path / ".flambeau-dead.partial"
    (dead / "in").mkdir(parents=True)
    other = tmp_path / ".flambeau-mine"
    other.mkdir()
    with replacing.private_folder(tmp_path) as alive:
        assert not dead.exists()
        fb.save({"w": fb.ones(1)}, tmp_path / "model")
        assert alive.exists() and other.exists()
    assert sorted(os.listdir(tmp_path)) == [".flambeau-mine", "model"]


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """What is synced, and what takes a place, in order: in the test's own folder."""
    noted = []

    def note(module, name, what, path_of):
        real = getattr(module, name)

        def run(*args):
            path = Path(path_of(*args))
            if path.is_relative_to(tmp_path):
                parts = path.relative_to(tmp_path).parts
                private = bool(parts) and parts[0].startswith(".flambeau-")
                noted.append((what, str(Path("new", *parts[1:])) if private else str(Path(*parts))))
            return real(*args)

        monkeypatch.setattr(module, name, run)

    note(os, "fsync", "sync", lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    for module, name in ((os, "replace"), (os, "rename"), (replacing, "_exchange")):
        note(module, name, "place", lambda old, new: new)
    return noted


def test_a_file_and_its_name_are_on_the_disk_before_save_returns(tmp_path, steps):
    fb.save({"w": fb.ones(3)}, tmp_path / "model")
    assert steps == [("sync", "new/file"), ("place", "model"), ("sync", ".")]


def test_all_that_is_in_a_folder_is_on_the_disk_before_it_takes_its_place(tmp_path, steps):
    for _ in range(2):
        steps.clear()
        with replacing.replaced_folder(tmp_path / "made") as partial:
            (partial / "inner").mkdir()
            (partial / "x").write_text("x")
            (partial / "inner" / "y").write_text("y")
        *synced, last, name = steps
        assert sorted(synced) == [("sync", f"new/{p}") for p in ("made", "made/inner", "made/inner/y", "made/x")]
        assert last == ("place", "made") and name == ("sync", ".")


def test_folders_are_replaced_where_they_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "_exchange", lambda a, b: False)
    folder = tmp_path / "made"
    for k in range(2):
        with replacing.replaced_folder(folder) as partial:
            (partial / "x").write_text(str(k))
        assert (folder / "x").read_text() == str(k) and os.listdir(tmp_path) == ["made"]
    # killed between the two steps
    private = tmp_path / ".flambeau-dead.partial"
    (private / "old").mkdir(parents=True)
    (private / "made").mkdir()
    os.rename(folder, private / "old" / "made")
    replacing.remove_leftovers(tmp_path)
    assert (folder / "x").read_text() == "1" and os.listdir(tmp_path) == ["made"]
