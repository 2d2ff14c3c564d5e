"""Acceptance marks name rows that exist: `@pytest.mark.accept("CRE-01")`, one string per row, all in one mark."""

import re

#: Rows per family of the acceptance table, numbered from 1. "T" are the regression traps.
ROWS = {
    "CRE": 25, "PW": 36, "RED": 20, "LIN": 13, "IDX": 10, "SHP": 21, "DTY": 7, "DEV": 15, "AG": 18, "AMP": 5, "NN": 52,
    "VIS": 8, "LOS": 10, "OPT": 14, "SCH": 4, "INI": 4, "DAT": 23, "SER": 17, "CLI": 8, "ERR": 7, "OBS": 13, "PRO": 4,
    "DST": 6, "GRB": 28, "EXA": 10, "VER": 10, "T": 30,
}  # fmt: skip


def exists(row: object) -> bool:
    found = re.fullmatch(r"([A-Z]+)-(\d\d)", row) if isinstance(row, str) else None
    return found is not None and 1 <= int(found[2]) <= ROWS.get(found[1], 0)


def test_marks_name_rows_of_the_table(request):
    marks = [(item.nodeid, mark) for item in request.session.items for mark in item.iter_markers("accept")]
    assert not [(test, mark) for test, mark in marks if not mark.args or mark.kwargs]
    assert not [(test, row) for test, mark in marks for row in mark.args if not exists(row)]


def test_unknown_rows_are_noticed():
    assert exists("CRE-01") and exists("T-30")
    assert not any(map(exists, ("CRE-00", "CRE-26", "CRE-1", "XYZ-01", "T-31", "cre-01", 1)))
