"""Exported functions and executables meet wrong calls with a status, wrong arguments with a message, and lose no file."""

import os
import shutil
import signal
import stat
import subprocess
import time

import flambeau as fb
import numpy as np
import pytest
from flambeau.c_names import program_name
from flambeau.compiler.export import linker
from flambeau.compiler.targets import platforms

HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)
pytestmark = pytest.mark.skipif(HERE is None or shutil.which("cc") is None, reason="needs Linux and a C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Doubles records of 2 x 4 floats. Linked by this machine's compiler, which takes no minute for its first program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linker, "zig", lambda platform: None)
        folder = tmp_path_factory.mktemp("programs") / "twice"
        return fb.export(lambda x: x * 2.0, fb.ones(2, 4), folder, HERE.name, executable=True).executable


def run(*command, data=b"", **options):
    return subprocess.run([str(c) for c in command], input=data, capture_output=True, timeout=60, **options)


ONE = np.arange(8, dtype=np.float32)
TWICE = (ONE * 2).tobytes()

# ---- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--check x", "--check --info", "--info --bad", "--time 5 x", "--time 0", "--time", "--time 5x", "--time -1",
        "--threads", "--threads x", "--threads 0", "--threads 2 --threads 2", "--threads 99999999999999999999", "a b c",
        "--unknown", "-x", "--check=1",
    ],
)  # fmt: skip
def test_arguments_are_honoured_or_refused(program, words, tmp_path):
    done = run(program, *words.split(), data=ONE.tobytes(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr.startswith(b"usage: ")
    assert not os.listdir(tmp_path)


def test_options_may_stand_in_any_order(program):
    for words in (
        "--check",
        "--check --threads 2",
        "--threads 2 --check",
        "--info --threads 1",
        "--time 1 --threads 1",
    ):
        done = run(program, *words.split())
        assert done.returncode == 0 and done.stdout and not done.stderr
    assert run(program, "--help").stdout.startswith(b"usage: ")
    for words in ("-", "- -", "--threads 1", "- --threads 1 -"):
        assert run(program, *words.split(), data=ONE.tobytes()).stdout == TWICE


# ---- files --------------------------------------------------------------------------------------------------------


def test_the_output_is_never_the_input(program, tmp_path):
    data, hard, soft = (tmp_path / name for name in ("data", "hard", "soft"))
    data.write_bytes(ONE.tobytes())
    os.link(data, hard)
    soft.symlink_to("data")
    for name in (data, hard, soft, tmp_path / "." / ".." / tmp_path.name / "data"):
        done = run(program, data, name)
        assert done.returncode == 1 and b"is the input, which would be lost" in done.stderr
        with data.open("rb") as stream:
            again = subprocess.run([program, "-", name], stdin=stream, capture_output=True)
        assert again.returncode == 1 and data.read_bytes() == ONE.tobytes()
    assert sorted(os.listdir(tmp_path)) == ["data", "hard", "soft"]


def test_the_output_is_there_whole_or_not_at_all(program, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    for content, message in (
        (ONE.tobytes() + b"123", b"record 1 has 3 of 32 bytes"),
        (b"", b"record 0 has 0 of 32 bytes"),
    ):
        data.write_bytes(content)
        for before in (None, b"before"):
            if before:
                out.write_bytes(before)
            done = run(program, data, out)
            assert done.returncode == 1 and message in done.stderr
            assert (out.read_bytes() if before else out.exists()) == (before or False)
            out.unlink(missing_ok=True)
    assert os.listdir(tmp_path) == ["data"]


def test_permissions_and_links_of_the_output_remain(program, tmp_path):
    data, out, link = (tmp_path / name for name in ("data", "out", "link"))
    data.write_bytes(ONE.tobytes() * 3)
    assert run(program, data, out, umask=0o027).returncode == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o640 and out.read_bytes() == TWICE * 3
    out.chmod(0o604)
    link.symlink_to("out")
    data.write_bytes(ONE.tobytes())
    assert run(program, data, link).returncode == 0
    assert link.is_symlink() and out.read_bytes() == TWICE and stat.S_IMODE(out.stat().st_mode) == 0o604
    assert sorted(os.listdir(tmp_path)) == ["data", "link", "out"]


#: In the place of fsync and rename: they tell on stderr what they do.
NOTING = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>
#undef fsync
#undef rename
int noting_fsync(int file) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (readlink(link, path, sizeof path - 1) > 0)
    fprintf(stderr, "sync %s\n", path);
  return fsync(file);
}
int noting_rename(const char *from, const char *to) {
  fprintf(stderr, "rename %s\n", to);
  return rename(from, to);
}
"""


@pytest.fixture
def noting(tmp_path, monkeypatch):
    """As `program`; it tells what it syncs and renames."""
    link, source = linker.Linker.link, tmp_path / "noting.c"
    source.write_text(NOTING)

    def linked(self, inputs, include, defines, output):
        link(self, [*inputs, source], include, [*defines, "fsync=noting_fsync", "rename=noting_rename"], output)

    monkeypatch.setattr(linker.Linker, "link", linked)
    monkeypatch.setattr(linker, "zig", lambda platform: None)
    return fb.export(lambda x: x * 2.0, fb.ones(2, 4), tmp_path / "made", HERE.name, executable=True).executable


def test_the_output_and_its_name_are_on_the_disk_at_the_end(noting, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for out, place in (("out", folder), (folder / "out", tmp_path)):
        done = run(noting, "-", out, data=ONE.tobytes(), cwd=place)
        partial, *rest = done.stderr.decode().splitlines()
        assert partial.startswith(f"sync {folder}/out.") and rest == [f"rename {out}", f"sync {folder}"]
        assert (done.returncode, (folder / "out").read_bytes()) == (0, TWICE)


def test_files_that_cannot_be_read_or_written(program, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(ONE.tobytes())
    for source, target, message in (
        (tmp_path, "-", b"cannot read: Is a directory"),
        (tmp_path / "absent", "-", b"absent: No such file"),
        (data, tmp_path / "absent" / "out", b"No such file"),
        (data, tmp_path, b"Is a directory"),
        (data, "/dev/full", b"cannot write: No space left"),
    ):
        done = run(program, source, target)
        assert done.returncode == 1 and message in done.stderr and not done.stdout
    with open("/dev/full", "wb") as full:
        for words in ((data,), ("--info",), ("--check",)):
            done = subprocess.run([program, *words], stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == 1 and b"cannot write" in done.stderr
    assert run(program, data, os.devnull).returncode == 0 and stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(tmp_path) == ["data"]


def test_an_interrupted_program_leaves_nothing(program, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"before")
    process = subprocess.Popen([program, "-", out], stdin=subprocess.PIPE)
    process.stdin.write(ONE.tobytes() * 1000)
    process.stdin.flush()
    while len(os.listdir(tmp_path)) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    process.stdin.close()
    assert os.listdir(tmp_path) == ["out"] and out.read_bytes() == b"before"


# ---- names --------------------------------------------------------------------------------------------------------

WORKING = {
    "model-1.5": "model_1_5", "a b": "a_b", "int": "int", "class": "class", "main": "main", "llvm": "llvm", "linux": "linux",
    "Model": "Model", "printf": "printf", "x" * 100: "x" * 100, "a+b,c~d'e\"f": "a_b_c_d_e_f", "NULL": "NULL", "std": "std",
    "kernel": "kernel", "table": "table", "state": "state", "plan": "plan",
}  # fmt: skip
REFUSED = {
    "fb_program": "begin with fb_", "fb_plan": "begin with fb_", "fb_last": "begin with fb_", "FB_x": "begin with fb_",
    "модель": "'м' is not an ASCII letter", "模型": "is not an ASCII letter", "größe": "'ö' is not", "a\nb": "is not",
    "5": "begin with a letter", "1.5-model": "begin with a letter", "---": "begin with a letter", "_x": "begin with a letter",
    "": "begin with a letter", "..": "begin with a letter", "x" * 101: "101 letters", "argp": "the C library",
    "svc": "the C library", "string": "would hide", "pthread": "would hide", "runtime": "every exported folder",
    "EXPORTED": "every exported folder",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_c_cannot_have_are_refused(name):
    with pytest.raises(ValueError, match=rf"(?s)\[export\] '.*' cannot name C functions: .*{REFUSED[name]}"):
        program_name(name)


def test_a_refused_name_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="cannot name"):
        fb.export(lambda x: x, fb.ones(1), tmp_path / "fb_program")
    assert not os.listdir(tmp_path)


def test_names_of_every_kind_work_in_one_program(tmp_path):
    """All functions of all names, called from one C program."""
    includes, calls, files = [], [], []
    for k, (name, made) in enumerate(WORKING.items()):
        assert program_name(name) == made
        done = fb.export(lambda x, k=k: x + float(k), fb.ones(1), tmp_path / name, HERE.name)
        assert (done.header.name, done.object_file.name) == (f"{made}.h", f"{made}.o")
        files.append(done.object_file)
        shutil.copy(done.header, tmp_path / f"h{k}.h")  # paths with quotes and the like are nothing for #include
        includes.append(f'#include "h{k}.h"\n')
        calls.append(f"  if ({made}_run(in, out) || y != {k} || {made}_check()) return puts({made}_error()), 1;\n")
    (tmp_path / "all.c").write_text(
        f"{''.join(includes)}#include <stdio.h>\nint main(void) {{\n  float x = 0, y;\n"
        f"  const void *in[] = {{&x}};\n  void *out[] = {{&y}};\n{''.join(calls)}  return 0;\n}}\n"
    )
    runtime = tmp_path / "int" / "runtime"
    sources = [tmp_path / "all.c", *files, *(runtime / "src").glob("*.c")]
    built = run(
        "cc", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{runtime}/include", *sources, "-pthread", "-o", tmp_path / "all"
    )
    assert built.returncode == 0, built.stderr.decode()
    assert run(tmp_path / "all").returncode == 0


def test_no_function_of_the_c_library_is_redefined():
    """What the library has of the form <name>_run, _check, _error is refused."""
    library = run("sh", "-c", "nm -D $(cc -print-file-name=libc.so.6) $(cc -print-file-name=libm.so.6)").stdout.decode()
    names = {line.split()[-1].split("@")[0] for line in library.splitlines() if line.split()[-1:]}
    ours = [n.rpartition("_")[0] for n in names if n.endswith(("_run", "_check", "_error", "_program"))]
    assert ours
    for name in ours:
        if not name.startswith("_"):
            with pytest.raises(ValueError, match="the C library"):
                program_name(name)


# ---- calls from C -------------------------------------------------------------------------------------------------

CALLER = """
#include <stdio.h>
#include <string.h>
#include "pair.h"
#include "flambeau/program.h"
extern const fb_program pair_program;
static int show(int status) { return printf("%d %s\\n", status, status ? pair_error() : ""); }
int main(void) {
  float x[2] = {1, 2}, y[2] = {7, 7};
  long z = 5;
  const void *in[] = {x, &z, NULL};
  void *out[] = {y, &z, NULL};
  show(pair_run(in, out));
  show(pair_run(NULL, out));
  show(pair_run(in, NULL));
  show(pair_run((const void *[]){NULL, &z, NULL}, out));
  show(pair_run((const void *[]){x, NULL, NULL}, out));
  show(pair_run(in, (void *[]){NULL, &z, NULL}));
  show(pair_run(in, (void *[]){y, NULL, NULL}));
  show(fb_program_run(NULL, in, out));
  show(fb_program_check(NULL));
  printf("%g %g %ld\\n", y[0], y[1], z);
  return 0;
}
"""


def test_null_pointers_are_a_status(tmp_path):
    """But NULL for a tensor without elements is none."""
    model = lambda x, z, e: (x * 2.0, z + 1, e.exp())  # noqa: E731
    made = fb.export(model, (fb.ones(2), fb.tensor(5), fb.zeros(0, 3)), tmp_path / "pair", HERE.name)
    (tmp_path / "call.c").write_text(CALLER)
    sources = [tmp_path / "call.c", made.object_file, *(made.folder / "runtime" / "src").glob("*.c")]
    flags = [
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-pthread",
        f"-I{made.folder}",
        f"-I{made.folder}/runtime/include",
    ]
    built = run("cc", *flags, *sources, "-o", tmp_path / "call")
    assert built.returncode == 0, built.stderr.decode()
    done = run(tmp_path / "call")
    assert done.returncode == 0, done.stderr.decode()
    *lines, values = done.stdout.decode().splitlines()
    assert values == "2 4 6" and lines[0] == "0 "
    for line, part in zip(
        lines[1:],
        (
            "list of inputs",
            "list of outputs",
            "input 0",
            "input 1",
            "output 0",
            "output 1",
            "the program",
            "the program",
        ),
        strict=True,
    ):
        assert line.startswith("2 [") and f"{part} is NULL" in line
