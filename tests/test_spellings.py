"""The spellings that PyTorch allows beside the usual one: other names of arguments, lists for tuples, `Size`."""

import copy
import inspect
import pickle

import flambeau as fb
import flambeau.nn.functional as F
import function_cases as fc
import numpy as np
import pytest
from flambeau import spellings
from flambeau.dialects.dtypes import float32
from flambeau.runtime.recorder import REQUIRED, Function, Public, Tensor

# ---- other names of arguments --------------------------------------------------------------------------------


def parameters(function) -> dict:
    """Name -> default (REQUIRED: none) of what a public callable takes."""
    if isinstance(function, Function):
        return {p[0]: p[2] for p in function.params}
    try:
        found = inspect.signature(function.__wrapped__).parameters.values()
    except ValueError:  # of C
        return {}
    return {
        p.name: REQUIRED if p.default is p.empty else p.default
        for p in found
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def spelled() -> dict:
    """(name, argument, other name) -> callable, for every argument of a public function or method that has another name."""
    found, seen = {}, set()
    for owner, names in (("flambeau", vars(fb)), ("functional", vars(F)), ("Tensor", vars(Tensor))):
        for name, value in names.items():
            if not isinstance(value, Function | Public) or name.startswith("_") or value in seen:
                continue
            seen.add(value)
            for other, argument in spellings.known(parameters(value)).items():
                found[f"{owner}.{name}", argument, other] = value
    return found


SPELLED = spelled()


def filling(name: str) -> dict:
    """Fresh values for arguments, by name; those of `name` where they differ."""
    x = fb.arange(12.0).reshape(3, 4) / 8 - 0.4
    index = fb.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    made = {"input": x, "self": x, "tensor": x, "other": x + 1.5, "dim": 1, "keepdim": True, "tensors": [x, x + 1]}
    made |= {"index": index, "src": x, "source": x, "sizes": (2, 2), "chunks": 2, "split_size_or_sections": 2}
    made |= {"start": 1, "length": 2, "exponent": 2.0, "mask": x > 0, "value": 1.0, "min": -0.2, "max": 0.3}
    made |= {
        "weight": x,
        "end": x + 2,
        "tensor1": x,
        "tensor2": x + 3,
        "condition": x > 0,
        "dims": 1,
        "repeats": (2, 1),
    }
    made |= {
        "shifts": 1,
        "dim0": 0,
        "dim1": 1,
        "destination": 0,
        "fill_value": 3.0,
        "pad": (1, 1),
        "target": x.sigmoid(),
    }
    made |= {"normalized_shape": (4,), "mat1": x, "mat2": x.t(), "vec": fb.ones(4), "vec2": fb.ones(4), "values": x}
    made |= {"threshold": 0.5, "p": 1, "n": 1, "size": (2, 3, 4), "num_classes": 5, "dtype": None, "args": (3,)}
    short = name.rpartition(".")[2].rstrip("_")
    rows = {"dim": 0, "index": fb.tensor([2, 0])}
    integers = {"input": fb.tensor([3, 5]), "other": fb.tensor([1, 2])}
    strided = {"size": (2, 2), "stride": (1, 2)}
    square = {"input": fb.ones(2, 2), "mat2": fb.ones(2, 2), "mat1": fb.ones(2, 2)}
    made |= {
        "index_select": rows,
        "index_add": {**rows, "source": x[:2]},
        "select": {"index": 1},
        "cross_entropy": {"target": fb.tensor([1, 0, 3])},
        "nll_loss": {"target": fb.tensor([1, 0, 3])},
        "binary_cross_entropy": {"input": x.sigmoid()},
        "embedding": {"input": fb.tensor([0, 2])},
        "one_hot": {"tensor": fb.tensor([0, 2])},
        "unflatten": {"sizes": (2, 2)},
        "matmul": {"other": x.t()},
        "bmm": {"input": x[None], "mat2": x.t()[None]},
        "permute": {"dims": (1, 0)},
        "randint_like": {"high": 5},
        "reshape": {"shape": (4, 3)},
        "view": {"size": (4, 3)},
        "dot": {"input": fb.ones(4), "tensor": fb.ones(4), "other": fb.ones(4)},
        "outer": {"input": fb.ones(3)},
        "addmm": square,
        "bernoulli": {"input": x.sigmoid()},
        "expand": {"input": x},
        "broadcast_to": {"size": (2, 3, 4)},
        "t": {"input": x},
        "prelu": {"weight": fb.ones(1)},
        "gcd": integers,
        "lcm": integers,
        "reshape_as": {"other": x},
        "poisson": {"input": x.sigmoid()},
        "as_strided": strided,
        "as_strided_copy": strided,
        "as_strided_scatter": {**strided, "src": fb.ones(2, 2)},
        "empty_like": {"input": x[:0]},
        "movedim": {"source": 1},
        **{f"bitwise_{op}": integers for op in ["and", "or", "xor", "not", "left_shift", "right_shift"]},
    }.get(short, {})
    return made


def outcome(function, given: dict):
    """What a call gives, as plain values; its error, if it raises."""
    fb.manual_seed(0)
    try:
        found = function(**given)
    except Exception as error:
        return type(error), str(error)
    parts = found if isinstance(found, tuple) else (found,)
    return [p.tolist() if isinstance(p, Tensor) else p for p in parts]


#: Arguments that have defaults and still must be given.
NEEDED = {"clamp": ["min"], "clip": ["min"], "reshape": ["shape"], "view": ["size"], "randint_like": ["high"]}


def ways(name: str, function, argument: str):
    """Ways to make the arguments that a call needs, with this one among them, each time anew: from the table above, then from the
    samples of what is declared under this name."""
    takes, short = parameters(function), name.rpartition(".")[2]
    needed = {argument, *NEEDED.get(short.rstrip("_"), ())}
    needed = {k for k, default in takes.items() if k in needed or default is REQUIRED}
    if needed <= filling(name).keys():
        yield lambda: {k: v for k, v in filling(name).items() if k in needed}
    for d in (d for d in fc.SAMPLED.values() if short in d.names or short.rstrip("_") in d.names):
        for case in fc.cases(d):
            operands, named = case.arguments()
            if case.dtype is float32 and needed <= {*list(takes)[: len(operands)], *named}:
                yield lambda case=case: dict(zip(takes, case.arguments()[0])) | case.arguments()[1]


@pytest.mark.parametrize(
    "name", sorted({name for name, _, _ in SPELLED} - {"flambeau.imag", "flambeau.result_type", "Tensor.align_as"})
)
def test_another_name_of_an_argument_means_the_same(name):
    """Of all but what raises always, here where no dimension has a name too, and what has several names for each of two."""
    function = next(f for (n, _, _), f in SPELLED.items() if n == name)
    for owner, argument, other in SPELLED:
        if owner == name:
            tried = ((make, outcome(function, make())) for make in ways(name, function, argument))
            make, expected = next(way for way in tried if not isinstance(way[1], tuple))
            values = make()
            values[other] = values.pop(argument)
            assert repr(outcome(function, values)) == repr(expected)


def test_every_function_with_a_dimension_takes_axis():
    names = {name for name, argument, other in SPELLED if (argument, other) == ("dim", "axis")}
    assert len(names) > 40
    assert {"flambeau.sum", "flambeau.cat", "Tensor.max", "Tensor.unbind", "functional.normalize"} <= names


@pytest.mark.parametrize("call", [lambda x: x.max(axis=1, dim=1), lambda x: fb.sum(x, dim=0, axis=0)])
def test_an_argument_under_two_names_is_refused(call):
    with pytest.raises(TypeError, match=r"\[(max|sum)\] argument 'dim' was given twice"):
        call(fb.ones(2, 2))


def test_errors_know_the_argument_by_its_usual_name():
    with pytest.raises(TypeError, match=r"\[max\] dim is 'a'"):
        fb.ones(2, 2).max(axis="a")


def test_the_usual_names_are_found_without_a_look_at_the_others():
    """A function that has no other names for an argument is as it was; no table is asked at calls."""
    assert all(argument in spellings.OTHER_NAMES for _, argument, _ in SPELLED)
    assert fb.exp.params == (("input", "tensor", REQUIRED, False, ("x", "a", "x1")),)


# ---- shapes --------------------------------------------------------------------------------------------------


def test_a_shape_is_a_tuple_that_knows_its_elements():
    x = fb.zeros(2, 3, 4)
    assert x.shape == (2, 3, 4) and isinstance(x.shape, tuple) and isinstance(x.shape, fb.Size)
    assert (x.shape.numel(), x.size().numel(), x[0].shape.numel(), fb.tensor(1.0).shape.numel()) == (24, 24, 12, 1)
    assert [type(s) for s in (x.shape[1:], x.shape + (5,), x.shape * 2)] == [fb.Size] * 3
    assert x.shape[1:] == (3, 4) and x.shape + (5,) == (2, 3, 4, 5) and x.shape[-1] == 4
    assert hash(x.shape) == hash((2, 3, 4)) and {x.shape: 1}[2, 3, 4] == 1
    assert type(pickle.loads(pickle.dumps(x.shape))) is type(copy.deepcopy(x.shape)) is fb.Size
    assert fb.Size([2, np.int64(3)]) == (2, 3) and fb.Size() == () and fb.Size(()).numel() == 1
    assert repr(x.shape) == "(2, 3, 4)"


def test_a_size_of_what_is_no_ints_is_refused():
    for call in (lambda: fb.Size(3), lambda: fb.Size((1, "a")), lambda: fb.Size(1, 2), lambda: fb.Size(sizes=(1,))):
        with pytest.raises(TypeError, match=r"\[Size\] "):
            call()


def test_shapes_as_arguments_record_what_tuples_record():
    """A Size is the same static value as a tuple: no state is added to the trie for it."""
    from flambeau.runtime import recorder

    x = fb.ones(2, 3)

    def states(make):
        before = recorder.stats()["states"]
        (x * 2).reshape(make((3, 2))).sum().item()
        return recorder.stats()["states"] - before

    for _ in range(4):
        states(tuple)
    assert states(tuple) == states(fb.Size) == states(list) == 0


SHAPES = ([-1], [24], [2, -1], [4, 6], (2, -1), fb.Size((3, 8)))
MADE = {
    "whole": lambda x: x,
    "permuted": lambda x: x.permute(2, 0, 1),
    "transposed": lambda x: x.transpose(0, 1),
    "rows": lambda x: x.reshape(2, 3, 4)[:, :3],
    "reshaped": lambda x: x.reshape(6, 4),
    "result": lambda x: x * 1,
}


@pytest.mark.parametrize("made", MADE)
def test_a_list_is_a_shape(made):
    x = fb.arange(24.0).reshape(2, 3, 4)
    shown = MADE[made](x)
    flat = shown.numpy().reshape(-1)
    for shape in SHAPES:
        for found in (
            shown.reshape(shape),
            shown.reshape(*shape),
            shown.reshape(shape=shape),
            fb.reshape(shown, shape),
            fb.reshape(shown, shape=shape),
            fb.reshape(input=shown, shape=shape),
        ):
            assert found.tolist() == flat.reshape(shape).tolist()
        if shown.is_contiguous():
            assert shown.view(shape).tolist() == shown.view(size=shape).tolist() == flat.reshape(shape).tolist()


def test_the_gradient_of_a_view_in_a_list_of_sizes():
    x = fb.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    (x.permute(2, 0, 1).reshape([4, 6]) * fb.arange(24.0).reshape([4, 6])).sum().backward()
    assert (x.grad.numpy() == np.arange(24.0).reshape(4, 2, 3).transpose(1, 2, 0)).all()


VARIADIC = {
    "permute": ((1, 0, 2), "dims"),
    "expand": ((5, 2, 3, 4), "size"),
    "repeat": ((2, 1, 3), "repeats"),
    "tile": ((2, 1, 3), "dims"),
}


@pytest.mark.parametrize("name", VARIADIC)
def test_sizes_are_several_arguments_a_tuple_a_list_or_named(name):
    x = fb.arange(24.0).reshape(2, 3, 4)
    sizes, argument = VARIADIC[name]
    method = getattr(x, name)
    wanted = method(*sizes).tolist()
    assert method(sizes).tolist() == method(list(sizes)).tolist() == method(**{argument: sizes}).tolist() == wanted


def test_two_shapes_are_refused():
    with pytest.raises(TypeError, match=r"\[reshape\] the shape was given twice"):
        fb.ones(4).reshape(2, 2, shape=(4,))
    with pytest.raises(TypeError, match=r"\[view\] both a shape and a dtype"):
        fb.ones(4).view(4, dtype=fb.int32)


# ---- bits ----------------------------------------------------------------------------------------------------


def test_a_view_as_another_dtype_shows_the_memory():
    x = fb.tensor([[1.0, -0.0], [2.5, float("inf")]])
    seen = x.view(fb.int32)
    assert seen.dtype is fb.int32 and seen.tolist() == x.numpy().view(np.int32).tolist()
    assert x.view(dtype=fb.int64).shape == (2, 1) and x.double().view(fb.int32).shape == (2, 4)
    seen[0, 0] = 0
    assert x[0, 0].item() == 0.0
    x[1, 0] = 1.0
    assert seen[1, 0].item() == 0x3F800000
    assert (x * 2).view(fb.int32).view(fb.float32).tolist() == (x * 2).tolist()
    assert x.requires_grad_().view(fb.int32).requires_grad is False


def test_a_view_as_another_dtype_that_does_not_fit_is_refused():
    with pytest.raises(RuntimeError, match=r"\[view\] the last dimension of shape \(3,\)"):
        fb.ones(3).view(fb.float64)
    with pytest.raises(RuntimeError, match=r"\[view\] the elements of shape \(3, 2\) do not lie row by row"):
        fb.ones(2, 3).t().view(fb.int32)
    with pytest.raises(RuntimeError, match=r"\[view\] bytes of other dtypes are no bools"):
        fb.ones(2).view(fb.bool)


# ---- indices and edges ---------------------------------------------------------------------------------------

BOOLS = [
    True, (True, True), (True, 0), (0, True), (None, True), (..., True), (slice(None), True, 1),
    False, (0, False), (slice(None), False), (False, ..., slice(0, 2)), (..., False, 0), (True, False),
]  # fmt: skip


@pytest.mark.parametrize("index", BOOLS, ids=str)
def test_a_bool_index_is_a_dimension_of_size_1_or_0(index):
    x, a = fb.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)
    wanted = a[index if isinstance(index, tuple) else (index,)]
    found = x[index]
    assert found.shape == wanted.shape and found.tolist() == wanted.tolist()


