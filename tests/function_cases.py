"""Calls generated from the declarations of public functions: every good sample in every dtype that the function takes.

`cases(declaration)` gives `Case`s; `Case.run()` calls what users call and gives the results as arrays. Next: `test_functions.py`.
"""

import zlib

import flambeau as fb
import numpy as np
from flambeau import declarations
from flambeau.declarations import Declaration, Unsampled
from flambeau.dialects.dtypes import INTEGER, SUPPORTED, float32
from flambeau.dialects.tape.elementwise import saturate
from flambeau.runtime.recorder import Tensor

DECLARED = {f"{d.free[0] if d.free else 'Tensor'}.{d.name}": d for d in declarations.DECLARED}
SAMPLED = {name: d for name, d in DECLARED.items() if not isinstance(d.samples, Unsampled)}


def public_call(declaration: Declaration):
    """What users call: the function of its first namespace, or the method."""
    owner = fb if declaration.free else Tensor
    for part in (declaration.free[0] if declaration.free else "").split("."):
        owner = getattr(owner, part) if part and part != "flambeau" else owner
    return getattr(owner, declaration.name)


def mapped(value, change):
    """`value` with `change` applied to the arrays in it, lists and tuples of them included."""
    if isinstance(value, np.ndarray):
        return change(value)
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(mapped(v, change) for v in value)
    return value


def arrays_in(value):
    found = []
    mapped(value, lambda a: found.append(a) or a)
    return found


def strided(array):
    """The same elements, as a view whose rows do not lie one after the other."""
    wide = np.zeros((*array.shape[::-1], 2), array.dtype)
    wide[..., 1] = array.T
    return fb.tensor(wide).select(-1, 1).permute(tuple(reversed(range(array.ndim)))) if array.ndim else fb.tensor(array)


class Case:
    """One call of a function. `dtype` is that of its data."""

    def __init__(self, declaration, number, sample, dtype):
        self.declaration, self.number, self.sample, self.dtype = declaration, number, sample, dtype
        self.call = public_call(declaration)

    def __repr__(self):
        return f"{self.declaration.name}-{self.number}-{self.dtype.name}"

    def cast(self, array):
        return saturate(array, self.dtype) if array.dtype == np.float64 else array

    def arguments(self, make=fb.tensor):
        """Positional and named arguments, data as tensors made by `make`."""
        change = lambda array: make(np.require(self.cast(array), requirements="C"))  # noqa: E731
        operands = tuple(mapped(v, change) for v in self.sample.operands)
        return operands, {k: mapped(v, change) for k, v in self.sample.attrs.items()}

    def results(self, make=fb.tensor, call=None):
        """What the call gives, as a list of tensors and Python values; random numbers are drawn from a fixed seed."""
        operands, named = self.arguments(make)
        fb.manual_seed(7)
        return flat((call or self.call)(*operands, **named))


def flat(result):
    return [r for v in result for r in flat(v)] if isinstance(result, tuple | list) else [result]


def read(results):
    return [r.detach().numpy().copy() if isinstance(r, Tensor) else r for r in results]


def has_data(sample):
    return any(a.dtype == np.float64 for v in (*sample.operands, *sample.attrs.values()) for a in arrays_in(v))


#: What other dtypes tell of, at another width: of these each function meets one, in its first sample.
YOUNGER = tuple(d for d in INTEGER if not d.has_classes)
MAIN = tuple(d for d in SUPPORTED if d.has_classes)


def cases(declaration):
    younger = (YOUNGER[zlib.crc32(declaration.name.encode()) % len(YOUNGER)],)
    for number, sample in enumerate(declaration.samples()):
        if sample.error is None:
            for dtype in (*MAIN, *younger) if has_data(sample) else (float32,):
                yield Case(declaration, number, sample, dtype)
            younger = () if has_data(sample) else younger


def refused(declaration):
    """The samples that must raise."""
    return [Case(declaration, n, s, float32) for n, s in enumerate(declaration.samples()) if s.error is not None]


def same(x, y):
    """Equal type, shape, dtype and bits; Python values equal."""
    if isinstance(x, np.ndarray):
        return isinstance(y, np.ndarray) and (x.shape, x.dtype, x.tobytes()) == (y.shape, y.dtype, y.tobytes())
    return type(x) is type(y) and (x == y or x != x)
