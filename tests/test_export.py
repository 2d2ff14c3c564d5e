"""Programs exported by `flambeau.export` compute what Python computes, to the bit, here and on the other machine."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import transforms as T
from flambeau.compiler.export import elf, linker
from flambeau.compiler.targets import platforms

ROOT = Path(__file__).resolve().parent.parent
HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)
needs_native = pytest.mark.skipif(HERE is None or shutil.which("cc") is None, reason="needs Linux and a C compiler")


@pytest.fixture(autouse=True)
def fast_linker(monkeypatch):
    """Programs for this machine are linked by its C compiler: Zig would first compile a C library for them."""
    monkeypatch.setattr(
        linker, "zig", lambda platform: None if platform.is_here and shutil.which("cc") else zig(platform)
    )


zig = linker.zig


def launcher(target: str) -> list[str]:
    """What runs executables for `target` on this machine."""
    platform = platforms.find(target)
    if linker.zig(platform) is None and linker.native(platform) is None:
        pytest.skip(f"no linker for {target}: pip install ziglang")
    if platform.is_here:
        return []
    if shutil.which(platform.emulator) is None:
        pytest.skip(f"{platform.emulator} is not installed: apt-get install qemu-user-static")
    return [platform.emulator]


def run(command: list, data: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run([str(c) for c in command], input=data, capture_output=True, timeout=60)


def outputs(made, target: str, *inputs) -> bytes:
    """What the executable writes for the inputs; the sample must be right, too."""
    check = run([*launcher(target), made.executable, "--check"])
    assert check.returncode == 0, check.stderr.decode()
    done = run([*launcher(target), made.executable], b"".join(np.ascontiguousarray(x).tobytes() for x in inputs))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def called(model, *inputs) -> bytes:
    with fb.no_grad():
        results = model(*(fb.tensor(x) for x in inputs))
    results = results if isinstance(results, tuple) else (results,)
    return b"".join(np.ascontiguousarray(r.numpy()).tobytes() for r in results)


class Roots(nn.Module):
    def forward(self, x):
        return x.sqrt()


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x):
        return self.linear(x).tanh()


# ---- the digits ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """The example's model after one epoch, and its test images."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        example = importlib.import_module("digits")
    finally:
        sys.path.pop(0)
    fb.manual_seed(0)
    model = example.Classifier()
    train, images, _ = example.load_data()
    example.train(model, train, 1, 64)
    return model.eval(), images.numpy()


@pytest.mark.accept("SER-16", "DEV-04", "EXA-01", "EXA-04")
@pytest.mark.parametrize("target", ["x86_64-linux", "aarch64-linux"])
def test_digits_are_predicted_alike_to_the_bit(digits, target, tmp_path):
    launcher(target)
    model, images = digits
    made = fb.export(model, (fb.tensor(images[:1]),), tmp_path / "digits", target=target, executable=True)
    found = np.frombuffer(outputs(made, target, images), np.float32).reshape(-1, 10)
    rows = np.concatenate([np.frombuffer(called(model, images[i : i + 1]), np.float32) for i in range(len(images))])
    assert found.tobytes() == rows.tobytes()
    assert made.executable.stat().st_size < 1_200_000  # most of it is the C library
    weights = fb.load(made.weights)
    assert {k: v.tolist() for k, v in weights.items()} == {k: v.tolist() for k, v in model.state_dict().items()}


def prepared(images):
    """Bytes [N, 3, 10, 10] as a network wants them: cut, scaled, normalized."""
    images = T.center_crop(images, (8, 8))
    return T.normalize(images.float() / 255, [0.5, 0.4, 0.3], [0.2, 0.3, 0.25])


@needs_native
@pytest.mark.accept("EXA-10")
def test_what_prepares_images_for_training_is_part_of_the_program(tmp_path):
    fb.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 10, 10)).astype(np.uint8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    optimizer = fb.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(prepared(fb.tensor(images))), fb.tensor([0, 1, 2, 3, 0, 1])).backward()
        optimizer.step()
    served = nn.Sequential(nn.Lambda(prepared), net)
    made = fb.export(served, (fb.tensor(images[:2]),), tmp_path / "net", target=HERE.name, executable=True)
    wanted = b"".join(called(lambda x: net(prepared(x)), images[k : k + 2]) for k in (0, 2, 4))
    assert outputs(made, HERE.name, images) == wanted


