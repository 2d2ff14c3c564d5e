"""Random whole programs in the API common to Flambeau and PyTorch, as lines of source; and how to run and shrink them.

In: a seed. Out: `Program`: lines, and blocks that run several times with batch sizes that change. A line that fails, in
whatever way, leaves the program going, as `try`/`except` around it would.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from random_graphs import same_bits
from support import for_users


class Block(NamedTuple):
    """Lines that run once for every entry of `sizes`, which they see as `n`."""

    sizes: tuple[int, ...]
    lines: tuple[str, ...]


Program = tuple  # of str and Block

#: Lines after whose failure nothing is promised: gradients may have been added to some leaves and not to others.
ENDING = ("backward(", "gradients(", ".step(")


class Log(dict):
    """What hooks saw, each hook under a name of its own: the order among hooks is nobody's business."""

    def hook(self, name: str, factor: float | None = None) -> Callable:
        def run(gradient: Any) -> Any:
            self.setdefault(name, []).append(plain(gradient))
            return None if factor is None else gradient * factor

        return run

    def forward(self, name: str) -> Callable:
        def run(module: Any, args: Any, output: Any) -> None:
            self.setdefault(name, []).append(plain(output))

        return run


def environment(library: types.ModuleType) -> dict[str, Any]:
    """The names that lines may use; random numbers do not depend on the library."""
    rng = np.random.default_rng(0)

    def data(*shape: int, grad: bool = False) -> Any:
        x = library.tensor(rng.standard_normal(shape))
        return x.requires_grad_() if grad else x

    def initialised(model: Any) -> Any:
        model = model.double()
        with library.no_grad():
            for p in model.parameters():
                p.copy_(data(*p.shape) * 0.5)
        return model

    def gradients(*args: Any, **options: Any) -> list[Any]:
        """Copies, since PyTorch's may be expanded."""
        found = library.autograd.grad(*args, **options)
        return [None if g is None else g.clone() for g in found]

    return {
        "gradients": gradients,
        "T": library,
        "nn": library.nn,
        "F": library.nn.functional,
        "np": np,
        "data": data,
        "initialised": initialised,
        "log": Log(),
        "seen": [],
        "n": 3,
    }


def plain(x: Any) -> Any:
    """A tensor as an array of its own."""
    return np.array(x.detach().numpy())


def run(program: Program, library: types.ModuleType, between: Callable[[], None] | None = None) -> tuple:
    """(what became of each line, everything that can be seen at the end). `between` is called after every line."""
    env = environment(library)
    outcomes: list[tuple[str, str]] = []
    for item in program:
        if not _run_item(item, env, outcomes, between):
            break
    return outcomes, observed(env, library)


def reference(program: Program, torch: types.ModuleType) -> tuple:
    """What PyTorch makes of the program, and the numbers of the lines where Flambeau may refuse a gradient.

    These are: where PyTorch does since a value that it needs was modified in place, and where a graph is gone through once
    more that was freed (PyTorch allows that if nothing was saved for it). The program is run on, as Flambeau may, with the
    values as they were when they were needed.
    """
    strict, _ = run(program, torch)
    gone = _Gone(torch)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t), gone:
        outcomes, facts = run(program, torch, gone.next_line)
    refused = {i for i, (a, b) in enumerate(zip(strict, outcomes)) if a != b}
    return outcomes, facts, refused | gone.lines


class _Gone:
    """Notes the lines in which PyTorch goes through nodes of graphs that were freed."""

    def __init__(self, torch: types.ModuleType) -> None:
        self.torch, self.nodes, self.kept = torch, set[int](), list[Any]()
        self.line, self.lines = 0, set[int]()

    def next_line(self) -> None:
        self.line += 1

    def passed(self, roots: Sequence[Any], retain_graph: bool | None, create_graph: bool) -> None:
        nodes, pending = {}, [t.grad_fn for t in roots]
        while pending:
            node = pending.pop()
            if node is not None and id(node) not in nodes:
                nodes[id(node)] = node
                pending += [f for f, _ in node.next_functions if "Accumulate" not in type(f).__name__]
        if self.nodes & set(nodes):
            self.lines.add(self.line)
        if not (create_graph if retain_graph is None else retain_graph):
            self.nodes |= set(nodes)
            self.kept += nodes.values()  # so that their ids stay theirs

    def __enter__(self) -> None:
        torch = self.torch
        self.saved = torch.Tensor.backward, torch.autograd.grad
        backward, grad = self.saved

        def backward_(tensor, gradient=None, retain_graph=None, create_graph=False, inputs=None):
            self.passed([tensor], retain_graph, create_graph)
            return backward(tensor, gradient, retain_graph, create_graph, inputs)

        def grad_(outputs, inputs, retain_graph=None, create_graph=False, **options):
            self.passed([outputs], retain_graph, create_graph)
            return grad(outputs, inputs, retain_graph=retain_graph, create_graph=create_graph, **options)

        torch.Tensor.backward, torch.autograd.grad = backward_, grad_

    def __exit__(self, *exc: object) -> None:
        self.torch.Tensor.backward, self.torch.autograd.grad = self.saved


