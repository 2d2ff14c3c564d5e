"""Finds a C compiler for a platform and links exported programs with it.

In: a `Platform`. Out: `find`, a command that compiles and links: Zig's (`pip install "flambeau[export]"`), which has
everything for every platform, else the machine's own C compiler for programs of this machine. Next: `exporter.py`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flambeau.compiler.caches import private
from flambeau.compiler.targets.platforms import Platform
from flambeau.runtime import progress


@dataclass(frozen=True)
class Linker:
    """A C compiler that makes static executables: `command`, and a folder that only this user can write, in which Zig keeps
    what it compiled for the next time."""

    name: str
    command: tuple[str, ...]
    cache: Path | None = None

    def link(self, inputs: Sequence[Path], include: Path, defines: Sequence[str], output: Path) -> None:
        """Compile and link `inputs`, C sources and objects. Raises RuntimeError with what the compiler said."""
        command = [*self.command, "-std=gnu11", "-O2", "-static", "-s", "-ffunction-sections", "-Wl,--gc-sections"]
        command += [f"-D{d}" for d in defines]
        command += [f"-I{include}", *map(str, inputs), "-o", str(output), "-pthread", "-lm"]
        try:
            with tempfile.TemporaryDirectory(prefix="flambeau-") as temporary:
                cache = str(self.cache or temporary)
                caches = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
                code, said = _run(command, {**caches, **os.environ})
        except OSError as error:
            raise RuntimeError(f"[export] the linker {self.name} does not start: {error}. Reinstall it.") from error
        if code or not output.exists():
            raise RuntimeError(f"[export] the linker {self.name} failed with code {code}:\n{said.strip()[-2000:]}")


#: Seconds between looks at a linker that somebody waits for.
STEP = 0.25


def _run(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end: (code, what it said). Who waits for it sees that it is at work."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with (
        process,
        progress.Bar("linking (the first time for a platform, its C library is built: about a minute)") as bar,
    ):
        try:
            while True:
                try:
                    out, error = process.communicate(timeout=STEP if progress.watched() else None)
                    return process.returncode, error or out
                except subprocess.TimeoutExpired:
                    bar.tick()
        except BaseException:
            process.kill()
            raise


def find(platform: Platform) -> Linker:
    """The linker for `platform`. Raises RuntimeError naming what to install."""
    found = zig(platform) or native(platform)
    if found is None:
        raise RuntimeError(
            f"[export] there is no linker for {platform.name} on this machine. "
            'Run: pip install "flambeau[export]", or pass executable=False and link the object file elsewhere.'
        )
    return found


def zig(platform: Platform) -> Linker | None:
    """Zig's C compiler, if it is installed. Its first program for a platform compiles a C library, which is kept."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    command = (sys.executable, "-m", "ziglang", "cc", "-target", platform.zig)
    return Linker("zig cc", command, private.cache_folder("zig"))


def native(platform: Platform) -> Linker | None:
    """This machine's C compiler, if the platform is this machine's."""
    names = ("cc", "gcc", "clang") if platform.is_here else ()
    path = next(filter(None, map(shutil.which, names)), None)
    return Linker(path, (path,)) if path else None
