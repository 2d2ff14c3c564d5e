"""Every public function, found by its declaration, on its own samples: one semantics, shapes, dtypes, gradients, errors, tiers.

Nobody lists functions here: what is declared is tested (`flambeau/declarations.py`), and what is public undeclared fails.
"""

import inspect
import operator

import flambeau as fb
import flambeau.nn.functional as F
import function_cases as fc
import numpy as np
import pytest
from flambeau import declarations, missing
from flambeau.compiler.tools import report
from flambeau.declarations import Unsampled
from flambeau.dialects.dtypes import float32, float64
from flambeau.missing import Missing
from flambeau.runtime.recorder import Function, Tensor
from support import for_users, rounds

#: What a call may raise where it does not take what it is given: the user's errors.
USERS = (RuntimeError, TypeError, ValueError, IndexError)


@pytest.fixture(params=fc.SAMPLED)
def declaration(request):
    return fc.SAMPLED[request.param]


# ---- declarations


def test_every_declaration_has_samples_or_a_reason_for_none():
    assert not [name for name, d in fc.DECLARED.items() if d.samples is None], (
        "give `samples=` where these are declared"
    )
    assert not [name for name, d in fc.DECLARED.items() if isinstance(d.samples, Unsampled) and not d.samples.reason]
    empty = [name for name, d in fc.SAMPLED.items() if all(s.error is not None for s in d.samples())]
    assert not empty, "none of their samples is a good call"


def test_every_public_function_is_declared():
    """Functions of the package, of `nn.functional`, and methods: whatever is no class."""
    public = [(fb, declarations.TOP), (F, declarations.FUNCTIONAL)]
    unknown = [
        f"{module.__name__}.{name}"
        for module, space in public
        for name in module.__all__
        if callable(found := getattr(module, name))
        and not isinstance(found, type)
        and name not in declarations.names(space)
    ]
    methods = [name for name, value in vars(Tensor).items() if not name.startswith("_") and is_method(value)]
    unknown += [f"Tensor.{name}" for name in methods if declarations.method(name) is None]
    assert not unknown, "declare these (flambeau/declarations.py), with samples"
    assert len(methods) > 150


def is_method(value):
    return isinstance(value, Function) or (callable(value) and not isinstance(value, Missing))


def test_a_function_without_samples_is_noticed():
    made = declarations.Declaration("lost", lambda: None, (), False, None, (), None)
    assert made.samples is None  # what the test above refuses


def test_a_name_is_declared_once():
    before = len(declarations.DECLARED)
    with pytest.raises(ValueError, match=r"\[declare\] 'add' of flambeau is declared twice\. Choose another name\."):
        declarations.declare(fb.mul, "add", free="flambeau")
    assert len(declarations.DECLARED) == before and fb.add is declarations.names("flambeau")["add"]


def test_what_is_declared_is_there_under_every_name():
    for d in declarations.DECLARED:
        for name in d.names:
            for space in d.free:
                owner = fb if space == "flambeau" else operator.attrgetter(space)(fb)
                assert name in owner.__all__ and getattr(owner, name) is getattr(owner, d.name)
            if d.method:
                assert inspect.getattr_static(Tensor, name) is not None
            if d.in_place is not None:
                assert inspect.getattr_static(Tensor, name + "_") is d.in_place


def test_what_pytorch_has_in_place_as_a_function_is_one_here():
    there = [name for name in declarations.names(declarations.TOP) if name.endswith("_")]
    assert len(there) > 65 and not [n for n in there if not missing.has("flambeau", n)]
    absent = [n for n in missing.names("flambeau") if n.endswith("_") and not n.startswith("_") and not hasattr(fb, n)]
    assert absent == ["resize_as_sparse_"]
    x = fb.tensor([0.0, 1.0])
    assert fb.exp_(x) is x and fb.clamp_(x, max=2) is x and x.tolist() == [1.0, 2.0]
    assert fb.positive(x) is x and fb.dropout_(x, 0.5, False) is x
    assert fb.dropout_(x, 1.0, True) is x and x.tolist() == [0.0, 0.0]


# ---- one semantics: op by op, fused, from strided operands, in place


def plainly(cases):
    """Case -> its results op by op, or the class of the error that it raises."""
    found = {}
    with fb.compiler_options(mode="off"):
        for case in cases:
            try:
                found[case] = fc.read(case.results())
            except USERS as error:
                found[case] = for_users(error)
    return found


def fused(cases, run):
    """What `run` gives for each case, all recorded into one program, which must have been compiled whole."""
    with fb.compiler_options(mode="blocking"):
        recorded = [run(case) for case in cases]
        before = report.programs()
        found = [fc.read(results) for results in recorded]
    new = [p for p in report.programs() if not any(p is known for known in before)]
    assert {p.tier for p in new} <= {"fused"}
    return found


