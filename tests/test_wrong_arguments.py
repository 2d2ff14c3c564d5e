"""Every public callable, found by introspection, answers wrong arguments in the house's form: `[name] fact. What to do.`"""

import copy
import inspect
import pickle
import re
import subprocess
import sys
from typing import Generic

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import flambeau.utils.data as data
import pytest
from flambeau import function, missing
from flambeau.compiler.codegen.loops import points
from flambeau.dialects.bugs import is_internal
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Public, Tensor

MODULES = (fb, nn, F, nn.init, nn.utils, fb.optim, fb.autograd, fb.metrics, data)
HOUSE = re.compile(r"\[[\w .]+\] ")
#: What changes the process, opens files or runs for long where it is given something that it takes.
CAREFUL = {"save", "load", "export", "set_limits", "shadow_mode", "seed", "manual_seed", "set_rng_state", "compiler_options",
    "set_memory_limit", "set_num_threads", "set_default_dtype", "set_printoptions", "no_grad", "enable_grad", "inference_mode",
    "set_grad_enabled", "explain"}  # fmt: skip


def instances():
    """An instance of every public class that has methods of its own, by name."""
    layer, x = nn.Linear(2, 2), fb.ones(2, 2, requires_grad=True)
    made = {"Linear": layer, "Sequential": nn.Sequential(layer), "ModuleList": nn.ModuleList([layer])}
    made |= {"ModuleDict": nn.ModuleDict({"a": layer}), "Embedding": nn.Embedding(3, 2), "LayerNorm": nn.LayerNorm(2)}
    cut = {"AdaptiveLogSoftmaxWithLoss": nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4])}
    cut |= {"LinearCrossEntropyLoss": nn.LinearCrossEntropyLoss(3, 2)}
    made |= cut | {name: getattr(nn, name)() for name in nn.__all__ if name.endswith("Loss") and name not in cut}
    made |= {"SGD": fb.optim.SGD([x], lr=0.1), "Adam": fb.optim.Adam([x]), "Generator": fb.Generator()}
    made |= {"TensorDataset": data.TensorDataset(fb.ones(3)), "DataLoader": data.DataLoader([1, 2, 3])}
    return made


def functions():
    """(id, callable) of everything that users call."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not is_told_by_python(value):
                yield f"{module.__name__}.{name}", value
    x = fb.ones(2, 2)
    for name in dir(Tensor):
        if not name.startswith("_") and not isinstance(inspect.getattr_static(Tensor, name), missing.Missing):
            value = getattr(x, name) if name != "imag" else None  # which real tensors do not have
            if callable(value) and not isinstance(value, fb.dtype):
                yield f"Tensor.{name}", value
    for owner, instance in instances().items():
        for name in dir(type(instance)):
            if not name.startswith("_") and callable(getattr(instance, name)):
                yield f"{owner}.{name}", getattr(instance, name)


def refusal(call):
    """The exception of a call, None if there was none."""
    try:
        call()
    except Exception as error:
        return error
    return None


def is_house(error) -> bool:
    text = error.args[0] if isinstance(error, KeyError) else str(error)
    return HOUSE.match(text) is not None and not is_internal(error)


def is_told_by_python(value) -> bool:
    """Exceptions, and classes without a constructor, which users inherit from beside other classes."""
    is_bare = (
        isinstance(value, type)
        and value.__init__ is object.__init__
        and value.__new__ in (object.__new__, Generic.__new__)
    )
    return is_bare or (isinstance(value, type) and issubclass(value, BaseException))


def takes_anything(function) -> bool:
    """Whether it takes any keyword or passes it on, or has nothing to do with keywords: an `Identity`, datasets by name, changes of
    dimensions' names, a missing `forward`."""
    own = (fb.compile, nn.Module.compile, fb.Tensor.rename, fb.Tensor.rename_)
    takes_others = getattr(function, "__func__", function) in own
    return (
        function in (nn.Identity, fb.data.StackDataset, nn.utils.skip_init, fb.summary, fb.verify)
        or takes_others
        or "has no forward()" in str(refusal(function))
    )


