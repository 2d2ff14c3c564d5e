"""Work as a number that does not depend on the machine: how many Python and C calls a function makes, which programs it makes."""

import sys
from collections.abc import Callable

from flambeau.compiler.tools import report


def calls(fn: Callable[[], object]) -> int:
    """Calls and returns made while `fn()` runs."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return count


def new_programs(fn: Callable[[], object]) -> list[report.ProgramReport]:
    """The reports of programs that `fn()` makes. No more than the last thousand are kept, so their number says nothing."""
    before = report.programs()
    fn()
    known = {id(r) for r in before}
    return [r for r in report.programs() if id(r) not in known]
