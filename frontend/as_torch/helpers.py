"""What libraries take from PyTorch's submodules beside what its documentation lists: handles of hooks, groups of tensors, classes
of scripts.

In: nothing. Out: `HELPERS`: a module's name, and a function that gives what stands in it; what needs other processes raises when it
is used. Next: `stand_ins.py`.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from flambeau.as_torch import futures, testing
from flambeau.as_torch.ops import Names, false, nothing, refused, same
from flambeau.runtime.recorder import Tensor

#: Classes of which there is nothing: modules and functions stay what they are.
SCRIPTS: Names = {
    "TracerWarning": type("TracerWarning", (Warning,), {}),
    **{
        name: type(name, (), {})
        for name in ("ScriptModule", "ScriptFunction", "RecursiveScriptModule", "CompilationUnit")
    },
}


def _config() -> Names:
    return {
        "show": lambda: "Flambeau: every operation is compiled; BLAS is NumPy's (USE_MKL=OFF)\n",
        "parallel_info": lambda: "",
    }


def _hooks() -> Names:
    from flambeau.nn.hooks import RemovableHandle  # loaded once it is asked for

    return {"RemovableHandle": RemovableHandle, "unserializable_hook": same}


def _parameter() -> Names:
    from flambeau.nn import uninitialized  # loaded once it is asked for

    return {name: getattr(uninitialized, name) for name in ("UninitializedParameter", "UninitializedBuffer", "is_lazy")}


def _dlpack() -> Names:
    import flambeau  # loaded once it is asked for

    return {"from_dlpack": flambeau.from_dlpack, "to_dlpack": flambeau.to_dlpack}


def _distribution_utils() -> Names:
    from flambeau.distributions import utils  # loaded once it is asked for
    from flambeau.functions.random import randn  # loaded once it is asked for

    return {
        "_sum_rightmost": utils.sum_rightmost,
        "_standard_normal": lambda shape, dtype, device: randn(shape, dtype=dtype, device=device),
    }


def _distribution_transforms() -> Names:
    from flambeau.distributions.transform import _InverseTransform  # loaded once it is asked for

    return {"_InverseTransform": _InverseTransform}


def _module() -> Names:
    from flambeau.nn.state import IncompatibleKeys  # loaded once it is asked for

    return {"_IncompatibleKeys": IncompatibleKeys}


def _parallel() -> Names:
    return {
        "DistributedDataParallel": type(
            "DistributedDataParallel", (), {"__init__": refused("nn.parallel.DistributedDataParallel")}
        )
    }


def _attribute(value: Any, type: Any = None) -> Any:
    """`jit.Attribute`: the value."""
    return value


def _lr_scheduler() -> Names:
    from flambeau.optim.lr_scheduler import LRScheduler  # loaded once it is asked for

    return {"_LRScheduler": LRScheduler}


def _absent_devices() -> Names:
    """Accelerators of which there are none: whoever asks is told so, and what would use one raises."""
    queries = ("is_available", "is_initialized", "is_bf16_supported")
    names = (
        "get_device_properties",
        "get_device_name",
        "get_device_capability",
        "mem_get_info",
        "current_stream",
        "set_device",
    )
    quiet = ("empty_cache", "synchronize", "manual_seed", "manual_seed_all", "reset_peak_memory_stats")
    return {
        **dict.fromkeys(queries, false), **dict.fromkeys(quiet, nothing), "device_count": lambda: 0, "current_device": lambda: 0,
        **{name: lambda *args: 0 for name in ("memory_allocated", "max_memory_allocated", "memory_reserved")},
        **{name: refused(name) for name in names},
    }  # fmt: skip


def _tensor_text() -> Names:
    """Libraries put their own texts in the place of PyTorch's: they are called by nobody."""
    names = ("_str", "_tensor_str", "_str_intern", "_add_suffixes")
    return {name: refused(f"_tensor_str.{name}") for name in names} | {"PRINT_OPTS": None}


