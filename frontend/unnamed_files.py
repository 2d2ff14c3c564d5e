"""Memory that processes share: files without a name, of which nothing remains when the last process that has one ends.

In: sizes. Out: descriptors, which are sent to other processes or come with a fork, and maps of them. Next: `data/blocks.py`,
`functions/sharing.py`.
"""

from __future__ import annotations

import mmap
import os

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)


def new_file(name: str, size: int) -> int:
    """The descriptor of a file that ends with its last user, however that ends. `name` is for people who list what is open."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        import tempfile  # takes 3 ms of our import where it is done there

        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    try:
        os.ftruncate(file, size)
    except BaseException:
        os.close(file)
        raise
    return file


def mapped(file: int, size: int) -> mmap.mmap:
    """The first `size` bytes of a file, which all that map them see."""
    return mmap.mmap(file, size, flags=mmap.MAP_SHARED | _POPULATE)