def test_bools_write():
    x = fb.zeros(2)
    x[True] = 3.0
    x[False] = 4.0
    assert x.tolist() == [3.0, 3.0]
    x[True] += 1.0
    assert x.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("index", [range(2), range(0), range(2, 0, -1), []], ids=str)
def test_a_range_is_a_list_of_positions(index):
    x, a = fb.arange(9.0).reshape(3, 3).clone().requires_grad_(), np.arange(9.0).reshape(3, 3)
    positions = np.array(list(index), np.int64)
    assert x[index].tolist() == a[positions].tolist() and x[:, index].tolist() == a[:, positions].tolist()
    x[index].sum().backward()
    assert x.grad[:, 0].tolist() == [float(i in list(index)) for i in range(3)]


def test_arange_of_bools():
    assert fb.arange(3, dtype=fb.bool).tolist() == [False, True, True]
    assert fb.arange(1, 2, dtype=fb.bool).tolist() == [True]
    assert fb.arange(0.5, 2, dtype=fb.bool).tolist() == [True, True]


@pytest.mark.parametrize(
    ("shapes", "dim"), [([(0,), (2, 3)], 0), ([(2, 3), (0,)], 1), ([(0,), (0,)], 0), ([(2, 0), (0,), (2, 3)], 1)]
)
def test_empty_parts_of_cat_have_gradients(shapes, dim):
    parts = [fb.ones(*s, requires_grad=True) for s in shapes]
    made = fb.cat(parts, dim)
    (made * 2).sum().backward()
    assert [p.grad.tolist() for p in parts] == [np.full(s, 2.0).tolist() for s in shapes]
    assert made.numel() == sum(p.numel() for p in parts)