class Mixture(nn.Module):
    """Ops of every kind: transcendental functions, reductions, indices, integers, doubles, sorting out by masks."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 4)

    def forward(self, index, x):
        h = self.norm(self.table(index) + x)
        logits = self.out(h.tanh() * h.sigmoid())
        wide = logits.double()
        table = wide.exp().sum(1) + wide.abs().log1p().mean(1) - wide.sin().prod(1) + wide.cos().amax(1)
        return (
            F.log_softmax(logits, 1),
            logits.argmax(1),
            table,
            (index * 7 // 3) % 5,
            (h > 0.5).any(0),
            F.gelu(h).T.reshape(-1)[::3],
            (h.abs() + 1e-3).pow(1.7).rsqrt(),
            F.softmax(logits * 30, 0),
            (wide * 1e200).fmod(0.3),
            (logits * 1e30) % -0.7,
            logits // 0.3,
        )


@pytest.mark.accept("SER-16")
@pytest.mark.parametrize("target", ["x86_64-linux", "aarch64-linux"])
def test_ops_of_every_kind_agree_to_the_bit(target, tmp_path):
    launcher(target)
    fb.manual_seed(3)
    rng = np.random.default_rng(5)
    model, index = Mixture(), np.arange(37) % 11
    x = rng.normal(size=(37, 8)).astype(np.float32)
    made = fb.export(model, (fb.tensor(index), fb.tensor(x)), tmp_path / "mixture", target=target, executable=True)
    other = np.roll(index, 3), (x * 3 - 1).astype(np.float32)
    assert outputs(made, target, *other) == called(model, *other)
    failed = run([*launcher(target), made.executable], (index * 100).tobytes() + x.tobytes())
    assert failed.returncode == 1 and b"index[1, 0] = 100 is out of range" in failed.stderr and failed.stdout == b""


# ---- the C interface ----------------------------------------------------------------------------------------------

CALLER = """
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "small.h"

static float x[2][5] = {{1, -2, 3, 0, 1}, {0, 1, 2, 3, 4}};

static void *call(void *y) {
  for (int i = 0; i < 200; i++)
    if (small_run((const void *const[]){x}, (void *const[]){y}) != 0)
      return "failed";
  return NULL;
}

