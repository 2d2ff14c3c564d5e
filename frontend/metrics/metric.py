"""`Metric`: what is added up over batches, and what follows from it; `MetricCollection`: several of them.

In: predictions and targets, batch after batch. Out: tensors. States are buffers that every `update` writes to in place, so that an
update is recorded like any other call: it runs with the step around it, and nothing waits before somebody looks at `compute()`.
Next: `classification.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flambeau.autograd import no_grad
from flambeau.functions.arithmetic import add
from flambeau.functions.choose import maximum, minimum
from flambeau.nn.module import Module
from flambeau.promotion import get_default_dtype
from flambeau.runtime.recorder import Tensor

#: How two states become one; lists are put together.
_COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"sum": add, "max": maximum, "min": minimum}
_REDUCTIONS = (*_COMBINE, "cat")


class Metric(Module):
    """Base class of metrics. A subclass names its states (`add_state`), and defines `update`, which writes to them, and `compute`.

    `metric(...)` is an update, and gives the value of that batch alone. Metrics are modules: they move with the model that holds
    them. Their states keep their dtype, and are no part of state dicts unless they are added with `persistent=True`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update" in vars(cls):
            cls.update = no_grad()(cls.update)  # type: ignore[method-assign]

    def __init__(self) -> None:
        super().__init__()
        self._defaults: dict[str, Tensor | list] = {}
        self._reductions: dict[str, str] = {}

    def add_state(
        self, name: str, default: Tensor | list, dist_reduce_fx: str = "sum", persistent: bool = False
    ) -> None:
        """Make `self.name`: a tensor that begins as `default`, or a list that begins empty. `dist_reduce_fx`, "sum", "max" or
        "min", or "cat" of a list, is how states of two metrics become one. Raises ValueError for other words and for lists that
        are not empty."""
        op, is_list = type(self).__name__, isinstance(default, list)
        if dist_reduce_fx not in _REDUCTIONS or (dist_reduce_fx == "cat") != is_list:
            raise ValueError(
                f"[{op}] dist_reduce_fx of {name} is {dist_reduce_fx!r}. Use 'sum', 'max' or 'min' for a tensor, 'cat' for a list."
            )
        if is_list and default:
            raise ValueError(f"[{op}] the default of {name} is a list of {len(default)}. Begin with an empty one.")
        self._defaults[name], self._reductions[name] = default, dist_reduce_fx
        if isinstance(default, Tensor):
            self.register_buffer(name, default.detach().clone(), persistent=persistent)
        else:
            setattr(self, name, [])

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one batch."""
        raise NotImplementedError(f"[{type(self).__name__}] it has no update(). Define it.")

    def compute(self) -> Any:
        """What follows from all batches since the last `reset`."""
        raise NotImplementedError(f"[{type(self).__name__}] it has no compute(). Define it.")

    @no_grad()
    def reset(self) -> None:
        """Begin again."""
        for name, default in self._defaults.items():
            if isinstance(default, Tensor):
                state = getattr(self, name)
                state.copy_(default.to(state.device))
            else:
                setattr(self, name, [])

    @no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Take in one batch, and return what follows from that alone."""
        before = self._states()
        self.reset()
        self.update(*args, **kwargs)
        value = self.compute()
        self._merge(before)
        return value

    @no_grad()
    def merge_state(self, metrics: Iterable[Metric]) -> Metric:
        """Take in what other metrics of this class have taken in, as those of other processes or parts of the data. Raises
        TypeError for others."""
        for other in metrics:
            if type(other) is not type(self):
                raise TypeError(
                    f"[{type(self).__name__}] a {type(other).__name__} cannot be merged into it. Pass metrics of its own class."
                )
            self._merge(other._states())
        return self

    def _states(self) -> dict[str, Any]:
        """Copies of the states."""
        return {
            name: getattr(self, name).clone() if isinstance(default, Tensor) else list(getattr(self, name))
            for name, default in self._defaults.items()
        }

    def _merge(self, states: dict[str, Any]) -> None:
        """Put other states into these."""
        for name, other in states.items():
            mine = getattr(self, name)
            if isinstance(mine, list):
                setattr(self, name, [*other, *mine])
                continue
            other = other.to(mine.device)
            mine.copy_(_COMBINE[self._reductions[name]](mine, other))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move the states; they keep their dtype, for sums of many numbers are no place for few digits."""
        return super()._apply(lambda t: t.to(fn(t.new_empty(0)).device), recurse)


def told(x: Tensor) -> Tensor:
    """A result in the default dtype, whatever it was computed in."""
    return x.to(get_default_dtype())


class MetricCollection(Module):
    """Several metrics that take in the same batches: a dict of them, or a list, in which each goes by the name of its class.
    Raises ValueError for two of one name."""

    def __init__(self, metrics: Mapping[str, Metric] | Iterable[Metric]) -> None:
        super().__init__()
        pairs = metrics.items() if isinstance(metrics, Mapping) else [(type(m).__name__, m) for m in metrics]
        for name, metric in pairs:
            if name in self._modules:
                raise ValueError(
                    f"[MetricCollection] there are two metrics {name!r}. Pass a dict with names of your own."
                )
            self.add_module(name, metric)

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def items(self) -> Iterator[tuple[str, Any]]:
        """The metrics with their names."""
        return iter(self._modules.items())

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one batch."""
        for _, metric in self.items():
            metric.update(*args, **kwargs)

    def compute(self) -> dict[str, Any]:
        """What each metric gives, by name."""
        return {name: metric.compute() for name, metric in self.items()}

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Take in one batch, and return what each metric gives for that alone."""
        return {name: metric(*args, **kwargs) for name, metric in self.items()}

    def reset(self) -> None:
        """Begin again."""
        for _, metric in self.items():
            metric.reset()
