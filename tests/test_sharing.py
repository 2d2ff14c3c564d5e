"""Tensors that processes share: by a fork, by what `multiprocessing` pickles, with their views, until nobody has them."""

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import flambeau as fb
import numpy as np
import pytest
from flambeau import nn
from flambeau.functions import sharing

pytestmark = pytest.mark.accept("CRE-03")


def in_child(context, function, *args):
    child = context.Process(target=function, args=args)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_children_write_where_the_parent_reads(way):
    context = multiprocessing.get_context(way)
    there, back = context.Queue(), context.Queue()
    x = fb.zeros(2, 3).share_memory_()
    child = context.Process(target=exchange, args=(x, x[1], there, back))
    child.start()
    shares, own = back.get(timeout=60)
    own[0] = 7
    fb.flush()
    there.put(None)
    seen = back.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0 and shares == (True, True)
    np.testing.assert_array_equal(x.numpy(), [[1, 1, 1], [10, 10, 10]])
    assert seen == [7, 1, 2]  # what the child made lies in one place, too


def exchange(tensor, part, there, back):
    tensor.add_(1)
    part.mul_(10)
    fb.flush()
    own = fb.arange(3).share_memory_()
    back.put(((tensor.is_shared(), part.is_shared()), own))
    there.get(timeout=60)
    back.put(own.tolist())


def train(model):
    optimizer = fb.optim.SGD(model.parameters(), lr=0.5)
    model(fb.ones(1, 2)).sum().backward()
    optimizer.step()
    fb.flush()


def test_a_module_is_trained_by_a_child():
    model = nn.Linear(2, 1)
    before = {k: v.clone().numpy() for k, v in model.state_dict().items()}
    assert model.share_memory() is model
    assert all(p.is_shared() and p.requires_grad and p.is_leaf for p in model.parameters())
    in_child(multiprocessing.get_context("fork"), train, model)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), before[name] - 0.5, rtol=1e-6)


def test_the_storage_moves_with_all_that_have_it():
    x = fb.arange(6.0)
    part, other, y = x[2:4], x.detach(), x * 2
    assert not x.is_shared()
    assert x.share_memory_() is x and x.share_memory_() is x
    assert part.is_shared() and other.is_shared() and not y.is_shared() and not x.clone().is_shared()
    part.fill_(9)
    assert x.tolist() == other.tolist() == [0, 1, 9, 9, 4, 5]
    assert y.tolist() == [0, 2, 4, 6, 8, 10]
    (x.requires_grad_() ** 2).sum().backward()
    assert x.grad.tolist() == [0, 2, 18, 18, 8, 10]
    assert fb.zeros(0).share_memory_().is_shared()


def sent(x):
    return pickle.loads(ForkingPickler.dumps(x))


def test_what_arrives_again_is_the_same_memory():
    x = fb.arange(6.0).reshape(2, 3).share_memory_()
    whole, column, turned = sent(x), sent(x[:, 1]), sent(x.T)
    whole[0, 1] = 50
    assert x.tolist() == [[0, 50, 2], [3, 4, 5]]
    assert column.tolist() == [50, 4] and turned.tolist() == [[0, 3], [50, 4], [2, 5]]
    weight = sent(nn.Parameter(fb.ones(2).share_memory_()))
    assert type(weight) is nn.Parameter and weight.requires_grad and weight.is_shared()
    halves = fb.ones(3, dtype=fb.bfloat16).share_memory_()
    assert sent(halves).dtype is fb.bfloat16 and sent(halves).is_shared()


def test_what_is_not_shared_or_has_no_strides_is_sent_by_value():
    x = fb.arange(3.0)
    copy = sent(x)
    copy[0] = 5
    assert x.tolist() == [0, 1, 2] and not copy.is_shared()
    numbers = fb.ones(2, dtype=fb.float32).share_memory_().view(fb.int32)
    assert numbers.is_shared() and sent(numbers).tolist() == numbers.tolist()
    with pytest.raises(RuntimeError, match="only leaf tensors can be pickled"):
        sent(x.requires_grad_() * 2)
    assert not pickle.loads(pickle.dumps(fb.ones(2).share_memory_())).is_shared()


def test_plain_tensors_of_a_shared_parameter_are_shared():
    """In a process in which nothing but a Parameter was shared before."""
    code = (
        "import pickle, flambeau as fb\n"
        "from multiprocessing.reduction import ForkingPickler\n"
        "p = fb.nn.Parameter(fb.ones(3)).share_memory_()\n"
        "part = pickle.loads(ForkingPickler.dumps(p.detach()[1:]))\n"
        "part += 1\n"
        "assert part.is_shared() and p.tolist() == [1, 2, 2], p\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def shared_files():
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum("flambeau-shared" in os.readlink(link) for link in links if os.path.islink(link))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no list of open files")
def test_nothing_remains():
    gc.collect()
    before = shared_files(), len(sharing._by_address), len(sharing._by_file)
    x = fb.ones(10).share_memory_()
    assert shared_files() > before[0] and len(sharing._by_address) == before[1] + 1
    part = x[2:]
    del x
    assert part.is_shared()
    del part
    gc.collect()
    assert (shared_files(), len(sharing._by_address), len(sharing._by_file)) == before
