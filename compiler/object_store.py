"""A bounded folder of checked entries that many processes may read and write at once.

In: bytes under a hexadecimal name. Out: the same bytes, or nothing if they were lost, cut short or altered.
The folder must belong to this user alone, since what lies in it is executed. Writers make a temporary
file and rename it; readers verify a checksum; the least recently used entries go when the folder grows
too large. Next: `kernel_cache.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
import warnings
from pathlib import Path

_MAGIC = b"FLMB\x01"
_DIGEST_BYTES = 32
_TEMPORARY = ".tmp"
_STALE_SECONDS = 3600  # a temporary file this old has lost its writer
_REFRESH_SECONDS = 3600  # how fresh a time of last use is kept


class ObjectStore:
    """Entries `<folder>/<first two digits of name>/<name>`, at most about `limit` bytes in all."""

    def __init__(self, folder: Path, limit: int = 512 << 20) -> None:
        self.folder, self.limit = folder, limit
        self.damaged = 0
        self._writable = True
        self._used: int | None = None  # bytes in the folder when it was last measured, plus what was written since

    @staticmethod
    def open(folder: Path, limit: int = 512 << 20) -> ObjectStore | None:
        """The store in `folder`, made with mode 0700; None, after a warning, where that is not possible or not safe."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            reason = unsafe(folder)
        except OSError as error:
            reason = f"cannot be made ({error.strerror})"
        if reason is None:
            return ObjectStore(folder, limit)
        warnings.warn(
            f"[cache] {folder} {reason}. Compiled code is kept in memory only; set FLAMBEAU_CACHE to a private folder.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None

    def read(self, name: str) -> bytes | None:
        """The entry's bytes. An entry that is damaged, or not ours, is removed and reported as absent."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                content, status = file.read(), os.fstat(file.fileno())
        except OSError:
            return None
        payload = None if _foreign(status) else _unseal(content)
        if payload is None:
            self.damaged += 1
            self.discard(name)
        elif time.time() - status.st_mtime > _REFRESH_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path)
        return payload

    def holds(self, name: str) -> bool:
        """Whether there is an entry, sound or not."""
        return os.path.exists(self._path(name))

    def write(self, name: str, payload: bytes) -> None:
        """Store an entry; another writer of the same name does no harm. The first failure to write warns."""
        if not self._writable:
            return
        try:
            self._write(self._path(name), _seal(payload))
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"[cache] {self.folder} is not writable ({error.strerror}). Compiled code is kept in memory only; "
                "set FLAMBEAU_CACHE to a writable folder.",
                RuntimeWarning,
                stacklevel=2,
            )

    def discard(self, name: str) -> None:
        """Remove an entry if it is there."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def trim(self) -> None:
        """Remove what lost writers left and, above the limit, the least recently used entries down to 3/4 of it."""
        files = self._files()
        used, now = sum(size for _, size, _ in files), time.time()
        goal = self.limit * 3 // 4 if used > self.limit else used
        for modified, size, path in sorted(files):
            temporary = path.suffix == _TEMPORARY
            if (now - modified > _STALE_SECONDS) if temporary else (used > goal):
                with contextlib.suppress(OSError):
                    path.unlink()
                used -= size
        self._used = used

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=_TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if self._used is None or self._used + len(content) > self.limit:
            self.trim()
        else:
            self._used += len(content)

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, size, path) of everything in the folder."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def unsafe(folder: Path) -> str | None:
    """Why code must not be loaded from `folder`, or None."""
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder"
    if status.st_uid != os.geteuid():
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _foreign(status: os.stat_result) -> bool:
    return status.st_uid != os.geteuid() or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _seal(payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def _unseal(content: bytes) -> bytes | None:
    """The payload, or None if the content is not what `_seal` made."""
    start = len(_MAGIC) + _DIGEST_BYTES
    digest, payload = content[len(_MAGIC) : start], content[start:]
    return payload if content[: len(_MAGIC)] == _MAGIC and hashlib.sha256(payload).digest() == digest else None