def _run_item(item: str | Block, env: dict[str, Any], outcomes: list, between: Callable | None) -> bool:
    lines = [(n, line) for n in item.sizes for line in item.lines] if isinstance(item, Block) else [(3, item)]
    for n, line in lines:
        env["n"] = n
        outcome = run_line(line, env)
        outcomes.append((line, outcome))
        if between is not None:
            between()
        if _ends(line, outcome):
            return False
    return True


def _ends(line: str, outcome: str) -> bool:
    return outcome not in ("", "NameError") and any(word in line for word in ENDING)


def run_line(line: str, env: dict[str, Any]) -> str:
    """The class of the exception that the line raises, or nothing; GraphFreed for a gradient refused because of that."""
    try:
        exec(line, env)
    except Exception as error:
        freed = isinstance(error, RuntimeError) and "freed" in str(error)
        return "GraphFreed" if freed else for_users(error).__name__
    return ""


# ---- what can be seen -----------------------------------------------------------------------------------------


def observed(env: dict[str, Any], library: types.ModuleType) -> dict[str, Any]:
    """All tensors with their gradients, models, optimizer states, and what was seen on the way."""
    found: dict[str, Any] = {"seen": env["seen"], "log": dict(env["log"])}
    for name, x in env.items():
        if isinstance(x, library.Tensor):
            found[name] = describe(x)
        elif isinstance(x, library.nn.Module):
            found[name] = {k: describe(v) for k, v in [*x.named_parameters(), *x.named_buffers()]}
        elif isinstance(x, library.optim.Optimizer):
            found[name] = _states(x, library)
    return found


def describe(x: Any) -> dict[str, Any]:
    facts = {"value": plain(x), "requires_grad": x.requires_grad, "is_leaf": x.is_leaf}
    grad = x.grad if x.is_leaf else None
    if grad is not None:
        facts |= {"grad": plain(grad), "grad.requires_grad": grad.requires_grad}
    return facts


def _states(optimizer: Any, library: types.ModuleType) -> dict[str, Any]:
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{k}": float(v) if k == "step" else plain(v)
        for i, entry in sorted(state.items())
        for k, v in sorted(entry.items())
        if isinstance(v, (library.Tensor, int, float))
    }


def difference(found: Any, expected: Any, tolerance: float, path: str = "") -> str | None:
    """Where two observations differ, if they do. No tolerance: to the bit."""
    if isinstance(expected, dict):
        if set(found) != set(expected):
            return f"{path}: {sorted(set(found) ^ set(expected))} on one side only"
        return next((d for k in expected if (d := difference(found[k], expected[k], tolerance, f"{path}.{k}"))), None)
    if isinstance(expected, list):
        if len(found) != len(expected):
            return f"{path}: {len(found)} entries instead of {len(expected)}"
        pairs = enumerate(zip(found, expected))
        return next((d for i, (a, b) in pairs if (d := difference(a, b, tolerance, f"{path}[{i}]"))), None)
    a, b = np.asarray(found), np.asarray(expected)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{path}: {a.dtype}{a.shape} instead of {b.dtype}{b.shape}"
    if b.dtype.kind == "f" and tolerance:
        scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
        same = np.allclose(a, b, 0, tolerance * scale, equal_nan=True)
    else:
        same = same_bits(a, b)
    return None if same else f"{path}: {found} instead of {expected}"


