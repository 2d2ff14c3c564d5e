"""Tables as datasets: pandas DataFrames, PyArrow Tables, dicts of arrays. Neither package is imported here.

In: a table with named columns. Out: rows as dicts, or tensors of chosen columns. Next: `dataset.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flambeau import host
from flambeau.data.dataset import Dataset, TensorDataset
from flambeau.dialects.dtypes import DType, float32
from flambeau.functions.from_data import from_numpy


class TableDataset(Dataset[dict[str, Any]]):
    """The rows of `table`: a pandas DataFrame, a PyArrow Table or RecordBatch, or a dict of arrays of one length.

    A sample is a dict of column -> number or text, of `columns` where these are given; batches are dicts of tensors and lists of
    text. Columns of categories (pandas), or of a dictionary (PyArrow), are the numbers of their values, which `categories` lists by
    column; -1 is a missing one. A missing number is NaN, for which whole numbers become float64. Memory is shared where columns lie
    in one piece. `select` makes tensors of columns.

    Raises TypeError for another kind of table and for columns of dates, bytes or objects, ValueError for columns of different
    lengths, KeyError for a name that is no column.
    """

    def __init__(self, table: Any, columns: Sequence[str] | None = None) -> None:
        names = _names(table)
        chosen = names if columns is None else list(columns)
        for name in chosen:
            if name not in names:
                raise KeyError(f"[TableDataset] there is no column {name!r}. There are {', '.join(map(str, names))}.")
        self.categories: dict[str, list[Any]] = {}
        self.columns: dict[str, np.ndarray | list[str]] = {name: self._column(table, name) for name in chosen}
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"[TableDataset] columns have lengths {lengths}. Make them agree.")
        self._length = next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self.columns.items()}

    def select(
        self, features: str | Sequence[str], target: str | Sequence[str] | None = None, dtype: DType | None = None
    ) -> TensorDataset:
        """The columns `features` side by side, [rows, columns], or [rows] of one that is named alone, in `dtype`, float32
        unless said otherwise; and, if there is a `target`, that, in its own dtype unless it is several columns.

        Raises TypeError for a column of text, KeyError for a name that is no column.
        """
        parts = [self._tensor(features, dtype or float32)]
        parts += [] if target is None else [self._tensor(target, None)]
        return TensorDataset(*map(from_numpy, parts))

    def _tensor(self, names: str | Sequence[str], dtype: DType | None) -> np.ndarray:
        found = [self._numbers(name) for name in ([names] if isinstance(names, str) else names)]
        array = found[0] if isinstance(names, str) else np.stack(found, 1)
        return array if dtype is None else array.astype(dtype.numpy, copy=False)

    def _numbers(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"[select] there is no column {name!r}. There are {', '.join(map(str, self.columns))}.")
        column = self.columns[name]
        if isinstance(column, list):
            raise TypeError(f"[select] column {name!r} is text. Make numbers of it first, as of categories.")
        return column

    # ---- columns ---------------------------------------------------------------------------------------------

    def _column(self, table: Any, name: str) -> np.ndarray | list[str]:
        if hasattr(table, "column_names"):
            values = self._of_arrow(table.column(name), name)
        elif isinstance(table, Mapping):
            values = np.asarray(table[name])
        else:
            values = self._of_pandas(table[name], name)
        return _checked(values, name)

    def _of_arrow(self, column: Any, name: str) -> np.ndarray:
        column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        if hasattr(column.type, "index_type"):  # a dictionary
            self.categories[name] = column.dictionary.to_pylist()
            return column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if str(column.type) in ("string", "large_string", "string_view"):
            return np.array(column.fill_null("").to_pylist(), object)
        return column.to_numpy(zero_copy_only=False)

    def _of_pandas(self, series: Any, name: str) -> np.ndarray:
        if hasattr(series, "cat") and str(series.dtype) == "category":
            self.categories[name] = series.cat.categories.tolist()
            return series.cat.codes.to_numpy().astype(np.int64)
        if not isinstance(series.dtype, np.dtype):  # of pandas' own, which have a value for what is missing
            if series.dtype.kind in "iufb":
                missing = bool(series.isna().any())
                kind = np.float64 if missing else np.dtype(f"{series.dtype.kind}{series.dtype.itemsize}")
                return series.to_numpy(dtype=kind, na_value=np.nan) if missing else series.to_numpy(dtype=kind)
            return series.fillna("").to_numpy(dtype=object)
        return series.to_numpy()


def _names(table: Any) -> list[str]:
    for attribute in ("column_names", "columns"):
        if hasattr(table, attribute):
            return list(getattr(table, attribute))
    if isinstance(table, Mapping):
        return list(table)
    raise TypeError(
        f"[TableDataset] the table is a {type(table).__name__}. Pass a DataFrame, a PyArrow Table, or a dict of arrays."
    )


def _checked(values: np.ndarray, name: str) -> np.ndarray | list[str]:
    """Numbers as they are, text as a list."""
    if values.dtype.kind in "OUT":
        text = values.tolist()
        if all(isinstance(value, str) for value in text):
            return text
        odd = next(type(value).__name__ for value in text if not isinstance(value, str))
        raise TypeError(
            f"[TableDataset] column {name!r} has objects of type {odd}. Make numbers or text of them first."
        )
    if values.dtype.kind not in "biuf" or values.ndim != 1:
        raise TypeError(
            f"[TableDataset] column {name!r} has dtype {values.dtype} and {values.ndim} dimensions. Pass one of numbers or text."
        )
    host.from_numpy(values.dtype)
    return values
