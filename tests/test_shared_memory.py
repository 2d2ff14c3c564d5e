"""Memory shared with NumPy is copied when a trace reads it, unless nobody else can write to it. Cost is counted in bytes copied."""

import ctypes
import gc
import mmap
import threading
import weakref

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import DataLoader, TensorDataset
from flambeau.runtime import recorder

N = 1000


def copied(fn):
    """How many bytes `fn()` has copied from shared memory, and its result."""
    before = recorder.stats()["copied"]
    result = fn()
    return recorder.stats()["copied"] - before, result


def fresh():
    return np.arange(N, dtype=np.float32)


# ---- who else can write --------------------------------------------------------------------------------------

#: What somebody may keep of an array, and how it is then written to.
HOLDERS = {
    "the array": (lambda a: a, lambda h, v: h.__setitem__(0, v)),
    "a view": (lambda a: a[:5], lambda h, v: h.__setitem__(0, v)),
    "a view of a view": (lambda a: a[::2][::2].reshape(-1, 2), lambda h, v: h.__setitem__((0, 0), v)),
    "a transposed reshape": (lambda a: a.reshape(10, -1).T, lambda h, v: h.__setitem__((0, 0), v)),
    "the bytes": (lambda a: a.view(np.uint8), lambda h, v: h.view(np.float32).__setitem__(0, v)),
    "as_strided": (lambda a: np.lib.stride_tricks.as_strided(a, (2,), (4,)), lambda h, v: h.__setitem__(0, v)),
    "broadcast_to": (lambda a: np.broadcast_to(a, (2, N)), lambda h, v: h.base.__setitem__(0, v)),
    "a locked view": (lambda a: locked(a), lambda h, v: (h.setflags(write=True), h.__setitem__(0, v))),
    "a subclass": (lambda a: a.view(np.matrix), lambda h, v: h.__setitem__((0, 0), v)),
    "a memoryview": (memoryview, lambda h, v: h.__setitem__(0, v)),
    "a cast memoryview": (lambda a: memoryview(a).cast("B").cast("f"), lambda h, v: h.__setitem__(0, v)),
    "frombuffer": (lambda a: np.frombuffer(a, np.float32), lambda h, v: h.__setitem__(0, v)),
    "ctypes": (lambda a: (ctypes.c_float * N).from_buffer(a), lambda h, v: h.__setitem__(0, v)),
    "a ctypes pointer": (lambda a: a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), lambda h, v: h.__setitem__(0, v)),
    "dlpack": (np.from_dlpack, lambda h, v: h.__setitem__(0, v)),
    "a capsule": (lambda a: Capsule(a.__dlpack__(max_version=(1, 0))), lambda h, v: h.array().__setitem__(0, v)),
    "a weak reference": (weakref.ref, lambda h, v: h().__setitem__(0, v)),
    "another tensor": (fb.from_numpy, lambda h, v: h.numpy().__setitem__(0, v)),
    "a list": (lambda a: [a], lambda h, v: h[0].__setitem__(0, v)),
    "a frame": (lambda a: suspended(a), lambda h, v: h.send(v)),
}


def locked(a):
    view = a.view()
    view.setflags(write=False)
    return view


def suspended(a):
    def body():
        while True:
            a[0] = yield

    frame = body()
    next(frame)
    return frame


class Capsule:
    def __init__(self, capsule):
        self.capsule, self.made = capsule, None

    def array(self):
        self.made = np.from_dlpack(self) if self.made is None else self.made
        return self.made

    def __dlpack__(self, **kwargs):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


@pytest.mark.parametrize("shape", ["whole", "view", "permuted"])
@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_else_can_write_is_copied_at_each_read(name, shape):
    hold, write = HOLDERS[name]
    a = fresh()
    lent = {"whole": a, "view": a[:N], "permuted": a.reshape(10, -1).T}[shape]
    t = fb.from_numpy(lent)
    holder = hold(a)
    if not isinstance(holder, weakref.ref):
        del a, lent
    for k, value in enumerate((5.0, 6.0)):
        count, y = copied(lambda: t * 1)
        assert count == 4 * N, "a snapshot was left out"
        write(holder, value)
        assert y.reshape(-1)[0].item() == (0.0, 5.0)[k], "a trace saw what was written after it"
        assert t.reshape(-1)[0].item() == value


