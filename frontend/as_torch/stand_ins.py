"""Names of PyTorch's that libraries look for and that compute nothing: versions, registries of ops, flags of processes, compilers.

In: nothing. Out: `STAND_INS`: a module's name, and a function that gives what stands in it. What cannot be honoured raises when it
is used. Next: `finder.py`.
"""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from enum import Enum, IntEnum
from typing import Any

from flambeau.as_torch import foreach, pytrees
from flambeau.as_torch.groups import GROUPS
from flambeau.as_torch.helpers import HELPERS, SCRIPTS
from flambeau.as_torch.ops import OPS, Names, false, library, nothing, refused, same
from flambeau.device import device
from flambeau.dialects.dtypes import DType
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Size, Tensor

# ---- compilers, versions -------------------------------------------------------------------------------


def _compiler() -> Names:
    return {
        "is_compiling": false, "is_dynamo_compiling": false, "is_exporting": false, "disable": same, "reset": nothing,
        "allow_in_graph": same, "assume_constant_result": same, "cudagraph_mark_step_begin": nothing, "compile": same,
        "set_stance": lambda *a, **k: nullcontext(), "substitute_in_graph": lambda *a, **k: same,
    }  # fmt: skip


class _OptimizedModule:
    """What `compile` makes of a module in PyTorch: here it stays what it is."""


def _dynamo() -> Names:
    config = type("config", (), {"suppress_errors": False, "cache_size_limit": 8, "recompile_limit": 8})
    return {
        "disable": same, "allow_in_graph": same, "is_compiling": false, "reset": nothing, "config": config,
        "mark_dynamic": nothing, "mark_static": nothing, "mark_static_address": nothing, "maybe_mark_dynamic": nothing,
        "OptimizedModule": _OptimizedModule, "graph_break": nothing, "optimize": lambda *a, **k: same,
        "assume_constant_result": same, "forbid_in_graph": same,
    }  # fmt: skip


def _overrides() -> Names:
    return {
        "has_torch_function": false, "has_torch_function_unary": false, "has_torch_function_variadic": false,
        "is_tensor_like": lambda x: isinstance(x, Tensor), "get_ignored_functions": set, "get_overridable_functions": dict,
        "handle_torch_function": refused("overrides.handle_torch_function"), "resolve_name": lambda f: f.__name__,
        "TorchFunctionMode": type("TorchFunctionMode", (), {"__enter__": lambda s: s, "__exit__": nothing}),
    }  # fmt: skip


def _types() -> Names:
    number, size = int | float | bool, Size | list[int] | tuple[int, ...]
    return {
        "Number": number, "Device": device | str | int | None, "Tensor": Tensor, "_size": size, "_int": int, "_float": float,
        "_bool": bool, "_dtype": DType, "_device": device, "_TensorOrTensors": Any, "Size": Size, "FileLike": Any,
        "SymInt": int, "IntLikeType": int, "BoolLikeType": bool, "FloatLikeType": float, "_layout": str, "Storage": Any,
    }  # fmt: skip


def _version() -> Names:
    from flambeau.as_torch.finder import VERSION  # that module imports this one

    return {"__version__": VERSION, "cuda": None, "hip": None, "xpu": None, "debug": False, "git_version": "flambeau"}


@contextmanager
def _recorded(*args: Any, **kwargs: Any) -> Any:
    yield type("_Record", (), {"key_averages": lambda self: [], "step": nothing, "export_chrome_trace": nothing})()


def _profiler() -> Names:
    activity = type("ProfilerActivity", (), {"CPU": "cpu", "CUDA": "cuda", "XPU": "xpu"})
    return {
        "profile": _recorded, "record_function": _recorded, "ProfilerActivity": activity, "schedule": nothing,
        "kineto_available": false,
        "EventList": type("EventList", (list,), {}), "tensorboard_trace_handler": nothing, "ProfilerAction": activity,
        **{name: type(name, (), {"__init__": refused(f"profiler.{name}")}) for name in ("emit_nvtx", "emit_itt")},
    }  # fmt: skip


def _ours(name: str) -> Callable[[], Names]:
    """The public names of a module of ours, loaded once it is asked for."""

    def found() -> Names:
        module = importlib.import_module(f"flambeau.{name}")
        return {known: getattr(module, known) for known in module.__all__}

    return found


def _fx() -> Names:
    """Graphs of modules are not made; what libraries register for making them is taken."""
    classes = ("GraphModule", "Graph", "Node", "Proxy", "Tracer", "Interpreter", "Transformer", "ProxyableClassMeta")
    return {
        **{name: type(name, (), {"__init__": refused(f"fx.{name}")}) for name in classes}, "wrap": same,
        "symbolic_trace": refused("fx.symbolic_trace"),
    }  # fmt: skip


