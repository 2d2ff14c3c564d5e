"""What `run.py` measured, as a table of Markdown and as a picture.

    python benchmarks/tables.py FILE.jsonl --svg docs/pictures/workloads.svg

In: lines that `run.py --out FILE.jsonl` wrote; the last of a workload and of a number of threads counts. Out: a table per number
of threads on standard output, and bars: how many times longer than Flambeau every peer takes, and the limit of the machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]
COLOURS = ("#d33", "#36c", "#2a6", "#a5b", "#c80", "#088", "#888")
#: Beyond so many times as long, bars are cut off.
MOST = 6.0


def read(path: Path) -> dict[tuple[int, str], Rows]:
    """The rows of each number of threads and workload."""
    found: dict[tuple[int, str], Rows] = {}
    for line in path.read_text().splitlines():
        one = json.loads(line)
        found[one["threads"], one["workload"]] = {k: r for k, r in one["rows"].items() if "median_ms" in r}
    return found


def number(x: float) -> str:
    return f"{x:.3g}" if x < 100 else f"{x:.0f}"


def memory_of(row: dict[str, Any]) -> float:
    """Megabytes above the imported process, of one that found what it had compiled, if there was one."""
    return row.get("warm_mb", row["above_mb"])


def table(found: dict[str, Rows]) -> list[str]:
    """Lines of Markdown: times, the best peer, share of the limit, cold and warm starts, memory beside the least of the peers."""
    lines = [
        "| workload | Flambeau | of the limit | best peer | x | others | cold / warm | memory, least of the peers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload, rows in found.items():
        ours = rows["flambeau"]
        peers = sorted((r["median_ms"], k) for k, r in rows.items() if k not in ("flambeau", "before", "limit"))
        limit = f"{rows['limit']['median_ms'] / ours['median_ms']:.2f}" if "limit" in rows else ""
        warm = f" / {ours['warm_s']:.1f}" if "warm_s" in ours else ""
        times = [f"{name} {number(t)}" for t, name in peers] or ["", ""]
        x = f"{peers[0][0] / ours['median_ms']:.2f}" if peers else ""
        memory = min((memory_of(r) for k, r in rows.items() if k in dict(map(reversed, peers))), default=0)
        lines.append(
            f"| {workload} | {number(ours['median_ms'])} ms | {limit} | {times[0]} | {x} | {', '.join(times[1:])} "
            f"| {ours['third_step_s']:.1f}{warm} s | {memory_of(ours):.0f}, {memory:.0f} MB |"
        )
    return lines


def picture(found: dict[str, Rows]) -> str:
    """A bar per peer and workload, as long as its time in Flambeau's, as SVG; Flambeau's own is 1."""
    names = list(dict.fromkeys(k for rows in found.values() for k in rows if k not in ("limit", "before")))
    colours, left, scale, height = dict(zip(names, COLOURS)), 110, 90, 9
    out, y = [], 30
    for k, name in enumerate(names):
        out.append(f'<text x="{left + k * 95}" y="14" fill="{colours[name]}">{name}</text>')
    for workload, rows in found.items():
        ours, top = rows["flambeau"]["median_ms"], y
        for name in (n for n in names if n in rows):
            ratio = rows[name]["median_ms"] / ours
            width = min(ratio, MOST) * scale
            out.append(f'<rect x="{left}" y="{y}" width="{width:.0f}" height="{height - 1}" fill="{colours[name]}"/>')
            if ratio > MOST:
                out.append(f'<text x="{left + width + 4:.0f}" y="{y + 8}">{ratio:.0f}x</text>')
            y += height
        out.append(f'<text x="4" y="{(top + y) // 2 + 4}">{workload}</text>')
        if "limit" in rows:
            x = left + rows["limit"]["median_ms"] / ours * scale
            out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{top - 2}" y2="{y + 1}" stroke="#000"/>')
        y += 8
    out.append(
        f'<text x="{left}" y="{y + 8}">time, in Flambeau\'s (1 = red bar); black line: limit of the machine</text>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + (MOST + 0.5) * scale:.0f}" height="{y + 16}" '
    return "\n".join([head + 'font-family="sans-serif" font-size="10">', *out, "</svg>", ""])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", type=Path)
    p.add_argument(
        "--svg", type=Path, help="where to draw the ratios with one thread; of more, -N is added to its name"
    )
    args = p.parse_args()
    found = read(args.file)
    for threads in sorted({t for t, _ in found}):
        rows = {name: r for (t, name), r in found.items() if t == threads and "flambeau" in r}
        print(f"Threads: {threads}\n", *table(rows), "", sep="\n")
        if args.svg:
            path = args.svg if threads == 1 else args.svg.with_stem(f"{args.svg.stem}-{threads}")
            path.write_text(picture(rows))


if __name__ == "__main__":
    main()