# ---- making programs ------------------------------------------------------------------------------------------

UNARY = (
    "T.tanh({x})", "T.sigmoid({x})", "{x}.sin()", "{x}.cos()", "-{x}", "{x}.clone()", "{x} * 0.5", "1.0 - {x}",
    "T.relu({x})", "{x}.abs()", "{x}.square().mean()", "{x}.sum()", "{x}.mean()", "T.exp(-{x}.abs())",
    "{x}.clamp(-0.5, 0.5)", "F.gelu({x})", "{x} + 0", "{x} / 3", "{x}.sum(-1)", "{x}.sum(0, keepdim=True)",
    "{x}.mean(-1, keepdim=True)", "T.softmax({x}, -1)", "F.layer_norm({x}, {x}.shape[-1:])", "{x}.amax(-1)",
    "T.where({x} > 0, {x}, {x} * 0.1)", "{x}.contiguous()", "F.softplus({x})", "{x}.pow(2) * 0.3",
    "T.log1p({x}.abs())", "{x}.flip(0)", "{x}.repeat(2, 1)", "T.cumsum({x}, 0)" if False else "{x}.logsumexp(-1)",
)  # fmt: skip
BINARY = (
    "{x} + {y}", "{x} - {y}", "{x} * {y}", "T.maximum({x}, {y})", "T.where({y} > 0, {x}, {y})", "T.stack([{x}, {y}])",
    "T.cat([{x}, {y}])", "{x} @ {y}", "{x} / (1.0 + {y} * {y})", "T.lerp({x}, {y}, 0.3)", "F.mse_loss({x}, {y})",
    "T.addcmul({x}, {y}, {y}, value=0.1)", "F.linear({x}, {y})", "T.atan2({x}, {y})" if False else "{x} * {y}.detach()",
)  # fmt: skip
VIEWS = (
    "{x}[0]", "{x}[-1]", "{x}[1:]", "{x}[:2]", "{x}[..., 0]", "{x}[:, 1:]", "{x}.t()", "{x}.view(-1)", "{x}.reshape(-1)",
    "{x}.unsqueeze(0)", "{x}.squeeze()", "{x}.detach()", "{x}.data", "{x}.transpose(0, 1)", "{x}.flatten()",
    "{x}.narrow(0, 0, 1)", "{x}.select(0, 1)", "{x}.expand(2, *{x}.shape)", "{x}.view_as({x})", "{x}[::2]",
    "{x}[1:][0]", "{x}.T", "{x}.chunk(2)[0] * 1", "{x}.split(1)[1] * 1", "{x}.unbind(0)[1] * 1", "{x}[None]", "{x}",
)  # fmt: skip
INPLACE = (
    "{x}.mul_(0.5)", "{x}.add_(1.0)", "{x}.zero_()", "{x}.fill_(0.3)", "{x}.tanh_()", "{x}.neg_()", "{x}.clamp_(-0.4, 0.4)",
    "{x}.sigmoid_()", "{x}[0] = 0.5", "{x}[0] *= 2", "{x}[1:] += 1", "{x}[..., 0].mul_(0.2)", "{x} *= 0.9",
    "{x}.relu_()", "{x}.masked_fill_({x} > 0, 0.1)", "{x}.exp_().mul_(0.1)", "{x}.view(-1)[0] = 0.25", "{x}.t().mul_(0.7)",
    "{x}.data.mul_(0.9)", "{x}.detach().add_(0.1)", "{x}.data[0] = 0.4", "{x}[:2].zero_()",
)  # fmt: skip
INPLACE2 = (
    "{x}.add_({y})", "{x}.mul_({y})", "{x}.copy_({y})", "{x} += {y}", "{x} -= 0.1 * {y}", "{x}[0] = {y}", "{x}[1:] = {y}",
    "{x}.data.copy_({y})", "{x}.sub_({y}, alpha=0.1)", "{x}[0] += {y}", "{x}[..., 0] = {y}", "{x}.data = {x} * 0.5",
    "{x}.data = {y}.clone()", "{x}.data.add_({y})", "{x}.addcmul_({y}, {y}, value=0.1)", "{x}.lerp_({y}, 0.2)",
    "{x}.detach().copy_({y})", "{x}.view(-1)[:2] = {y}",
)  # fmt: skip
MODELS = (
    "nn.Linear(3, 3)", "nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))", "nn.Linear(3, 2, bias=False)",
    "nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3), nn.GELU())", "nn.Linear(3, 1)",
)  # fmt: skip
OPTIMIZERS = (
    "T.optim.SGD({p}, lr=0.1)", "T.optim.SGD({p}, lr=0.1, momentum=0.9)", "T.optim.Adam({p}, lr=0.01)",
    "T.optim.AdamW({p}, lr=0.01, weight_decay=0.1)", "T.optim.SGD({p}, lr=0.1, momentum=0.9, nesterov=True)",
    "T.optim.Adam({p}, lr=0.01, amsgrad=True)",
)  # fmt: skip
SHAPES = ("3", "3, 3", "2, 3", "n, 3", "", "1, 3", "4, 3")


