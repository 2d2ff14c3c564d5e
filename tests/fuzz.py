"""The fuzzer: random programs of every kind of `fuzz_kinds.py`, one after the other, until one goes wrong or the time is up.

    python tests/fuzz.py --minutes 10                       # all kinds, each for an equal share of the time
    python tests/fuzz.py --minutes 10 --kinds graphs,loops --seed 7
    python tests/fuzz.py --case derivatives:1513            # one case again, made small

Cases run in a process of their own, which says what it is about to do, so that one that ends the process or hangs is told, too.
What fails is run again in a new process and made small. The status is 1 if something was found; `--go-on` looks for more.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from typing import Any, NamedTuple

#: A process runs for so many seconds of processor time, so that what depends on empty caches comes up. A case that says nothing
#: for so many seconds hangs.
LIFE, PATIENCE = 60.0, 240.0


class Found(NamedTuple):
    kind: str
    seed: int
    what: str


# ---- in the process that runs cases -----------------------------------------------------------------------------


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def attempt(kinds: dict, kind: str, seed: int) -> str | None:
    """What is wrong with a case. What it raises is: cases catch what programs may."""
    try:
        return kinds[kind].run(seed)
    except Exception:
        return traceback.format_exc(limit=-6)


def work(names: list[str], seed: int, seconds: float) -> None:
    """Run cases in turn, the kind next that has had the least time."""
    import fuzz_kinds

    kinds = fuzz_kinds.kinds(names)
    spent = dict.fromkeys(kinds, 0.0)
    rng = random.Random(seed)
    for kind in kinds:
        spent[kind] = rng.random() * 1e-3
    while time.process_time() < seconds:
        kind = min(spent, key=lambda k: spent[k] / kinds[k].weight)
        case, begin = rng.randrange(1 << 30), time.process_time()
        tell(case=[kind, case])
        fuzz_kinds.surroundings(case)
        what = attempt(kinds, kind, case)
        spent[kind] += time.process_time() - begin
        tell(done=what)
    tell(counts=spent)


def again(kind: str, seed: int, is_shrunk: bool) -> None:
    """One case alone, made small."""
    import fuzz_kinds

    chosen = fuzz_kinds.kinds([kind])
    fuzz_kinds.surroundings(seed)
    tell(case=[kind, seed])
    what = attempt(chosen, kind, seed)
    tell(done=what)
    if what is not None and is_shrunk and chosen[kind].shrink is not None:
        tell(small=chosen[kind].shrink(seed))


# ---- in the process that watches it -----------------------------------------------------------------------------


class Child:
    """A process that runs cases, read line by line."""

    def __init__(self, *arguments: str) -> None:
        here = os.path.abspath(__file__)
        self.process = subprocess.Popen(
            [sys.executable, here, "--child", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.cases: list[tuple[str, int]] = []
        self.small: str | None = None

    def run(self, until: float) -> Found | None:
        """The first case that goes wrong, if one does before the process ends or time is up."""
        try:
            return self._read(until)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _read(self, until: float) -> Found | None:
        found: Found | None = None
        while time.monotonic() < until:
            wait = min(until - time.monotonic(), PATIENCE)
            begin = time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, wait))
            if not ready:
                hangs = time.monotonic() - begin >= PATIENCE and bool(self.cases)
                return Found(*self.cases[-1], f"nothing for {PATIENCE:.0f} s") if hangs else found
            line = self.process.stdout.readline()
            if not line:
                return found or self._ended()
            if not line.startswith("{"):
                continue  # what a program prints
            message = json.loads(line)
            if "case" in message:
                self.cases.append(tuple(message["case"]))
            elif message.get("done") is not None:
                found = Found(*self.cases[-1], message["done"])
                if "--again" not in self.process.args:
                    return found
            elif "small" in message:
                self.small = message["small"]
                return found
        return found

    def _ended(self) -> Found | None:
        status = self.process.wait()
        if not status:
            return None
        errors = (self.process.stderr.read() or "").strip().splitlines()
        here = next((i for i, line in enumerate(errors) if line.startswith("Current thread")), len(errors))
        if any(os.sep + "torch" + os.sep in line for line in errors[here + 1 : here + 2]):
            return None  # PyTorch ended it
        kind, seed = self.cases[-1] if self.cases else ("starting", 0)
        return Found(kind, seed, f"the process ended with {status}\n" + "\n".join(errors[:30]))


def confirm(found: Found, seconds: float = 90.0) -> str:
    """What is to be said of a failure: the case made small, or that it takes the cases before it."""
    child = Child("--again", f"{found.kind}:{found.seed}")
    second = child.run(time.monotonic() + seconds)
    if second is None:
        return f"{found.what}\n(alone, the case is right: it takes those before it)"
    return second.what + (f"\n-- made small:\n{child.small}" if child.small else "")


def watch(names: list[str], seed: int, minutes: float, go_on: bool, is_brief: bool) -> int:
    """Runs processes one after the other; how many cases went wrong."""
    rng, count, wrong = random.Random(seed), 0, 0
    while (left := 60 * minutes - processor_time()) > 1:
        life = min(LIFE, left)
        child = Child("--kinds", ",".join(names), "--seed", str(rng.randrange(1 << 30)), "--seconds", str(life))
        found = child.run(time.monotonic() + 20 * life + PATIENCE)
        count += len(child.cases)
        if found is None:
            continue
        wrong += 1
        print(f"FOUND after {processor_time():.0f} s and {count} cases: {found.kind}:{found.seed}", flush=True)
        print(found.what if is_brief else confirm(found), flush=True)
        print(f"again: python tests/fuzz.py --case {found.kind}:{found.seed}", flush=True)
        if not go_on or found.kind == "starting":
            break
    print(f"{count} cases, {wrong} wrong, seed {seed}, {processor_time():.0f} s", flush=True)
    return wrong


def processor_time() -> float:
    """Seconds that processes which ended have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 20))
    parser.add_argument("--kinds", default="")
    parser.add_argument("--case", help="kind:seed")
    parser.add_argument("--go-on", action="store_true", help="look for more than one")
    parser.add_argument("--brief", action="store_true", help="do not run again and make small what is found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--again", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=LIFE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in options.kinds.split(",") if name]
    if options.child:
        faulthandler.enable()
        warnings.simplefilter("ignore")
        if options.again:
            kind, seed = options.again.split(":")
            again(kind, int(seed), not options.brief)
        else:
            work(names, options.seed, options.seconds)
        return 0
    if options.case:
        kind, seed = options.case.split(":")
        child = Child("--again", options.case, *["--brief"] * options.brief)
        found = child.run(time.monotonic() + 600)
        print("right" if found is None else found.what + (f"\n-- made small:\n{child.small}" if child.small else ""))
        return found is not None
    print(f"seed {options.seed}", flush=True)
    return watch(names, options.seed, options.minutes, options.go_on, options.brief) > 0


if __name__ == "__main__":
    sys.exit(main())