class Dim:
    """The name of a size, for the `dynamic_shapes` of `onnx.export`; its limits are not checked."""

    AUTO: Dim
    DYNAMIC: Dim
    STATIC = None

    def __init__(self, name: str, *, min: int | None = None, max: int | None = None) -> None:
        self.__name__, self.min, self.max = name, min, max


Dim.AUTO = Dim.DYNAMIC = Dim("")


def _export() -> Names:
    """Here `export` writes programs for C; PyTorch's module of that name is known for what its `onnx.export` takes."""
    return {
        "Dim": Dim, "dims": lambda *names, **limits: tuple(Dim(n, **limits) for n in names),
        "export": refused("export.export"), "ExportedProgram": type("ExportedProgram", (), {}),
    }  # fmt: skip


def _fake_tensor() -> Names:
    """Tensors without values do not exist: values that nobody looks at are not computed."""
    classes = ("FakeTensor", "FakeTensorMode")
    return {"is_fake": false, **{name: type(name, (), {"__init__": refused(name)}) for name in classes}}


def _onnx() -> Names:
    return {"is_in_onnx_export": false, "operators": None}


def _c() -> Names:
    return {
        "_log_api_usage_once": nothing, "_get_tracing_state": nothing, "Generator": _generator(), "_TensorMeta": type(Tensor),
        "device": device, "Size": Size, "dtype": DType, "_jit_set_profiling_executor": nothing,
        "_jit_set_profiling_mode": nothing, "_jit_override_can_fuse_on_cpu": nothing, "_jit_set_texpr_fuser_enabled": nothing,
        "ScriptMethod": type("ScriptMethod", (), {}), "ScriptFunction": type("ScriptFunction", (), {}), "Value": Any, "Graph": Any,
        "_are_functorch_transforms_active": recorder.capturing, "_functorch": None,
        "_disabled_torch_function_impl": refused("_C._disabled_torch_function_impl"),
    }  # fmt: skip


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """What `Module.to` is asked for: a device, a dtype, `non_blocking` and a memory format."""
    from flambeau.functions.convert import parse_to  # loaded once it is asked for

    wanted = parse_to("Module.to", *args, **kwargs)
    return None if wanted.device is None else device(wanted.device), wanted.dtype, False, wanted.memory_format


def _generator() -> Any:
    from flambeau.generator import Generator  # loaded once it is asked for

    return Generator


def _storage() -> Names:
    from flambeau.functions.storage import UntypedStorage  # loaded once it is asked for

    return {"UntypedStorage": UntypedStorage, "TypedStorage": type("TypedStorage", (), {})}


def _cpp_extension() -> Names:
    names = ("load", "load_inline", "CUDAExtension", "CppExtension", "BuildExtension")
    return {name: refused(f"utils.cpp_extension.{name}") for name in names} | {"CUDA_HOME": None, "ROCM_HOME": None}


class AbsentDType:
    """A dtype that Flambeau has not, under its name: so that libraries can list it. No tensor has it."""

    is_floating_point = is_complex = is_signed = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


_ABSENT_DTYPES = (
    "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "complex32", "quint8", "qint8", "qint32",
    "quint4x2",
    *(f"{u}int{n}" for u in ("", "u") for n in range(1, 8)),
)  # fmt: skip


def _finfo(type: Any = None) -> Any:
    """`finfo`, also of floats that Flambeau has not."""
    from flambeau.type_info import finfo  # loaded once it is asked for

    if not isinstance(type, AbsentDType):
        return finfo(type)
    import ml_dtypes

    return ml_dtypes.finfo(getattr(ml_dtypes, type.name))


def _assert_async(condition: Any, text: str = "Expected condition to be true") -> None:
    if not condition:
        raise RuntimeError(f"[_assert_async] {text}")


_CLASSES = ("Stream", "Event", "PyTorchFileReader", "PyTorchFileWriter", "SymInt", "SymFloat", "SymBool")


def _torch() -> Names:
    import flambeau  # loaded once it is asked for

    absent = {name: AbsentDType(name) for name in _ABSENT_DTYPES if not hasattr(flambeau, name)}
    layouts = {name: name for name in ("strided", "sparse_coo", "sparse_csr", "jagged") if not hasattr(flambeau, name)}
    return {
        "ops": OPS, "typename": lambda x: type(x).__name__, "layout": str, "finfo": _finfo, **layouts, **absent, **_storage(),
        **{name: SCRIPTS[name] for name in ("ScriptModule", "ScriptFunction")}, **foreach.names(), "_assert_async": _assert_async,
        **{name: type(name, (), {"__init__": refused(name)}) for name in _CLASSES if not hasattr(flambeau, name)},
    }  # fmt: skip


