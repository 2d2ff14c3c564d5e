"""Writes `tests/pytorch_facts.json`: what PyTorch computes for the cases of `tests/special_points.py` and
`tests/result_dtypes.py`, so that the test suite needs no PyTorch. Run it after changing one of them."""

import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

import result_dtypes  # noqa: E402
import special_points  # noqa: E402
import torch  # noqa: E402


def facts() -> dict:
    points = {name: special_points.facts(torch, name) for name in special_points.CASES}
    version = torch.__version__.split("+")[0]
    dtypes, promotion = result_dtypes.facts(torch), result_dtypes.promotion(torch)
    return {"torch": version, "points": points, "dtypes": dtypes, "promotion": promotion}


def main() -> None:
    found = facts()
    rows = [json.dumps({k: v for k, v in found.items() if k == "torch"})[1:-1]]
    for section in ("points", "dtypes", "promotion"):
        body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(fact)}" for name, fact in found[section].items())
        rows.append(f'"{section}": {{\n{body}\n}}')
    (TESTS / "pytorch_facts.json").write_text("{" + ",\n".join(rows) + "}\n")


if __name__ == "__main__":
    main()
