"""Names that say something of types, devices, memory and grids."""

import copy
import pickle

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest

# ---- types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [fb.float32, fb.float64, fb.float16], ids=repr)
def test_finfo_is_that_of_numpy(dtype):
    found, known = fb.finfo(dtype), np.finfo(dtype.numpy)
    for name in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
        assert getattr(found, name) == getattr(known, name)
    assert found.resolution == float(f"{known.resolution:.0e}")
    assert fb.finfo() == fb.finfo(fb.get_default_dtype()) and "eps=" in repr(found) and found.dtype == dtype.name


def test_finfo_of_bfloat16():
    found = fb.finfo(fb.bfloat16)
    assert (found.bits, found.eps, found.tiny) == (16, 2.0**-7, 2.0**-126)


@pytest.mark.parametrize("dtype", [fb.int64, fb.int32, fb.int16, fb.int8, fb.uint8], ids=repr)
def test_iinfo_is_that_of_numpy(dtype):
    found, known = fb.iinfo(dtype), np.iinfo(dtype.numpy)
    assert (found.bits, found.min, found.max) == (known.bits, known.min, known.max)
    assert type(found.max) is int and found == fb.iinfo(dtype) and hash(found) == hash(fb.iinfo(dtype))


def test_limits_of_another_kind_are_refused():
    for make, given in ((fb.finfo, fb.int32), (fb.finfo, 3), (fb.iinfo, fb.float32), (fb.iinfo, fb.bool)):
        with pytest.raises(TypeError, match=rf"\[{make.__name__}\] "):
            make(given)


def test_what_is_said_of_tensors_and_dtypes():
    x, i = fb.ones(2), fb.arange(2)
    assert fb.is_tensor(x) and fb.is_tensor(nn.Parameter(x.clone())) and not fb.is_tensor([1])
    assert fb.is_floating_point(x) and not fb.is_floating_point(i)
    assert (
        not fb.is_complex(x) and not x.is_complex() and not any(d.is_complex for d in (fb.float32, fb.int64, fb.bool))
    )
    assert [d.is_signed for d in (fb.float32, fb.int8, fb.uint8, fb.bool)] == [True, True, False, False]
    assert i.type_as(x).dtype is fb.float32 and x.type_as(x) is x
    assert fb.numel(fb.ones(2, 3)) == 6


# ---- devices -------------------------------------------------------------------------------------------------


def test_devices_are_objects():
    cuda = fb.device("cuda", 1)
    assert cuda == fb.device("cuda:1") and (cuda.type, cuda.index) == ("cuda", 1) and str(cuda) == "cuda:1"
    assert (
        repr(cuda) == "device(type='cuda', index=1)"
        and fb.device(cuda) == cuda
        and hash(cuda) == hash(fb.device("cuda:1"))
    )
    assert fb.device("meta").type == "meta" and fb.device("cuda") != fb.device("cpu")
    assert fb.get_default_device() == fb.ones(1).device == fb.device("cpu")
    assert pickle.loads(pickle.dumps(cuda)) == cuda


