"""Tensors beside the arrays of other libraries: what NumPy's functions give, and memory that JAX and Flambeau pass each other."""

import flambeau as fb
import numpy as np
import pytest


def tensor():
    return fb.tensor([1.0, 2.0, 3.0])


def numpy_float(x):
    return np.asarray(x, np.float32)


#: NumPy's functions -> (the class of what they give for tensors, its value). docs/differences.md states the rule.
GIVEN = {
    "np.add(a, x)": (fb.Tensor, [2, 4, 6]),
    "np.matmul(x, a)": (fb.Tensor, 14),
    "np.greater(a, x)": (fb.Tensor, [False, False, False]),
    "np.exp2(x)": (np.ndarray, [2, 4, 8]),
    "np.add(a, x, out=a.copy())": (np.ndarray, [2, 4, 6]),
    "np.add.reduce(x)": (np.float32, 6),
    "np.add.accumulate(x)": (np.ndarray, [1, 3, 6]),
    "np.multiply.outer(x, a[:2])": (np.ndarray, [[1, 2], [2, 4], [3, 6]]),
    "np.sum(x)": (fb.Tensor, 6),
    "np.mean(x)": (fb.Tensor, 2),
    "np.concatenate([x, a])": (np.ndarray, [1, 2, 3, 1, 2, 3]),
    "np.where(x > 1, x, 0)": (np.ndarray, [0, 2, 3]),
    "np.dot(x, a)": (np.float32, 14),
    "np.einsum('i,i', x, x)": (np.float32, 14),
    "np.linalg.norm(x[:1])": (np.float32, 1),
    "np.asarray(x)": (np.ndarray, [1, 2, 3]),
    "np.transpose(m)": (fb.Tensor, [[1, 3], [2, 4]]),
    "np.transpose(m[None], (1, 0, 2))": (fb.Tensor, [[[1, 2]], [[3, 4]]]),
    "np.permute_dims(m)": (fb.Tensor, [[1, 3], [2, 4]]),
    "np.swapaxes(m, 0, 1)": (fb.Tensor, [[1, 3], [2, 4]]),
    "np.moveaxis(m, 0, 1)": (fb.Tensor, [[1, 3], [2, 4]]),
    "np.squeeze(m[:1])": (fb.Tensor, [1, 2]),
    "np.ravel(m)": (np.ndarray, [1, 2, 3, 4]),
    "np.diagonal(m)": (np.ndarray, [1, 4]),
    "np.trace(m)": (np.float32, 5),
    "np.argmax(m)": (fb.Tensor, 3),
    "np.argmin(m, 1)": (fb.Tensor, [0, 0]),
    "np.sum(m, axis=0)": (fb.Tensor, [4, 6]),
    "np.mean(m, axis=1, keepdims=True)": (fb.Tensor, [[1.5], [3.5]]),
    "np.prod(m)": (fb.Tensor, 24),
    "np.any(m > 3)": (fb.Tensor, True),
    "np.all(m > 3, axis=1)": (fb.Tensor, [False, False]),
    "np.round(m / 4)": (fb.Tensor, [[0, 0], [1, 1]]),
    "np.reshape(m, (4,))": (np.ndarray, [1, 2, 3, 4]),
    "np.cumsum(m)": (np.ndarray, [1, 3, 6, 10]),
    "np.clip(m, 2, 3)": (np.ndarray, [[2, 2], [3, 3]]),
    "np.repeat(x, 2)": (np.ndarray, [1, 1, 2, 2, 3, 3]),
    "np.take(x, [2, 0])": (np.ndarray, [3, 1]),
    "np.argsort(x)": (np.ndarray, [0, 1, 2]),
    "np.stack([x, x])": (np.ndarray, [[1, 2, 3], [1, 2, 3]]),
    "np.expand_dims(x, 0)": (np.ndarray, [[1, 2, 3]]),
    "np.tril(m)": (np.ndarray, [[1, 0], [3, 4]]),
    "np.median(m)": (np.float32, 2.5),
}
#: Functions of NumPy that hand the method arguments that it does not take, as in PyTorch.
REFUSED = ("np.max(m)", "np.min(m)", "np.amax(m, axis=0)", "np.std(m)", "np.var(m)")


