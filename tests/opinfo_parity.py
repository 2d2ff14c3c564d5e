"""PyTorch's own samples (OpInfo, `torch.testing._internal`) of every function that it tests, called here and there.

    python tests/opinfo_parity.py            # everything; writes opinfo_parity.txt
    python tests/opinfo_parity.py add diff   # these entries, with the whole errors

An entry passes if on its float32 samples shapes, dtypes, values, gradients and gradients with a look at the result before
`backward` are PyTorch's, at PyTorch's tolerances for the entry, which for gradients are taken of the largest of them, or else are
no further from what PyTorch computes in float64; and if its error inputs raise the class that they raise there. Of what is random,
shapes and dtypes count. It fails with the first reason, or is missing: the name is not there, or says so.
"""

from __future__ import annotations

import re
import sys
import traceback
import types
import unittest
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import flambeau as fb
import numpy as np
from parity_lists import NEARER, Found, command, section

LIST = Path(__file__).resolve().parent / "opinfo_parity.txt"
SAMPLES = 12  #: of an entry, spread evenly over all that it has
LARGE = 1 << 18  #: elements; samples with more are left out
RANDOM = {
    *("bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal", "rand_like", "randint"),
    *("randint_like", "randn", "randn_like", "uniform", "empty", "empty_like", "empty_strided", "empty_permuted"),
    *("new_empty", "new_empty_strided", "nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d"),
    *("nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout", "nn.functional.rrelu", "poisson"),
    *("bfloat16_", "resize_", "resize_as_", "pca_lowrank", "svd_lowrank", "nn.functional.fractional_max_pool2d"),
    *("nn.functional.fractional_max_pool3d",),
}


class Absent(Exception):
    """What PyTorch has and we have not."""


class Off(AssertionError):
    """Values beyond the tolerances."""


def op_db() -> list[Any]:
    """PyTorch's entries."""
    import torch

    if "expecttest" not in sys.modules:  # PyTorch's own tests need it; the entries do not
        try:
            import expecttest  # noqa: F401
        except ImportError:
            sys.modules["expecttest"] = types.ModuleType("expecttest")
            sys.modules["expecttest"].TestCase = unittest.TestCase  # type: ignore[attr-defined]
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if torch.float32 in op.dtypes]


def title(op: Any) -> str:
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


def is_listed_apart(name: str) -> bool:
    return name.startswith(("nn.functional", "sparse", "_nested"))


# ---- the same call here ---------------------------------------------------------------------------------------


def ours(op: Any) -> Any:
    """What a program gets that imports flambeau as torch. Raises Absent where there is none."""
    call = op.op
    if _is_of_tests(call):
        return _rescoped(call)
    name = getattr(call, "__name__", "")
    path = [name] if op.name == f"_{name}" else op.name.split(".")  # the entry is called otherwise than the function
    try:
        is_method = path[0].startswith("__") or not hasattr(fb, path[0]) or isinstance(getattr(fb, path[0]), fb.dtype)
        found: Any = fb.Tensor if is_method else fb
        for part in path:
            found = getattr(found, part)
    except (AttributeError, ImportError) as error:
        raise Absent(_short(error)) from None
    return found


def _rescoped(call: Any) -> Any:
    """A function of PyTorch's tests, with the wrappers that it calls, which finds flambeau where it says torch."""
    known = {n: call.__globals__.get(n) for n in call.__code__.co_names if n.startswith("gradcheck_wrapper")}
    scope = {**call.__globals__, "torch": fb, "np": np, "F": fb.nn.functional}
    scope.update({n: _rescoped(f) for n, f in known.items() if f is not None})
    made = types.FunctionType(call.__code__, scope, call.__name__, call.__defaults__, _closure(call))
    made.__kwdefaults__ = call.__kwdefaults__
    return made


def _is_of_tests(call: Any) -> bool:
    return isinstance(call, types.FunctionType) and call.__module__.startswith("torch.testing")


def _closure(call: Any) -> Any:
    return call.__closure__ and tuple(types.CellType(converted(c.cell_contents)) for c in call.__closure__)