FUNCTIONS = dict(functions())


def test_there_are_many_callables():
    assert len(FUNCTIONS) > 500


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_argument_that_does_not_exist_is_named(name):
    function = FUNCTIONS[name]
    if takes_anything(function):
        return
    error = refusal(lambda: function(nonsense=1))
    assert isinstance(error, TypeError) and is_house(error), (type(error), error)
    assert "'nonsense'" in str(error) or "cannot be made" in str(error), error
    if isinstance(function, Public) and function is not fb.compiler_options:
        assert error.__traceback__.tb_next.tb_next is None  # raised at the user's line, in the lambda above


@pytest.fixture
def modes():
    """Setters of modes take what they take."""
    mode, cpu, gpu = recorder.get_mode(), fb.get_autocast_dtype("cpu"), fb.get_autocast_gpu_dtype()
    yield
    recorder.set_mode(mode)
    fb.autograd.set_detect_anomaly(False)
    fb.set_autocast_dtype("cpu", cpu)
    fb.set_autocast_gpu_dtype(gpu)


@pytest.mark.usefixtures("modes")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_types_and_counts_are_told_in_the_house_form(name, tmp_path, monkeypatch):
    """Whatever is passed: the call works, or says what is wrong."""
    monkeypatch.chdir(tmp_path)
    if name.rpartition(".")[2] in CAREFUL:
        return
    wrong = []
    for value in (object(), "nothing", None, -1, 2.5, [], [None], {}, fb.ones(2, 3), int):
        for count in (0, 1, 2, 3, 40):
            error = refusal(lambda args=(value,) * count: FUNCTIONS[name](*args))
            if error is not None and not is_house(error):
                wrong.append(f"{type(value).__name__} x {count}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: nn.Embedding(5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            r"\[Embedding\] takes at most 11 positional arguments, got 12",
        ),
        (lambda: nn.Linear(2, 2, True, 0.0), r"\[Linear\] argument 'device' must be device or None, got float 0.0"),
        (lambda: nn.Linear("a", 3), r"\[Linear\] argument 'in_features' must be int, got str 'a'"),
        (lambda: nn.Linear(3), r"\[Linear\] argument 'out_features' is missing. It takes: in_features"),
        (lambda: nn.Linear(2, 2, in_features=3), r"\[Linear\] argument 'in_features' was given twice"),
        (lambda: nn.Linear(2, 2, dtpye=None), r"there is no argument 'dtpye'. Did you mean 'dtype'\?"),
        (lambda: nn.Linear(2, 2)(fb.ones(2), fb.ones(2)), r"\[Linear\] takes at most 1 positional arguments, got 2"),
        (lambda: nn.Linear(2, 2)(5), r"\[Linear\] argument 'input' must be Tensor, got int 5"),
        (lambda: nn.Parameter(fb.ones(2), foo=1), r"\[Parameter\] there is no argument 'foo'"),
        (lambda: fb.zeros(3, foo=1), r"\[zeros\] there is no argument 'foo'"),
        (lambda: fb.set_num_threads("a"), r"\[set_num_threads\] .*str 'a'"),
        (lambda: fb.no_grad(3), r"\[no_grad\] what is decorated must be a function, got int"),
        (lambda: fb.enable_grad()(None), r"\[enable_grad\] what is decorated must be a function, got NoneType"),
        (lambda: fb.set_grad_enabled(True)([]), r"\[set_grad_enabled\] what is decorated must be a function, got list"),
        (lambda: fb.load(3), r"\[load\] argument 'f' must be a path or a binary stream, got int 3"),
        (lambda: fb.tensor(["a"]), r"\[tensor\] the str 'a' at data\[0\] is no number"),
        (lambda: fb.tensor([[1, 2], [3, "b"]]), r"\[tensor\] the str 'b' at data\[1\]\[1\] is no number"),
        (lambda: fb.ones(2).__setitem__(0, None), r"\[setitem\] None is no number and no tensor"),
        (lambda: fb.ones(2).split("a"), r"\[split\] size is 'a', a str\. Pass an int"),
    ],
)
def test_messages(call, text):
    error = refusal(call)
    assert isinstance(error, TypeError) and re.search(text, str(error)), error


