"""The lists of what passes, fails and is missing beside PyTorch: `opinfo_parity.txt` and `info_parity.txt`.

In: what a script found of each entry. Out: text in sections, with what was found; and the entries of it. Next: `opinfo_parity.py`.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

#: The reason of an entry that passes though it is beyond PyTorch's tolerance: it is as near to PyTorch's float64 result as its own.
NEARER = "nearer"
Found = dict[str, tuple[str, str]]  #: entry -> ("pass" or "fail" or "missing", the reason)


def section(title: str, here: Found) -> str:
    """The entries of one kind, counted."""
    count = {kind: sum(r[0] == kind for r in here.values()) for kind in ("pass", "fail", "missing")}
    text = f"[{title}] {count['pass']} pass, {count['fail']} fail, {count['missing']} missing of {len(here)}\n"
    for kind in ("fail", "missing"):
        text += "".join(f"{kind} {n}: {why}\n" for n, (k, why) in sorted(here.items()) if k == kind)
    good = " ".join(sorted(n for n, r in here.items() if r[0] == "pass"))
    lines = textwrap.wrap(good, 126, initial_indent="pass ", subsequent_indent="pass ", break_on_hyphens=False)
    near = " ".join(sorted(n for n, r in here.items() if r == ("pass", NEARER)))
    lines += textwrap.wrap(
        near, 126, initial_indent=f"{NEARER} ", subsequent_indent=f"{NEARER} ", break_on_hyphens=False
    )
    return text + "".join(line + "\n" for line in lines)


def passing(text: str, kind: str = "pass") -> set[str]:
    """The entries that pass, of a list, or those of another kind of line of names."""
    return {name for line in text.splitlines() if line.startswith(f"{kind} ") for name in line.split()[1:]}


def entries(text: str) -> Found:
    """The entries of a list."""
    found = {name: ("pass", "") for name in passing(text)}
    found.update({name: ("pass", NEARER) for name in passing(text, NEARER)})
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in ("fail", "missing"):
            name, _, why = rest.partition(": ")
            found[name] = kind, why
    return found


def command(doc: str, results: Callable[[list[str]], Found], written: Callable[[Found], str], path: Path) -> None:
    """The command line of a script that keeps such a list at `path`."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", action="store_true", help="print what was found, write nothing")
    parser.add_argument("--update", action="store_true", help="write what was found of these names into the list")
    args = parser.parse_args()
    found = results(args.names)
    if args.json:
        print(json.dumps(found))
    elif args.update or not args.names:
        text = written({**entries(path.read_text()), **found} if args.names else found)
        path.write_text(text)
        print(*(line for line in text.splitlines() if line.startswith("[")), sep="\n")
