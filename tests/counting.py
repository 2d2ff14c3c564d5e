"""Work as a number that does not depend on the machine: how many Python and C calls a function makes."""

import sys
from collections.abc import Callable


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
