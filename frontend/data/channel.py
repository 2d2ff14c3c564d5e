"""A channel between a loader and one of its workers: messages, and files that go with them.

In: bytes and file descriptors. Out: the same at the other end of a pair of Unix sockets. The loader's end never blocks, so that
two ends that both send cannot wait for each other; the worker's end does. An end that is closed, or whose process is gone,
shows as the end of the stream at the other. No locks and no threads: a process may be killed at any moment. Next: `worker.py`,
`processes.py`.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import weakref
from collections import deque
from collections.abc import Sequence

#: Length of the message, number of files.
_HEADER = struct.Struct("<QI")
#: So many files go with one call; the kernel takes 253.
_FILES = 200
_CHUNK = 1 << 16
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def frames(message: bytes, files: Sequence[int]) -> list[tuple[bytes, Sequence[int]]]:
    """What is sent: a header with the last files, before it headers without a message that take more of them."""
    early = [files[i : i + _FILES] for i in range(0, len(files) - _FILES, _FILES)]
    sent = sum(map(len, early))
    return [*((_HEADER.pack(0, len(some)), some) for some in early)] + [
        (_HEADER.pack(len(message), len(files) - sent) + message, files[sent:])
    ]


class Stream:
    """What arrives, in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._files: deque[int] = deque()
        self._early = 0

    def read(self, end: socket.socket, flags: int = 0) -> bool:
        """Read what is there, whether there was anything. Raises EOFError where the other end is closed, RuntimeError where
        this process may open no more files."""
        room = socket.CMSG_SPACE(4 * (_FILES + 53))
        try:
            data, extra, told, _ = end.recvmsg(_CHUNK, room, _FLAGS | flags)
        except BlockingIOError:
            return False
        except ConnectionError:
            raise EOFError from None
        for level, kind, content in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._files.extend(array.array("i", content[: len(content) // 4 * 4]))
        if told & socket.MSG_CTRUNC:
            raise RuntimeError(
                "[DataLoader] this process has too many open files to read a batch. Raise the limit (ulimit -n), or keep "
                "fewer batches."
            )
        if not data:
            raise EOFError
        self._data += data
        return True

    def take(self) -> tuple[bytes, list[int]] | None:
        """The next message that is complete, with its files."""
        while len(self._data) >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._data)
            if len(self._data) < _HEADER.size + length:
                return None
            message = bytes(self._data[_HEADER.size : _HEADER.size + length])
            del self._data[: _HEADER.size + length]
            self._early += count
            if length:
                files = [self._files.popleft() for _ in range(self._early)]
                self._early = 0
                return message, files
        return None

    def __del__(self) -> None:
        files = vars(self).get("_files", ())  # it may have been interrupted before there were any
        while files:
            os.close(files.popleft())


class WorkerEnd:
    """The worker's end of a channel."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self._stream = end, Stream()

    def send(self, message: bytes, files: Sequence[int] = ()) -> None:
        """Send all of it. Raises ConnectionError where the loader is gone."""
        for data, some in frames(message, files):
            sent = socket.send_fds(self.end, [data], list(some)) if some else self.end.send(data)
            self.end.sendall(memoryview(data)[sent:])

    def receive(self) -> bytes:
        """The next message. Raises EOFError where the loader is gone."""
        while (found := self._stream.take()) is None:
            self._stream.read(self.end)
        return found[0]


class LoaderEnd:
    """The loader's end. A forked child closes its copy at once: the end counts as closed when this process has closed it, or
    ended."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end, self._stream, self._unsent = end, Stream(), deque[memoryview]()
        _open.add(self)

    @property
    def has_unsent(self) -> bool:
        """Whether more is to be sent, as soon as the worker reads."""
        return bool(self._unsent)

    def post(self, message: bytes) -> None:
        """Send a message, now or in later calls of `push`."""
        self._unsent.append(memoryview(_HEADER.pack(len(message), 0) + message))
        self.push()

    def push(self) -> None:
        """Send what the worker takes now. One that is gone takes nothing."""
        try:
            while self._unsent:
                data = self._unsent[0]
                sent = self.end.send(data)
                if sent < len(data):
                    self._unsent[0] = data[sent:]
                else:
                    self._unsent.popleft()
        except (BlockingIOError, ConnectionError):
            pass

    def pull(self) -> tuple[bytes, list[int]] | None:
        """The next message, if all of it is here. Raises EOFError where the worker is gone and has left none."""
        while (found := self._stream.take()) is None:
            if not self._stream.read(self.end):
                return None
        return found

    def close(self) -> None:
        self.end.close()


_open: weakref.WeakSet[LoaderEnd] = weakref.WeakSet()


def _close_inherited() -> None:
    for end in list(_open):
        end.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
