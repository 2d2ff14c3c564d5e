"""Programs that make ever new shapes, or ever new models, and tell what stays of them.

    python tests/leaking.py shapes COUNT
    python tests/leaking.py models COUNT

Prints one line: bytes of memory that the second half of the rounds added, open files that it added, and how many states,
programs, types, static arguments and views the recorder has in the end.
"""

import gc
import os
import random
import sys

import flambeau as fb
from flambeau.compiler import driver
from flambeau.runtime import recorder

PAGE = os.sysconf("SC_PAGE_SIZE")
#: So many programs are remembered in the test of models, to see that this is a bound.
PROGRAMS = 30
#: So many types, static arguments and views are remembered.
TYPES = 250


def held():
    """Bytes of this process, but for the pool of buffers (it grows with the largest tensors, up to a limit), and its open files."""
    gc.collect()
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[1]) * PAGE
    return held - fb.memory_stats()["reserved_bytes"], len(os.listdir("/proc/self/fd"))


def shape(number):
    """A shape, and views of it: read, written through, and differentiated."""
    rows, columns = 2 + number % 317, 2 + number // 317
    x = fb.ones(rows, columns) * 2 + 1
    assert x.sum().item() == 3 * rows * columns
    x[1:] += 1  # now the first row is 3s, all others are 4s
    views = (x.t()[::2], x[0].expand(3, columns), x.reshape(-1)[columns:], x[[0, rows - 1]])
    taken = 3 + 4 * (rows - 1)
    wanted = ((columns + 1) // 2 * taken, 9 * columns, 4 * (rows - 1) * columns, 7 * columns)
    assert fb.stack([v.sum() for v in views]).tolist() == list(wanted)
    w = fb.zeros(rows, columns, requires_grad=True)
    (w.t()[:, 1:] * 2).sum().backward()
    assert w.grad[1:].mean().item() == 2 and w.grad[0].sum().item() == 0


def model(number):
    chance = random.Random(number)
    width, layers = 8, []
    for _ in range(chance.randint(1, 3)):
        after = chance.choice([4, 8, 16])
        layers += [fb.nn.Linear(width, after), chance.choice([fb.nn.ReLU, fb.nn.Tanh, fb.nn.GELU, fb.nn.SiLU])()]
        width = after
    net = fb.nn.Sequential(*layers)
    optimizer = chance.choice([fb.optim.SGD, fb.optim.Adam])(net.parameters(), lr=chance.random())
    x = fb.randn(chance.randint(2, 40), 8)
    for _ in range(2):
        loss = (net(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def main(what, count):
    do = {"shapes": shape, "models": model}[what]
    fb.set_limits(max_types=TYPES)
    if do is model:
        fb.set_limits(max_programs=PROGRAMS)
        driver._REMEMBERED = PROGRAMS
    for number in range(count // 2):
        do(number)
    before = held()
    for number in range(count // 2, count):
        do(number)
    after, stats = held(), recorder.stats()
    remembered = (stats[what] for what in ("states", "programs", "types", "statics", "views"))
    print(after[0] - before[0], after[1] - before[1], *remembered)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
