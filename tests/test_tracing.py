"""`trace(fn)(*args)`: what a call records, as readable Python with types; nothing is run, and nothing is left behind."""

import ast

import flambeau as fb
import pytest
from flambeau import nn

X, W = fb.ones(2, 3), fb.ones(3, 4, requires_grad=True)


def layer(x, w):
    return (x @ w).exp() * 2.0 + 1


@pytest.mark.accept("OBS-01")
def test_a_call_is_printed_with_types_and_lines(capsys):
    assert fb.trace(layer)(X, W) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "def layer(x: float32[2, 3], w: float32[3, 4]):"
    shown = [line.split("#")[0].split("= ")[-1].strip() for line in lines[1:]]
    names = [line.split(" =")[0].strip() for line in lines[1:-1]]
    assert shown == [
        "matmul(x, w)",
        f"exp({names[0]})",
        f"mul({names[1]}, 2.0)",
        f"add({names[2]}, 1)",
        f"return {names[3]}",
    ]
    assert all("# float32[2, 4]  test_tracing.py:" in line for line in lines[1:-1])
    ast.parse("\n".join(lines))


PROGRAMS = {
    "gradients": (lambda x, w: fb.autograd.grad((x @ w).sin().sum(), w), (X, W)),
    "branches": (lambda x: fb.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, (x,)), (X,)),
    "nested arguments": (
        lambda pair: {"sorted": pair["x"].sort(), "sum": pair["y"].sum()},
        ({"x": X, "y": fb.arange(3)},),
    ),
    "random numbers": (lambda x: fb.nn.functional.dropout(x, 0.5) + fb.rand(3), (X,)),
    "broadcasting by itself": (lambda x: (x * x.sum(0)).cumsum(0) + fb.zeros(3), (X,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_printed_is_python(name):
    fn, args = PROGRAMS[name]
    text = fb.trace(fn).text(*args)
    (tree,) = ast.parse(text).body
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    known = made | {a.arg for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for a in f.args.args}
    returned = {n.id for n in ast.walk(tree.body[-1]) if isinstance(n, ast.Name)}
    assert returned and returned <= known, "every result has been made"


def test_parameters_have_their_names_and_other_tensors_counted_ones():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    head = fb.trace(model).text(X).splitlines()[0]
    assert head.startswith("def Sequential(") and "_0_weight: float32[2, 3]" in head and "_0_bias: float32[2]" in head
    outside = fb.ones(3, dtype=fb.float64)
    assert ": float64[3]" in fb.trace(lambda x: x + outside).text(X).splitlines()[0]


def test_nothing_is_run_and_nothing_is_drawn():
    fb.manual_seed(3)
    before = fb.get_rng_state().tolist()
    called = []
    fb.trace(lambda x: called.append(1) or fb.rand_like(x)).text(X)
    assert called == [1] and fb.get_rng_state().tolist() == before


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: fb.trace(3), TypeError, r"\[trace\] argument 'input' must be a Tensor or a function, got int"),
        (lambda: fb.trace(lambda x: 3).text(X), TypeError, r"\[trace\] .* gives a int"),
        (lambda: fb.trace(lambda x: x.add_(1)).text(fb.ones(2)), RuntimeError, r"\[trace\] .* changes a tensor"),
    ],
)
def test_what_cannot_be_traced(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_matrix_has_its_own_trace():
    assert fb.trace(fb.eye(3)).item() == fb.eye(3).trace().item() == 3
