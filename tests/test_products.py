"""einsum and its kin, further products, distances and norms: PyTorch's values and gradients, and how much work they are."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.dialects import record
from support import arrays, gradients_against_torch

X, Y, SQUARE = arrays(3, 4), arrays(4, 2, seed=1), arrays(3, 3)
B1, B2 = arrays(2, 3, 4), arrays(2, 4, 5, seed=1)
INF = float("inf")

EQUATIONS = {
    "ij,jk": (X, Y), "ij,jk->ki": (X, Y), "bij,bjk->bik": (B1, B2), "bij,bjk->ik": (B1, B2), "ii": (SQUARE,), "ii->i": (SQUARE,),
    "iji->j": (arrays(3, 2, 3),), "...ij,...jk->...ik": (arrays(2, 2, 3, 4), arrays(2, 4, 5)), "i,j->ij": (X[0], Y[0]),
    "ij,ij->ij": (X, X + 1), "ij,kl->": (X, Y), "a,ab,bc,cd->d": (X[:, 0], X, Y, Y.T), "bi,bj->ij": (X, X[:1]),
    "ab,bc,ca->": (X, Y, arrays(2, 3)), "...,...->...": (X, X[0]), "ij...->...ji": (B1,), "b i j , b j k": (B1, B2),
    "bhid,bhjd->bhij": (arrays(2, 2, 3, 4), arrays(2, 2, 5, 4)), "i,i,i,i": (X[0],) * 4, "abc,cd,be->ade": (B1, Y, arrays(3, 2)),
}  # fmt: skip


@pytest.mark.accept("LIN-10")
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_is_that_of_pytorch(equation):
    gradients_against_torch(lambda m, *xs: m.einsum(equation, *xs), *EQUATIONS[equation], rtol=1e-5)


@pytest.mark.accept("LIN-10")
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_in_numpy(equation):
    operands = EQUATIONS[equation]
    plain = equation.replace(" ", "")
    found = fb.einsum(equation, *(fb.tensor(x.astype(np.float64)) for x in operands)).numpy()
    np.testing.assert_allclose(found, np.einsum(plain, *(x.astype(np.float64) for x in operands)), rtol=1e-12)


def test_einsum_of_lists_and_of_a_list_of_operands():
    x, y = fb.tensor(X), fb.tensor(Y)
    wanted = (x @ y).tolist()
    assert fb.einsum(x, [0, 1], y, [1, 2], [0, 2]).tolist() == wanted == fb.einsum(x, [0, 1], y, [1, 2]).tolist()
    assert fb.einsum("ij,jk", [x, y]).tolist() == wanted
    assert fb.einsum(x, [..., 0], [0, ...]).shape == (4, 3)


def products_of(call):
    """(elements of the results, sum over k) of the products of matrices that a call records."""
    seen, before = [], record.find("matmul").infer

    def infer(a, b):
        found = before(a, b)
        seen.append(int(np.prod(found.shape)) * a.shape[-1])
        return found

    object.__setattr__(record.find("matmul"), "infer", infer)
    try:
        call()
    finally:
        object.__setattr__(record.find("matmul"), "infer", before)
    return seen


@pytest.mark.accept("LIN-10")
def test_einsum_multiplies_matrices_in_the_cheapest_order():
    a, b, c = fb.ones(2, 60), fb.ones(60, 61), fb.ones(61, 3)
    assert sum(products_of(lambda: fb.einsum("ij,jk,kl->il", a, b, c))) == 2 * 60 * 61 + 2 * 61 * 3
    assert products_of(lambda: fb.einsum("bqhd,bkhd->bhqk", fb.ones(2, 5, 3, 7), fb.ones(2, 6, 3, 7))) == [
        2 * 3 * 5 * 6 * 7
    ]
    assert sum(products_of(lambda: fb.linalg.multi_dot([a, b, c]))) == 2 * 60 * 61 + 2 * 61 * 3
    assert products_of(lambda: fb.addbmm(fb.ones(5), fb.ones(9, 2, 3), fb.ones(9, 3, 5))) == [2 * 5 * 27]
    assert products_of(lambda: fb.cdist(fb.ones(30, 4), fb.ones(3, 4))) == [30 * 3 * 4]


CALLS = {
    "tensordot": (lambda m, x, y: m.tensordot(x, y, 1), X, Y),
    "tensordot of lists": (lambda m, x, y: m.tensordot(x, y, dims=([1, 0], [2, 1])), X, B1),
    "inner": (lambda m, x, y: m.inner(x, y), X, B1),
    "inner of a number": (lambda m, x, y: x.inner(y[0]), X, X[0]),
    "kron": (lambda m, x, y: m.kron(x, y), X, Y),
    "kron of ranks": (lambda m, x, y: x.kron(y), B1, Y[0]),
    "vdot": (lambda m, x, y: m.vdot(x, y), X[0], X[1]),
    "vecdot": (lambda m, x, y: m.linalg.vecdot(x, y), X, X[0]),
    "cross": (lambda m, x, y: m.cross(x, y, dim=0), X, X + 1),
    "linalg.cross": (lambda m, x, y: m.linalg.cross(x, y), SQUARE, SQUARE[:1] + 1),
    "addbmm": (lambda m, x, y, z: m.addbmm(x, y, z, beta=0.5, alpha=2), arrays(3, 5), B1, B2),
    "baddbmm": (lambda m, x, y, z: x.baddbmm(y, z, alpha=2), arrays(2, 3, 5), B1, B2),
    "addmv": (lambda m, x, y, z: m.addmv(x, y, z), X[:, 0], X, X[0]),
    "addr": (lambda m, x, y, z: m.addr(x, y, z, beta=3), X, X[:, 0], X[0]),
    "chain_matmul": (lambda m, x, y: m.linalg.multi_dot([x, y, y.t(), x.t()]), X, Y),
    "multi_dot of vectors": (lambda m, x, y: m.linalg.multi_dot([x[0], y, y[0]]), X, Y),
    "matrix_power": (lambda m, x: m.matrix_power(x, 5), SQUARE),
    "bilinear": (lambda m, x, y, w: m.nn.functional.bilinear(x, y, w), X, X[:, :2], arrays(5, 4, 2)),
    **{f"cdist {p}": (lambda m, x, y, p=p: m.cdist(x, y, p), B1, X) for p in (1.0, 2.0, 3.5, INF)},
    "cdist of many": (lambda m, x, y: m.cdist(x, y), arrays(30, 4), X),
    "pdist": (lambda m, x: m.pdist(x), X),
    "pairwise_distance": (lambda m, x, y: m.nn.functional.pairwise_distance(x, y, 1.5, keepdim=True), X, X[0] + 1),
    "cosine_similarity": (lambda m, x, y: m.cosine_similarity(x, y), X, X[0] + 1),
    "dist": (lambda m, x, y: m.dist(x, y, 3), X, X[0] + 1),
    "renorm": (lambda m, x: m.renorm(x, 1, 1, 1.5), X),
    "linalg.norm": (lambda m, x: m.linalg.norm(x), B1),
    "linalg.norm of rows": (lambda m, x: m.linalg.norm(x, -INF, 1), X),
    "linalg.norm of a matrix": (lambda m, x: m.linalg.norm(x, 1), X),
    "vector_norm": (lambda m, x: m.linalg.vector_norm(x, 3, (0, 2), True), B1),
    **{f"matrix_norm {p}": (lambda m, x, p=p: m.linalg.matrix_norm(x, p), B1) for p in ("fro", 1, -1, INF, -INF)},
    "linalg.diagonal": (lambda m, x: m.linalg.diagonal(x, offset=1), B1),
}  # fmt: skip


@pytest.mark.accept("LIN-08", "LIN-09", "LIN-10")
@pytest.mark.parametrize("name", CALLS)
def test_products_and_distances_are_those_of_pytorch(name):
    call, *operands = CALLS[name]
    gradients_against_torch(call, *operands, rtol=1e-5)


@pytest.mark.accept("NN-23")
def test_layers_of_two_inputs():
    x, y = fb.tensor(X), fb.tensor(X[:, :2])
    layer = fb.nn.Bilinear(4, 2, 5)
    assert layer(x, y).tolist() == fb.nn.functional.bilinear(x, y, layer.weight, layer.bias).tolist()
    assert repr(layer) == "Bilinear(in1_features=4, in2_features=2, out_features=5, bias=True)"
    assert fb.nn.CosineSimilarity(dim=0)(x, x).tolist() == fb.cosine_similarity(x, x, 0).tolist()
    assert fb.nn.PairwiseDistance(1.0)(x, x).tolist() == fb.pairwise_distance(x, x, 1.0).tolist()


@pytest.mark.accept("LIN-08")
def test_distances_of_equal_points_have_no_gradient():
    x = fb.tensor(np.repeat(X[:1], 3, 0), requires_grad=True)
    fb.cdist(x, x).sum().backward()
    assert not x.grad.any()
    assert fb.cdist(fb.tensor(X), fb.tensor(X[:2]), 0.0).tolist() == [[0, 4], [4, 0], [4, 4]]