#: PyTorch's own samples of layer_norm: (shape, normalized shape, options).
LAYER_NORM = [
    ((1, 2, 3), (1, 2, 3), {"eps": 0.5}), ((2, 2, 3), (2, 3), {"eps": -0.5}), ((1,), (1,), {}),
    ((1, 2), (2,), {"eps": 0}), ((0, 1), (1,), {"eps": 1e-5}), ((2, 3), (3,), {}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "normalized", "options"), LAYER_NORM)
def test_layer_norm_in_pytorchs_samples(shape, normalized, options):
    rng = np.random.default_rng(0)
    x, ct = rng.normal(size=shape), rng.normal(size=shape)
    w, b = rng.normal(size=normalized), rng.normal(size=normalized)
    axes = tuple(range(len(shape) - len(normalized), len(shape)))

    def mean(v):
        return v.mean(axes, keepdims=True)

    scale = 1 / np.sqrt(mean((x - mean(x)) ** 2) + options.get("eps", 1e-5))
    unit = (x - mean(x)) * scale
    slope = scale * (ct * w - mean(ct * w) - unit * mean(ct * w * unit))
    outer = tuple(range(len(shape) - len(normalized)))
    tensors = [fb.tensor(v, requires_grad=True) for v in (x, w, b)]
    found = F.layer_norm(tensors[0], normalized, *tensors[1:], **options)
    found.backward(fb.tensor(ct))
    wanted = [unit * w + b, slope, (ct * unit).sum(outer), ct.sum(outer)]
    for given, value in zip([found.detach(), *(t.grad for t in tensors)], wanted, strict=True):
        np.testing.assert_allclose(given.numpy(), value, rtol=1e-9, atol=1e-9)