PLACES = {
    "zeros": lambda d: fb.zeros(2, device=d),
    "tensor": lambda d: fb.tensor([1.0], device=d),
    "rand": lambda d: fb.rand(2, device=d),
    "rand_like": lambda d: fb.rand_like(fb.ones(2), device=d),
    "randint": lambda d: fb.randint(3, (2,), device=d),
    "arange": lambda d: fb.arange(3, device=d),
    "to": lambda d: fb.ones(2).to(d),
    "to named": lambda d: fb.ones(2).to(device=d),
    "Module.to": lambda d: nn.Linear(2, 2).to(d),
    "Linear": lambda d: nn.Linear(2, 2, device=d),
    "Embedding": lambda d: nn.Embedding(2, 2, device=d),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("device", ["cuda", "meta", "cuda:3"])
def test_no_tensor_can_be_placed_elsewhere(place, device):
    for given in (device, fb.device(device)):
        with pytest.raises(RuntimeError, match=rf"\[device\] '{device}' is not available: "):
            PLACES[place](given)


@pytest.mark.parametrize("given", [("gpu",), ("cuda:x",), ("cuda:",), ("cuda:1", 2), ("cuda", -1)])
def test_what_is_no_device_is_refused(given):
    with pytest.raises(RuntimeError, match=r"\[device\] '.*' is no device"):
        fb.device(*given)


# ---- memory formats ------------------------------------------------------------------------------------------

LAID_OUT = {
    "to": lambda x, f: x.to(memory_format=f),
    "contiguous": lambda x, f: x.contiguous(memory_format=f),
    "clone": lambda x, f: x.clone(memory_format=f),
    "clone of flambeau": lambda x, f: fb.clone(x, memory_format=f),
}


@pytest.mark.accept("SHP-19")
@pytest.mark.parametrize("how", LAID_OUT)
def test_channels_last_is_an_order_of_elements(how):
    x = fb.arange(120.0).reshape(2, 3, 4, 5)
    y = LAID_OUT[how](x, fb.channels_last)
    assert y.stride() == (60, 1, 15, 3) and y.shape == x.shape and y.tolist() == x.tolist()
    assert y.is_contiguous(memory_format=fb.channels_last) and not y.is_contiguous()
    assert x.is_contiguous() and not x.is_contiguous(memory_format=fb.channels_last)
    back = LAID_OUT[how](y, fb.contiguous_format)
    assert back.is_contiguous() and back.tolist() == x.tolist()
    z = LAID_OUT[how](x.reshape(2, 3, 2, 2, 5), fb.channels_last_3d)
    assert z.is_contiguous(memory_format=fb.channels_last_3d) and z.shape == (2, 3, 2, 2, 5)


@pytest.mark.accept("SHP-19")
@pytest.mark.parametrize("how", LAID_OUT)
def test_gradients_go_through_memory_formats(how):
    x = fb.ones(1, 2, 1, 3, requires_grad=True)
    (LAID_OUT[how](x, fb.channels_last) * fb.arange(6.0).reshape(1, 2, 1, 3)).sum().backward()
    assert x.grad.reshape(-1).tolist() == [0, 1, 2, 3, 4, 5]


def test_what_lies_so_already_is_not_copied():
    x = fb.ones(2, 3, 4, 5).contiguous(memory_format=fb.channels_last)
    assert x.to(memory_format=fb.channels_last) is x and x.contiguous(memory_format=fb.channels_last) is x
    assert x.to(memory_format=fb.preserve_format) is x and x.clone(memory_format=fb.channels_last) is not x


def test_modules_take_a_memory_format_and_keep_their_values():
    layer = nn.Linear(2, 3)
    before = layer.weight.tolist()
    assert layer.to(memory_format=fb.channels_last) is layer and layer.weight.tolist() == before
    with pytest.raises(TypeError, match="memory_format is a int"):
        layer.to(memory_format=1)


def test_memory_formats_are_named_objects():
    assert repr(fb.channels_last) == "flambeau.channels_last" and isinstance(fb.channels_last, fb.memory_format)
    assert pickle.loads(pickle.dumps(fb.channels_last)) is copy.deepcopy(fb.channels_last) is fb.channels_last


def test_a_format_that_does_not_fit_is_refused():
    with pytest.raises(RuntimeError, match=r"\[to\] flambeau.channels_last is for 4 dimensions, the tensor has 1"):
        fb.ones(2).to(memory_format=fb.channels_last)
    with pytest.raises(TypeError, match=r"\[contiguous\] memory_format is a str"):
        fb.ones(2).contiguous(memory_format="channels_last")


def test_copy_is_the_second_flag_of_to():
    x = fb.ones(2)
    assert x.to(fb.float32, True) is x and x.to(fb.float32, False, True) is not x and x.to(x, copy=True) is not x
    assert x.to(other=fb.arange(2)).dtype is fb.int64


# ---- grids ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("CRE-22")
@pytest.mark.parametrize("indexing", ["ij", "xy"])
@pytest.mark.parametrize("sizes", [(2,), (2, 3), (2, 1, 3)])
def test_meshgrid_is_that_of_numpy(indexing, sizes):
    arrays = [np.arange(float(n)) + k for k, n in enumerate(sizes)]
    wanted = np.meshgrid(*arrays, indexing=indexing)
    tensors = [fb.tensor(a, requires_grad=True) for a in arrays]
    for found in (fb.meshgrid(*tensors, indexing=indexing), fb.meshgrid(tensors, indexing=indexing)):
        assert [g.tolist() for g in found] == [w.tolist() for w in wanted]
    sum((g * fb.tensor(w)).sum() for g, w in zip(found, wanted)).backward()
    count = np.prod(sizes)
    for t, a in zip(tensors, arrays):
        assert t.grad.tolist() == (a * count / len(a)).tolist()


@pytest.mark.accept("CRE-22")
def test_meshgrid_refuses_what_is_no_vector():
    assert [g.shape for g in fb.meshgrid(fb.tensor(1.0), fb.ones(2))] == [(1, 2), (1, 2)]
    for call in (lambda: fb.meshgrid(fb.ones(2, 2)), lambda: fb.meshgrid(fb.ones(2), fb.arange(2)), lambda: fb.meshgrid(),
        lambda: fb.meshgrid(fb.ones(2), indexing="yx")):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"\[meshgrid\] "):
            call()


def test_broadcasting_of_tensors_and_shapes():
    x = fb.arange(3.0).reshape(3, 1).clone().requires_grad_()
    a, b = fb.broadcast_tensors(x, fb.ones(2))
    assert a.tolist() == [[0, 0], [1, 1], [2, 2]] and b.shape == (3, 2)
    a.sum().backward()
    assert x.grad.tolist() == [[2], [2], [2]]
    assert fb.broadcast_shapes((3, 1), 2, (1, 1, 1)) == (1, 3, 2) and isinstance(fb.broadcast_shapes(2), fb.Size)
    with pytest.raises(RuntimeError, match=r"\[broadcast_tensors\] shapes"):
        fb.broadcast_tensors(fb.ones(2), fb.ones(3))
