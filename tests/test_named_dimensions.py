"""Names of dimensions: what functions do with them, that values and gradients are those without, and that no program knows of them.

Earlier versions of PyTorch had named tensors; expected names and classes of errors follow what its documentation says of these.
"""

import copy
import pickle

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import declarations, dim_names, named_rules, named_tensor
from flambeau.runtime import recorder

pytestmark = pytest.mark.accept("SHP-20")


def made(*names, shape=(2, 3)):
    """A tensor of small numbers, all different, with names."""
    return fb.tensor(np.arange(1.0, np.prod(shape) + 1).reshape(shape) / 4, dtype=fb.float64).rename(*names)


def values(result):
    """What is in a result, as NumPy and Python have it."""
    if isinstance(result, tuple | list):
        return [values(x) for x in result]
    return result.detach().numpy() if isinstance(result, fb.Tensor) else result


def names(result):
    return [names(x) for x in result] if isinstance(result, tuple | list) else result.names


AT = fb.tensor([[0, 1], [1, 0]])
WIDE, KERNEL = made(None, None, shape=(5, 3)), made(None, None, None, shape=(4, 1, 2))
N, C = ("N",), ("C",)
NC, CN = ("N", "C"), ("C", "N")
#: What -> (with names, the same without, names of the result, or of each).
CALLS = {
    "one operand": (lambda x: x.tanh(), lambda x: x.tanh(), NC),
    "composed": (lambda x: fb.nn.functional.softplus(x), lambda x: fb.nn.functional.softplus(x), NC),
    "a number": (lambda x: 2 - x, lambda x: 2 - x, NC),
    "an operator": (lambda x: -x * x, lambda x: -x * x, NC),
    "compared": (lambda x: x > 0.6, lambda x: x > 0.6, NC),
    "two tensors": (lambda x: fb.maximum(x, x.rename(None)), lambda x: fb.maximum(x, x), NC),
    "broadcast": (lambda x: x + x.sum("N"), lambda x: x + x.sum(0), NC),
    "three tensors": (lambda x: fb.where(x > 0.6, x, 0.0), lambda x: fb.where(x > 0.6, x, 0.0), NC),
    "sum": (lambda x: x.sum("C"), lambda x: x.sum(1), N),
    "sum of all": (lambda x: x.sum(), lambda x: x.sum(), ()),
    "several dims": (lambda x: x.mean(("N", "C")), lambda x: x.mean((0, 1)), ()),
    "keepdim": (lambda x: fb.sum(x, "C", keepdim=True), lambda x: x.sum(1, keepdim=True), NC),
    "another spelling": (lambda x: fb.sum(x, axis="C", keepdims=True), lambda x: x.sum(1, keepdim=True), NC),
    "by position": (lambda x: x.prod(-1), lambda x: x.prod(-1), N),
    "std": (lambda x: x.std("N"), lambda x: x.std(0), C),
    "logsumexp": (lambda x: x.logsumexp("C"), lambda x: x.logsumexp(1), N),
    "norm": (lambda x: x.norm(2, "C"), lambda x: x.norm(2, 1), N),
    "argmax": (lambda x: x.argmax("N"), lambda x: x.argmax(0), C),
    "max": (lambda x: x.max("C"), lambda x: x.max(1), [N, N]),
    "max of two": (lambda x: x.max(x / 2), lambda x: x.max(x / 2), NC),
    "median": (lambda x: x.median(), lambda x: x.median(), ()),
    "kthvalue": (lambda x: x.kthvalue(2), lambda x: x.kthvalue(2), [N, N]),
    "softmax": (lambda x: fb.softmax(x, "C"), lambda x: x.softmax(1), NC),
    "cumsum": (lambda x: x.cumsum("N"), lambda x: x.cumsum(0), NC),
    "sort": (lambda x: x.sort("C", descending=True), lambda x: x.sort(1, descending=True), [NC, NC]),
    "topk": (lambda x: x.topk(2, "C"), lambda x: x.topk(2, 1), [NC, NC]),
    "convert": (lambda x: x.float().contiguous(), lambda x: x.float(), NC),
    "like": (lambda x: fb.zeros_like(x), lambda x: fb.zeros_like(x), NC),
    "masked_fill": (lambda x: x.masked_fill(x > 1, 0), lambda x: x.masked_fill(x > 1, 0), NC),
    "transpose": (lambda x: x.transpose("N", "C"), lambda x: x.T, CN),
    "T": (lambda x: x.T, lambda x: x.T, CN),
    "permute": (lambda x: x.permute(1, 0), lambda x: x.T, CN),
    "select": (lambda x: x.select("C", 1), lambda x: x[:, 1], N),
    "narrow": (lambda x: x.narrow("C", 1, 2), lambda x: x[:, 1:], NC),
    "unbind": (lambda x: x.unbind("N"), lambda x: x.unbind(0), [C, C]),
    "split": (lambda x: x.split(2, "C"), lambda x: x.split(2, 1), [NC, NC]),
    "squeeze": (lambda x: x[:1].squeeze("N"), lambda x: x[0], C),
    "squeeze all": (lambda x: x[:1, :1].squeeze(), lambda x: x[0, 0], ()),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: x.unsqueeze(1), ("N", None, "C")),
    "expand": (lambda x: x.expand(2, -1, -1), lambda x: x.expand(2, -1, -1), (None, "N", "C")),
    "an index": (lambda x: x[..., 1], lambda x: x[..., 1], N),
    "a new axis": (lambda x: x[1:, None], lambda x: x[1:, None], ("N", None, "C")),
    "iteration": (lambda x: list(x), lambda x: list(x), [C, C]),
    "cat": (lambda x: fb.cat([x, x.rename(None)], "C"), lambda x: fb.cat([x, x], 1), NC),
    "flatten": (lambda x: x.flatten(["N", "C"], "F"), lambda x: x.flatten(), ("F",)),
    "flatten from to": (lambda x: x.flatten("N", "C", "F"), lambda x: x.flatten(), ("F",)),
    "unflatten": (lambda x: x.unflatten("C", [("A", 3), ("B", 1)]), lambda x: x[..., None], ("N", "A", "B")),
    "matmul": (lambda x: x @ x.rename("A", "B").T, lambda x: x @ x.T, ("N", "A")),
    "mm": (lambda x: fb.mm(x, x.rename(None).T), lambda x: x @ x.T, ("N", None)),
    "mv": (lambda x: fb.mv(x, x.rename(None)[0]), lambda x: x @ x[0], N),
    "dot": (lambda x: x[0].dot(x[1]), lambda x: x[0] @ x[1], ()),
    "a vector first": (lambda x: x[:, 0] @ x, lambda x: x[:, 0] @ x, C),
    "align_to": (lambda x: x.align_to("C", "A", "N"), lambda x: x.T[:, None], ("C", "A", "N")),
    "align_to the rest": (lambda x: x.align_to("C", ...), lambda x: x.T, CN),
    "align_as": (lambda x: x.align_as(made("C", "A", "N", shape=(1, 1, 1))), lambda x: x.T[:, None], ("C", "A", "N")),
    "rename": (lambda x: x.rename(C="D"), lambda x: x, ("N", "D")),
    "rename the last": (lambda x: x.rename(..., "D"), lambda x: x, ("N", "D")),
    "refine": (lambda x: x.rename(None, "C").refine_names("N", ...), lambda x: x, NC),
    "reshape": (lambda x: x.reshape(2, 3, 1), lambda x: x.reshape(2, 3, 1), ("N", "C", None)),
    "reshape in the middle": (
        lambda x: x.unsqueeze(1).reshape(2, -1, 1, 3),
        lambda x: x[:, None, None],
        ("N", None, None, "C"),
    ),
    "view": (lambda x: x.view(6), lambda x: x.view(6), (None,)),
    "view as": (lambda x: x.view_as(fb.ones(1, 2, 3)), lambda x: x[None], (None, "N", "C")),
    "stack": (lambda x: fb.stack([x, x.rename(None)], 1), lambda x: fb.stack([x, x], 1), ("N", None, "C")),
    "diagonal": (lambda x: x.diagonal(), lambda x: x.diagonal(), (None,)),
    "diagonal by name": (
        lambda x: x[None].refine_names("B", ...).diagonal(1, outdim="D", dim1="N", dim2="C"),
        lambda x: x[None].diagonal(1, 1, 2),
        ("B", "D"),
    ),
    "movedim": (lambda x: x[None].movedim((1, 2), (0, 1)), lambda x: x[..., None], ("N", "C", None)),
    "swapaxes": (lambda x: x.swapaxes(0, 1), lambda x: x.T, CN),
    "repeat": (lambda x: x.repeat(2, 1, 2), lambda x: x.repeat(2, 1, 2), (None, "N", "C")),
    "tril": (lambda x: x.tril(), lambda x: x.tril(), NC),
    "gather": (lambda x: x.gather("C", AT), lambda x: x.gather(1, AT), NC),
    "positions": (lambda x: x[AT[0]], lambda x: x[AT[0]], (None, "C")),
    "positions of two dims": (lambda x: x[:, [[0, 1], [1, 2]]], lambda x: x[:, [[0, 1], [1, 2]]], ("N", None, None)),
    "positions apart": (lambda x: x[None][[0, 0], :, [1, 2]], lambda x: x[None][[0, 0], :, [1, 2]], (None, "N")),
    "a mask": (lambda x: x[x > 0.6], lambda x: x[x > 0.6], (None,)),
    "a mask of rows": (lambda x: x[x[:, 0] > 0.6], lambda x: x[x[:, 0] > 0.6], (None, "C")),
    "linear": (lambda x: F.linear(x, WIDE), lambda x: F.linear(x, WIDE), ("N", None)),
    "linear with names": (lambda x: F.linear(x, WIDE.rename("D", "C")), lambda x: F.linear(x, WIDE), ("N", "D")),
    "convolution": (lambda x: F.conv1d(x[:, None], KERNEL), lambda x: F.conv1d(x[:, None], KERNEL), ("N", None, "C")),
    "transposed convolution": (
        lambda x: F.conv_transpose1d(x[:, None], KERNEL.transpose(0, 1).rename(None, "K", None)),
        lambda x: F.conv_transpose1d(x[:, None], KERNEL.transpose(0, 1)),
        ("N", "K", "C"),
    ),
    "norms": (lambda x: F.layer_norm(F.group_norm(x, 3), (3,)), lambda x: F.layer_norm(F.group_norm(x, 3), (3,)), NC),
    "pools": (lambda x: F.max_pool1d(x, 2), lambda x: F.max_pool1d(x, 2), NC),
    "embedding": (lambda x: F.embedding(AT.rename("N", "T"), WIDE), lambda x: F.embedding(AT, WIDE), ("N", "T", None)),
    "a loss": (lambda x: F.mse_loss(x, x.rename(None) + 1), lambda x: F.mse_loss(x, x + 1), ()),
    "losses": (
        lambda x: F.cross_entropy(x, AT[:, 0].rename("N"), reduction="none"),
        lambda x: F.cross_entropy(x, AT[:, 0], reduction="none"),
        N,
    ),
    "no names": (lambda x: x.rename(None), lambda x: x, (None, None)),
}


