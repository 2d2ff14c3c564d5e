"""Names of exported programs: they begin C functions and name files, so not every one will do.

In: the name of a folder. Out: a C identifier, or ValueError that says what is in the way. Next: `exporting.py`.
"""

from __future__ import annotations

import re

#: Where it begins a function of the C library: `argp_error`, `svc_run`.
_LIBRARY = {"aio", "argp", "gai", "svc"}
#: Headers that ours would hide from whoever has the folder among the places to look for headers.
_HEADERS = (
    "aio alloca assert complex cpuid ctype dirent dlfcn elf endian errno fcntl features fenv float getopt glob "
    "immintrin inttypes iso646 libgen limits link locale malloc math memory omp poll pthread pwd regex sched search "
    "semaphore setjmp signal spawn stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib "
    "stdnoreturn string strings syscall syslog termios tgmath thread threads time uchar ucontext unistd utime wchar "
    "wctype x86intrin"
)
#: What lies in every exported folder.
_FILES = {"runtime", "exported"}
_LONGEST = 100


def program_name(name: str) -> str:
    """`name` with an underscore for every space, dot, dash and the like. Raises ValueError if C cannot have that."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if fault := _fault(name, made):
        raise ValueError(f"[export] '{name}' cannot name C functions: {fault}. Let the path end in another name.")
    return made


def _fault(name: str, made: str) -> str | None:
    if strange := re.findall(r"[^ -~]", name):
        return f"{strange[0]!r} is not an ASCII letter"
    if not re.match(r"[A-Za-z]", made):
        return "they begin with a letter"
    if len(made) > _LONGEST:
        return f"it has {len(made)} letters, of which {_LONGEST} are allowed"
    if made.lower().startswith("fb_"):
        return "names that begin with fb_ are those of the runtime"
    if made in _LIBRARY:
        return f"the C library has functions that begin with {made}_"
    if made in _HEADERS.split():
        return f"its header would hide the system's <{made}.h>"
    if made.lower() in _FILES:
        return "a part of every exported folder is called so"
    return None
