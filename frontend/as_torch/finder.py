"""What Python's import finds under `torch`: modules that have Flambeau's names, and stand-ins for what has no tensors in it.

In: a module's name. Out: an `Alias`, whose attributes are those of our module of that name; of a submodule that is none of ours
(`torch.nn.modules.conv`) those of the module around it. A name that is missing says so, where it was asked for and where to look.
Next: `stand_ins.py`.
"""

from __future__ import annotations

import dis
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from types import FrameType, ModuleType
from typing import Any

from flambeau import missing
from flambeau.as_torch.stand_ins import STAND_INS

VERSION = "2.13.0+flambeau"
_VERSIONS = {"torch": VERSION, "torchvision": "0.28.0+flambeau"}
_IMPORT_FROM = dis.opmap["IMPORT_FROM"]

#: What of torchvision needs no C++; all of it that is ours.
_MODELS = ("resnet", "alexnet", "vgg", "squeezenet", "mobilenet", "mobilenetv2")
_STANDS = "flambeau.as_torch.vision"
_VISION = {
    **dict.fromkeys(
        (f"torchvision.transforms{part}" for part in ("", ".functional", ".v2", ".v2.functional")),
        "flambeau.transforms",
    ),
    **dict.fromkeys(("torchvision.ops", "torchvision.ops.misc", "torchvision.ops.boxes"), f"{_STANDS}.ops"),
    **dict.fromkeys(
        ("torchvision.datasets", "torchvision.datasets.folder", "torchvision.datasets.vision"), f"{_STANDS}.datasets"
    ),
    **{f"torchvision.models{m}": f"{_STANDS}.models" for m in ("", *(f".{m}" for m in _MODELS))},
    "torchvision.utils": f"{_STANDS}.utils",
}

#: Modules of PyTorch's whose submodules have, here, the names of the module named beside them.
_GATHERED = {
    "nn.modules": "nn",
    "nn.parameter": "nn",
    "nn.parallel": "nn",
    "nn.utils": "nn.utils",
    "utils.data": "utils.data",
    "optim": "optim",
    "autograd": "autograd",
    "distributions": "distributions",
    "cuda": "cuda",
    "random": "",
    "tensor": "",
    "_tensor": "",
    "functional": "",
}

#: Submodules that are attributes of PyTorch's modules without being imported, and that are gathered here.
_SUBMODULES = {
    "torch.utils.data": "dataloader dataset distributed sampler",
    "torch.optim": "adadelta adagrad adam adamax adamw asgd lbfgs nadam optimizer radam rmsprop rprop sgd sparse_adam",
    "torch.nn": "parameter",
    "torch.nn.modules": "activation adaptive batchnorm channelshuffle container conv distance dropout embedding flatten fold "
    "instancenorm lazy linear loss module normalization padding pixelshuffle pooling rnn sparse transformer upsampling utils",
    "torch.nn.utils": "clip_grad convert_parameters fusion init memory_format",
    "torch.autograd": "anomaly_mode function grad_mode variable",
    "torch.distributions": "bernoulli beta binomial categorical constraint_registry distribution kl multivariate_normal normal "
    "transformed_distribution uniform",
}


class Alias(ModuleType):
    """A module of PyTorch's name. What is set here is set in our module as well."""

    def __init__(self, name: str, target: ModuleType | None, own: dict[str, Any]) -> None:
        super().__init__(name, target.__doc__ if target else None)
        vars(self).update(_public(target))
        vars(self).update(_target=target, __path__=[], __file__=getattr(target, "__file__", None), **own)

    def __getattr__(self, name: str) -> Any:
        target = vars(self)["_target"]
        inner = f"{self.__name__}.{name}"
        if _is_there(inner) and (target is None or inner in STAND_INS or not _is_value(target, name)):
            return importlib.import_module(inner)
        if target is not None:
            try:
                return getattr(target, name)
            except AttributeError:
                pass
        raise _error(self, name, sys._getframe(1))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        target = vars(self).get("_target")
        if target is not None and not isinstance(value, ModuleType) and not name.startswith("__"):
            setattr(target, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *dir(vars(self)["_target"])} - {"_target"})


def _public(target: ModuleType | None) -> dict[str, Any]:
    """Classes and functions of our module, for those who go through `vars(module)`."""
    names = getattr(target, "__all__", ())
    return {name: vars(target)[name] for name in names if callable(vars(target).get(name))}


