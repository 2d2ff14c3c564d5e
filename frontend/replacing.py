"""Files and folders that are replaced whole: whoever looks finds the old one or the new one, also after a crash.

In: a path, and a block that writes to another one. Out: the path replaced when the block succeeds, everything on the disk
before that is said. What is being written lies in a folder beside the target that this process has locked (flock); the next
to write there removes the folders of processes that were killed, whose locks are gone. Next: `serialization/`,
`exporting.py`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX, _SUFFIX = ".flambeau-", ".partial"
_OLD = "old"  # in a private folder: what is being replaced, where two paths cannot be exchanged at once


@contextmanager
def replaced_file(path: str | bytes | os.PathLike) -> Iterator[Path]:
    """A path to write a file to, which then takes the place of `path`, its permissions and owner; a link stays a link.

    Raises OSError; `path` is then as it was.
    """
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{target} is write-protected")
    with private_folder(target.parent) as private:
        partial = private / "file"
        partial.touch(0o666)
        usual = partial.stat()
        yield partial
        _own(partial, target.stat() if target.exists() else usual)
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of the folder `path`. Raises OSError; `path` is then as it was."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with private_folder(target.parent) as private:
        partial = private / target.name
        partial.mkdir()
        yield partial
        for place, _, files in os.walk(partial):
            for name in files:
                sync(Path(place, name))
            sync(Path(place))
        if not target.exists():
            os.rename(partial, target)
        elif not _exchange(partial, target):
            _swap(private, partial, target)
        sync(target.parent)


def _own(file: Path, like: os.stat_result) -> None:
    """Owner and permissions as those of another file, as far as that is allowed."""
    now = file.stat()
    if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
        with suppress(PermissionError):
            os.chown(file, like.st_uid, like.st_gid)
    file.chmod(stat.S_IMODE(like.st_mode))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system can do it for folders
            raise
    finally:
        os.close(handle)


# ---- exchanging folders ---------------------------------------------------------------------------------------

_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and a flag of Linux


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two paths at once. False where the system cannot."""
    function = getattr(ctypes.CDLL(None), "renameat2", None)
    return function is not None and not function(_HERE, os.fsencode(a), _HERE, os.fsencode(b), _RENAME_EXCHANGE)


def _swap(private: Path, partial: Path, target: Path) -> None:
    """In two steps. Who is killed between them leaves the old folder to `_remove`, which puts it back."""
    (private / _OLD).mkdir()
    os.rename(target, private / _OLD / target.name)
    try:
        os.rename(partial, target)
    except OSError:
        os.rename(private / _OLD / target.name, target)
        raise


# ---- private folders ------------------------------------------------------------------------------------------


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, removed at the end, as are those that killed processes left there."""
    remove_leftovers(parent)
    path, lock = _locked_folder(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def remove_leftovers(parent: Path) -> None:
    """Remove private folders whose process is gone."""
    with os.scandir(parent) as entries:
        names = [e.path for e in entries if e.name.startswith(_PREFIX) and e.name.endswith(_SUFFIX)]
    for name in names:
        with suppress(OSError):  # somebody is at work there, or it is not ours to remove
            lock = _lock(name)
            try:
                _remove(Path(name))
            finally:
                os.close(lock)


def _remove(leftover: Path) -> None:
    for old in (leftover / _OLD).glob("*"):
        if not (leftover.parent / old.name).exists():
            os.rename(old, leftover.parent / old.name)
    shutil.rmtree(leftover, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Tries again when another process took the folder for a leftover in the moment before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, parent))
        try:
            lock = _lock(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # no locks on this file system: then nobody removes what is left
            return path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if path.exists():
            return path, lock
        os.close(lock)


def _lock(folder: str | Path) -> int:
    """Open a folder that no open file of any process has locked, and lock it. Raises BlockingIOError otherwise."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