int main(void) {
  _Static_assert(SMALL_INPUT_0_BYTES == sizeof x && SMALL_OUTPUT_0_BYTES == 24, "sizes");
  static float y[3][2][3];
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    pthread_create(&threads[i], NULL, call, y[i]);
  for (int i = 0; i < 3; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    if (failed)
      return puts(small_error()), 1;
  }
  if (memcmp(y[0], y[1], sizeof y[0]) || memcmp(y[0], y[2], sizeof y[0]) || small_check())
    return puts(small_error()), 2;
  return fwrite(y[0], sizeof y[0], 1, stdout) != 1;
}
"""


@needs_native
@pytest.mark.accept("SER-16", "VER-04")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_c_programs_call_the_exported_functions_from_threads(sanitizer, tmp_path):
    fb.manual_seed(1)
    model = Small()
    x = np.array([[1, -2, 3, 0, 1], [0, 1, 2, 3, 4]], np.float32)
    made = fb.export(model, fb.tensor(x), tmp_path / "small", target=HERE.name)
    assert made.executable is None
    assert "inputs[0]: float[2][5]" in made.header.read_text() and elf.undefined_symbols(made.object_file.read_bytes())
    (tmp_path / "call.c").write_text(CALLER)
    sources = [tmp_path / "call.c", made.object_file, *(made.folder / "runtime" / "src").glob("*.c")]
    include = [f"-I{made.folder}", f"-I{made.folder}/runtime/include"]
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-g", f"-fsanitize={sanitizer}", "-pthread"]
    built = run(["cc", *flags, *include, *sources, "-o", tmp_path / "call"])
    assert built.returncode == 0, built.stderr.decode()
    done = run([tmp_path / "call"])
    assert done.returncode == 0 and done.stdout == called(model, x), (done.stdout, done.stderr)


@needs_native
def test_what_is_exported_needs_a_c_library_and_threads_only(tmp_path):
    """No dlopen, which is a library of its own in older C libraries; no libm either: the documented command links."""
    made = fb.export(Small(), fb.tensor(np.ones((2, 5), np.float32)), tmp_path / "small", target=HERE.name)
    sources = sorted((made.folder / "runtime" / "src").glob("*.c"))
    needed: set[str] = set()
    for source in sources:
        code = tmp_path / f"{source.stem}.o"
        built = run(["cc", "-O1", "-c", f"-I{made.folder}/runtime/include", source, "-o", code])
        assert built.returncode == 0, built.stderr.decode()
        needed |= set(elf.undefined_symbols(code.read_bytes()))
    assert "pthread_create" in needed and {"program.c", "plan_run.c"} <= {s.name for s in sources}
    assert not {n for n in needed if n.startswith(("dl", "cu", "fb_cuda"))}
    assert not needed & {"exp", "log", "pow", "sqrt", "floor", "fmod", "fma"}


@needs_native
def test_the_executable_reports_what_is_wrong(tmp_path):
    x = np.ones((2, 5), np.float32)
    made = fb.export(Small(), fb.tensor(x), tmp_path / "small", target=HERE.name, executable=True)
    program = made.executable
    info = run([program, "--info"]).stdout.decode()
    assert "input 0: float32 [2, 5], 40 bytes" in info and "output 0: float32 [2, 3], 24 bytes" in info
    short = run([program], x.tobytes() + b"123")
    assert short.returncode == 1 and b"record 1 has 3 of 40 bytes" in short.stderr
    assert run([program], b"").returncode == 1
    absent = run([program, tmp_path / "absent"])
    assert absent.returncode == 1 and b"No such file" in absent.stderr
    assert run([program, "--unknown"]).returncode == 2
    (tmp_path / "in").write_bytes(x.tobytes() * 2)
    assert run([program, "--threads", "2", tmp_path / "in", tmp_path / "out"]).returncode == 0
    assert len((tmp_path / "out").read_bytes()) == 48
    data = program.read_bytes()  # a wrong expectation is found
    sample = run([program], x.tobytes()).stdout
    assert data.count(sample) == 1
    program.write_bytes(data.replace(sample, b"\x07" + sample[1:]))
    wrong = run([program, "--check"])
    assert wrong.returncode == 1 and b"[check] small: byte 0 of output 0 is" in wrong.stderr


@needs_native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_check_takes_all_nans_for_one(tmp_path, dtype):
    """Machines may differ in the sign and payload of the NaNs they make; a NaN beside a number is an error."""
    x = np.array([[-1.0, 0.3, -2.0, 0.7]], dtype)
    made = fb.export(Roots(), fb.tensor(x), tmp_path / "roots", target=HERE.name, executable=True)
    program = made.executable
    assert run([program, "--check"]).returncode == 0
    expected = np.frombuffer(run([program], x.tobytes()).stdout, dtype).reshape(1, 4)
    assert np.isnan(expected).tolist() == [[True, False, True, False]]
    data = program.read_bytes()
    assert data.count(expected.tobytes()) == 1
    bits = np.dtype(f"u{x.itemsize}")
    other = expected.copy()
    other.view(bits)[0, [0, 2]] ^= (1 << (8 * x.itemsize - 1)) | 12345  # another sign and payload
    program.write_bytes(data.replace(expected.tobytes(), other.tobytes()))
    assert run([program, "--check"]).returncode == 0
    other[0, 2] = 1.0
    program.write_bytes(data.replace(expected.tobytes(), other.tobytes()))
    wrong = run([program, "--check"])
    assert wrong.returncode == 1 and b"of output 0 is" in wrong.stderr


# ---- what is refused ----------------------------------------------------------------------------------------------


def refused(tmp_path, error, match, *arguments, **options):
    with pytest.raises(error, match=match):
        fb.export(*arguments, **options)
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_unknown_targets_and_missing_linkers(tmp_path, monkeypatch):
    x = fb.ones(2, 5)
    refused(
        tmp_path, ValueError, r"unknown target 'vax'. Choose one of aarch64-linux, ", Small(), x, tmp_path / "a", "vax"
    )
    monkeypatch.setattr(linker, "zig", lambda platform: None)
    other = next(p.name for p in platforms.PLATFORMS.values() if not p.is_here)
    refused(tmp_path, RuntimeError, r"no linker for .*flambeau\[export\]", Small(), x, tmp_path / "a", other, True)
    broken = linker.Linker("cc", (sys.executable, "-c", "import sys; sys.exit('out of paper')"))
    monkeypatch.setattr(linker, "zig", lambda platform: broken)
    refused(tmp_path, RuntimeError, r"failed with code 1:\nout of paper", Small(), x, tmp_path / "a", executable=True)


def test_models_that_cannot_be_exported(tmp_path):
    class State(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", fb.zeros(1))

        def forward(self, x):
            self.count += 1
            return x + fb.rand(2) + fb.randn(2)

    match = r"(?s)cannot be compiled ahead of time:.*random_bits.*random_bits.*changes count in place"
    refused(tmp_path, RuntimeError, match, State(), fb.ones(2), tmp_path / "a")
    reads = lambda x: x * 2 if x.sum().item() > 0 else x  # noqa: E731
    refused(tmp_path, RuntimeError, "reads values while it runs", reads, fb.ones(2), tmp_path / "a")
    refused(tmp_path, TypeError, "the model returned a int", lambda x: 3, fb.ones(2), tmp_path / "a")
    refused(tmp_path, TypeError, "example input 0 is a int", Small(), 3, tmp_path / "a")
    refused(tmp_path, TypeError, "<U1 has no Flambeau", Small(), np.full((2, 5), "a"), tmp_path / "a")
    refused(tmp_path, ValueError, "cannot name C functions", Small(), fb.ones(2, 5), tmp_path / "5")
    refused(tmp_path, RuntimeError, "shape", Small(), fb.ones(2, 6), tmp_path / "a")


def test_unwritable_and_taken_paths(tmp_path):
    x = fb.ones(2, 5)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"\[export\]"):
        fb.export(Small(), x, tmp_path / "file" / "small")
    with pytest.raises(FileExistsError, match="is not an earlier export"):
        fb.export(Small(), x, tmp_path / "file")
    with pytest.raises(FileExistsError, match="is not an earlier export"):
        fb.export(Small(), x, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_an_export_replaces_an_earlier_one_and_leaves_the_model_alone(tmp_path):
    model = Small().train()
    x = fb.ones(2, 5)
    first = fb.export(model, x, tmp_path / "small").object_file.read_bytes()
    assert fb.export(model, x, tmp_path / "small").object_file.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["small"]
    assert model.training and model.linear.training and x.sum().item() == 10


def test_views_numbers_and_captured_tensors_become_part_of_the_program(tmp_path):
    launcher("x86_64-linux")
    shift, factors = fb.arange(5).float(), iter((2.5, 7.5))
    factor = next(factors)

    def model(x, unused):
        y = x.T * factor + shift[:, None]
        x += 1  # only the caller's copy changes
        return y, x, x[1:, ::2]

    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    examples = (fb.tensor(np.stack([x, x], 2))[:, :, 1], fb.ones(3))
    made = fb.export(model, examples, tmp_path / "captured", executable=True)
    assert outputs(made, "x86_64-linux", x + 1, np.zeros(3, np.float32)) == called(
        model, x + 1, np.zeros(3, np.float32)
    )


@pytest.mark.parametrize("target", ["x86_64-linux", "aarch64-linux"])
def test_only_the_sign_of_new_nans_depends_on_the_machine(target, tmp_path):
    launcher(target)
    x = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], np.float32)

    def model(x):
        return x / x, x - x, x.sqrt(), x * x, fb.maximum(x, -x), (x * 3).long(), 1 / x

    made = fb.export(model, fb.tensor(x), tmp_path / "edges", target=target, executable=True)
    found = (
        outputs(made, target, x)
        if target == "x86_64-linux"
        else run([*launcher(target), made.executable], x.tobytes()).stdout
    )
    expected, at = called(model, x), 0
    for dtype in (*[np.float32] * 5, np.int64, np.float32):
        size = len(x) * np.dtype(dtype).itemsize
        f, e = (np.frombuffer(data[at : at + size], dtype) for data in (found, expected))
        np.testing.assert_array_equal(f, e)
        np.testing.assert_array_equal(np.signbit(f[f == f]), np.signbit(e[e == e]))
        at += size
    assert at == len(found) == len(expected)