def _is_value(target: ModuleType, name: str) -> bool:
    """Whether our module has something by this name that is no module, as `torch.utils.checkpoint.checkpoint`."""
    return not isinstance(getattr(target, name, target), ModuleType)


def _error(module: Alias, name: str, frame: FrameType) -> Exception:
    """What a missing name raises: ImportError for `from torch import name`, else AttributeError, which `hasattr` takes for no."""
    ours = "flambeau" + module.__name__.removeprefix("torch") if module.__name__.startswith("torch.") else ""
    ours = "flambeau" if module.__name__ == "torch" else ours
    if name.startswith("__"):
        return AttributeError(f"module '{module.__name__}' has no attribute '{name}'", name=name, obj=module)
    if missing.knows(ours):
        text = missing.text(ours, name, module.__name__, dir(module))
    else:
        text = f"[{module.__name__}] Flambeau does not have '{name}'. docs/differences.md says what is missing and what to use."
    text += (
        f" It is asked for in {frame.f_code.co_filename}, line {frame.f_lineno}; docs/functions.md lists what there is."
    )
    if frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM:
        return ImportError(text, name=module.__name__)
    return AttributeError(text, name=name, obj=module)


def _ours(name: str) -> str | None:
    """Our module for a module of PyTorch's; None where there is none."""
    if _root(name) != "torch":
        return _VISION.get(name) if _has_module(_VISION.get(name, "")) else None
    rest = name.removeprefix("torch").removeprefix(".")
    if own := _same_name(rest):
        return own
    around = (
        "" if rest.rpartition(".")[2][:1].isupper() else rest
    )  # a class, asked for by `from torch.nn.parallel import ...`
    while around:
        if around in _GATHERED and (rest == around or "." not in rest[len(around) + 1 :]):
            inner = _GATHERED[around]
            found = f"flambeau.{inner}" if inner else "flambeau"
            return found if _has_module(found) else None
        around = around.rpartition(".")[0]
    return None


def _root(name: str) -> str:
    return name.partition(".")[0]


def _same_name(rest: str) -> str | None:
    own = f"flambeau.{rest}" if rest else "flambeau"
    inside = ("flambeau.compiler", "flambeau.runtime", "flambeau.dialects")
    return own if not own.startswith(inside) and _has_module(own) else None


def _has_module(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _exists(name: str) -> bool:
    return name in sys.modules or name in STAND_INS or _ours(name) is not None


def _is_there(name: str) -> bool:
    """Whether a module need not be imported to be an attribute of the one around it."""
    around, _, last = name.rpartition(".")
    if name in STAND_INS or name in _VISION or last in _SUBMODULES.get(around, "").split():
        return True
    return name.startswith("torch.") and _same_name(name.removeprefix("torch.")) is not None


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        ours = _ours(spec.name)
        own = dict(STAND_INS[spec.name]()) if spec.name in STAND_INS else {}
        if spec.name in _VERSIONS:
            own["__version__"] = _VERSIONS[spec.name]
        made = Alias(spec.name, importlib.import_module(ours) if ours else None, own)
        if spec.name == "torch":
            vars(made)["torch"] = made  # PyTorch's module imports itself
        return made

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Metadata(Distribution):
    """What `importlib.metadata` says of a package that we stand for."""

    def __init__(self, package: str) -> None:
        self.package = package

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            version = _VERSIONS[self.package]
            return (
                f"Metadata-Version: 2.1\nName: {self.package}\nVersion: {version}\nSummary: Flambeau under this name\n"
            )
        return None

    def locate_file(self, path: Any) -> Any:
        return path


class Finder(MetaPathFinder):
    """Finds `torch`, and what there is of `torchvision`, before anybody else does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _root(fullname) not in _VERSIONS:
            return None
        if not _exists(fullname):
            raise ModuleNotFoundError(
                f"[{_root(fullname)}] Flambeau has no module '{fullname}'. docs/differences.md says what is missing and what "
                "to use.",
                name=fullname,
            )
        return ModuleSpec(fullname, _Loader(), is_package=True)

    def find_distributions(self, context: Any = None) -> Iterable[Distribution]:
        name = getattr(context, "name", None)
        return [_Metadata(package) for package in _VERSIONS if name is None or name.lower() == package]


def install() -> None:
    """Make `import torch` mean Flambeau from here on. Raises RuntimeError where PyTorch has been imported."""
    if "torch" in sys.modules and not isinstance(sys.modules["torch"], Alias):
        raise RuntimeError("[flambeau run] PyTorch has been imported in this process. Start another one.")
    if not any(isinstance(each, Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, Finder())
