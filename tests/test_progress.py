"""Who waits sees a bar, on a terminal and after a while; nobody else sees or pays anything."""

import io
import subprocess
import sys

import pytest
from flambeau import data
from flambeau.compiler.export import linker
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.workers.crew import Crew
from flambeau.runtime import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def look(monkeypatch):
    """What makes stderr a terminal, from the test itself: pytest puts its own there before each one."""

    def begin(delay=0.0):
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        monkeypatch.setattr(progress, "DELAY", delay)
        return made

    return begin


def test_a_bar_says_what_and_how_far(look):
    terminal = look()
    with progress.Bar("reading", "page", 4) as bar:
        for _ in range(3):
            bar.advance()
    assert "reading" in terminal.getvalue() and "3/4" in terminal.getvalue()


def test_what_is_soon_done_has_no_bar(look):
    terminal = look(delay=1000.0)
    with progress.Bar("reading", "page", 4) as bar:
        bar.advance()
        bar.tick()
    assert list(progress.over([1, 2], "reading", "page")) == [1, 2] and terminal.getvalue() == ""


def test_nobody_looks_nobody_sees(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "DELAY", 0.0)
    items = [1, 2]
    with progress.Bar("reading", "page", 4) as bar:
        bar.advance()
        bar.tick()
    assert progress.over(items, "reading", "page") is items and sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress.watched()


def test_a_loader_counts_the_samples_of_a_batch(look):
    terminal = look()
    samples = [float(i) for i in range(6)]
    assert [b.tolist() for b in data.DataLoader(samples, batch_size=3)] == [samples[:3], samples[3:]]
    assert "loading a batch" in terminal.getvalue() and "3/3" in terminal.getvalue()


def test_who_waits_for_a_linker_sees_that_it_works(look, monkeypatch):
    terminal = look()
    monkeypatch.setattr(linker, "STEP", 0.01)
    code, said = linker._run([sys.executable, "-c", "import time, sys; time.sleep(.3); print('done'); sys.exit(3)"], {})
    assert (code, said.strip()) == (3, "done")
    assert "linking" in terminal.getvalue() and "C library" in terminal.getvalue()


def test_compiling_counts_kernels(look, monkeypatch):
    terminal = look()
    from flambeau.compiler.caches import kernel_cache
    from flambeau.compiler.options import Options

    class Cache:
        def holds(self, source, options):
            return source.text == "known"

        def get(self, sources, options):
            return [7] * len(sources)

    monkeypatch.setattr(kernel_cache, "shared", Cache)
    kernels = [KernelSource(text=t, label=t) for t in ("a", "b", "known")]
    with Crew(Options()) as crew:
        crew._most = 0
        assert crew.addresses(kernels) == [7, 7, 7]
    assert "compiling" in terminal.getvalue() and "2/2" in terminal.getvalue()


def test_the_package_does_not_import_what_nobody_sees():
    program = "import sys, flambeau as fb; list(fb.data.DataLoader([1, 2, 3])); (fb.ones(3) * 2).sum().item()"
    done = subprocess.run(
        [sys.executable, "-c", program + "; print('tqdm' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
