"""Random programs, and the smallest ones that once went wrong, run by Flambeau and by PyTorch.

Each runs three times in Flambeau: as it is, once more from what was learnt, and with everything run after every line. All
give PyTorch's values and gradients, and one another's to the bit, and leave no value behind.
"""

import gc

import flambeau as fb
import pytest
import random_training
from flambeau.runtime import recorder

#: What went wrong is said in the comment above each.
PROGRAMS = """
# A gradient did not find its way through two traces in which only the data were written.
m = initialised(nn.Linear(3, 3))
x = m(data(2, 3))
x.data.mul_(0.9)
x.sum().backward()

# The first, second and third trace of a value whose gradient is differentiated once more.
x = data(3, grad=True)
y = T.stack([x, x])
z = y * y
z.sum().backward(create_graph=True)
x.grad.sum().backward()

# A view was no place that `grad` could name, and one with a hook was cut off from its tensor.
x = data(3, 3, grad=True)
y = x * 2
v = y[0]
w = y.view(-1)
z = (v * 3).sum() + (y * y).sum() + (w * w).sum() + v[1:].sum()
a, b, c, d = gradients(z, [v, w, y, x], retain_graph=True)
h = v.register_hook(log.hook('v', 2.0))
i = w.register_hook(log.hook('w', 3.0))
w.retain_grad()
z.backward()
seen.append(w.grad.tolist())
with T.no_grad(): y.mul_(2)

# Views of leaves, too.
x = data(3, 3, grad=True)
v = x[0]
w = x.view_as(x)
h = v.register_hook(log.hook('v', 2.0))
i = w.register_hook(log.hook('w', 3.0))
z = v.sum() + (w * w).sum() + (x * x).sum() + v[1]
z.backward(retain_graph=True)
z.backward()

# A hook belongs to the value that the tensor had when it was registered.
x = data(3, 3, grad=True)
y = x.tanh() + 1
h = y.register_hook(log.hook('before', 2.0))
y.mul_(2)
i = y.register_hook(log.hook('after', 3.0))
y.retain_grad()
y *= 3
y.sum().backward()
seen.append(y.grad.tolist())

# Also where it is a view of a leaf, and other data are assigned to it.
x = data(1, 3, grad=True)
y = x.transpose(0, 1)
z = y.flatten()
i = z.register_hook(log.hook('i', 2.0))
z.data = z.clone()
z.backward(T.ones_like(z))

# It outlives the tensor.
x = data(3, 3, grad=True)
y = x.tanh() + 1
h = y[0].register_hook(log.hook('h'))
z = y.sum() * 2
i = z.register_hook(log.hook('i', 2.0))
del y
z.backward()

# It runs where there is no leaf left to have a gradient.
x = data(3, grad=True)
y = x * 2
del x
h = y.register_hook(log.hook('h'))
(y * y).sum().backward()

# A graph gone through with hooks is freed as any other.
x = data(3, grad=True)
y = x * x
h = y.register_hook(log.hook('h'))
z = y * y
z.sum().backward()
z.sum().backward()

# A view of a view has the hooks of both, also where nothing but its gradient is asked for.
x = data(1, 3, grad=True)
y = x.transpose(0, 1)
h = y.register_hook(log.hook('h', 2.0))
z = y.flatten()
i = z.register_hook(log.hook('i', 3.0))
z.backward(T.ones_like(z))

# Results keep their history when their data are replaced.
x = data(4, 3, grad=True)
y = x * x
y.data = y.detach() * 3
z = y * y
z.sum().backward()

# A leaf that is detached in place requires no gradient any more.
x = data(4, 3, grad=True)
x.detach_()

# So is a parameter that has its elements from a result.
x = data(3, grad=True)
x = nn.Parameter(x.clone())
x.detach_()
y = x * 2

# So does a view of a leaf.
x = data(4, 3, grad=True)
y = x * 1
y.detach_()
z = y * 2

# Gradients added later have no history, but those that are there keep theirs.
x = data(2, 3, grad=True)
y = x * 2
(x * x).sum().backward(create_graph=True)
y.sum().backward()
x.grad.sum().backward()

# A quotient may be overwritten before its gradient is asked for.
x = data(2, 3, grad=True)
y = x / (1.0 + x * x)
y.view(-1)[0] = 0.25
(y * y).mean().backward()

# A tensor whose graph is gone does not matter for others.
x = data(2, 3, grad=True)
y = x * x
z = x * 3
y.sum().backward()
a, b = gradients(z.sum(), [x, y], allow_unused=True)

# Two losses of one trace that was run before either was gone through.
x = data(3, grad=True)
h = x.tanh()
a = (h * h).sum()
b = (x * x * x).sum()
c = (h * 2).mean()
seen.append(a.item())
b.backward()
seen.append(x.grad.tolist())
a.backward(retain_graph=True)
c.backward()
seen.append(x.grad.tolist())
a.backward()

# A gradient outlasts the time in which its leaf requires none.
x = data(3, grad=True)
(x * x).sum().backward()
x.requires_grad_(False)
y = x * 2
seen.append(x.grad.tolist())
o = T.optim.SGD([x], lr=0.1)
o.step()
x.requires_grad_(True)
(x * 3).sum().backward()
x.requires_grad_(False)
x.grad = None
x.requires_grad_()
seen.append(x.grad is None)

# A leaf that requires no gradient gets none, though views of it are still about.
x = data(3, grad=True)
y = x.view_as(x)
(x * 2).sum().backward()
x.requires_grad_(False)
(y * 3).sum().backward()

# A tensor of one dimension is flat: it is the leaf itself.
x = data(3, grad=True)
y = x.flatten()
(y * y).sum().backward()
seen.append(y.grad.tolist())

# Parts of memory that is shared with NumPy.
a = np.arange(12.0).reshape(4, 3)
x = T.from_numpy(a)
y = x[1:3] + x.t()[:2, 1:2]
z = T.lerp(x[0], x[3], 0.3) @ x[1:].t()
a[:] = 7.0
w = T.stack([x[0], x[1]]) * x[2]
v = data(4, 3)
b = v.numpy()
u = v[1] * v[:2]
with T.no_grad(): v[0] += v[1]
t = v.t().sum(0)

# Results whose memory NumPy has keep their history when their data are written.
x = data(4, 3, grad=True)
y = x * x
a = y.detach().numpy()
with T.no_grad(): y.mul_(0.5)
z = y * y
z.sum().backward(retain_graph=True)
y.data.zero_()
seen.append(a.tolist())
(y * 2).sum().backward()

# Views of leaves are not written to.
x = data(3, 3, grad=True)
y = x.t()
y[1:] += 1
x[0] = 0.5
x.view(-1)[0].mul_(2)
with T.no_grad(): x[1] = 2.0
x.data[2] = 3.0
y.sum().backward()

# Leading dimensions of size 1 are dropped where elements are assigned.
x = data(2, 3)
x[0] = data(1, 3)
"""


def programs():
    texts = [text.split("\n") for text in PROGRAMS.strip().split("\n\n")]
    return [pytest.param(tuple(lines), id=comment[2:-1]) for comment, *lines in texts]


def check(program):
    torch = pytest.importorskip("torch")
    expected = random_training.reference(program, torch)
    first = None
    for between in (None, None, fb.flush):
        gc.collect()
        before = recorder.stats()["live_cells"]
        found = random_training.run(program, fb, between)
        assert random_training.disagreement(found, expected) is None, random_training.source(program)
        first = first or found
        assert random_training.disagreement(found, (*first, expected[2]), 0.0) is None, random_training.source(program)
        fb.flush()
    gc.collect()
    assert recorder.stats()["live_cells"] == before, random_training.source(program)


@pytest.mark.accept("AG-05", "AG-08")
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize("program", programs())
def test_programs_that_went_wrong(program):
    check(program)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed):
    torch = pytest.importorskip("torch")
    check(random_training.generate(seed * 100 + 7, torch, 15))
