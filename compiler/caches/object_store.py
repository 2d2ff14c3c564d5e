"""A bounded folder of checked entries that many processes may read and write at once.

In: bytes under a hexadecimal name. Out: the same bytes, or nothing if they were lost, cut short, altered or stored under
another name. The folder must belong to this user alone, since what lies in it is executed; that is looked at anew each time.
Writers make a temporary file and rename it; readers verify a checksum of kind, name and content; the least recently used
entries go when the folder grows too large. Next: `private.py`; `kernel_cache.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import warnings
from pathlib import Path

from flambeau.compiler.caches import private

_MAGIC = b"FLMB\x02"  # the last byte is the version of this form
_DIGEST_BYTES = 32
_TEMPORARY = ".tmp"
_STALE_SECONDS = 3600  # a temporary file this old has lost its writer
_REFRESH_SECONDS = 3600  # how fresh a time of last use is kept
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nothing but a file answers


class ObjectStore:
    """Entries `<folder>/<first two digits of name>/<name>`, at most about `limit` bytes in all. `kind` says what they are:
    an entry of another kind is none."""

    def __init__(self, folder: Path, kind: str, limit: int = 512 << 20) -> None:
        self.folder, self.kind, self.limit = folder, kind, limit
        self.damaged = 0
        self._writable = True
        self._is_exposed = False  # there was a warning
        self._used: int | None = None  # bytes in the folder when it was last measured, plus what was written since

    @staticmethod
    def open(folder: Path, kind: str, limit: int = 512 << 20) -> ObjectStore | None:
        """The store in `folder`, made with mode 0700; None, after a warning, where that is not possible or not safe."""
        if (reason := private.make(folder)) is None:
            return ObjectStore(folder, kind, limit)
        private.warn(folder, reason)
        return None

    @staticmethod
    def of_user(kind: str, limit: int = 512 << 20) -> ObjectStore | None:
        """The store of the user's cache for entries of a kind, or None as for `open`."""
        folder = private.cache_folder(f"{kind}s")
        return None if folder is None else ObjectStore(folder, kind, limit)

    def read(self, name: str) -> bytes | None:
        """The entry's bytes. An entry that is damaged, or not ours, is removed and reported as absent."""
        path = self._path(name)
        try:
            if not self._is_private(path.parent):
                return None
            content, modified = self._content(path)
        except FileNotFoundError:
            return None
        except OSError:  # a link, or what cannot be read: never an entry of ours
            content, modified = b"", 0.0
        payload = self._unseal(name, content)
        if payload is None:
            self.damaged += 1
            self.discard(name)
        elif time.time() - modified > _REFRESH_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)
        return payload

    def holds(self, name: str) -> bool:
        """Whether there is an entry, sound or not."""
        return os.path.exists(self._path(name))

    def write(self, name: str, payload: bytes) -> None:
        """Store an entry; another writer of the same name does no harm. The first failure to write warns."""
        if not self._writable:
            return
        try:
            self._write(self._path(name), self._seal(name, payload))
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
        import tempfile  # a start from the caches does without

        if not path.parent.is_dir():  # asking is cheaper than making it in vain
            path.parent.mkdir(mode=0o700, exist_ok=True)
        if not self._is_private(path.parent):
            return
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
                status = path.lstat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _content(self, path: Path) -> tuple[bytes, float]:
        """What a file of ours holds, nothing of any other; and when it was last used."""
        descriptor = os.open(path, _READ)
        try:
            status = os.fstat(descriptor)
            if private.is_foreign(status) or status.st_size > self.limit:
                return b"", 0.0
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(), status.st_mtime
        finally:
            os.close(descriptor)

    def _is_private(self, folder: Path) -> bool:
        """Whether nobody else can write to a folder of entries, by now. The first time that it is not so warns."""
        reason = private.exposure(folder, own=3)
        if reason is not None and not self._is_exposed:
            self._is_exposed = True
            private.warn(folder, reason)
        return reason is None

    def _seal(self, name: str, payload: bytes) -> bytes:
        return _MAGIC + self._digest(name, payload) + payload

    def _unseal(self, name: str, content: bytes) -> bytes | None:
        """The payload, or None if the content is not what `_seal` made for this name."""
        start = len(_MAGIC) + _DIGEST_BYTES
        digest, payload = content[len(_MAGIC) : start], content[start:]
        return payload if content.startswith(_MAGIC) and self._digest(name, payload) == digest else None

    def _digest(self, name: str, payload: bytes) -> bytes:
        digest = hashlib.sha256(_MAGIC + f"{self.kind}\0{name}\0".encode())
        digest.update(payload)
        return digest.digest()