def chosen(cases):
    """All float32 cases, and of the other dtypes one (`make test`), every third one as a diagonal of samples and dtypes
    (`.ci/run`), or all of them."""
    apart = rounds(None, 3, 1)
    firsts = {case.dtype: case for case in reversed(cases) if case.sample.gradient}
    places = {dtype: place for place, dtype in enumerate(dict.fromkeys(case.dtype for case in cases))}

    def is_chosen(case):
        if case.dtype is float32 or firsts.get(case.dtype) is case:
            return True
        return apart is not None and (case.number + places[case.dtype]) % apart == 0

    return [case for case in cases if is_chosen(case)]


def never_taken(plain, cases):
    """What raises in float32 and, as other samples of the function may, in every other dtype: no good call after all."""
    failing = {
        case.number for case, results in plain.items() if case.dtype is float32 and not isinstance(results, list)
    }
    others = plainly([case for case in cases if case.number in failing])
    taken = {case.number for case, results in others.items() if isinstance(results, list)}
    return {repr(case): error for case, error in others.items() if case.number not in taken}


@pytest.mark.accept("VER-05")
def test_one_semantics(declaration):
    """All samples in one fused program, read through strided views, have the bits that they have op by op."""
    cases = list(fc.cases(declaration))
    plain = plainly(chosen(cases))
    good = [case for case, results in plain.items() if isinstance(results, list)]
    assert good, {repr(case): error for case, error in plain.items()}
    assert not never_taken(plain, cases)
    for case, results in zip(good, fused(good, strided_if_taken), strict=True):
        wanted = plain[case]
        assert len(results) == len(wanted) and all(map(fc.same, results, wanted)), (case, results, wanted)


def with_number(case, function, name, change):
    """What the case gives with another number: its own one, or the default, changed."""
    operands, named = case.arguments()
    given = (
        {p[0]: p[2] for p in function.params if p[0] == name}
        | dict(zip((p[0] for p in function.params), operands))
        | named
    )
    found = function(**{**given, name: change(given[name])})
    return [x.numpy() for x in (found if isinstance(found, tuple) else (found,))]


def numbers(name):
    """The parameters of a function that are specialised by value, until many values have been seen."""
    return [p[0] for p in getattr(fc.public_call(fc.SAMPLED[name]), "params", ()) if p[1] == "number"]


#: How far apart such numbers are.
STEPS = {float: 1 / 64, int: 1}


@pytest.mark.parametrize(("name", "number"), [(f, n) for f in fc.SAMPLED for n in numbers(f)])
def test_a_number_that_keeps_changing_is_an_operand(name, number):
    """What a rule gets then is no number any more. It gives the same."""
    function, tried = fc.public_call(fc.SAMPLED[name]), 0
    for case in [c for c in fc.cases(fc.SAMPLED[name]) if c.dtype is float32 and c.sample.error is None][:4]:
        first, *_, last = (
            with_number(case, function, number, lambda x, k=k: x + k * STEPS[type(x)] if type(x) in STEPS else x)
            for k in (0, 1, 2, 3, 0)
        )
        assert all(map(fc.same, first, last)), case
        tried += 1
    assert tried


def strided_if_taken(case):
    try:
        return case.results(fc.strided)
    except USERS as error:  # a view that strides do not allow
        for_users(error)
        return case.results()


def test_in_place_forms_store_what_the_function_gives():
    """`x.f_(...)` is `f(x, ...)` in the dtype of x, or refused; and is x."""
    stored = 0
    for d in fc.SAMPLED.values():
        if d.in_place is None:
            continue
        before = stored
        for case in chosen(list(fc.cases(d))):
            stored += stores(case)
        assert stored > before, d.name
    assert stored > 200


def stores(case):
    """Whether the in-place form takes this case."""
    (first, *rest), named = case.arguments()
    if not isinstance(first, Tensor):
        return False
    with fb.compiler_options(mode="off"):
        try:
            wanted = case.call(first, *rest, **named)
            written = first.clone()
            result = getattr(written, case.declaration.name + "_")(*rest, **named)
            found = written.numpy()
        except USERS as error:
            for_users(error)
            return False
        assert result is written and fc.same(found, wanted.to(first.dtype).numpy()), case
    return True


# ---- dtypes and errors


