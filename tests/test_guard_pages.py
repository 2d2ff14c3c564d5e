"""No kernel touches memory outside of its operands: generated programs between guard pages, each family in a process of its
own, which a touch ends. The programs: `guard_pages.py`."""

import subprocess
import sys
from pathlib import Path

import flambeau as fb
import guard_pages
import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from support import rounds
from test_export import HERE, needs_native

PROGRAM = Path(guard_pages.__file__)


def run(family: str, count: int) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, PROGRAM, family, str(count)], capture_output=True, text=True, timeout=3000)


#: Cases of each family: a function with its two gradients takes longest.
COUNTS = {
    "kernels": (15, 400, 4000), "clusters": (10, 300, 4000), "plans": (15, 400, 4000), "sizes": (10, 200, 2000),
    "functions": (6, 100, 1000), "faulty": (len(guard_pages.FAULTS),) * 3,
}  # fmt: skip


@pytest.mark.parametrize("family", guard_pages.FAMILIES)
def test_nothing_outside_of_the_operands_is_touched(family):
    """And what does touch (the family `faulty`) is found."""
    done = run(family, rounds(*COUNTS[family]))
    last = (done.stdout.split() or ["none"])[-1]
    assert done.returncode == 0, f"{family}, case {last}: {done.returncode}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_reductions_of_nothing_selected(mode):
    """What lies behind an empty index is nobody's index."""
    nothing = fb.full((8,), 99, dtype=fb.int64)[:0]
    x, truth = fb.tensor([[1.0, 2.0]]), fb.tensor([[True]])
    calls = (
        (lambda: x.index_select(0, nothing).sum(), 0.0),
        (lambda: x.index_select(0, nothing).sum(0), [0.0, 0.0]),
        (lambda: x.gather(0, nothing.reshape(0, 1)).prod(1), []),
        (lambda: truth.index_select(1, nothing).all(1), [True]),
        (lambda: fb.nn.functional.embedding(nothing, fb.ones(3, 2)).prod(), 1.0),
    )
    for call, wanted in calls:
        with fb.compiler_options(mode=mode):
            assert call().tolist() == wanted
            assert call().tolist() == wanted


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("name", ["sum", "prod", "any", "all"])
def test_folding_nothing_gives_the_identity(name, shape, axes):
    array = np.zeros(shape, bool if name in ("any", "all") else np.float32)
    wanted = getattr(np, name)(array, axis=axes)
    x = fb.tensor(array)
    for mode in ("off", "blocking"):
        with fb.compiler_options(mode=mode):
            found = getattr(x, name)(axes[0]) if len(axes) == 1 else getattr(x, name)()
            assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_index_into_nothing_is_out_of_range(rows):
    """As it is where something can be read, whatever is fused around it."""
    x, index = fb.zeros(0, 5), fb.zeros(rows, 5, dtype=fb.int64)
    calls = (
        lambda: x.gather(0, index),
        lambda: x.gather(0, index).sum(),
        lambda: (x * 2).index_select(0, index[:, 0]).sum(0),
        lambda: x.scatter_add(0, index, fb.ones(rows, 5)).sum(),
    )
    for mode in ("off", "blocking"):
        for call in calls:
            with fb.compiler_options(mode=mode):
                if rows:
                    with pytest.raises(IndexError, match=r"has no elements to index|out of range"):
                        call().tolist()
                else:
                    assert not np.any(call().numpy())


def test_operands_of_an_empty_product_are_computed_no_more_than_once():
    builder = GraphBuilder()
    x = builder.input(Aval((0, 3, 4), float32))
    y = builder.input(Aval((0, 4, 70), float32))
    z = find("matmul")(find("exp")(x), find("exp")(y))
    builder.graph.outputs = [z.id]
    (found,) = driver.compile(builder.graph, Options(mode="blocking"))(
        [np.empty((0, 3, 4), "f4"), np.empty((0, 4, 70), "f4")]
    )
    assert found.nbytes == 0


# ---- exported programs ------------------------------------------------------------------------------------------

CALLER = """
#include <stdio.h>
#include <string.h>
#include "flambeau/program.h"
extern const fb_program FB_PROGRAM;

static int run(const fb_program *p, fb_guard_mode mode) {
  const void *inputs[8];
  void *outputs[8];
  fb_buffer *b;
  fb_memory_set_guard(mode);
  for (int i = 0; i < p->n_inputs; i++) {
    if (fb_buffer_alloc(p->inputs[i].bytes, &b) != FB_OK)
      return 1;
    inputs[i] = memcpy(fb_buffer_data(b), p->sample_inputs[i], p->inputs[i].bytes);
  }
  for (int i = 0; i < p->n_outputs; i++) {
    if (fb_buffer_alloc(p->outputs[i].bytes, &b) != FB_OK)
      return 1;
    outputs[i] = fb_buffer_data(b);
  }
  if (fb_program_run(p, inputs, outputs) != FB_OK)
    return puts(fb_last_error()), 2;
  for (int i = 0; i < p->n_outputs; i++)
    if (memcmp(outputs[i], p->expected[i], p->outputs[i].bytes) != 0)
      return 3;
  return 0;
}

int main(void) {
  int end = run(&FB_PROGRAM, FB_GUARD_END), start = run(&FB_PROGRAM, FB_GUARD_START);
  return end != 0 ? end : start;
}
"""


class Odd(fb.nn.Module):
    """Rows picked from a table, a product of odd extents, a reduction, and results of one byte."""

    def __init__(self):
        super().__init__()
        self.table, self.linear = fb.nn.Embedding(13, 17), fb.nn.Linear(17, 31)

    def forward(self, index, x):
        y = self.linear(self.table(index)).tanh() + x
        return y, y.sum(-1), y.softmax(-1) > 0.03, y.T.reshape(-1)[3:], index[:0].sum()


@needs_native
def test_exported_programs_touch_nothing_outside_of_their_operands(tmp_path):
    inputs = fb.tensor([12, 0, 5]), fb.randn(3, 31)
    made = fb.export(Odd(), inputs, tmp_path / "odd", target=HERE.name)
    (tmp_path / "call.c").write_text(CALLER)
    sources = [tmp_path / "call.c", made.object_file, *(made.folder / "runtime" / "src").glob("*.c")]
    flags = ["-O1", "-DFB_PROGRAM=odd_program", f"-I{made.folder}", f"-I{made.folder}/runtime/include", "-pthread"]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", tmp_path / "call"], check=True)
    done = subprocess.run([tmp_path / "call"], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout)
