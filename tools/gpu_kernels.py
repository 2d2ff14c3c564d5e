"""What a change does to the code of GPU kernels: the PTX of every GPU program and elementwise record of the tests.

    python tools/gpu_kernels.py record OUT [--targets sm_75,sm_90]     # before, and after
    python tools/gpu_kernels.py compare BEFORE AFTER                   # status 1 where something differs
    python tools/gpu_kernels.py time [--rounds 5]                      # milliseconds per kernel, the best of several rounds

Compared are the opcodes in their order and, with ptxas at hand, registers, shared memory, spills and machine instructions
of what it makes of them. Names of registers and labels, and the order of declarations, count for nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

_TESTS = Path(__file__).resolve().parent.parent / "tests"
_OPCODE = re.compile(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*)[ ;]", re.MULTILINE)


# ---- recording ------------------------------------------------------------------------------------------------


def graphs() -> Iterator[tuple[str, Any]]:
    """The programs of `gpu_programs.py`, and the samples of every elementwise record, by name."""
    sys.path.insert(0, str(_TESTS))
    import gpu_programs
    from flambeau.dialects.record import find

    for name in gpu_programs.PROGRAMS:
        yield name, gpu_programs.program(name)[0]
    for name in gpu_programs.elementwise_records():
        record = find(name)
        for k, (sample, arrays) in enumerate(gpu_programs.samples(record)):
            call = lambda *xs, record=record, attrs=sample.attrs: record(*xs, **attrs)  # noqa: E731
            yield f"record: {name} {k}", gpu_programs.graph_of(call, arrays)


def kernels(target: str) -> Iterator[tuple[str, Any]]:
    """Each kernel's source by name."""
    programs = dict(graphs())
    import gpu_programs

    for name, graph in programs.items():
        for k, launch in enumerate(gpu_programs.launches(graph, target)):
            yield f"{name} {k}", launch.source


def record(folder: Path, targets: list[str]) -> int:
    from flambeau.compiler.backend import object_code
    from flambeau.compiler.options import Options

    for target in targets:
        place = folder / target
        place.mkdir(parents=True)
        for name, source in kernels(target):
            stem = re.sub(r"[^\w-]+", "-", name)
            (place / f"{stem}.ptx").write_text(object_code.compile_assembly(source, Options(target=target)))
    return 0


# ---- comparing ------------------------------------------------------------------------------------------------


class Assembled(NamedTuple):
    registers: int
    shared: int
    spilled: int
    instructions: int


def opcodes(ptx: str) -> list[str]:
    """The kernel's instructions in order, without their operands."""
    return _OPCODE.findall(ptx[ptx.index("{") :])


def find_tool(name: str) -> str | None:
    """A tool of NVIDIA's: in PATH, in a toolkit, or in the package nvidia-cuda-nvcc."""
    packages = Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin")
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin", *map(str, packages)])
    return shutil.which(name, path=places)


def assemble(ptxas: str | None, path: Path, target: str) -> Assembled | None:
    """What ptxas makes of a file; None without ptxas. Bytes of code stand for instructions, of 16 bytes each."""
    if ptxas is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernel.cubin"
        done = subprocess.run([ptxas, "-v", f"-arch={target}", path, "-o", out], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{path}: {done.stderr}")
        numbers = [re.search(p, done.stderr) for p in (r"Used (\d+) reg", r"(\d+) bytes smem", r"(\d+) bytes spill st")]
        return Assembled(*(int(n[1]) if n else 0 for n in numbers), _code_bytes(out.read_bytes()) // 16)


def _code_bytes(elf: bytes) -> int:
    """The size of the section .text.kernel of a 64-bit ELF file."""
    number = lambda at, size: int.from_bytes(elf[at : at + size], "little")  # noqa: E731
    headers, width, count, names = number(40, 8), number(58, 2), number(60, 2), number(62, 2)
    sections = [headers + k * width for k in range(count)]
    strings = number(sections[names] + 24, 8)
    for at in sections:
        if elf[strings + number(at, 4) :].startswith(b".text.kernel\0"):
            return number(at + 32, 8)
    return 0


def compare(before: Path, after: Path, ptxas: str | None) -> int:
    old, new = ({p.relative_to(f): p for p in sorted(f.rglob("*.ptx"))} for f in (before, after))
    both = sorted(old.keys() & new.keys())
    different = equal = spilled = 0
    for path in both:
        texts = [place[path].read_text() for place in (old, new)]
        codes = [opcodes(text) for text in texts]
        made = [assemble(ptxas, place[path], path.parts[0]) for place in (old, new)]
        spilled += bool(made[1] and made[1].spilled)
        equal += codes[0] == codes[1]
        if codes[0] != codes[1] or made[0] != made[1]:
            different += 1
            print(f"{path}: {_difference(*codes)}; {made[0]} -> {made[1]}")
    print(
        f"{len(both)} kernels in both, {equal} with the same opcodes in order, {different} differ in something, "
        f"{spilled} spill now; {len(old) - len(both)} only before, {len(new) - len(both)} only after"
    )
    return int(bool(different) or not both)


def _difference(old: list[str], new: list[str]) -> str:
    if old == new:
        return f"{len(old)} opcodes, the same"
    less, more = Counter(old) - Counter(new), Counter(new) - Counter(old)
    changes = [f"-{n} {op}" for op, n in less.items()] + [f"+{n} {op}" for op, n in more.items()]
    return f"{len(old)} -> {len(new)} opcodes ({', '.join(changes) or 'another order'})"


# ---- timing ---------------------------------------------------------------------------------------------------


def measure(target: str, rounds: int) -> int:
    """Prints the sum over kernels of the best times: generating text, and from text to PTX; by family."""
    from flambeau.compiler.backend import object_code
    from flambeau.compiler.options import Options

    sources = dict(kernels(target))
    best = dict.fromkeys(sources, float("inf"))
    gc.disable()
    for _ in range(rounds + 1):  # the first one warms up
        for name, source in sources.items():
            start = perf_counter()
            object_code.compile_assembly(source, Options(target=target))
            best[name] = min(best[name], perf_counter() - start)
    for family, names in groupby(sorted(best), lambda name: name.split(":")[0]):
        times = [best[name] * 1e3 for name in names]
        print(f"{family:12s} {len(times):4d} kernels, {sum(times) / len(times):7.2f} ms each")
    print(f"{'all':12s} {len(best):4d} kernels, {sum(best.values()) / len(best) * 1e3:7.2f} ms each")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("folder", type=Path)
    one.add_argument("--targets", default="sm_90")
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    two.add_argument("--opcodes-only", action="store_true", help="ask no ptxas")
    three = commands.add_parser("time")
    three.add_argument("--target", default="sm_90")
    three.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    if words.command == "record":
        return record(words.folder, words.targets.split(","))
    if words.command == "compare":
        return compare(words.before, words.after, None if words.opcodes_only else find_tool("ptxas"))
    return measure(words.target, words.rounds)


if __name__ == "__main__":
    sys.exit(main())
