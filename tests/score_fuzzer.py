"""How many known faults the fuzzer finds: each of `tests/known_bugs/*.patch` put back alone into a copy of the sources, built as a
wheel, and fuzzed until the first find or the end of its processor time.

    python tests/score_fuzzer.py --minutes 10                  # all of them, the table at the end
    python tests/score_fuzzer.py --minutes 3 slope_of_std_at_0 # some

A patch says in its first line what goes wrong, in its second which commit mended it. `docs/testing.md` keeps the table.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import flambeau

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "tests" / "known_bugs"
#: How `fuzz.py` tells of a case that says nothing for long.
HANGS = "\nnothing for "
SOURCES = ("frontend", "compiler", "dialects", "runtime", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")


class Score(NamedTuple):
    """One row: what was found, after how many seconds of processor time."""

    name: str
    fault: str
    case: str | None
    seconds: float
    seed: int


def patches(names: list[str]) -> list[Path]:
    found = sorted(PATCHES.glob("*.patch"))
    return [p for p in found if not names or p.stem in names]


def fault_of(patch: Path) -> str:
    return patch.read_text().splitlines()[0]


def build(patch: Path, work: Path) -> Path:
    """A folder with the package in which the fault is back: where it is in Python, the installed one with other files."""
    source, target = work / "source", work / "package"
    source.mkdir()
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in SOURCES), str(source)], check=True)
    subprocess.run(["git", "apply", "-C1", f"--directory={source.name}", str(patch)], cwd=work, check=True)
    changed = re.findall(r"^\+\+\+ b/(.*)$", patch.read_text(), re.MULTILINE)
    if all(name.endswith(".py") for name in changed):
        installed = Path(flambeau.__file__).parent
        shutil.copytree(installed, target / "flambeau", ignore=shutil.ignore_patterns("__pycache__"))
        for name in changed:
            shutil.copy(source / name, target / "flambeau" / name.removeprefix("frontend/"))
        return target
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."], cwd=source, check=True)
    (wheel,) = (source / "dist").glob("flambeau-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def run(arguments: list[str], work: Path, package: Path | None) -> str:
    """What `fuzz.py` says of the package with the fault; of the one that is installed, without one."""
    cache = work / f"cache-{'right' if package is None else 'wrong'}"
    cache.mkdir(mode=0o700, exist_ok=True)
    environment = os.environ | {"FLAMBEAU_CACHE": str(cache)} | ({"PYTHONPATH": str(package)} if package else {})
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=work).stdout


def fuzz(package: Path, work: Path, options: argparse.Namespace) -> tuple[str | None, float, str]:
    """The first case that goes wrong with the fault and not without it, the seconds of processor time until then, and what was
    said."""
    seconds, seed, text = 0.0, options.seed, ""
    while seconds < 60 * options.minutes:
        left = options.minutes - seconds / 60
        said = run(
            ["--brief", "--minutes", f"{left:.2f}", "--seed", str(seed), "--kinds", options.kinds], work, package
        )
        text += said
        found = re.search(r"^FOUND after (\d+) s .*: (\S+)$", said, re.MULTILINE)
        if found is None:
            break
        seconds, seed = seconds + float(found[1]), seed + 1
        if HANGS in said:
            text += "a machine with much to do may have taken as long\n"
        elif run(["--case", found[2], "--brief"], work, None).strip() == "right":
            return found[2], seconds, text
        text += "it is wrong without the fault, too\n"
    return None, 60 * options.minutes, text


def score(patch: Path, options: argparse.Namespace) -> Score:
    with tempfile.TemporaryDirectory(prefix="flambeau-bug-") as folder:
        work = Path(folder)
        case, seconds, said = fuzz(build(patch, work), work, options)
        if options.log is not None:
            (options.log / f"{patch.stem}.txt").write_text(said)
        return Score(patch.stem, fault_of(patch), case, seconds, options.seed)


def table(scores: list[Score]) -> str:
    rows = ["| fault put back | found by | after |", "|---|---|---|"]
    for s in scores:
        kind = "not found" if s.case is None else f"`{s.case.partition(':')[0]}`"
        rows.append(f"| {s.name.replace('_', ' ')} | {kind} | {s.seconds:.0f} s |")
    found = sum(s.case is not None for s in scores)
    return "\n".join([*rows, "", f"{found} of {len(scores)} found."])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time, for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--log", type=Path, help="a folder for what the fuzzer says of each")
    options = parser.parse_args()
    scores = []
    for patch in patches(options.names):
        scores.append(score(patch, options))
        s = scores[-1]
        print(f"{s.name}: {s.case or 'not found'}, {s.seconds:.0f} s, seed {s.seed}", flush=True)
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