@pytest.mark.parametrize("what", CALLS)
def test_results_are_those_without_names(what):
    call, without, expected = CALLS[what]
    found = call(made("N", "C"))
    assert names(found) == (list(expected) if isinstance(expected, list) else expected)
    pair = [values(found), values(without(made(None, None)))]
    for a, b in zip(*(each if isinstance(each, list) else [each] for each in pair), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_batches_of_products_broadcast_by_name():
    x, y = made("B", "N", "C", shape=(2, 3, 4)), made("C", "D", shape=(4, 2))
    assert (x @ y).names == ("B", "N", "D") == fb.baddbmm((x @ y)[0], x, y.expand(2, 4, 2)).names
    np.testing.assert_array_equal(values(x @ y), values(x) @ values(y))
    assert fb.bmm(x, y.expand(2, 4, 2)).names == ("B", "N", "D")
    assert fb.addmm(made(None, "D", shape=(3, 2)), x[0], y).names == ("N", "D")


ERRORS = {
    "no such name": (lambda x: x.sum("Q"), r"\[sum\] there is no dimension 'Q' among \('N', 'C'\)"),
    "another name": (
        lambda x: x + made("N", "D"),
        r"\[add\] dimensions 'C' of .* and 'D' of .* same place from the right",
    ),
    "another place": (lambda x: x.rename("N", None) * made(None, "N"), r"\[mul\] dimension 'N' is at another place"),
    "in a call": (lambda x: fb.maximum(x, made("N", "D")), r"\[maximum\] dimensions 'C' of"),
    "in place": (lambda x: x.add_(made("N", "D")), r"\[add_\] dimensions 'C' of"),
    "in place, by operator": (lambda x: x.__iadd__(made("N", "D")), r"\[add\] dimensions 'C' of"),
    "of lists": (lambda x: fb.cat([x, made("N", "D")]), r"\[cat\] dimensions 'C' of"),
    "twice": (lambda x: x @ x.T, r"\[matmul\] \('N', 'N'\) has the name 'N' twice"),
    "twice given": (lambda x: x.rename("A", "A"), r"\[rename\] .* has the name 'A' twice"),
    "no identifier": (lambda x: x.rename("1", "A"), r"\[rename\] '1' is no identifier"),
    "too few": (lambda x: x.rename("A"), r"\[rename\] 1 names \('A',\) do not fit a tensor of 2"),
    "nothing to rename": (lambda x: x.rename(Q="A"), r"\[rename\] there is no dimension 'Q'"),
    "two ways": (lambda x: x.rename("A", "B", N="C"), r"\[rename\] both names and changes"),
    "not finer": (lambda x: x.refine_names("A", "C"), r"\[refine_names\] dimension 'N' of .* cannot become 'A'"),
    "less fine": (lambda x: x.refine_names(None, "C"), r"\[refine_names\] dimension 'N' of .* cannot become None"),
    "two ellipses": (lambda x: x.refine_names(..., ...), r"\[refine_names\] there is more than one ellipsis"),
    "left out": (lambda x: x.align_to("N"), r"\[align_to\] dimension 'C' of .* is not among \('N',\)"),
    "nameless": (lambda x: x.rename("N", None).align_to("N", ...), r"\[align_to\] a dimension of .* has no name"),
    "to nameless": (lambda x: x.align_to("N", "C", None), r"\[align_to\] .* leaves a dimension without a name"),
    "no neighbours": (lambda x: x.flatten(["C", "N"], "F"), r"\[flatten\] \('C', 'N'\) are no neighbours"),
    "merged": (lambda x: x.flatten(), r"\[flatten\] does not take named dimensions\. Call x\.rename\(None\) first"),
    "split": (lambda x: x.unflatten("C", (3, 1)), r"\[unflatten\] \(3, 1\) has no names"),
    "no rule": (lambda x: x.corrcoef(), r"\[corrcoef\] does not take named dimensions\. Call x\.rename\(None\) first"),
    "no rule, as a function": (lambda x: fb.einsum("ij->i", x), r"\[einsum\] does not take named dimensions"),
    "of lists, stacked": (lambda x: fb.stack([x, made("N", "D")]), r"\[stack\] dimensions 'C' of"),
    "of weights": (lambda x: F.linear(x, WIDE.rename("N", None)), r"\[linear\] .* has the name 'N' twice"),
    "out": (lambda x: fb.add(x, x, out=made(None, None)), r"\[add\] does not take named dimensions"),
    "by a bool": (lambda x: x[True], r"\[getitem\] bools do not index named dimensions"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_names_that_do_not_fit(what):
    call, message = ERRORS[what]
    x = made("N", "C")
    with pytest.raises(RuntimeError, match=message):
        call(x)
    assert x.names == ("N", "C") and values(x)[0, 0] == 0.25


def test_what_is_no_name_and_what_functions_refuse_themselves():
    with pytest.raises(TypeError, match=r"\[rename\] 3 is no name of a dimension"):
        made(3, "C")
    with pytest.raises(TypeError, match=r"\[sum\] takes at most 3 positional arguments, got 5"):
        made("N", "C").sum(0, False, 1, 2)
    with pytest.raises(RuntimeError, match=r"leaf tensor that requires grad is changed in place|leaf"):
        made("N", "C").requires_grad_().relu_()


@pytest.mark.parametrize(
    "make",
    [
        lambda **given: fb.zeros(2, 3, **given),
        lambda **given: fb.ones((2, 3), **given),
        lambda **given: fb.full((2, 3), 2.0, **given),
        lambda **given: fb.empty(2, 3, **given),
        lambda **given: fb.randn(2, 3, **given),
        lambda **given: fb.tensor([[1, 2, 3], [4, 5, 6]], dtype=fb.float32, **given),
    ],
)
def test_tensors_made_with_names(make):
    x = make(names=("N", "C"), requires_grad=True)
    assert x.names == ("N", "C") and x.shape == (2, 3) and x.requires_grad and x.is_leaf and x.has_names()
    plain = make(names=None)
    assert type(plain) is fb.Tensor and plain.names == (None, None) and not plain.has_names()


def test_writes_reach_the_storage_and_names_the_tensor():
    x, y = fb.zeros(2, 3, dtype=fb.float64), made("N", "C")
    named = x.refine_names("N", "C")
    named += y
    named[0, 1] = 7
    named.mul_(2)
    expected = values(y) * 2
    expected[0, 1] = 14
    np.testing.assert_array_equal(values(x), expected)
    assert type(x) is fb.Tensor and named.names == ("N", "C")
    assert x.add_(y) is x and x.names == ("N", "C")
    assert x.rename_(None) is x and type(x) is fb.Tensor and x.names == (None, None)
    x.names = ("A", "B")
    assert x.names == ("A", "B") and x.zero_() is x and x.names == ("A", "B") and not values(named).any()
    x.names = None
    assert not x.has_names()


def test_gradients_flow_through():
    x = fb.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    w = made("C", "D", shape=(3, 2)).requires_grad_()
    named = x.refine_names("N", "C")
    ((named @ w).tanh().sum("D") * named.mean("C")).sum().backward()
    a, b = (t.detach().clone().requires_grad_() for t in (x, w.rename(None)))
    ((a @ b).tanh().sum(1) * a.mean(1)).sum().backward()
    np.testing.assert_array_equal(values(x.grad), values(a.grad))
    np.testing.assert_array_equal(values(w.grad), values(b.grad))
    assert named.grad is x.grad and w.names == ("C", "D") and type(w.grad) is fb.Tensor
    (found,) = fb.autograd.grad((named * named).sum(), named)
    np.testing.assert_array_equal(values(found), 2 * values(x))


def test_text_copies_and_files():
    x = fb.tensor([[1.0, 2.0]], names=("N", "C"))
    assert repr(x) == str(x) == f"{x}" == "tensor([[1., 2.]], names=('N', 'C'))"
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other is not x and repr(other) == repr(x)
    assert x.size("C") == 2 == len(x[0]) and x.tolist() == [[1, 2]] and x.numpy().shape == (1, 2) == np.asarray(x).shape
    assert hash(x) != hash(x.rename(None)) and 2.0 in x


def step(named):
    """A step of several functions, with names and without."""
    x, w = fb.ones(4, 3), fb.full((3, 2), 0.5, requires_grad=True)
    if named:
        hidden = (x.refine_names("N", "C") @ w.refine_names("C", "D")).relu()
        loss = (hidden.softmax("D").align_to("D", "N") * hidden.T).sum("D").mean("N")
    else:
        hidden = (x @ w).relu()
        loss = (hidden.softmax(1).permute(1, 0) * hidden.T).sum(0).mean(0)
    loss.backward()
    return loss.item(), w.grad.tolist()


def test_names_are_gone_before_anything_is_recorded():
    """A step that was recorded without names makes no new state, expansion or program with them."""
    for _ in range(8):
        expected = step(False)
    recorder.flush()
    before = recorder.stats()
    for _ in range(4):
        assert step(True) == expected
    recorder.flush()
    after = recorder.stats()
    assert {k: after[k] - before[k] for k in ("misses", "builds")} == {"misses": 0, "builds": 0}


def test_calls_of_plain_tensors_pay_nothing_until_there_are_names():
    """In a new process nothing is loaded, and no call is looked at, before the first name."""
    import subprocess
    import sys

    program = """
import sys, flambeau as fb
x = fb.ones(2, 3)
x.sum(0) + 1
assert x.names if False else "flambeau.named_tensor" not in sys.modules
seen = []
early = fb.sum
named = x.refine_names("N", "C")
assert early(named, "C").names == ("N",) == fb.Tensor.sum(named, "C").names
print("done")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "done\n", found.stderr


def test_listed_functions_exist():
    known = {name for d in declarations.DECLARED for name in (d.name, *d.aliases)}
    known |= {f"{name}_" for name in known} | {"T", "mT", "grad"}
    assert sorted(set(named_rules._BY_NAME) - known) == []


def test_unification_is_symmetric():
    cases = [((), ("C",)), (("N", None), (None, "C")), (("C",), ("N", "C")), ((None, None), ("N", "C"))]
    for x, y in cases:
        assert dim_names.unified("f", x, y) == dim_names.unified("f", y, x)
    assert named_tensor.plain([1, None]) == [1, None]


def test_a_network_of_layers_takes_names_and_gives_the_gradients_without():
    conv, head = fb.nn.Conv1d(3, 4, 2), fb.nn.Linear(2, 2)

    def net(x):
        return head(F.max_pool1d(F.batch_norm(conv(x), None, None, training=True).relu(), 2))

    x = fb.arange(30.0).sin().reshape(2, 3, 5)
    found, plain = net(x.rename("N", "C", "T")), net(x)
    assert found.names == ("N", None, None)
    np.testing.assert_array_equal(values(found), values(plain))
    assert fb.nn.CrossEntropyLoss()(found[0].rename("N", "C"), fb.tensor([0, 1, 1, 0])).names == ()
    grads = [fb.autograd.grad(y.sin().sum(), [*conv.parameters(), *head.parameters()]) for y in (found, plain)]
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(values(a), values(b))