def _dataloader() -> Names:
    """What iterators of loaders are instances of."""
    from flambeau.data.processes import Epoch  # loaded once it is asked for

    base = ABCMeta("_BaseDataLoaderIter", (), {})
    base.register(Epoch)
    base.register(GeneratorType)
    return {
        "_BaseDataLoaderIter": base, "_MultiProcessingDataLoaderIter": Epoch, "_SingleProcessDataLoaderIter": GeneratorType,
    }  # fmt: skip


def _checkpoint() -> Names:
    """There are no states of other devices to keep."""
    return {"get_device_states": lambda *args: ([], []), "set_device_states": nothing, "detach_variable": _detached}


def _detached(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)


def _foreach() -> Names:
    """Lists of tensors by device and dtype, with their places."""

    def grouped(tensorlistlist: list[list[Any]], with_indices: bool = False) -> Any:
        groups: dict[Any, list[int]] = {}
        for i, tensor in enumerate(tensorlistlist[0]):
            groups.setdefault((tensor.device, tensor.dtype), []).append(i)
        return {
            key: ([[each[i] for i in places] for each in tensorlistlist], places if with_indices else [])
            for key, places in groups.items()
        }

    return {
        "_group_tensors_by_device_and_dtype": grouped, "_has_foreach_support": lambda tensors, device: True,
        "_device_has_foreach_support": lambda device: True, "_get_fused_kernels_supported_devices": lambda: ["cpu", "cuda"],
        "_get_foreach_kernels_supported_devices": lambda: ["cpu", "cuda"],
    }  # fmt: skip


#: Decorators of methods for scripts.
_MARKS = ("_copy_to_script_wrapper", "_overload", "_overload_method", "ignore", "unused", "export")


def _flop_counter() -> type:
    enter = refused("FlopCounterMode", "flambeau.summary(model, inputs) counts.")
    return type("FlopCounterMode", (), {
        "__init__": nothing, "__enter__": enter, "__exit__": nothing, "get_flop_counts": lambda self: {},
        "get_total_flops": lambda self: 0,
    })  # fmt: skip


def _linear() -> Names:
    from flambeau.nn import Linear  # loaded once it is asked for

    return {"NonDynamicallyQuantizableLinear": Linear}


#: A module's name -> what is put beside the names of ours.
HELPERS: dict[str, Callable[[], Names]] = {
    "torch.utils.hooks": _hooks,
    "torch.utils.dlpack": _dlpack,
    "torch.utils._foreach_utils": _foreach,
    "torch.utils.checkpoint": _checkpoint,
    "torch.utils.data.dataloader": _dataloader,
    "torch.distributions.utils": _distribution_utils,
    "torch.distributions.transforms": _distribution_transforms,
    "torch.nn.parameter": _parameter,
    "torch.nn.modules.linear": _linear,
    "torch.nn.modules.module": _module,
    **dict.fromkeys(("torch.nn.parallel", "torch.nn.parallel.distributed"), _parallel),
    "torch.nn.parallel.scatter_gather": lambda: {
        name: refused(f"nn.parallel.{name}") for name in ("scatter", "gather")
    },
    "torch._tensor_str": _tensor_text,
    "torch.jit": lambda: {**SCRIPTS, "_overload": same, "_overload_method": same, "Attribute": _attribute},
    "torch.__config__": _config,
    "torch.futures": futures.names,
    "torch.serialization": lambda: {"MAP_LOCATION": Any, "FILE_LIKE": Any},
    "torch.optim.lr_scheduler": _lr_scheduler,
    "torch.testing": testing.names,
    **dict.fromkeys((f"torch.{kind}" for kind in ("xpu", "mps", "mtia")), _absent_devices),
    "torch._jit_internal": lambda: dict.fromkeys(_MARKS, same),
    "torch.utils.flop_counter": lambda: {"FlopCounterMode": _flop_counter()},
}
