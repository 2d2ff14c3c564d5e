"""What exporting costs in memory, and what a call of an exported function costs: no copies of weights, no allocation."""

import shutil
import subprocess

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler.export import elf, object_file
from flambeau.compiler.targets import platforms

HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)
needs_native = pytest.mark.skipif(HERE is None or shutil.which("cc") is None, reason="needs Linux and a C compiler")


class Scaled(fb.nn.Module):
    """Adds up its input times its weights, of sizes below and above what is written as text."""

    def __init__(self, *sizes):
        super().__init__()
        numbers = np.random.default_rng(0)
        for k, n in enumerate(sizes):
            self.register_parameter(f"weight{k}", fb.nn.Parameter(fb.tensor(numbers.random(n, np.float32))))

    def forward(self, x):
        return sum((w * x).sum() for w in self.parameters())


def test_weights_are_no_text_and_are_not_copied(tmp_path, monkeypatch):
    sizes = []

    def tables(contents, target):
        text, made = original(contents, target)
        weights = [s for s in contents.sources if not isinstance(s, int) and s.size > 1]
        pieces = [np.frombuffer(piece, np.uint8) for piece in made.data]
        assert [np.shares_memory(p, w) for p, w in zip(pieces, weights, strict=True)] == [True, True]
        sizes.append((len(text), len(made.data)))
        return text, made

    original = object_file.tables
    monkeypatch.setattr(object_file, "tables", tables)
    for name, n in (("small", 1 << 10), ("large", 1 << 18)):
        fb.export(Scaled(n, n), fb.ones(1), tmp_path / name, "x86_64-linux")
    (small, pieces), (large, _) = sizes
    assert pieces == 2 and abs(large - small) < 200


@pytest.mark.parametrize("target", sorted(platforms.PLATFORMS))
def test_the_object_holds_the_weights_where_it_says(target, tmp_path):
    model = Scaled(3, 5000, 1025)
    code = fb.export(model, fb.ones(1), tmp_path / "scaled", target).object_file.read_bytes()
    assert set(elf.undefined_symbols(code)) == object_file.RUNTIME_SYMBOLS
    at = [code.find(w.detach().numpy().tobytes()) for w in model.parameters()]
    assert (
        -1 not in at and at[2] - at[1] == -(-5000 * 4 // elf.ALIGNMENT) * elf.ALIGNMENT and at[1] % elf.ALIGNMENT == 0
    )


@needs_native
def test_programs_find_their_weights(tmp_path):
    model, x = Scaled(3, 5000, 1025, 1), np.float32([1.5])
    made = fb.export(model, fb.tensor(x), tmp_path / "scaled", HERE.name)
    run = build(made, CHECK, tmp_path)
    assert (run.returncode, run.stdout) == (0, b"0\n"), run.stderr


@pytest.mark.parametrize("code", [b"", b"\x7fELF\x01\x01" + bytes(60)])
def test_only_objects_of_the_format_take_data(code, tmp_path):
    with (tmp_path / "object").open("wb") as file, pytest.raises(ValueError, match="64-bit little-endian ELF"):
        elf.write_with_data(file, code, "data", [])


def test_data_needs_a_symbol_that_waits_for_it(tmp_path):
    code = fb.export(Scaled(3), fb.ones(1), tmp_path / "scaled", "x86_64-linux").object_file.read_bytes()
    with (tmp_path / "object").open("wb") as file, pytest.raises(ValueError, match="no undefined symbol 'scaled_run'"):
        elf.write_with_data(file, code, "scaled_run", [])


# ---- calls ------------------------------------------------------------------------------------------------------

CHECK = r"""
#include "scaled.h"
#include <stdio.h>
int main(void) {
  int status = scaled_check();
  printf("%d\n", status);
  return status ? puts(scaled_error()), 1 : 0;
}
"""

COUNT = r"""
#include "twice.h"
#include <stdio.h>
#include <stdlib.h>
static long calls;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t a, size_t n);
void *__wrap_malloc(size_t n) { return calls++, __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t m) { return calls++, __real_calloc(n, m); }
void *__wrap_realloc(void *p, size_t n) { return calls++, __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t a, size_t n) { return calls++, __real_aligned_alloc(a, n); }
int main(void) {
  static float x[2][4], y[2][3];
  static long long at[1];
  int bad = 0;
  bad |= twice_run((const void *const[]){x, at}, (void *const[]){x, y});
  calls = 0;
  for (int i = 0; i < 100; i++)
    bad |= twice_run((const void *const[]){x, at}, (void *const[]){x, y});
  printf("%ld\n", calls);
  return bad;
}
"""


def build(made, program, tmp_path, *flags):
    """What the program does that is linked with what was exported."""
    (tmp_path / "call.c").write_text(program)
    sources = [tmp_path / "call.c", made.object_file, *(made.folder / "runtime" / "src").glob("*.c")]
    include = [f"-I{made.folder}", f"-I{made.folder}/runtime/include"]
    command = ["cc", "-O1", *include, *sources, *flags, "-pthread", "-lm", "-o", tmp_path / "call"]
    built = subprocess.run([str(c) for c in command], capture_output=True, timeout=60)
    assert built.returncode == 0, built.stderr.decode()
    return subprocess.run([tmp_path / "call"], capture_output=True, timeout=60)


@needs_native
def test_calls_allocate_nothing_after_the_first(tmp_path):
    """Of any kind of output: an input as it is, one of its own; with steps that may fail, and an arena."""
    layers = fb.nn.Sequential(fb.nn.Linear(4, 8), fb.nn.ReLU(), fb.nn.Linear(8, 3))

    def model(x, at):
        return x, layers(x).index_select(1, at).expand(2, 3).contiguous()

    made = fb.export(model, (fb.ones(2, 4), fb.tensor([1])), tmp_path / "twice", HERE.name)
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "aligned_alloc")]
    run = build(made, COUNT, tmp_path, *wrapped)
    assert (run.returncode, run.stdout) == (0, b"0\n"), run.stderr