def test_what_is_not_taken_is_refused_in_the_house_form(declaration):
    """Every dtype works or is refused where the call is, or for its values where they are read."""
    for case in [*chosen(list(fc.cases(declaration))), *fc.refused(declaration)]:
        wanted = case.sample.error
        try:
            with fb.compiler_options(mode="off"):
                fc.read(case.results())
        except USERS as error:
            assert for_users(error) and str(error).startswith("["), (case, error)
            if wanted is not None:
                assert isinstance(error, wanted[0]) and wanted[1] in str(error), (case, error)
        else:
            assert wanted is None, f"{case} was not refused"


# ---- gradients


def differentiable(declaration):
    found = [
        c for c in fc.cases(declaration) if c.sample.gradient and fc.has_data(c.sample) and c.dtype.is_floating_point
    ]
    return [c for c, results in plainly(found).items() if isinstance(results, list)]


def leaves_of(case):
    """The arguments of a case, data as leaves; and the leaves."""
    leaves = []

    def leaf(array):
        made = fb.tensor(array)
        if array.dtype.kind == "f":
            made = fb.tensor(array, requires_grad=True)
            leaves.append(made)
        return made

    operands, named = case.arguments(leaf)
    return operands, named, leaves


def loss_of(case, operands, named):
    """The results under fixed cotangents, added up in float64; None where nothing has a gradient."""
    fb.manual_seed(7)
    total = None
    if case.declaration.name.endswith("_"):  # writes its first operand
        operands = (operands[0].clone(), *operands[1:])
    for result in fc.flat(case.call(*operands, **named)):
        if isinstance(result, Tensor) and result.requires_grad:
            weights = np.cos(np.arange(result.numel()) + 1.0).reshape(result.shape)
            term = (result * fb.tensor(weights, dtype=result.dtype)).sum().double()
            total = term if total is None else total + term
    return total


def gradients_of(case, create_graph=False):
    operands, named, leaves = leaves_of(case)
    loss = loss_of(case, operands, named)
    if loss is None or not leaves:
        return None, leaves
    return fb.autograd.grad(loss, leaves, create_graph=create_graph, allow_unused=True), leaves


def test_gradients_have_the_same_bits_op_by_op_and_fused(declaration):
    cases = [c for c in differentiable(declaration) if c.dtype is float32][: rounds(3, 100, 100)]

    def run(case):
        found, _ = gradients_of(case)
        return [g for g in found or () if g is not None]

    with fb.compiler_options(mode="off"):
        plain = [fc.read(run(case)) for case in cases]
    for case, found, wanted in zip(cases, fused(cases, run), plain, strict=True):
        assert all(map(fc.same, found, wanted)), (case, found, wanted)


STEP = 1e-6


def slope(leaves, directions, wanted):
    """The slope of the number that `wanted` gives, along a direction, by central differences."""

    def at(step):
        with fb.no_grad():
            for x, v in zip(leaves, directions, strict=True):
                x.add_(v, alpha=step)
        value = wanted()
        with fb.no_grad():
            for x, v in zip(leaves, directions, strict=True):
                x.sub_(v, alpha=step)
        return value

    return (at(STEP) - at(-STEP)) / (2 * STEP)


def along(gradients, directions):
    """The sum of the products of gradients and directions, as a tensor."""
    terms = [(g * v).sum() for g, v in zip(gradients, directions, strict=True) if g is not None]
    return sum(terms[1:], terms[0]) if terms else fb.tensor(0.0, dtype=float64)


def test_gradients_of_the_first_and_second_order(declaration):
    """Against central differences in float64, along one direction: of the loss, and of the gradient along another one."""
    with fb.compiler_options(mode="off"):
        for case in differentiable(declaration):
            if case.dtype is float64:
                check_gradients(case)


def check_gradients(case):
    operands, named, leaves = leaves_of(case)
    loss = loss_of(case, operands, named)
    if loss is None:
        return
    directions = [fb.tensor(np.sin(3.0 * np.arange(x.numel()) + 1.0).reshape(x.shape)) for x in leaves]
    gradients = fb.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
    first = along(gradients, directions)
    second = fb.tensor(0.0)
    if first.requires_grad:
        second = along(fb.autograd.grad(first, leaves, allow_unused=True), directions)
    scale, first, second = 1.0 + abs(loss.item()), first.item(), second.item()
    wanted = slope(leaves, directions, lambda: loss_of(case, operands, named).item())
    assert abs(first - wanted) <= 1e-6 * max(scale, abs(wanted)), (case, first, wanted)

    def again():
        found = loss_of(case, operands, named)
        return along(fb.autograd.grad(found, leaves, allow_unused=True), directions).item()

    wanted = slope(leaves, directions, again)
    assert abs(second - wanted) <= 1e-5 * max(scale, abs(first), abs(wanted)), (case, second, wanted)