def converted(value: Any, leaves: list[Any] | None = None, shared: dict[Any, Any] | None = None) -> Any:
    """A sample's argument as ours; tensors that require grad are added to `leaves`. Storages are kept in `shared`, so that what
    shares memory there does so here, as far as no leaf is concerned."""
    import torch

    if isinstance(value, torch.Tensor):
        return _tensor(value, leaves, {} if shared is None else shared)
    if isinstance(value, torch.dtype):
        name = str(value).removeprefix("torch.")
        if not hasattr(fb, name):
            raise Absent(f"dtype {name}")
        return getattr(fb, name)
    if isinstance(value, torch.memory_format | torch.layout):
        return getattr(fb, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, torch.Generator):
        return fb.Generator()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(converted(v, leaves, shared) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(converted(v, leaves, shared) for v in value)
    if isinstance(value, dict):
        return {k: converted(v, leaves, shared) for k, v in value.items()}
    if callable(value) and getattr(value, "__module__", "").startswith("torch") and not isinstance(value, type):
        return _function(value)
    return value


def _function(value: Any) -> Any:
    """A function or layer of PyTorch's as ours, by its name."""
    name = getattr(value, "__name__", type(value).__name__)
    found = next((getattr(m, name) for m in (fb, fb.nn.functional, fb.nn) if hasattr(m, name)), None)
    if found is None:
        raise Absent(f"{name} as an argument")
    return found() if isinstance(found, type) else found


def _tensor(value: Any, leaves: list[Any] | None, shared: dict[Any, Any]) -> Any:
    import torch

    if value.is_sparse or value.is_quantized or value.layout is not torch.strided or value.is_meta:
        raise Absent("sparse tensors")
    plain = value.detach().resolve_conj()
    if value.dtype is torch.bfloat16:
        return _leaf(fb.tensor(plain.float().numpy(), dtype=fb.bfloat16), value.requires_grad, leaves)
    storage, flat = plain.untyped_storage(), plain.reshape(-1)
    is_small = 0 < storage.nbytes() < LARGE * plain.element_size()
    if value.requires_grad or plain.is_neg() or not is_small:  # a leaf is no view here
        if id(value) not in shared or value.requires_grad:
            shared[id(value)] = fb.tensor(flat.numpy()).reshape(tuple(plain.shape)).detach()
        return _leaf(shared[id(value)], value.requires_grad, leaves)
    key = storage.data_ptr(), value.dtype
    if key not in shared:
        whole = torch.empty(0, dtype=value.dtype).set_(storage)
        shared[key] = fb.tensor(whole.clone().numpy())  # of a copy: what NumPy sees PyTorch does not resize
    return shared[key].as_strided(tuple(plain.shape), plain.stride(), plain.storage_offset()).detach()


def _leaf(made: Any, requires_grad: bool, leaves: list[Any] | None) -> Any:
    if requires_grad:
        made.requires_grad_()
        if leaves is not None:
            leaves.append(made)
    return made


def leaves_of(value: Any) -> list[Any]:
    """The tensors in a sample that require grad, in the order in which `converted` meets them."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [leaf for part in parts for leaf in leaves_of(part)]


# ---- comparing ------------------------------------------------------------------------------------------------


def tolerances(op: Any) -> tuple[float, float]:
    """(rtol, atol) of float32: the loosest that the entry states, at least those of `assert_close`."""
    import torch

    found = [(1.3e-6, 1e-5)]
    for each in op.decorators:
        for decorator in getattr(each, "decorators", None) or [each]:
            stated = getattr(decorator, "d", None)
            limits = stated.get(torch.float32) if isinstance(stated, dict) else None
            if limits is not None:
                found.append((limits.rtol, limits.atol) if hasattr(limits, "rtol") else (0.0, limits))
    return max(r for r, _ in found), max(a for _, a in found)


def flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [r for v in value for r in flat(v)]
    return [value]


def compare(what: str, mine: Any, theirs: Any, rtol: float, atol: float, values: bool) -> None:
    import torch

    if not isinstance(theirs, torch.Tensor):
        if not isinstance(theirs, torch.dtype | torch.Size | torch.device) and values:
            same = np.isclose(mine, theirs, rtol, atol, equal_nan=True) if isinstance(theirs, float) else mine == theirs
            assert same, f"{what} is {mine}, not {theirs}"
        return
    assert isinstance(mine, fb.Tensor), f"{what} is a {type(mine).__name__}"
    assert tuple(mine.shape) == tuple(theirs.shape), f"{what} has shape {tuple(mine.shape)}, not {tuple(theirs.shape)}"
    name = str(theirs.dtype).removeprefix("torch.")
    assert mine.dtype.name == name, f"{what} is {mine.dtype.name}, not {name}"
    if not values:
        return
    if theirs.is_complex():
        x, y = mine.detach().numpy(), theirs.detach().resolve_conj().numpy()
    else:
        x, y = np.asarray(mine.detach().double()), theirs.detach().double().numpy()
    if not np.allclose(x, y, rtol, atol, equal_nan=True):
        far = np.abs(
            np.where(np.isfinite(x) & np.isfinite(y), x - y, np.where((x == y) | ((x != x) & (y != y)), 0, np.inf))
        )
        raise Off(f"{what} is off by {far.max():.2g}, where PyTorch's is {y.reshape(-1)[far.argmax()]:.3g}")


def weights(shape: Any) -> np.ndarray:
    return np.cos(np.arange(int(np.prod(shape)), dtype=np.float32) + 1).reshape(shape)


def gradients(results: Any, leaves: list[Any], module: Any) -> list[Any]:
    """Those of the sum of the floats, and parts of complex numbers, among the results, each times weights; None where nothing has
    any."""
    found = [r for r in flat(results) if isinstance(r, module.Tensor) and r.requires_grad]
    used = [module.view_as_real(r.resolve_conj()) if r.is_complex() else r for r in found]
    if not used or not leaves:
        return []
    total = sum((r * module.tensor(weights(tuple(r.shape))).to(r.dtype)).sum() for r in used)
    return list(module.autograd.grad(total, leaves, allow_unused=True))


def checked(op: Any) -> Any:
    """What PyTorch's own tests of gradients make of a call that reads a triangle: its gradient is that of the triangle."""
    wrapper = op.gradcheck_wrapper
    named = getattr(getattr(wrapper, "__code__", None), "co_names", ())
    return wrapper if any("triangular" in n for n in (*named, wrapper.__name__)) else _plain


def _plain(call: Any, *args: Any, **kwargs: Any) -> Any:
    return call(*args, **kwargs)


def undropped(op: Any, sample: Any) -> Any:
    """The sample, told to drop nothing where it would drop at random on the way."""
    if op.name == "nn.functional.multi_head_attention_forward":
        sample.args = (*sample.args[:9], 0.0, *sample.args[10:])
    elif "dropout_p" in sample.kwargs:
        sample.kwargs = {**sample.kwargs, "dropout_p": 0.0}
    return sample


def in_float64(value: Any) -> Any:
    """A sample with its float32 and complex64 tensors in twice as many bits."""
    import torch

    if isinstance(value, torch.Tensor):
        wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}.get(value.dtype)
        return value if wide is None else value.detach().to(wide).requires_grad_(value.requires_grad)
    if isinstance(value, torch.dtype):
        return {torch.float32: torch.float64}.get(value, value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(in_float64(v) for v in value)
    return {k: in_float64(v) for k, v in value.items()} if isinstance(value, dict) else value


def is_nearer(mine: Any, theirs: Any, exact: Any) -> bool:
    """Whether a result is at least as near to that in float64 as PyTorch's is."""
    x, y, wide = (np.asarray(v.detach().numpy()) for v in (mine, theirs, exact))
    return wide.shape == x.shape and bool(np.abs(x - wide).max() <= np.abs(y - wide).max())


def check_sample(op: Any, call: Any, sample: Any) -> bool:
    """Raise where a sample fails; whether something was beyond PyTorch's tolerance, and as near to float64 as PyTorch."""
    import torch

    rtol, atol = tolerances(op)
    values = op.name not in RANDOM
    sample = undropped(op, sample)
    given = (sample.input, sample.args, sample.kwargs)

    def run(call: Any) -> tuple[Any, list[Any]]:
        leaves: list[Any] = []
        shared: dict[Any, Any] = {}
        first, args, kwargs = (converted(v, leaves, shared) for v in given)
        made = sample.output_process_fn_grad(call(first, *args, **kwargs))  # without signs and phases of vectors
        return made, leaves

    @cache
    def exact() -> tuple[list[Any], list[Any]]:
        first, args, kwargs = wide = tuple(map(in_float64, given))
        made = sample.output_process_fn_grad(op.op(first, *args, **kwargs))
        alike = sample.output_process_fn_grad(checked(op)(op.op, first, *args, **kwargs))
        return flat(made), gradients(alike, leaves_of(wide), torch)

    nearer = []

    def near(what: str, i: int, mine: Any, theirs: Any, rtol: float, atol: float, values: bool, kind: int) -> None:
        try:
            compare(f"{what} {i}", mine, theirs, rtol, atol, values)
        except Off:
            if not is_nearer(mine, theirs, exact()[kind][i]):
                raise
            nearer.append(what)

    made, leaves = run(call)
    wanted = sample.output_process_fn_grad(op.op(sample.input, *sample.args, **sample.kwargs))
    mine, theirs = flat(made), flat(wanted)
    assert len(mine) == len(theirs), f"there are {len(mine)} results, not {len(theirs)}"
    for i, (x, y) in enumerate(zip(mine, theirs)):
        near("result", i, x, y, rtol, atol, values, 0)
    if not op.supports_autograd or not values:
        return bool(nearer)
    wanted = sample.output_process_fn_grad(checked(op)(op.op, sample.input, *sample.args, **sample.kwargs))
    expected = gradients(wanted, leaves_of(given), torch)
    wrapped = partial(_rescoped(checked(op)), call)
    made, leaves = run(wrapped)
    found = gradients(made, leaves, fb)
    assert len(found) == len(expected) or not any(e is not None for e in expected), "there are no gradients"
    again, others = run(wrapped)
    [r.tolist() for r in flat(again) if isinstance(r, fb.Tensor)]
    looked = gradients(again, others, fb)
    for kind, each in (("gradient", found), ("gradient after a look", looked)):
        for i, (x, y) in enumerate(zip(each, expected)):
            if x is None or y is None:
                assert x is y or not np.any(np.asarray((x if y is None else y).detach())), (
                    f"{kind} {i} is None on one side"
                )
                continue
            largest = max(1.0, float(y.abs().nan_to_num(0, 0, 0).max()) if y.numel() else 1.0)
            near(kind, i, x, y, rtol * 4, atol * largest, True, 1)
    return bool(nearer)


def check_error(op: Any, call: Any, wrong: Any) -> None:
    """One of the entry's error inputs, which raises here what it raises there. What PyTorch takes by now is no error."""
    sample, shared = wrong.sample_input, {}
    try:
        first, args, kwargs = (converted(v, None, shared) for v in (sample.input, sample.args, sample.kwargs))
    except Absent:  # sparse tensors, and those without elements to compute with
        return
    try:
        op.op(sample.input, *sample.args, **sample.kwargs)
        return
    except Exception as error:
        wanted = type(error)
    try:
        made = call(first, *args, **kwargs)
        [r.tolist() for r in flat(made) if isinstance(r, fb.Tensor)]
    except Exception as error:
        assert isinstance(error, wanted), (
            f"{wanted.__name__} ({wrong.error_regex}) is {type(error).__name__}: {_short(error)}"
        )
    else:
        raise AssertionError(f"no {wanted.__name__}: {wrong.error_regex}")


def _short(error: BaseException) -> str:
    """The message on one line, without places and hints."""
    text = " ".join(str(error).split("recorded at")[0].split())
    text = re.sub(r" \(/[^)]*\)", "", text).removesuffix("docs/differences.md says what is missing and what to use.")
    return text[:150].rstrip()


def check(op: Any, whole: bool = False) -> tuple[str, str]:
    """("pass" or "fail" or "missing", the first reason)."""
    import torch

    try:
        call = ours(op)
        torch.manual_seed(0)
        samples = list(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd))
        samples = [s for s in samples if not isinstance(s.input, torch.Tensor) or s.input.numel() < LARGE]
        chosen = samples[:: max(1, len(samples) // SAMPLES)]
        is_near = any([check_sample(op, call, sample) for sample in chosen])
        for wrong in op.error_inputs("cpu") if op.error_inputs_func else ():
            check_error(op, call, wrong)
    except Absent as error:
        return "missing", _short(error)
    except Exception as error:
        if whole:
            traceback.print_exc()
        is_absent = isinstance(error, AttributeError | NotImplementedError) and "not have" in str(error)
        return "missing" if is_absent else "fail", f"{type(error).__name__}: {_short(error)}".removeprefix(
            "AssertionError: "
        )
    return "pass", NEARER if is_near else ""


# ---- the list -------------------------------------------------------------------------------------------------


def results(names: list[str]) -> Found:
    found = {}
    with warnings.catch_warnings(), fb.compiler_options(mode="off"):
        warnings.simplefilter("ignore")
        for op in op_db():
            if not names or title(op) in names or op.name in names:
                found[title(op)] = check(op, bool(names))
                if names:
                    print(title(op), *found[title(op)])
    return found


def written(found: Found) -> str:
    """The list: what is missing and what fails with its reason, and what passes; nn.functional and sparse apart."""
    text = "# PyTorch's own samples and error inputs (python tests/opinfo_parity.py). A test of long counts finds the same.\n"
    for apart in (False, True):
        here = {n: r for n, r in found.items() if is_listed_apart(n) == apart}
        text += section("nn.functional, sparse" if apart else "everything else", here)
    return text


if __name__ == "__main__":
    command(__doc__, results, written, LIST)