def test_cuda_where_there_is_none():
    """PyTorch's programs ask first, or are told."""
    if fb.cuda.is_available():
        pytest.skip("there is a GPU")
    assert fb.cuda.device_count() == 0
    net, x = fb.nn.Linear(2, 2), fb.ones(2)
    for move in (
        x.cuda,
        lambda: x.cuda(0),
        net.cuda,
        lambda: x.to(0),
        lambda: fb.zeros_like(x, device=0),
        lambda: fb.full_like(x, 1, device=0),
        lambda: fb.randint_like(x, 3, device=0),
        lambda: x.new_zeros(2, device=0),
        lambda: x.cuda(device="cuda:0", non_blocking=True),
    ):
        with pytest.raises(RuntimeError, match=r"\[device\] 'cuda(:0)?' is not available: .*device\('cpu'\)"):
            move()
    for move, name in ((x.cuda, "cuda"), (net.cuda, "Module.cuda")):
        with pytest.raises(RuntimeError, match=rf"\[{name}\] 'cpu' is no CUDA device"):
            move("cpu")
    with pytest.raises(AttributeError, match="PyTorch has 'Stream'"):
        fb.cuda.Stream()
    assert net.weight.device == fb.device("cpu") == x.cpu().device
    assert fb.device(1) == fb.device("cuda", 1) == fb.device("cuda:1")
    with pytest.raises(RuntimeError, match="'cuda:-1' is no device"):
        fb.device(-1)


