"""Named tuples of results: names, fields, text and pickles are those of PyTorch's `return_types`."""

import pickle

import flambeau as fb
import pytest

_X = fb.tensor([[2.0, 1.0], [1.0, 3.0]])
_Y = fb.tensor([[1.0], [2.0]])
#: What gives each, of `m`, the package, and its matrices x and y.
CALLS = {
    "max": lambda m, x, y: m.max(x, 1),
    "min": lambda m, x, y: x.min(dim=0, keepdim=True),
    "sort": lambda m, x, y: x.sort(),
    "topk": lambda m, x, y: m.topk(x, 1),
    "kthvalue": lambda m, x, y: x.kthvalue(1),
    "mode": lambda m, x, y: m.mode(x),
    "median": lambda m, x, y: x.median(0),
    "nanmedian": lambda m, x, y: m.nanmedian(x, 0),
    "cummax": lambda m, x, y: x.cummax(0),
    "cummin": lambda m, x, y: m.cummin(x, 0),
    "aminmax": lambda m, x, y: m.aminmax(x),
    "frexp": lambda m, x, y: m.frexp(x),
    "histogram": lambda m, x, y: m.histogram(x, 3),
    "histogramdd": lambda m, x, y: m.histogramdd(x, [2, 2]),
    "geqrf": lambda m, x, y: m.geqrf(x),
    "svd": lambda m, x, y: m.svd(x),
    "qr": lambda m, x, y: m.qr(x),
    "slogdet": lambda m, x, y: m.slogdet(x),
    "triangular_solve": lambda m, x, y: m.triangular_solve(y, x),
    "lu_unpack": lambda m, x, y: m.lu_unpack(*m.linalg.lu_factor(x)),
    "linalg_cholesky_ex": lambda m, x, y: m.linalg.cholesky_ex(x),
    "linalg_eig": lambda m, x, y: m.linalg.eig(x),
    "linalg_eigh": lambda m, x, y: m.linalg.eigh(x),
    "linalg_inv_ex": lambda m, x, y: m.linalg.inv_ex(x),
    "linalg_ldl_factor": lambda m, x, y: m.linalg.ldl_factor(x),
    "linalg_ldl_factor_ex": lambda m, x, y: m.linalg.ldl_factor_ex(x),
    "linalg_lstsq": lambda m, x, y: m.linalg.lstsq(x, y),
    "linalg_lu": lambda m, x, y: m.linalg.lu(x),
    "linalg_lu_factor": lambda m, x, y: m.linalg.lu_factor(x),
    "linalg_lu_factor_ex": lambda m, x, y: m.linalg.lu_factor_ex(x),
    "linalg_qr": lambda m, x, y: m.linalg.qr(x),
    "linalg_slogdet": lambda m, x, y: m.linalg.slogdet(x),
    "linalg_solve_ex": lambda m, x, y: m.linalg.solve_ex(x, y),
    "linalg_svd": lambda m, x, y: m.linalg.svd(x),
}


def test_every_class_is_returned_by_its_function():
    assert dir(fb.return_types) == sorted(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_results_are_of_their_class_and_keep_it(name):
    found = CALLS[name](fb, _X, _Y)
    assert type(found) is getattr(fb.return_types, name)
    assert repr(found).startswith(f"flambeau.return_types.{name}(\n{found._fields[0]}=tensor(")
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is type(found)
    assert [getattr(again, field) is again[i] for i, field in enumerate(found._fields)] == [True] * len(found)


def test_results_in_out_are_of_the_class():
    values, indices = fb.zeros(2), fb.zeros(2, dtype=fb.int64)
    found = fb.max(_X, 1, out=(values, indices))
    assert type(found) is fb.return_types.max and found.values is values
    assert values.tolist() == [2, 3] and indices.tolist() == [0, 1]


def test_a_class_that_is_not_there():
    with pytest.raises(AttributeError, match="return_types"):
        fb.return_types.maxx  # noqa: B018


@pytest.mark.filterwarnings("ignore:torch.*is deprecated")
@pytest.mark.parametrize("name", CALLS)
def test_names_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    theirs = CALLS[name](torch, torch.tensor(_X.tolist()), torch.tensor(_Y.tolist()))
    assert type(theirs).__name__ == name
    assert type(theirs).__match_args__ == getattr(fb.return_types, name)._fields