def test_errors_of_users_code_are_left_alone():
    """What a callback raises is its own business, whatever it looks like."""

    class Broken(data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return {}["missing"]

    class Mine(nn.Module):
        def __init__(self, size):
            super().__init__()

        def forward(self, x):
            return x.nonsense

    assert repr(refusal(lambda: list(data.DataLoader(Broken())))) == "KeyError('missing')"
    assert "Mine.__init__() got an unexpected keyword argument 'siez'" in str(refusal(lambda: Mine(siez=3)))
    assert isinstance(refusal(lambda: Mine(3)(fb.ones(2))), AttributeError)
    w = fb.ones(2, requires_grad=True)
    error = refusal(lambda: fb.optim.SGD([w], lr=0.1).step(lambda: 1 + "a"))
    assert "[" not in str(error)[:1] and isinstance(error, TypeError)


def test_public_callables_are_what_they_wrap():
    assert fb.concat is fb.cat and fb.tensor.__name__ == "tensor" and "data" in inspect.signature(fb.tensor).parameters
    assert inspect.getdoc(nn.Linear.forward) == inspect.getdoc(nn.Linear.forward.__wrapped__)
    for value in (fb.tensor, nn.init.zeros_, fb.split, nn.functional.pad):
        assert pickle.loads(pickle.dumps(value)) is value and copy.deepcopy(value) is value
    assert inspect.isroutine(fb.tensor) and "tensor" in repr(fb.tensor)
    layer = nn.Linear(2, 3)
    assert copy.deepcopy(layer)(fb.ones(1, 2)).tolist() == layer.forward(fb.ones(1, 2)).tolist()


# ---- names that are not there -----------------------------------------------------------------------------------

#: What has names, and what PyTorch's is called in the list of names.
OWNERS = (
    *((m, m.__name__) for m in (fb, nn, F, nn.init, nn.utils, fb.optim, fb.autograd, data, fb.utils, fb.jit)),
    *((fb.ones(2, 2), "Tensor"), (fb.Tensor, "Tensor"), (nn.Linear(1, 1), "Module")),
)


def lacking(owner, called: str) -> list[str]:
    """Some names of PyTorch's that are not there yet: the first and the last."""
    names = missing._torch_names().get(called, frozenset()) - {"imag"}  # which raises RuntimeError, as PyTorch's
    found = sorted(n for n in names if not hasattr(owner, n))
    return sorted({*found[:1], *found[-1:]})


MISSING = [(owner, name) for owner, called in OWNERS for name in lacking(owner, called)]


@pytest.mark.parametrize(("owner", "name"), MISSING, ids=[name for _, name in MISSING])
def test_a_name_of_pytorchs_says_so(owner, name):
    error = refusal(lambda: getattr(owner, name))
    assert isinstance(error, AttributeError) and error.name == name
    assert re.match(rf"\[[\w.]+\] PyTorch has '{name}', Flambeau does not have it yet\. \w", str(error)), error
    assert not hasattr(owner, name) and getattr(owner, name, None) is None
    assert name not in dir(owner) or owner is fb.Tensor


def test_a_name_that_nobody_has_is_compared_with_those_that_are_there():
    assert "Did you mean 'zeros'?" in str(refusal(lambda: fb.zeroes))
    assert "Did you mean 'weight'?" in str(refusal(lambda: nn.Linear(1, 1).wieght))
    assert "nor has PyTorch" in str(refusal(lambda: F.nonsense))


def test_protocols_do_not_notice():
    with pytest.raises(ImportError):
        exec(f"from flambeau import {lacking(fb, 'flambeau')[0]}")
    assert copy.copy(fb.ones(2)).tolist() == copy.deepcopy(fb.ones(2)).tolist() == [1.0, 1.0]
    assert pickle.loads(pickle.dumps(fb.ones(2))).tolist() == [1.0, 1.0]
    x = fb.ones(2)
    x.cuda = "mine"
    assert x.cuda == "mine"

    name = lacking(fb.Tensor, "Tensor")[0]
    mine = type("Mine", (fb.nn.Parameter,), {name: lambda self: "mine"})
    assert getattr(mine(fb.ones(2)), name)() == "mine"
    assert not hasattr(fb, "__wrapped__") and inspect.unwrap(fb) is fb


def test_names_that_are_there_are_never_called_missing():
    for owner, value in (("Tensor", fb.ones(2, 2)), ("flambeau", fb), ("flambeau.nn", nn)):
        there = [n for n in dir(value) if not n.startswith("_")]
        assert there and all((owner, n) == ("Tensor", "imag") or hasattr(value, n) for n in there), owner


def test_the_list_is_pytorchs():
    torch = pytest.importorskip("torch")
    names = missing._torch_names()
    assert names["Tensor"] == {n for n in dir(torch.Tensor) if not n.startswith("_")}
    assert all(hasattr(torch.nn, n) for n in names["flambeau.nn"]) and "Conv2d" in names["flambeau.nn"]


def test_importing_needs_nothing_that_only_messages_need():
    program = "import sys, flambeau.nn, flambeau.optim; print(*{'sysconfig', 'torch'} & set(sys.modules))"
    bare = "import sys, numpy, ml_dtypes; print(*{'sysconfig', 'torch'} & set(sys.modules))"
    found, given = (subprocess.run([sys.executable, "-c", p], capture_output=True, text=True) for p in (program, bare))
    assert (found.returncode, found.stdout) == (0, given.stdout), found.stderr


# ---- failures of ours -------------------------------------------------------------------------------------------


def test_a_plan_that_fails_without_reason_is_told_as_our_bug(monkeypatch, tmp_path):
    """A kernel that finds every index out of range, where op by op none is."""
    checked = points.checked_index
    monkeypatch.setattr(
        points, "checked_index", lambda nest, node, i, *rest: checked(nest, node, nest.b.add(i, 1 << 40), *rest)
    )
    with fb.compiler_options(mode="blocking", dump=str(tmp_path)):  # what is dumped is not cached
        y = fb.ones(3, 5).index_select(0, fb.tensor([1, 2])).sum()
        error = refusal(y.item)
        assert isinstance(error, RuntimeError) and is_house(error)
        assert re.match(r"\[gather\] this is a bug of Flambeau's.*KernelFailed", str(error))
        found = re.search(r"recorded at .*test_wrong_arguments.py:\d+.*with (\S+\.mlir)", str(error))
        assert found and "tape.gather" in open(found.group(1)).read()
        assert y.item() == 10  # what running op by op left


def test_a_rule_that_breaks_is_told_as_the_op_and_at_the_users_line():
    names = {"Tensor_": function.Tensor_}
    exec(compile("def broken(x: Tensor_): return {}['nothing']", fb.__file__, "exec"), names)  # as if it were ours
    broken = function.function(name="broken")(names["broken"])
    error = refusal(lambda: broken(fb.ones(2)))
    assert isinstance(error, RuntimeError) and re.match(
        r"\[broken\] this is a bug of Flambeau's.*KeyError", str(error)
    ), error


def test_an_interrupt_while_an_error_is_being_worded_is_not_lost():
    """Before, the error came, and nobody heard of the interrupt."""

    def interrupted(*whatever):
        raise KeyboardInterrupt

    call = Public(lambda x: x.nothing, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(None)
    call = Public(lambda x: x.nothing, "call", lambda *whatever: 1 / 0)
    with pytest.raises(AttributeError):
        call(None)