class Generator:
    """Makes programs by running them on PyTorch line by line, so that most lines work."""

    def __init__(self, seed: int, library: types.ModuleType) -> None:
        self.rng = random.Random(seed)
        self.library = library
        self.env = environment(library)
        self.count = 0
        makers: list[tuple[Callable[[], str], int]] = [
            (self.leaf, 6), (self.unary, 12), (self.binary, 14), (self.view, 10), (self.inplace, 9), (self.inplace2, 9),
            (self.backward, 9), (self.grad, 5), (self.observe, 5), (self.delete, 3), (self.flags, 4), (self.grads, 6),
            (self.hook, 4), (self.model, 3), (self.call, 6), (self.optimizer, 3), (self.step, 6), (self.misc, 4),
        ]  # fmt: skip
        self.makers = [m for m, _ in makers]
        self.weights = [w * self.rng.choice((0, 0.5, 1, 1, 2)) if w < 12 else w for _, w in makers]

    def program(self, n_lines: int) -> Program:
        items: list[str | Block] = []
        made = 0
        while made < n_lines:
            if made > 4 and self.rng.random() < 0.12:
                item: str | Block = self.block()
                made += len(item.lines)
            else:
                item = self.line()
                made += 1
            items.append(item)
            if not self.healthy():
                break
        return tuple(items)

    def block(self) -> Block:
        sizes = tuple(self.rng.choice((2, 3, 3, 3, 4)) for _ in range(self.rng.randint(2, 4)))
        self.env["n"] = sizes[0]
        lines = tuple(self.line() for _ in range(self.rng.randint(2, 9)))
        for n in sizes[1:]:
            self.env["n"] = n
            for line in lines:
                run_line(line, self.env)
        self.env["n"] = 3
        return Block(sizes, lines)

    def line(self) -> str:
        """A line that works, mostly."""
        for _ in range(8):
            try:
                line = self.rng.choices(self.makers, self.weights)[0]()
            except (IndexError, ValueError):  # nothing to choose from
                continue
            if self.rng.random() < 0.06 and not any(line.endswith(v.partition("}")[2]) for v in VIEWS):
                line = f"with T.no_grad(): {line}"
            error = run_line(line, self.env)
            if error and "detach_" in line:
                continue
            if not error or any(word in line for word in ENDING) or self.rng.random() < 0.08:
                return line
        return "pass"

    def healthy(self) -> bool:
        arrays = [plain(t) for t in self.tensors()]
        return all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 1e4 for a in arrays)

    # ---- choosing

    def tensors(self) -> list[Any]:
        return [x for x in self.env.values() if isinstance(x, self.library.Tensor)]

    def names(self, wanted: Callable[[Any], bool] = lambda t: True) -> list[str]:
        return [k for k, x in self.env.items() if isinstance(x, self.library.Tensor) and wanted(x)]

    def any(self, wanted: Callable[[Any], bool] = lambda t: True) -> str:
        names = self.names(wanted)
        recent = names[-4:]
        return self.rng.choice(recent if self.rng.random() < 0.5 else names)

    def differentiable(self) -> str:
        if self.rng.random() < 0.05:
            return self.any()
        return self.any(lambda t: t.requires_grad)

    def leaves(self) -> list[str]:
        found = {id(self.env[k]): k for k in self.names(lambda t: t.is_leaf and t.requires_grad)}
        return list(found.values())

    def single(self, t: Any) -> bool:
        """Whether no other tensor is the same view: Flambeau does not tell such gradients apart."""
        mine = t.data_ptr(), t.shape, t.stride()
        return t.requires_grad and all(x is t or (x.data_ptr(), x.shape, x.stride()) != mine for x in self.tensors())

    def of(self, kind: type) -> str:
        return self.rng.choice([k for k, x in self.env.items() if isinstance(x, kind)])

    def fresh(self) -> str:
        """A name for a result, now and then one in use."""
        names = self.names(lambda t: not (t.is_leaf and t.requires_grad))
        if names and self.rng.random() < 0.12:
            return self.rng.choice(names)
        self.count += 1
        return f"x{self.count}"

    # ---- lines

    def leaf(self) -> str:
        grad = self.rng.choice(("", "grad=True"))
        shape = self.rng.choice(SHAPES)
        return f"{self.fresh()} = data({', '.join(filter(None, (shape, grad)))})"

    def unary(self) -> str:
        return f"{self.fresh()} = {self.rng.choice(UNARY).format(x=self.any())}"

    def binary(self) -> str:
        return f"{self.fresh()} = {self.rng.choice(BINARY).format(x=self.any(), y=self.any())}"

    def view(self) -> str:
        return f"{self.fresh()} = {self.rng.choice(VIEWS).format(x=self.any())}"

    def _target(self) -> str:
        """A tensor to write to: seldom a leaf; none whose elements share memory."""
        wanted = self.rng.random() < 0.15
        return self.any(lambda t: (wanted or not (t.is_leaf and t.requires_grad)) and not _overlaps(t))

    def inplace(self) -> str:
        line = self.rng.choice(INPLACE).format(x=self._target())
        return f"with T.no_grad(): {line}" if self.rng.random() < 0.2 else line

    def inplace2(self) -> str:
        form, x, y = self.rng.choice(INPLACE2), self._target(), self.any()
        if form == "{x}.data = {y}.clone()" and self.env[x].shape != self.env[y].shape:
            raise IndexError
        line = form.format(x=x, y=y)
        return f"with T.no_grad(): {line}" if self.rng.random() < 0.2 else line

    def _backward_arguments(self) -> str:
        return self.rng.choice(("", "", "", "retain_graph=True", "retain_graph=True", "create_graph=True"))

    def backward(self) -> str:
        name = self.differentiable()
        extra = [self._backward_arguments()]
        if self.rng.random() < 0.15 and (leaves := self.leaves()):
            extra.append(f"inputs=[{', '.join(self.rng.sample(leaves, self.rng.randint(1, min(2, len(leaves)))))}]")
        call = f"backward({', '.join(filter(None, extra))})"
        kind = self.rng.random()
        if kind < 0.6 or not self.env[name].ndim:
            return f"{name}.sum().{call}"
        if kind < 0.8:
            extra.insert(0, f"T.ones_like({name})" if self.rng.random() < 0.5 else f"data(*{name}.shape)")
            return f"{name}.backward({', '.join(filter(None, extra))})"
        return f"({name} * {name}).mean().{call}"

    def grad(self) -> str:
        name = self.differentiable()
        wanted = self.names(self.single)
        chosen = self.rng.sample(wanted, self.rng.randint(1, min(3, len(wanted))))
        targets = [self.fresh() for _ in chosen]
        extra = ", ".join(filter(None, ("allow_unused=True", self._backward_arguments())))
        return f"{', '.join(targets)}, = gradients({name}.sum(), [{', '.join(chosen)}], {extra})"

    def observe(self) -> str:
        name = self.any()
        return self.rng.choice(
            (f"seen.append({name}.sum().item())", f"seen.append({name}.tolist())", f"bool({name}.sum() > 0)",
             f"seen.append({name}.detach().numpy().copy())", f"float({name}.mean())", f"repr({name}.shape)")
        )  # fmt: skip

    def delete(self) -> str:
        """Not of leaves: Flambeau frees them, PyTorch keeps them for the graph's sake."""
        return f"del {self.any(lambda t: not (t.is_leaf and t.requires_grad))}"

    def flags(self) -> str:
        name = self.any(lambda t: t.is_leaf)
        return self.rng.choice(
            (f"{name}.requires_grad_({self._alone(name)})", f"{name}.requires_grad_(False)",
             f"{name}.requires_grad = {self._alone(name)}",
             f"{self.any()}.detach_()", f"{name} = nn.Parameter({name}.clone())")
        )  # fmt: skip

    def _alone(self, name: str) -> bool:
        """Whether no other tensor shares the storage: of PyTorch's views, those made earlier would require grad too."""
        storage = self.env[name].untyped_storage().data_ptr()
        return (
            not self.env[name]._is_view()
            and [t.untyped_storage().data_ptr() for t in self.tensors()].count(storage) == 1
        )

    def grads(self) -> str:
        name = self.any(lambda t: t.is_leaf and t.requires_grad)
        return self.rng.choice(
            (f"{name}.grad = None", f"{name}.grad.zero_()", f"{name}.grad = T.ones_like({name})",
             f"{name}.grad.mul_(0.5)", f"{self.fresh()} = {name}.grad", f"{self.fresh()} = {name} * {name}.grad",
             f"{self.fresh()} = {name}.grad.clone()", f"nn.utils.clip_grad_norm_([{name}], 0.5)",
             f"nn.utils.clip_grad_value_([{name}], 0.2)", f"{name}.grad.data.mul_(2)", f"{name}.data -= 0.1 * {name}.grad",
             f"with T.no_grad(): {name} -= 0.1 * {name}.grad", f"with T.no_grad(): {name}.add_({name}.grad, alpha=-0.1)",
             f"seen.append({name}.grad.tolist())", f"{name}.grad = {name}.detach().clone()")
        )  # fmt: skip

    def hook(self) -> str:
        self.count += 1
        kind, name = self.rng.random(), self.any(self.single)
        if kind < 0.35:
            return f"h{self.count} = {name}.register_hook(log.hook('h{self.count}'))"
        if kind < 0.6:
            return f"h{self.count} = {name}.register_hook(log.hook('h{self.count}', 2.0))"
        if kind < 0.75:
            return f"{name}.retain_grad()"
        handles = [k for k in self.env if k[0] == "h" and k[1:].isdigit()]
        return f"{self.rng.choice(handles)}.remove()"

    def model(self) -> str:
        self.count += 1
        return f"m{self.count} = initialised({self.rng.choice(MODELS)})"

    def call(self) -> str:
        model = self.of(self.library.nn.Module)
        kind = self.rng.random()
        if kind < 0.5:
            return f"{self.fresh()} = {model}(data(n, 3))"
        if kind < 0.8:
            return f"{self.fresh()} = {model}({self.any(lambda t: t.ndim and t.shape[-1] == 3)})"
        parameter = self.rng.choice([k for k, _ in self.env[model].named_parameters()])
        get = f"{model}.get_parameter('{parameter}')"
        self.count += 1
        return self.rng.choice(
            (f"{self.fresh()} = {get}", f"{self.fresh()} = {model}.state_dict()['{parameter}']",
             f"{get}.requires_grad_(False)", f"{get}.requires_grad_(True)", f"{model}.requires_grad_({kind < 0.9})",
             f"{model}.load_state_dict({{k: v * 0.9 for k, v in {model}.state_dict().items()}})",
             f"h{self.count} = {model}.register_forward_hook(log.forward('h{self.count}'))",
             f"{model}.zero_grad()", f"{model}.zero_grad(set_to_none=False)",
             f"nn.utils.clip_grad_norm_({model}.parameters(), 0.5)", f"seen.append({get}.grad.tolist())")
        )  # fmt: skip

    def optimizer(self) -> str:
        self.count += 1
        models = [k for k, x in self.env.items() if isinstance(x, self.library.nn.Module)]
        if models and self.rng.random() < 0.6:
            params = f"{self.rng.choice(models)}.parameters()"
        else:
            leaves = self.leaves()
            leaves = [k for k in leaves if not self.env[k]._is_view()]
            chosen = self.rng.sample(leaves, min(len(leaves), 2))
            params = f"[{', '.join(chosen)}]"
            if len(chosen) == 2 and self.rng.random() < 0.4:
                params = f"[{{'params': [{chosen[0]}]}}, {{'params': [{chosen[1]}], 'lr': 0.02}}]"
        return f"o{self.count} = {self.rng.choice(OPTIMIZERS).format(p=params)}"

    def step(self) -> str:
        name = self.of(self.library.optim.Optimizer)
        return self.rng.choice(
            (f"{name}.step()", f"{name}.step()", f"{name}.zero_grad()", f"{name}.zero_grad(set_to_none=False)",
             f"{name}.load_state_dict({name}.state_dict())", f"{name}.param_groups[0]['lr'] *= 0.5")
        )  # fmt: skip

    def misc(self) -> str:
        x, y = self.any(lambda t: not (t.is_leaf and t.requires_grad)), self.any()
        return self.rng.choice(
            (f"{x}, {y} = {y}, {x}", f"{x} = {x}.tanh()", f"{x} = {x} + {y}", f"x0 = {x}", f"{x} + T.ones(7)",
             f"{self.fresh()} = T.tensor({x}.tolist(), dtype=T.float64)", f"keep = [{x}, {y}]",
             f"{self.fresh()} = T.from_numpy({x}.detach().numpy())", f"{self.fresh()} = T.ones_like({x})")
        )  # fmt: skip