def test_what_is_made_like_another_lies_as_the_memory_format_says():
    x = fb.zeros(2, 3, 4, 5)
    made = [
        fb.zeros_like(x, memory_format=fb.channels_last),
        fb.ones_like(x, memory_format=fb.channels_last),
        fb.empty_like(x, memory_format=fb.channels_last),
        fb.full_like(x, 2.0, memory_format=fb.channels_last),
        fb.rand_like(x, memory_format=fb.channels_last),
        fb.randn_like(x, memory_format=fb.channels_last),
        fb.randint_like(x, 3, memory_format=fb.channels_last),
        fb.empty(2, 3, 4, 5, memory_format=fb.channels_last),
    ]
    for y in made:
        assert y.shape == x.shape and y.stride() == (60, 1, 15, 3)
    assert made[1].sum().item() == x.numel() and made[3].mean().item() == 2
    for kept in (fb.preserve_format, fb.contiguous_format):
        assert fb.ones_like(x, memory_format=kept, requires_grad=True).is_contiguous()
    with pytest.raises(TypeError, match=r"\[zeros_like\] memory_format is a int"):
        fb.zeros_like(x, memory_format=1)


def test_what_libraries_of_patterns_call():
    """As einops spells it: lists of sizes on what may be a view, axes as tuples, dimensions by position."""
    x = fb.arange(144.0).reshape(2, 3, 4, 6)
    for given in (x, x[:, :, ::1], x.permute(0, 1, 3, 2).permute(0, 1, 3, 2)):
        parts = given.reshape([2, 3, 2, 2, 2, 3])
        moved = parts.permute([0, 2, 4, 3, 5, 1]).reshape([2, 4, 18])
        want = x.numpy().reshape(2, 3, 2, 2, 2, 3).transpose(0, 2, 4, 3, 5, 1).reshape(2, 4, 18)
        np.testing.assert_array_equal(moved.numpy(), want)
        for name in ("amax", "amin", "sum", "mean"):
            np.testing.assert_allclose(getattr(given, name)(dim=(2, 3)).numpy(), getattr(np, name)(x.numpy(), (2, 3)))
        wide = given[:, :, None].expand([-1, -1, 2, -1, -1]).reshape([2, 6, 4, 6])
        np.testing.assert_array_equal(wide.numpy(), np.repeat(x.numpy(), 2, 1))
        joined = fb.stack([given[0], given[1]]).reshape([6, 4, 6])
        np.testing.assert_array_equal(joined.numpy(), x.numpy().reshape(6, 4, 6))
