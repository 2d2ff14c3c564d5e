"""The array API standard's own test suite, run on `flambeau.array_api` where it lies beside the project.

    python tests/array_api_suite.py ../shared/parity/array-api-tests            # everything; ends with 1 if what passed does not
    python tests/array_api_suite.py ../shared/parity/array-api-tests -k unique  # what follows is pytest's

`array_api_failures.txt` lists the tests that fail, each with a reason: it may only become shorter. Needs pytest-json-report,
hypothesis and ndindex. As a plugin of pytest (`-p array_api_suite`) this module lets the suite start without complex dtypes.
"""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIST = Path(__file__).resolve().parent / "array_api_failures.txt"
EXAMPLES = 5  #: of each test
LONGEST = 900  #: seconds, for all
FILE = "FLAMBEAU_TESTS_ARRAY_API_FAILURES"  #: the variable that says where the plugin writes what failed


def listed(text: str) -> dict[str, str]:
    """Test -> reason."""
    lines = (line.partition(": ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: reason for name, _, reason in lines}


def command(*more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "array_api_tests", "-q", "--tb=no", "-n", "2", "-p", "no:cacheprovider"),
        *(
            "-p",
            "array_api_suite",
            "--max-examples",
            str(EXAMPLES),
            "--disable-deadline",
            "--hypothesis-derandomize",
            *more,
        ),
    ]


def main() -> int:
    suite, more = Path(sys.argv[1]), sys.argv[2:]
    if not suite.is_dir():
        print(f"{suite} is not there: the array API's suite was not run")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "failures.json"
        env = {**os.environ, "ARRAY_API_TESTS_MODULE": "flambeau.array_api", "PYTHONPATH": str(LIST.parent)}
        env |= {FILE: str(file), "HYPOTHESIS_STORAGE_DIRECTORY": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command(*more), cwd=suite, env=env, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode not in (0, 1) or not file.exists():
            print(done.stdout[-4000:], done.stderr[-4000:])
            return 1
        found, known = json.loads(file.read_text()), listed(LIST.read_text())
    new = {name: message for name, message in found.items() if name not in known}
    for name, message in new.items():
        print(f"fails, and is not listed: {name}: {message}")
    if gone := [name for name in known if name not in found and not more]:
        print("listed, and passes now:", *gone, sep="\n  ")
    print(f"array API: {done.stdout.splitlines()[-1].strip('= ')}; {len(known)} listed")
    return 1 if new else 0


# ---- the plugin -------------------------------------------------------------------------------------------------


def _widest(*args: Any, **options: Any) -> Any:
    """`max`, which of no complex dtypes takes float64 for the widest."""
    import flambeau

    return (flambeau.float64, 64) if args == ([],) else _max(*args, **options)


def _start() -> None:
    """Import the suite's dtypes, which takes for granted that there are complex ones."""
    import flambeau

    if flambeau.array_api.isdtype(flambeau.complex64, "complex floating"):
        return
    os.environ["ARRAY_API_TESTS_SKIP_DTYPES"] = "complex64,complex128"
    builtins.max = _widest
    try:
        import array_api_tests.dtype_helpers  # type: ignore[import-not-found]  # noqa: F401
    finally:
        builtins.max = _max


def pytest_runtest_logreport(report: Any) -> None:
    """Note what fails."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _failed[report.nodeid.removeprefix("array_api_tests/")] = (
            crash.message.splitlines()[0] if crash else report.when
        )


def pytest_sessionfinish() -> None:
    """Tell of it."""
    if FILE in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ[FILE]).write_text(json.dumps(_failed))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave out what is about complex numbers alone, and `fft`, where there are none."""
    if "ARRAY_API_TESTS_SKIP_DTYPES" in os.environ:
        is_apart = ("real(", "__complex__", "[fft-", "test_vecdot_conj")
        items[:] = [item for item in items if not any(word in item.nodeid for word in is_apart)]


_failed: dict[str, str] = {}
_max = builtins.max
if __name__ == "__main__":
    sys.exit(main())
elif "ARRAY_API_TESTS_MODULE" in os.environ:
    _start()