def _overlaps(t: Any) -> bool:
    return any(n > 1 and step == 0 for n, step in zip(t.shape, t.stride()))


def generate(seed: int, library: types.ModuleType, n_lines: int = 40) -> Program:
    """A random program."""
    return Generator(seed, library).program(n_lines)


# ---- comparing and shrinking ----------------------------------------------------------------------------------


def disagreement(found: tuple, expected: tuple, tolerance: float = 1e-9) -> str | None:
    """Where two runs of a program differ: in which lines failed, or in what can be seen at the end."""
    for i, ((line, a), (_, b)) in enumerate(zip(found[0], expected[0])):
        if a != b:
            if {"RuntimeError", "GraphFreed"} & {a, b} and _may_refuse(
                found, i, expected[2] if expected[2:] else set()
            ):
                return None
            return f"`{line}` gives {a or 'no error'} instead of {b or 'none'}"
    if len(found[0]) != len(expected[0]):
        return "one run ended early"
    if expected[0] and _ends(*expected[0][-1]):
        return None
    return difference(found[1], expected[1], tolerance)


def _may_refuse(found: tuple, i: int, refused: set[int]) -> bool:
    """Whether Flambeau may refuse a gradient at line i: see `reference`; and after writes that PyTorch does not see."""
    return i in refused or any(".data" in line or ".detach()" in line for line, _ in found[0][:i])


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The program without the lines that do not matter."""
    size = max(1, len(program) // 2)
    while True:
        reduced = _drop_some(program, size, fails)
        if reduced == program and size == 1:
            break
        size = max(1, size // 2) if reduced == program else size
        program = reduced
    return _shrink_blocks(program, fails)


def _drop_some(program: Program, size: int, fails: Callable[[Program], bool]) -> Program:
    at = len(program)
    while at > 0:
        at = max(0, at - size)
        candidate = program[:at] + program[at + size :]
        if candidate != program and fails(candidate):
            program = candidate
    return program


def _shrink_blocks(program: Program, fails: Callable[[Program], bool]) -> Program:
    changed = True
    while changed:
        changed = False
        for i, item in enumerate(program):
            if not isinstance(item, Block):
                continue
            for smaller in _smaller(item):
                candidate = program[:i] + tuple(smaller) + program[i + 1 :]
                if fails(candidate):
                    program, changed = candidate, True
                    break
            if changed:
                break
    return program


def _smaller(block: Block) -> list[Sequence[Any]]:
    found: list[Sequence[Any]] = [block.lines]
    if len(block.sizes) > 1:
        found += [[block._replace(sizes=block.sizes[1:])], [block._replace(sizes=block.sizes[:-1])]]
    if any(n != 3 for n in block.sizes):
        found.append([block._replace(sizes=(3,) * len(block.sizes))])
    found += [[block._replace(lines=block.lines[:k] + block.lines[k + 1 :])] for k in range(len(block.lines))]
    return found


def source(program: Program) -> str:
    """The program as a reader would write it."""
    text = []
    for item in program:
        if isinstance(item, Block):
            text.append(f"for n in {item.sizes}:")
            text += [f"    {line}" for line in item.lines]
        else:
            text.append(item)
    return "\n".join(text)
