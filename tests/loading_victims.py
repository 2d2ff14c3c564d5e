"""Programs that load with workers, interrupted or killed at random moments: nothing of them may remain.

    python tests/loading_victims.py COUNT SEED

Forks a victim after the other, sends it SIGINT, SIGTERM or SIGKILL, or kills one of its workers, and looks for processes,
zombies, open files and files in /dev/shm and the temporary folder. Says what it found; the status is 0 if that is nothing.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback

import numpy as np
import numpy.random  # first here: an interrupt within the import is printed and lost
from flambeau.data import DataLoader, Dataset, blocks

_PR_SET_CHILD_SUBREAPER = 36
#: Seconds after which a process counts as one that remains.
_PATIENCE = 8.0


#: Interrupts that had to be sent twice.
LOST = []


class Images(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return np.full((50, 50), i, np.float32), i


def load(persistent):
    """Load until something comes in between."""
    while True:
        loader = DataLoader(Images(), 4, shuffle=True, num_workers=2, persistent_workers=persistent)
        for _ in range(3):
            for x, i in loader:
                assert x[:, 7, 7].tolist() == i.tolist()


def victim(persistent, ready):
    """The status is 0 where the victim was interrupted, or one of its workers killed, and cleaned up after that."""
    files = len(os.listdir("/proc/self/fd")) - 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(ready)
        load(persistent)
    except (KeyboardInterrupt, RuntimeError) as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if isinstance(error, RuntimeError) and "was killed by SIGKILL" not in str(error):
            return 3
        error.__traceback__ = None
    except BaseException:
        traceback.print_exc()
        return 8
    gc.collect()
    until = time.monotonic() + _PATIENCE
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    if multiprocessing.active_children():
        return 4
    if blocks.settle():
        return 5
    return 0 if len(os.listdir("/proc/self/fd")) <= files else 6


def ended(child, again):
    """The children that end, with their status, until none is left or patience is at its end; then the others. `again` is called
    once where the child goes on for long: an interrupt that comes within a callback of Python's is printed and lost."""
    found, began = {}, time.monotonic()
    while time.monotonic() < began + _PATIENCE:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found, []
        if pid:
            found[pid] = status
        else:
            time.sleep(0.001)
        if again and child not in found and time.monotonic() > began + _PATIENCE / 2:
            again()
            again = None
    return found, [int(p) for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == os.getpid()]


def parent_of(pid):
    with contextlib.suppress(OSError):
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    return 0


def strike(pid, chance):
    """Do it; what was done."""
    kind = chance.choice(["interrupt", "interrupt group", "terminate", "kill", "kill", "worker"])
    if kind == "worker":
        workers = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == pid]
        if not workers:
            return strike(pid, chance)
        try:
            os.kill(chance.choice(workers), signal.SIGKILL)
        except ProcessLookupError:  # it had just ended
            return strike(pid, chance)
    elif kind == "interrupt group":
        os.killpg(pid, signal.SIGINT)
    else:
        os.kill(pid, {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[kind])
    return kind


def one(chance):
    """One victim; what is wrong."""
    persistent, wait = chance.random() < 0.5, chance.uniform(0, 0.06) if chance.random() < 0.9 else 0.3
    reads, ready = os.pipe()
    child = os.fork()
    if child == 0:
        status = 7
        try:
            os.setsid()
            os.close(reads)
            status = victim(persistent, ready)
        finally:
            os._exit(status)
    os.close(ready)
    os.read(reads, 1)  # until it can be interrupted
    os.close(reads)
    time.sleep(wait)
    kind = strike(child, chance)
    lost = []

    def again():
        if kind == "worker":  # it was one that was not needed any more: the victim goes on
            os.kill(child, signal.SIGKILL)
        else:
            lost.append(kind)
            os.kill(child, signal.SIGINT)

    found, left = ended(child, again)
    LOST.extend(lost)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    problems = [f"processes {left} are left"] if left else []
    status = found.get(child)
    if status is None or (os.WIFEXITED(status) and os.WEXITSTATUS(status)):
        problems.append(f"the victim ended with {status and os.WEXITSTATUS(status)}")
    return [f"{kind}: {p}" for p in problems]


def main(count, seed):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["FLAMBEAU_COMPILE"] = "off"  # processes of the compiler, and their pipes, would be taken for workers'
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    chance, wrong = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        for _ in range(count):
            wrong += one(chance)
            if files := os.listdir(folder):
                wrong.append(f"files {files} are left")
    if len(LOST) > 1 + count / 200:
        wrong.append(f"{len(LOST)} interrupts were lost")
    print(f"{count} victims, {len(LOST)} interrupted twice: " + ("\n".join(wrong) or "nothing remains"))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
