"""A frontend of a page for the recorder's tests: a few functions, NumPy as the machine, dtypes as strings.

Payloads of calls are `fn(*arrays) -> list of arrays`; payloads of views are chains of (read, write) pairs.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import prod

import numpy as np
from flambeau.runtime import _binding
from flambeau.runtime import recorder as R


class DType:
    def __init__(self, name: str) -> None:
        self.name, self.numpy = name, np.dtype(name)
        self.itemsize = self.numpy.itemsize

    def __repr__(self) -> str:
        return self.name


f32, f64, i64 = DType("float32"), DType("float64"), DType("int64")
GRAD = 1
LIMITS = {
    "max_ops": 10_000,
    "soft_ops": 1000,
    "max_bytes": 2 << 30,
    "max_states": 1 << 20,
    "max_programs": 1024,
    "max_types": 1 << 16,
}
counts = {"expand": 0, "build": 0, "runs": 0}
last_export: list = []
requested: list = []


class View:
    """One link: `read(base, *starts)` and `write(base, new, *starts)`, with the parent's chain."""

    def __init__(self, parent, read, write, n_starts, detached=False):
        self.parent, self.own_read, self.own_write, self.n = parent, read, write, n_starts
        self.detached = detached or (parent is not None and parent.detached)

    def read(self, base, starts=()):
        own = starts[len(starts) - self.n :]
        x = self.parent.read(base, starts[: len(starts) - self.n]) if self.parent else base
        return self.own_read(x, *own)

    def write(self, base, new, starts=()):
        own, rest = starts[len(starts) - self.n :], starts[: len(starts) - self.n]
        x = self.parent.read(base, rest) if self.parent else base
        y = self.own_write(x, new, *own)
        return self.parent.write(base, y, rest) if self.parent else y


def grad_on(mode, *infos):
    return bool(mode & GRAD) and any(i and i[0] == "tensor" and i[3] for i in infos)


def broadcast(function, a, b):
    shapes = [i[1] if i[0] == "tensor" else () for i in (a, b)]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"[{function.name}] shapes {shapes[0]} and {shapes[1]} do not broadcast.") from None


def expand(function, operands, statics, mode):
    counts["expand"] += 1
    answer = function.rule(function, operands, statics, mode)
    if function.kind != "view":
        answer[0].types = [(shape, dtype) for shape, dtype, _ in answer[1]]
    return answer


def elementwise(np_op):
    def rule(function, operands, statics, mode):
        a, b = operands
        dtype = next(i[2] for i in (a, b) if i[0] == "tensor")
        shape = broadcast(function, a, b)
        return (lambda x, y: [np_op(x, y)]), [(shape, dtype, grad_on(mode, a, b))], None

    return rule


def sum_rule(function, operands, statics, mode):
    (x,) = operands
    dim, keep = statics["dim"], statics["keepdim"]
    if dim is not None and not -len(x[1]) <= dim < len(x[1]):
        raise IndexError(f"[sum] dim {dim} is out of range for shape {x[1]}.")
    shape = np.zeros(x[1]).sum(axis=dim, keepdims=keep).shape
    return (lambda a: [a.sum(axis=dim, keepdims=keep)]), [(shape, x[2], grad_on(mode, x))], None


def pow_rule(function, operands, statics, mode):
    x, e = operands
    result = [(x[1], x[2], grad_on(mode, x))]
    if e[0] == "number":
        return (lambda a: [a ** e[1]]), result, None
    return (lambda a, k: [a**k]), result, None


def inplace_rule(np_op):
    def rule(function, operands, statics, mode):
        x, y = operands
        if mode & GRAD and x[3] and x[4]:
            raise RuntimeError("[add_] a leaf that requires grad cannot be written in place.")
        view = x[5]

        def run(base, other, *, starts=()):
            old = view.read(base, starts) if view else base
            new = np_op(old, other)
            return [view.write(base, new, starts) if view else new]

        run.inplace = True
        return run, [(x[6], x[2], grad_on(mode, x, y))], (0,)

    return rule


def addcdiv_rule(function, operands, statics, mode):
    """params[i] += grads[i] * lr, all at once, like an optimizer."""
    params, _, _ = operands
    n = len(params)

    def run(*arrays):
        return [arrays[i] + arrays[n + i] * arrays[-1] for i in range(n)]

    return run, [(p[6], p[2], False) for p in params], tuple(range(n))


