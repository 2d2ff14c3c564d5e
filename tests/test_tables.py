"""Tables as datasets: dicts of arrays, pandas DataFrames, PyArrow Tables."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import DataLoader, TableDataset

COLUMNS = {
    "height": np.float32([1.5, 2.5, 3.5]),
    "count": np.array([3, 1, 2]),
    "ready": np.array([True, False, True]),
    "name": np.array(["a", "b", "c"]),
}


def test_rows_of_arrays_and_tensors_of_columns():
    data = TableDataset(COLUMNS)
    assert len(data) == 3 and data[1] == {"height": 2.5, "count": 1, "ready": False, "name": "b"}
    batch = next(iter(DataLoader(data, 2)))
    assert batch["height"].dtype is fb.float32 and batch["height"].tolist() == [1.5, 2.5]
    assert batch["count"].dtype is fb.int64 and batch["ready"].tolist() == [True, False] and batch["name"] == ["a", "b"]
    x, y = data.select(["height", "count", "ready"], "count")[:]
    assert x.dtype is fb.float32 and x.tolist() == [[1.5, 3, 1], [2.5, 1, 0], [3.5, 2, 1]]
    assert y.dtype is fb.int64 and y.tolist() == [3, 1, 2]
    (alone,) = data.select("height", dtype=fb.float64)[:]
    assert alone.dtype is fb.float64 and alone.shape == (3,)
    assert [*TableDataset(COLUMNS, ["name"])[0]] == ["name"]
    batches = [*DataLoader(data.select(["height", "count"], "ready"), 2)]
    assert [tuple(b[0].shape) for b in batches] == [(2, 2), (1, 2)] and batches[1][1].tolist() == [True]


@pytest.mark.parametrize("of_its_own", [False, True], ids=["numpy", "pandas"])
def test_pandas(of_its_own):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS).assign(kind=pandas.Categorical(["x", "y", None]))
    if of_its_own:
        frame = frame.assign(count=pandas.array([3, 1, 2], "Int64"), some=pandas.array([1, None, 3], "Int32"))
    data = TableDataset(frame)
    assert data[2]["name"] == "c" and data[2]["kind"] == -1 and data.categories == {"kind": ["x", "y"]}
    assert data.columns["count"].dtype == np.int64 and data.columns["height"].dtype == np.float32
    if of_its_own:
        np.testing.assert_array_equal(data.columns["some"], [1, np.nan, 3])
    x, y = data.select(["height", "ready"], "kind")[:]
    assert x.tolist() == [[1.5, 1], [2.5, 0], [3.5, 1]] and y.tolist() == [0, 1, -1]
    chosen = frame[frame["ready"]]  # rows keep their labels, and are counted from 0
    assert [row["count"] for row in map(TableDataset(chosen).__getitem__, range(2))] == [3, 2]
    with pytest.raises(TypeError, match=r"column 'day' has dtype datetime64.*Pass one of numbers or text"):
        TableDataset(pandas.DataFrame({"day": pandas.to_datetime(["2020-01-01"])}))


def test_pyarrow():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(
        {**COLUMNS, "kind": arrow.array(["x", None, "y"]).dictionary_encode(), "some": arrow.array([1, None, 3])}
    )
    table = arrow.concat_tables([table.slice(0, 1), table.slice(1)])  # of two pieces
    data = TableDataset(table)
    assert len(data) == 3 and data[0] == {"height": 1.5, "count": 3, "ready": True, "name": "a", "kind": 0, "some": 1.0}
    assert data[1]["kind"] == -1 and np.isnan(data[1]["some"]) and data.categories == {"kind": ["x", "y"]}
    x, y = data.select(["height", "count"], "ready")[:]
    assert x.tolist() == [[1.5, 3], [2.5, 1], [3.5, 2]] and y.tolist() == [True, False, True]
    with pytest.raises(TypeError, match=r"column 'parts'"):
        TableDataset(arrow.table({"parts": [[1], [2, 3]]}))


def test_what_is_no_table():
    with pytest.raises(TypeError, match=r"\[TableDataset\] the table is a list. Pass a DataFrame"):
        TableDataset([1, 2])
    with pytest.raises(ValueError, match=r"\[TableDataset\] columns have lengths"):
        TableDataset({"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(KeyError, match=r"there is no column 'width'\. There are height, count"):
        TableDataset(COLUMNS, ["width"])
    with pytest.raises(KeyError, match="there is no column 'width'"):
        TableDataset(COLUMNS).select("width")
    with pytest.raises(TypeError, match="column 'name' is text"):
        TableDataset(COLUMNS).select(["name"])
    with pytest.raises(TypeError, match="column 'a' has objects of type NoneType"):
        TableDataset({"a": np.array([None, 1], object)})
    with pytest.raises(TypeError, match="column 'a' has dtype float64 and 2 dimensions"):
        TableDataset({"a": np.ones((2, 2))})
