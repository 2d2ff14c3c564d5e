"""The kernel cache: what it finds where, and how it takes damage, strangers, full disks and company."""

import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import flambeau.runtime
import pytest
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.caches.kernel_cache import KernelCache, Statistics
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options

OPTIONS = Options()


def source(number: int = 1, label: str = "sample") -> KernelSource:
    b = Emitter()
    b.store(b.const(number, "i64"), b.buffer(0), 0)
    return b.source(label)


def new_cache(folder: Path) -> KernelCache:
    return KernelCache(ObjectStore.open(folder, "kernel"))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def test_memory_then_disk_then_compiler(tmp_path):
    cache = new_cache(tmp_path / "k")
    assert cache.find(source(), OPTIONS) is None
    (address,) = cache.get([source()], OPTIONS)
    assert cache.get([source(label="same text, other label")], OPTIONS) == [address]
    assert cache.statistics == Statistics(memory=1, disk=0, compiled=1)
    again = new_cache(tmp_path / "k")
    assert again.find(source(), OPTIONS)
    assert again.statistics == Statistics(memory=0, disk=1, compiled=0)
    assert len(entries(tmp_path / "k")) == 1


def test_keys_tell_text_and_target_apart_and_nothing_else(tmp_path):
    key = kernel_cache.key(source(), OPTIONS)
    assert key == kernel_cache.key(source(label="other"), replace(OPTIONS, dump=str(tmp_path), mode="off", fuse=False))
    assert key != kernel_cache.key(source(2), OPTIONS)
    assert key != kernel_cache.key(source(), replace(OPTIONS, target="x86-64-v3"))


def test_abi_version_is_the_header_s():
    header = Path(flambeau.runtime.__file__).parent / "include" / "flambeau" / "runtime.h"
    assert f"#define FB_ABI_VERSION {kernel_cache.ABI_VERSION}\n" in header.read_text()


def test_objects_compiled_elsewhere_can_be_inserted(tmp_path):
    code = new_cache(tmp_path / "worker").compile_and_store(source(), OPTIONS)
    cache = KernelCache(None)
    address = cache.insert(source(), OPTIONS, code)
    assert cache.insert(source(), OPTIONS, code) == address == cache.find(source(), OPTIONS)
    assert cache.statistics.compiled == 0


def test_lookup_does_not_import_mlir(tmp_path):
    new_cache(tmp_path / "k").get([source()], OPTIONS)
    program = (
        "import sys; from pathlib import Path\n"
        "from flambeau.compiler.kernel import KernelSource; from flambeau.compiler.caches.kernel_cache import KernelCache\n"
        "from flambeau.compiler.caches.object_store import ObjectStore; from flambeau.compiler.options import Options\n"
        "cache = KernelCache(ObjectStore.open(Path(sys.argv[1]), 'kernel'))\n"
        "assert cache.find(KernelSource(sys.stdin.read(), ''), Options())\n"
        "assert not [m for m in sys.modules if 'mlir' in m], sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "k"], input=source().text, text=True, check=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def loosen(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.accept("ERR-07")
@pytest.mark.parametrize("damage", [cut, flip, empty, loosen])
def test_damaged_entries_are_dropped_and_compiled_again(tmp_path, damage):
    new_cache(tmp_path / "k").get([source()], OPTIONS)
    (path,) = entries(tmp_path / "k")
    sound = path.read_bytes()
    damage(path)
    cache = new_cache(tmp_path / "k")
    assert cache.find(source(), OPTIONS) is None
    assert cache.store.damaged == 1 and not path.exists()
    cache.get([source()], OPTIONS)
    assert cache.statistics.compiled == 1 and path.read_bytes() == sound


def test_sealed_entries_that_do_not_link_are_compiled_again(tmp_path):
    store = ObjectStore.open(tmp_path / "k", "kernel")
    store.write(kernel_cache.key(source(), OPTIONS), b"sealed, but no object code")
    cache = KernelCache(store)
    assert cache.get([source()], OPTIONS)[0]
    assert cache.statistics == Statistics(compiled=1, unloadable=1)
    assert new_cache(tmp_path / "k").find(source(), OPTIONS)


def test_folder_is_private(tmp_path):
    ObjectStore.open(tmp_path / "a" / "k", "kernel")
    assert (tmp_path / "a" / "k").stat().st_mode & 0o777 == 0o700


def test_paths_that_cannot_be_a_folder_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "k"):
        with pytest.warns(RuntimeWarning, match=r"\[cache\] .* (cannot be made|is not a folder)"):
            assert ObjectStore.open(path, "kernel") is None


def test_unwritable_folders_warn_once_and_memory_serves(tmp_path, monkeypatch):
    store = ObjectStore.open(tmp_path / "k", "kernel")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    cache = KernelCache(store)
    with pytest.warns(RuntimeWarning, match="is not writable .No space left on device.") as caught:
        cache.get([source(1), source(2)], OPTIONS)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.get([source(3)], OPTIONS)
    assert cache.get([source(1)], OPTIONS) and cache.statistics == Statistics(memory=1, compiled=3)
    assert entries(tmp_path / "k") == []


def test_size_is_bounded_and_the_least_recently_used_goes(tmp_path):
    store = ObjectStore(tmp_path, "kernel", limit=10_000)
    for i in range(20):
        store.write(f"{i:064x}", bytes(900))
        os.utime(tmp_path / "00" / f"{i:064x}", (i, i))
    left = [int(p.name, 16) for p in entries(tmp_path)]
    assert sum(p.stat().st_size for p in entries(tmp_path)) <= 10_000
    assert left == list(range(left[0], 20)) and len(left) >= 7


def test_reading_keeps_an_entry_young(tmp_path):
    store = ObjectStore(tmp_path, "kernel")
    store.write("ab", b"x")
    os.utime(tmp_path / "ab" / "ab", (1, 1))
    assert store.read("ab") == b"x"
    assert (tmp_path / "ab" / "ab").stat().st_mtime > 1e9


def test_lost_temporaries_are_swept(tmp_path):
    store = ObjectStore(tmp_path, "kernel")
    store.write("ab", b"x")
    old, young = tmp_path / "ab" / "old.tmp", tmp_path / "ab" / "young.tmp"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.trim()
    assert not old.exists() and young.exists() and store.read("ab") == b"x"


#: Rewrites and reads the same names as the other processes; prints how many reads were wrong.
HAMMER = """
import sys
from pathlib import Path
from flambeau.compiler.caches.object_store import ObjectStore

store, seed, wrong = ObjectStore(Path(sys.argv[1]), 'kernel', limit=60_000), int(sys.argv[2]), 0
names = [f"{i:02x}{'0' * 62}" for i in range(20)]
for i in range(150):
    written, read = names[(i * 7 + seed) % 20], names[(i * 5 + seed) % 20]
    store.write(written, written.encode() * 100)
    wrong += store.read(read) not in (None, read.encode() * 100)
print(wrong + store.damaged)
"""


def test_concurrent_writers_never_show_half_an_entry(tmp_path):
    commands = [[sys.executable, "-c", HAMMER, tmp_path, str(seed)] for seed in range(4)]
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    assert [p.communicate(timeout=60)[0].strip() for p in processes] == ["0"] * 4
    assert not list(tmp_path.glob("??/*.tmp"))


def test_dumping_compiles_what_is_on_disk(tmp_path):
    new_cache(tmp_path / "k").get([source()], OPTIONS)
    new_cache(tmp_path / "k").get([source()], replace(OPTIONS, dump=str(tmp_path / "dump")))
    assert len(list((tmp_path / "dump").iterdir())) == 5