def split_rule(function, operands, statics, mode):
    (x,) = operands
    half = (x[1][0] // 2, *x[1][1:])
    return (lambda a: np.split(a, 2)), [(half, x[2], grad_on(mode, x))] * 2, None


def reshape_rule(function, operands, statics, mode):
    (x, _) = operands
    shape = statics["shape"]
    if prod(shape) != prod(x[1]):
        raise ValueError(f"[reshape] shape {x[1]} cannot become {shape}.")
    view = View(x[5], lambda a: a.reshape(shape), lambda a, new: new.reshape(a.shape), 0)
    return view, (shape, x[2])


def slice_rule(function, operands, statics, mode):
    """Along axis 0: start is dynamic, the size static."""
    x, n = operands
    size = statics["size"]

    def write(a, new, start):
        out = a.copy()
        out[start : start + size] = new
        return out

    view = View(x[5], lambda a, start: a[start : start + size], write, n)
    return view, ((size, *x[1][1:]), x[2]), (x[1][0] - size,)


def detach_rule(function, operands, statics, mode):
    x = operands[0]
    return View(x[5], lambda a: a, lambda a, new: new, 0, detached=True), (x[1], x[2])


def fail_rule(function, operands, statics, mode):
    def run(a):
        if a.min() < 0:
            raise IndexError("[checked] a value is negative.")
        return [a.copy()]

    (x,) = operands
    return run, [(x[1], x[2], grad_on(mode, x))], None


BINARY = (("input", "operand", R.REQUIRED), ("other", "operand", R.REQUIRED))
add = R.Function("add", BINARY, "pure", elementwise(np.add))
sub = R.Function("sub", BINARY, "pure", elementwise(np.subtract))
mul = R.Function("mul", BINARY, "pure", elementwise(np.multiply))
matmul = R.Function(
    "matmul",
    BINARY,
    "pure",
    lambda f, o, s, m: ((lambda x, y: [x @ y]), [((o[0][1][0], o[1][1][1]), o[0][2], grad_on(m, *o))], None),
)
total = R.Function(
    "sum",
    (("input", "tensor", R.REQUIRED), ("dim", "static", None), ("keepdim", "static", False, True)),
    "pure",
    sum_rule,
    doc="Sum.",
)
power = R.Function("pow", (("input", "tensor", R.REQUIRED), ("exponent", "number", R.REQUIRED)), "pure", pow_rule)
add_ = R.Function(
    "add_", (("input", "tensor", R.REQUIRED), ("other", "operand", R.REQUIRED)), "inplace", inplace_rule(np.add)
)
mul_ = R.Function(
    "mul_", (("input", "tensor", R.REQUIRED), ("other", "operand", R.REQUIRED)), "inplace", inplace_rule(np.multiply)
)
update = R.Function(
    "update",
    (("params", "tensors", R.REQUIRED), ("grads", "tensors", R.REQUIRED), ("lr", "operand", R.REQUIRED)),
    "inplace",
    addcdiv_rule,
)
split = R.Function("split", (("input", "tensor", R.REQUIRED),), "pure", split_rule)
reshape = R.Function(
    "reshape", (("input", "tensor", R.REQUIRED), ("shape", "static", R.REQUIRED)), "view", reshape_rule, variadic=True
)
rows = R.Function(
    "rows",
    (("input", "tensor", R.REQUIRED), ("start", "starts", R.REQUIRED), ("size", "static", R.REQUIRED)),
    "view",
    slice_rule,
)
detach = R.Function("detach", (("input", "tensor", R.REQUIRED),), "view", detach_rule, detach=True)
checked = R.Function("checked", (("input", "tensor", R.REQUIRED),), "pure", fail_rule, fallible=True)


class Machine:
    """Interprets an export on NumPy arrays."""

    def __init__(self, export):
        self.entries, self.avals = export, {}

    def array(self, value, aval):
        if not isinstance(value, _binding.Buffer):
            return np.asarray(value)
        shape, dtype = aval
        return np.frombuffer(value, dtype.numpy, count=prod(shape)).reshape(shape)

    def run(self, inputs, env=None, base=0, stop=None):
        env = {} if env is None else env
        inputs = iter(inputs)
        for entry in self.entries:
            kind = entry[0]
            if kind == "input":
                env[entry[1]] = self.array(next(inputs), (entry[2], entry[3]))
            elif kind == "scalar":
                env[entry[1]] = next(inputs)
            elif kind in ("leaf", "graft"):
                env[entry[1]] = env[entry[2]]
            elif kind == "call":
                self.call(entry, env)
        return env

    def call(self, entry, env):
        _, payload, operands, results, _, _, _ = entry
        args, kwargs = [], {}
        for i, ref in enumerate(operands):
            if ref is None:
                continue
            slot, view, starts = ref
            starts = tuple(env[s] for s in starts)
            if view is not None and getattr(payload, "inplace", False) and i == 0:
                args.append(env[slot])
                kwargs["starts"] = starts
            else:
                args.append(view.read(env[slot], starts) if view is not None else env[slot])
        for slot, value in zip(results, payload(*args, **kwargs), strict=True):
            env[slot] = value


def to_buffer(array, dtype=None):
    array = np.ascontiguousarray(array, dtype)
    buffer = _binding.Buffer.alloc(array.nbytes)
    np.frombuffer(buffer, np.uint8)[: array.nbytes] = array.reshape(-1).view(np.uint8)
    return buffer


def avals(entries, offset=0, found=None):
    """Slot -> (shape, dtype)."""
    found = {} if found is None else found
    for e in entries:
        if e[0] == "input":
            found[offset + e[1]] = (e[2], e[3])
        elif e[0] in ("leaf", "graft") and e[2] is not None:
            found[offset + e[1]] = found[offset + e[2]]
        elif e[0] in ("call", "backward", "grad"):
            found.update((offset + s, t) for s, t in zip(e[3], e[1].types, strict=True) if s is not None)
        elif e[0] == "segment":
            avals(e[2], offset + e[1], found)
        elif e[0] == "link" and offset + e[1] in found:
            found.setdefault(offset + e[2], found[offset + e[1]])
    return found


def build_program(export, live, history):
    counts["build"] += 1
    last_export[:] = export
    requested[:] = [live, history]
    machine, types = Machine(export), avals(export)

    def execute(inputs, donate):
        counts["runs"] += 1
        env = machine.run(inputs)
        return [to_buffer(env[s], types[s][1].numpy) for s in live]

    return R.Program(execute, live, None, None if history is None else ())


def read_view(buffer, shape, dtype, view, starts):
    array = np.frombuffer(buffer, dtype.numpy, count=prod(shape)).reshape(shape)
    return to_buffer(view.read(array, starts))


def tensor(data, requires_grad=False, dtype=f32, **kwargs):
    array = np.asarray(data, dtype.numpy)
    return R.tensor_from_buffer(to_buffer(array), array.shape, dtype, requires_grad, **kwargs)


def shared(array):
    dtype = {"float32": f32, "float64": f64}[array.dtype.name]
    return R.tensor_from_buffer(_binding.Buffer.from_object(array), array.shape, dtype, shared=True)


def value(t):
    shape_of_base = R.view_info(t)[1]
    buffer = R.realize(t)
    base = np.frombuffer(buffer, t.dtype.numpy, count=prod(shape_of_base)).reshape(shape_of_base)
    payload, _, starts = R.view_info(t)
    return np.array(payload.read(base, starts) if payload is not None else base)


SLOTS = {
    "nb_add": add,
    "nb_subtract": sub,
    "nb_multiply": mul,
    "nb_matrix_multiply": matmul,
    "nb_power": power,
    "nb_inplace_add": add_,
    "nb_inplace_multiply": mul_,
}
METHODS = {
    "sum": total,
    "add": add,
    "add_": add_,
    "mul_": mul_,
    "reshape": reshape,
    "rows": rows,
    "detach": detach,
    "split": split,
    "pow": power,
    "checked": checked,
}
HOOKS = {
    "expand": expand,
    "build_program": build_program,
    "read_view": read_view,
    "view_layout": lambda view, shape: None,
}
NO_HOOKS = dict.fromkeys(("replay", "expand_backward", "expand_grad", "window", "copy", "fill", "array_of"))


@contextmanager
def installed(**hooks):
    """The toy in place of the real frontend, with an empty trie and fresh counts."""
    R.flush_all()
    mode = R.set_mode(GRAD)
    before_hooks = R.set_hooks(**{**HOOKS, **NO_HOOKS, "fit_sizes": None, "expand_sized": None, **hooks})
    before_slots = {name: R.set_slot(name, f) for name, f in SLOTS.items()}
    before_methods = {name: R.Tensor.__dict__.get(name) for name in METHODS}
    for name, f in METHODS.items():
        setattr(R.Tensor, name, f)
    R.clear()
    counts.update(expand=0, build=0, runs=0)
    try:
        yield
    finally:
        R.set_limits(**LIMITS)
        R.set_shadow(False)
        R.clear()
        R.set_hooks(**before_hooks)
        for name, f in before_slots.items():
            R.set_slot(name, f)
        for name, f in before_methods.items():
            setattr(R.Tensor, name, f) if f is not None else delattr(R.Tensor, name)
        R.set_mode(mode)