@pytest.mark.parametrize("shape", ["whole", "view", "permuted"])
@pytest.mark.parametrize("name", [n for n in HOLDERS if n != "another tensor"])
def test_what_nobody_else_holds_any_more_is_read_where_it_is(name, shape):
    hold, _ = HOLDERS[name]
    a = fresh()
    lent = {"whole": a, "view": a[:N], "permuted": a.reshape(10, -1).T}[shape]
    t, holder = fb.from_numpy(lent), hold(a)
    assert copied(lambda: (t * 1).sum().item())[0] == 4 * N
    del holder, a, lent
    gc.collect()
    count, total = copied(lambda: (t * 1).sum().item())
    assert (count, total) == (0, fresh().sum())
    t += 1
    assert (copied(lambda: (t * 1).sum().item())[0], t.reshape(-1)[0].item()) == (0, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.bool_])
def test_a_temporary_array_is_never_copied(dtype):
    t = fb.from_numpy(np.ones((4, 5), dtype))
    count, found = copied(lambda: [(t == t).sum().item(), t[1:3].sum().item(), t.t().sum().item(), t[2, 3].item()])
    assert (count, found) == (0, [20, 10, 20, 1])


def test_what_was_read_where_it_is_can_be_lent_again():
    t = fb.from_numpy(fresh())
    assert copied(lambda: (t * 1).sum().item())[0] == 0
    array = t.numpy()
    count, y = copied(lambda: t * 1)
    array[0] = 7
    assert (count, y[0].item(), t[0].item()) == (4 * N, 0.0, 7.0)
    t[1] = 8
    assert array[1] == 8
    del array
    assert copied(lambda: (t * 1)[:2].tolist()) == (0, [7.0, 8.0])


def test_while_an_array_of_a_tensor_lives_it_is_copied():
    t = fb.ones(N) * 2
    array = t.numpy()
    assert copied(lambda: (t * 1).sum().item()) == (4 * N, 2.0 * N)
    view = array[::2]
    del array
    assert copied(lambda: (t * 1).sum().item()) == (4 * N, 2.0 * N)
    del view
    assert copied(lambda: (t * 1).sum().item()) == (0, 2.0 * N)


def test_one_call_copies_what_it_reads_twice_once():
    a = fresh()
    t = fb.from_numpy(a)
    assert copied(lambda: t * t)[0] == 4 * N
    assert copied(lambda: fb.cat([t, t, t]))[0] == 4 * N
    assert copied(lambda: t[:10] * t[:10])[0] == 40
    assert copied(lambda: t[:10] * t[10:20])[0] == 80
    assert copied(lambda: fb.where(t > 0, t, t))[0] == 8 * N
    assert (t[1:4] * t[1:4]).tolist() == [1.0, 4.0, 9.0] and (t[:3] * t[1:4]).tolist() == [0.0, 2.0, 6.0]
    t.mul_(t)
    assert a[:4].tolist() == [0.0, 1.0, 4.0, 9.0]


def test_gradients_through_memory_that_is_not_copied():
    t = fb.from_numpy(fresh()).requires_grad_()
    count, _ = copied(lambda: (t * t).sum().backward())
    assert count == 0 and t.grad[3].item() == 6.0
    with fb.no_grad():
        t -= t.grad
    assert t[3].item() == -3.0


def test_threads_that_drop_the_array_while_others_read():
    for _ in range(20):
        box = [fresh()]
        t = fb.from_numpy(box[0])
        dropper = threading.Thread(target=box.clear)
        found = []
        reader = threading.Thread(
            target=lambda t=t, found=found: found.extend((t[:4] + t[:4]).tolist() for _ in range(5))
        )
        reader.start()
        dropper.start()
        reader.join()
        dropper.join()
        assert found == [[0.0, 2.0, 4.0, 6.0]] * 5


# ---- memory that nobody can write ----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.float32).reshape(4, 6))
    return tmp_path / "a.npy"


def allocated(fn):
    before = fb.memory_stats()["live_bytes"]
    result = fn()
    return fb.memory_stats()["live_bytes"] - before, result


READ_ONLY = {
    "a map": lambda path: np.load(path, mmap_mode="r"),
    "a view of a map": lambda path: np.asarray(np.load(path, mmap_mode="r"))[:],
    "rows of a map": lambda path: np.load(path, mmap_mode="r")[1:],
    "a transposed map": lambda path: np.load(path, mmap_mode="r").T,
    "a map of one's own": lambda path: np.frombuffer(mapped(path, mmap.ACCESS_READ), np.float32, 24, 128).reshape(4, 6),
    "bytes": lambda path: np.frombuffer(path.read_bytes(), np.float32, 24, 128).reshape(4, 6),
    "a memoryview of bytes": lambda path: np.frombuffer(memoryview(path.read_bytes())[128:], np.float32).reshape(4, 6),
}


