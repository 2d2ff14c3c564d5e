"""Exported headers and the runtime's sources with C and C++ compilers of every standard, and the documented command."""

import re
import shutil
import subprocess

import flambeau as fb
import pytest
from flambeau.compiler.targets import platforms

HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)
pytestmark = pytest.mark.skipif(HERE is None or shutil.which("cc") is None, reason="needs Linux and a C compiler")
needs_cpp = pytest.mark.skipif(shutil.which("c++") is None, reason="needs Linux and a C compiler")
STRICT = ["-Wall", "-Wextra", "-Werror"]
C, CPP = ["c99", "c11", "c17", "gnu11"], ["c++11", "c++14", "c++17", "c++20", "gnu++17"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One of what can be in a header: several tensors, of every dtype, of rank 0, and empty."""
    model = lambda a, b, c, d, e: (a + 1, b + 1, ~c, d * 2.0, e.exp())  # noqa: E731
    inputs = (fb.tensor(1), fb.ones(2).int(), fb.tensor([[True]]), fb.ones(2, 4).double(), fb.ones(0, 3))
    return fb.export(model, inputs, tmp_path_factory.mktemp("languages") / "class", HERE.name)


def compiles(compiler, standard, language, *arguments, cwd=None):
    command = [compiler, f"-std={standard}", "-x", language, *STRICT, "-c", "-o", "/dev/null", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:2000]}"


@pytest.mark.parametrize("standard", [*C, pytest.param(CPP, marks=needs_cpp)], ids=str)
def test_headers_alone(made, standard, tmp_path):
    source = tmp_path / "source"
    source.write_text(
        '#include "class.h"\n#include "class.h"\n#include "flambeau/program.h"\n#include "flambeau/runtime.h"\n'
    )
    for one in standard if isinstance(standard, list) else [standard]:
        compiler, language = ("c++", "c++") if "++" in one else ("cc", "c")
        compiles(compiler, one, language, "-pedantic", f"-I{made.folder}", f"-I{made.folder}/runtime/include", source)


@pytest.mark.parametrize(
    "standard", ["c11", "gnu17", *(pytest.param(s, marks=needs_cpp) for s in ("c++11", "c++17", "c++20"))]
)
def test_sources_of_the_runtime(made, standard):
    compiler, language = ("c++", "c++") if "++" in standard else ("cc", "c")
    for source in sorted((made.folder / "runtime" / "src").glob("*.c")):
        compiles(compiler, standard, language, "-Iruntime/include", source, cwd=made.folder)


PROGRAM = """
#include "class.h"
#include <stdio.h>

int main(void) {
  int64_t a = 1, a1;
  int32_t b[2] = {1, 2}, b1[2];
  uint8_t c[1][1] = {{1}}, c1[1][1];
  double d[2][4] = {{1, 2, 3, 4}, {0, 0, 0, 0}}, d1[2][4];
  const void *in[] = {&a, b, c, d, NULL};
  void *out[] = {&a1, b1, c1, d1, NULL};
  if (class_run(in, out) != 0 || class_check() != 0)
    return puts(class_error()), 1;
  printf("%d %d %d %g\\n", (int)a1, (int)b1[1], (int)c1[0][0], d1[0][3]);
  return class_run(NULL, out) == 0;
}
"""


@pytest.mark.parametrize("compiler", ["cc", pytest.param("c++", marks=needs_cpp)])
def test_the_documented_command_links_programs(made, compiler):
    """That of the header; that of the page is the same."""
    command = re.search(r"Build: +(cc .*)", made.header.read_text())[1]
    source = "program.c" if compiler == "cc" else "program.cpp"
    (made.folder / source).write_text(PROGRAM)
    command = command.replace("cc ", f"{compiler} ", 1).replace("your_program.c", source) + f" -o from-{compiler}"
    built = subprocess.run(command, shell=True, cwd=made.folder, capture_output=True, text=True)
    assert built.returncode == 0 and not built.stderr, built.stderr[:2000]
    done = subprocess.run([made.folder / f"from-{compiler}"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2 3 0 8\n")