def _attention() -> Names:
    """Attention is computed in one way here: what chooses among PyTorch's changes nothing."""
    kinds = ("ERROR", "MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "OVERRIDEABLE")
    backend = IntEnum("SDPBackend", [(kind, i - 1) for i, kind in enumerate(kinds)])  # type: ignore[misc]
    return {"SDPBackend": backend, "sdpa_kernel": lambda *args, **kwargs: nullcontext()}


def _flex_attention() -> Names:
    from flambeau.nn import flex_attention  # loaded once it is asked for

    return {n: getattr(flex_attention, n) for n in (*flex_attention.__all__, "_DEFAULT_SPARSE_BLOCK_SIZE")}


def _cuda() -> Names:
    """What asks for GPUs by their driver's objects; there are no streams, graphs and pools of memory."""
    from flambeau import cuda  # loaded once it is asked for

    classes = ("CUDAGraph", "Stream", "Event", "ExternalStream", "MemPool", "StreamContext", "graph",
               "device", "stream", "device_of")  # fmt: skip
    quiet = ("synchronize", "empty_cache", "reset_peak_memory_stats", "reset_max_memory_allocated", "ipc_collect", "init",
               "set_device", "manual_seed", "manual_seed_all", "set_rng_state_all")  # fmt: skip
    zero = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "current_device")
    asked = ("get_device_properties", "get_device_name", "get_device_capability", "current_stream", "default_stream",
             "mem_get_info", "memory_stats", "memory_summary")  # fmt: skip
    found: Names = {name: type(name, (), {"__init__": refused(f"cuda.{name}")}) for name in classes}
    found |= {name: refused(f"cuda.{name}") for name in asked}
    found |= dict.fromkeys(quiet, nothing) | {name: lambda *args, **kwargs: 0 for name in zero}
    found |= {
        "is_initialized": false,
        "is_bf16_supported": false,
        "is_current_stream_capturing": false,
        "get_rng_state_all": list,
    }
    return {name: value for name, value in found.items() if not hasattr(cuda, name)}


def _interpolation() -> Names:
    names = ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")
    from flambeau import transforms  # loaded once it is asked for

    mode = Enum("InterpolationMode", [(name, name.lower().replace("_", "-")) for name in names])  # type: ignore[misc]
    return {"InterpolationMode": mode, "pil_to_tensor": transforms.to_image}


def _hub() -> Names:
    import re
    from urllib.parse import urlparse

    pattern = re.compile(r"-([a-f0-9]*)\.")
    return {"HASH_REGEX": pattern, "download_url_to_file": refused("hub.download_url_to_file"), "urlparse": urlparse}


def _empty() -> Names:
    return {}


def _init() -> Names:
    from flambeau.nn import init  # loaded once it is asked for

    return {
        "_calculate_fan_in_and_fan_out": init._fans, "_calculate_correct_fan": init._fan,
        "_no_grad_uniform_": init.uniform_, "_no_grad_normal_": init.normal_,
    }  # fmt: skip


#: A module's name -> what is put beside the names of ours.
STAND_INS: dict[str, Callable[[], Names]] = {
    **HELPERS,
    **GROUPS,
    "torch": _torch,
    "torch.cuda": _cuda,
    "torch.nn.attention": _attention,
    "torch.nn.attention.flex_attention": _flex_attention,
    "torch.nn.attention.bias": _empty,
    "torch.nn.init": _init,
    "torch.library": library,
    "torch.compiler": _compiler,
    "torch._dynamo": _dynamo,
    "torch._dynamo._trace_wrapped_higher_order_op": lambda: {"TransformGetItemToIndex": nullcontext},
    "torch._inductor": _empty,
    "torch.overrides": _overrides,
    "torch.types": _types,
    "torch._C": _c,
    "torch._C._nn": lambda: {"_parse_to": _parse_to},
    "torch.version": _version,
    "torch.torch_version": _version,
    "torch.profiler": _profiler,
    "torch.autograd.profiler": lambda: _profiler() | _ours("autograd.profiler")(),
    "torch.multiprocessing": _ours("multiprocessing"),
    "torch.fx": _fx,
    "torch.fx.node": _fx,
    "torch.fx.graph_module": _fx,
    "torch.fx.experimental": _empty,
    "torch.fx.experimental.proxy_tensor": lambda: {"get_proxy_mode": nothing},
    "torch._subclasses": _fake_tensor,
    "torch._subclasses.fake_tensor": _fake_tensor,
    "torch._dynamo.eval_frame": lambda: {"is_dynamo_supported": false, "OptimizedModule": _OptimizedModule},
    "torch.utils._pytree": pytrees.names,
    "torch.onnx": _onnx,
    "torch.export": _export,
    "torch.storage": _storage,
    "torch.random": _ours("random"),
    "torch.utils.cpp_extension": _cpp_extension,
    "torch.return_types": _empty,
    **dict.fromkeys(
        (f"torchvision.transforms{part}" for part in ("", ".functional", ".v2", ".v2.functional")), _interpolation
    ),
    **dict.fromkeys(("torchvision", "torchvision.io"), _empty),
    "torch.hub": _hub,
    "torch.jit.annotations": lambda: {name: getattr(typing, name) for name in typing.__all__},
    "torch.sparse": _empty,
    "torch.utils.model_zoo": _empty,
}