def mapped(path, access):
    with open(path, "rb" if access == mmap.ACCESS_READ else "r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=access)


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_read_only_owner_is_read_where_it_is(name, path):
    array = READ_ONLY[name](path)
    assert not array.flags.writeable
    (made, t), count = allocated(lambda: fb.from_numpy(array)), array.nbytes
    assert made < count, "it was copied"
    assert copied(lambda: (t * 2).tolist()) == (0, (array * 2).tolist())
    expected = array.copy()
    shown = t.numpy()
    shown[0, 0] = 100  # memory of its own from here on
    t[1] = -1.0
    assert t[0, 0].item() == 100 and (t[1] == -1).all().item()
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(np.load(path), np.arange(24, dtype=np.float32).reshape(4, 6))


def test_training_writes_to_a_copy_of_what_was_mapped(path):
    w = fb.nn.Parameter(fb.from_numpy(np.load(path, mmap_mode="r")))
    optimizer = fb.optim.SGD([w], lr=0.5)
    (w * w).sum().backward()
    optimizer.step()
    assert (w.detach() == 0).all().item()
    assert np.load(path)[1, 1] == 7


def test_a_map_that_a_tensor_reads_cannot_be_closed(path):
    memory = mapped(path, mmap.ACCESS_READ)
    t = fb.frombuffer(memory, dtype=fb.float32, offset=128)
    with pytest.raises(BufferError):
        memory.close()
    assert (t + 0).sum().item() == 276.0
    del t
    fb.flush()


def read_only(data):
    return memoryview(data).toreadonly()


WRITABLE = {
    "a writable map": lambda path: locked(np.load(path, mmap_mode="r+")),
    "a copying map": lambda path: locked(np.load(path, mmap_mode="c")),
    "a bytearray": lambda path: np.frombuffer(
        memoryview(bytearray(path.read_bytes())).toreadonly(), np.float32, 24, 128
    ),
    "a locked view": lambda path: locked(np.load(path)),
    "broadcast_to": lambda path: np.broadcast_to(np.load(path), (2, 4, 6)),
}


@pytest.mark.parametrize("name", WRITABLE)
def test_a_locked_view_of_what_can_be_written_is_copied_at_once(name, path):
    array = WRITABLE[name](path)
    count, t = allocated(lambda: fb.from_numpy(array))
    assert count >= array.nbytes
    assert copied(lambda: (t * 2).tolist()) == (0, (array * 2).tolist())


def test_unlocking_a_view_writes_to_no_tensor():
    a = np.zeros(4, np.float32)
    lock = locked(a)
    t, y = fb.from_numpy(lock), fb.from_numpy(np.broadcast_to(a, (2, 4)))
    lock.setflags(write=True)
    lock[0] = 5
    assert t.tolist() == [0.0] * 4 and y.tolist() == [[0.0] * 4] * 2


def test_elements_that_are_not_aligned_are_copied():
    data = b"\0" + np.arange(4, dtype=np.float32).tobytes()
    t = fb.frombuffer(data, dtype=fb.float32, offset=1)
    assert ((t * 2).tolist(), t[1].item()) == ([0.0, 2.0, 4.0, 6.0], 1.0)
    a = np.frombuffer(bytearray(data), np.uint8)[1:].view(np.float32)
    u = fb.from_numpy(a)
    assert ((u * 2).tolist(), u[1].item()) == ([0.0, 2.0, 4.0, 6.0], 1.0)


# ---- loaders -------------------------------------------------------------------------------------------------


def samples():
    return [(np.full((3,), i, np.float32), float(i)) for i in range(8)]


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(samples(), batch_size=4),
        lambda: DataLoader(TensorDataset(fb.from_numpy(np.arange(24, dtype=np.float32).reshape(8, 3))), batch_size=4),
        lambda: DataLoader(samples(), batch_size=4, collate_fn=lambda b: [fb.from_numpy(np.stack([x for x, _ in b]))]),
    ],
    ids=["collated", "tensors", "stacked by hand"],
)
def test_batches_are_read_where_they_are(loader):
    batches = iter(loader())
    next(batches)
    count, total = copied(lambda: sum((b[0] * 2).sum().item() for b in batches))
    assert count == 0 and total > 0
