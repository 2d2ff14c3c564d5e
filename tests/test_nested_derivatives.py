"""What derivatives and batches of loops in loops take: each level asks which values a cotangent reaches, which differ from call to
call, and must not make the loops within it for every answer."""

import flambeau as fb
import pytest
from flambeau.dialects import autodiff, batching


def nested(depth, x, w):
    if depth == 0:
        return (x * w).sin()
    return fb.scan(lambda h, s: (nested(depth - 1, h, w) + s, s), x, fb.tensor([[0.5, 0.25]] * 2))[0]


def counted(monkeypatch, owner, name, run):
    """How often a function is called meanwhile."""
    calls, inner = [], getattr(owner, name)

    def call(*args, **more):
        calls.append(name)
        return inner(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, call)
        run()
    return len(calls)


@pytest.mark.accept("GRB-12")
def test_a_batch_of_loops_in_loops_is_written_once_for_each_level(monkeypatch):
    def batch(depth):
        x = fb.tensor([[0.3, 0.5], [1.0, 2.0]])
        return counted(
            monkeypatch,
            batching.BatchBuilder,
            "emit_all",
            lambda: fb.func.vmap(lambda r: nested(depth, r, fb.tensor([0.7, 0.9 + depth])))(x),
        )

    counts = [batch(depth) for depth in (2, 3, 4)]
    assert counts[2] - counts[1] <= counts[1] - counts[0] + 2, counts


def test_the_derivative_of_a_loop_in_loops_is_made_a_few_times_for_each_level(monkeypatch):
    def derive(depth):
        x = fb.tensor([0.3, 0.5], requires_grad=True)
        w = fb.tensor([0.7, 0.9], requires_grad=True)

        def twice():
            y = nested(depth, x, w).sum()
            (g,) = fb.autograd.grad(y, x, create_graph=True)
            fb.autograd.grad(g.sum(), (x, w))

        return counted(monkeypatch, autodiff, "_run_vjp", twice)

    counts = [derive(depth) for depth in (1, 2, 3, 4)]
    assert counts[3] - counts[2] <= 2 * (counts[2] - counts[1]), counts