@pytest.mark.accept("CRE-04")
@pytest.mark.parametrize("line", GIVEN)
def test_functions_of_numpy(line):
    kind, wanted = GIVEN[line]
    given = {"np": np, "x": tensor(), "a": numpy_float([1, 2, 3]), "m": fb.tensor([[1.0, 2.0], [3.0, 4.0]])}
    found = eval(line, given)
    assert type(found) is kind and found.tolist() == wanted


def test_functions_of_numpy_are_not_taken_over():
    """There is no `__array_function__`: they read values, or call the method of their name, whose errors are ours."""
    assert not hasattr(fb.Tensor, "__array_function__")
    for line in REFUSED:
        with pytest.raises(TypeError, match=r"\[\w+\] there is no argument '(out|dtype)'"):
            eval(line, {"np": np, "m": tensor()})
    x = tensor().requires_grad_()
    (np.transpose(x) * 2).sum().backward()  # its history goes on
    assert x.grad.tolist() == [2, 2, 2]
    kept = tensor().requires_grad_()
    for read in (np.exp, np.add.reduce, np.asarray, lambda x: np.concatenate([x, x])):
        with pytest.raises(RuntimeError, match="requires grad"):
            read(kept)
    for ufunc in (np.add, np.exp):
        with pytest.raises(TypeError, match=rf"\[numpy\] {ufunc.__name__} cannot write to a tensor"):
            ufunc(*[numpy_float([1, 2, 3])] * ufunc.nin, out=tensor())


class Named(fb.Tensor):
    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls += 1
        return NotImplemented


def test_torch_function_is_accepted_and_not_called():
    x = tensor().as_subclass(Named)
    assert type(x) is Named and isinstance(x, fb.Tensor)
    for found in (x + 1, fb.exp(x), x.sum(), 2 * x, fb.stack([x, x]), x[:2], np.add(numpy_float([1, 1, 1]), x)):
        assert type(found) is fb.Tensor
    assert (x + 1).tolist() == [2, 3, 4] and Named.calls == 0


DTYPES = ["float32", "float16", "bfloat16", "int8", "int16", "int32", "uint8", "bool", "complex64"]


@pytest.mark.accept("CRE-04")
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_jax(dtype):
    jnp = pytest.importorskip("jax.numpy")
    ours = fb.arange(6).reshape(2, 3).to(getattr(fb, dtype))
    theirs = jnp.from_dlpack(ours)
    assert theirs.dtype == ours.numpy().dtype and theirs.tolist() == ours.tolist()
    back = fb.from_dlpack(theirs)
    assert back.dtype == ours.dtype and back.tolist() == ours.tolist()
    assert jnp.from_dlpack(ours.T).tolist() == ours.T.tolist()
    assert fb.from_dlpack(jnp.zeros((0, 2), dtype)).shape == (0, 2)


@pytest.mark.accept("CRE-04")
def test_memory_that_jax_reads_and_lends():
    """JAX reads a tensor's memory; its own arrays do not change, so that what comes from them is a copy."""
    jnp = pytest.importorskip("jax.numpy")
    ours = fb.arange(64.0)
    assert jnp.from_dlpack(ours).unsafe_buffer_pointer() == ours.data_ptr()
    theirs = jnp.arange(3.0)
    taken = fb.from_dlpack(theirs)
    taken += 1
    assert taken.tolist() == [1, 2, 3] and theirs.tolist() == [0, 1, 2]
    leaf = fb.from_dlpack(jnp.ones(3)).requires_grad_()
    (leaf * leaf).sum().backward()
    assert jnp.from_dlpack(leaf.grad).tolist() == [2, 2, 2]
    with pytest.raises(BufferError, match="requires grad"):
        jnp.from_dlpack(leaf)
