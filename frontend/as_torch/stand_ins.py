"""Names of PyTorch's that libraries look for and that compute nothing: versions, registries of ops, flags of processes, compilers.

In: nothing. Out: `STAND_INS`: a module's name, and a function that gives what stands in it. What cannot be honoured raises when it
is used. Next: `finder.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

from flambeau.device import device
from flambeau.dialects.dtypes import DType
from flambeau.runtime.recorder import Size, Tensor

Names = dict[str, Any]


def _same(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """A decorator with or without arguments, that changes nothing."""
    return function if callable(function) else lambda given: given


def _false(*args: Any, **kwargs: Any) -> bool:
    return False


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _refused(what: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"[{what}] there is no such thing in Flambeau. See docs/differences.md.")

    return refuse


# ---- ops of users -----------------------------------------------------------------------------------------------


class _Op:
    """`torch.ops.name.op`: what `torch.library` defined under that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.call: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.call is None:
            raise RuntimeError(
                f"[torch.ops] there is no op '{self.name}': C++ extensions are not loaded. See docs/differences.md."
            )
        return self.call(*args, **kwargs)

    @property
    def default(self) -> _Op:
        return self

    def __getattr__(self, name: str) -> _Op:
        if name.startswith("__"):
            raise AttributeError(name)
        return self  # an overload


class _Ops:
    """`torch.ops`, and a namespace in it."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Op(f"{self._name}::{name}") if self._name else _Ops(name)
        self.__dict__[name] = made
        return made

    def load_library(self, path: str) -> None:
        raise RuntimeError(f"[torch.ops] '{path}' is a library of PyTorch's, which cannot be loaded.")


OPS = _Ops()


def _op(name: str) -> _Op:
    namespace, _, last = name.partition("::")
    return getattr(getattr(OPS, namespace), last.partition(".")[0])


class CustomOp:
    """What `torch.library.custom_op` makes of a function: the function; how it would be traced elsewhere is not asked."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self.__name__ = getattr(function, "__name__", name)
        _op(name).call = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def register_fake(self, fn: Any = None, **kwargs: Any) -> Any:
        return _same(fn)

    register_vmap = register_torch_dispatch = register_fake

    def register_kernel(self, device_types: Any, fn: Any = None) -> Any:
        return _same(fn)

    def register_autograd(self, backward: Any, *, setup_context: Any = None) -> None:
        raise RuntimeError(
            f"[torch.library] '{self._name}' has a gradient of its own, which is not called. Use autograd.Function."
        )


def _custom_op(name: str, fn: Any = None, **kwargs: Any) -> Any:
    return (lambda function: CustomOp(name, function)) if fn is None else CustomOp(name, fn)


class Library:
    """`torch.library.Library`: names are defined, and what is implemented for the CPU is called by them."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns = ns

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        return schema.partition("(")[0]

    def impl(self, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", **kwargs: Any) -> None:
        if dispatch_key in ("", "CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"):
            name = str(getattr(op_name, "name", op_name)).rpartition("::")[2]
            _op(f"{self.ns}::{name}").call = fn


def _implemented(name: str, types: Any = "", func: Any = None, *, lib: Any = None) -> Any:
    def register(function: Any) -> Any:
        if types in ("", "cpu", "default", "CPU", "CompositeExplicitAutograd"):
            _op(name).call = function
        return function

    return register if func is None else register(func)


def _library() -> Names:
    registering = {f"register_{kind}": lambda *args, **kwargs: _same for kind in ("fake", "vmap", "torch_dispatch")}
    return {
        "Library": Library, "custom_op": _custom_op, "impl": _implemented, "define": _nothing, "wrap_triton": _same,
        "triton_op": _custom_op, "register_kernel": _implemented, "impl_abstract": lambda *a, **k: _same,
        "register_autograd": _nothing, "opcheck": _nothing, "infer_schema": lambda *a, **k: "()", **registering,
    }  # fmt: skip


# ---- processes, compilers, versions -------------------------------------------------------------------------------


def _distributed() -> Names:
    """One process, which is not part of a group."""
    return {
        "is_available": _false, "is_initialized": _false, "is_torchelastic_launched": _false, "is_nccl_available": _false,
        "get_rank": lambda group=None: 0, "get_world_size": lambda group=None: 1, "barrier": _nothing,
        "init_process_group": _refused("distributed.init_process_group"), "destroy_process_group": _nothing,
        "ProcessGroup": type("ProcessGroup", (), {}), "group": type("group", (), {"WORLD": None}),
        "ReduceOp": type("ReduceOp", (), {"SUM": "sum", "AVG": "avg", "MAX": "max", "MIN": "min", "PRODUCT": "product"}),
        **{name: _refused(f"distributed.{name}") for name in _COLLECTIVES},
    }  # fmt: skip


_COLLECTIVES = (
    "all_reduce", "all_gather", "all_gather_into_tensor", "all_to_all_single", "broadcast", "broadcast_object_list",
    "all_gather_object", "reduce", "reduce_scatter", "reduce_scatter_tensor", "scatter", "gather", "send", "recv", "new_group",
    "isend", "irecv",
)  # fmt: skip


def _compiler() -> Names:
    return {
        "is_compiling": _false, "is_dynamo_compiling": _false, "is_exporting": _false, "disable": _same, "reset": _nothing,
        "allow_in_graph": _same, "assume_constant_result": _same, "cudagraph_mark_step_begin": _nothing, "compile": _same,
        "set_stance": lambda *a, **k: nullcontext(), "substitute_in_graph": lambda *a, **k: _same,
    }  # fmt: skip


def _dynamo() -> Names:
    config = type("config", (), {"suppress_errors": False, "cache_size_limit": 8, "recompile_limit": 8})
    return {
        "disable": _same, "allow_in_graph": _same, "is_compiling": _false, "reset": _nothing, "config": config,
        "mark_dynamic": _nothing, "mark_static": _nothing, "mark_static_address": _nothing, "maybe_mark_dynamic": _nothing,
        "OptimizedModule": type("OptimizedModule", (), {}), "graph_break": _nothing, "optimize": lambda *a, **k: _same,
        "assume_constant_result": _same, "forbid_in_graph": _same,
    }  # fmt: skip


def _overrides() -> Names:
    return {
        "has_torch_function": _false, "has_torch_function_unary": _false, "has_torch_function_variadic": _false,
        "is_tensor_like": lambda x: isinstance(x, Tensor), "get_ignored_functions": set, "get_overridable_functions": dict,
        "handle_torch_function": _refused("overrides.handle_torch_function"), "resolve_name": lambda f: f.__name__,
        "TorchFunctionMode": type("TorchFunctionMode", (), {"__enter__": lambda s: s, "__exit__": _nothing}),
    }  # fmt: skip


def _types() -> Names:
    number, size = int | float | bool, Size | list[int] | tuple[int, ...]
    return {
        "Number": number, "Device": device | str | int | None, "Tensor": Tensor, "_size": size, "_int": int, "_float": float,
        "_bool": bool, "_dtype": DType, "_device": device, "_TensorOrTensors": Any, "Size": Size, "FileLike": Any,
        "SymInt": int, "IntLikeType": int, "BoolLikeType": bool, "FloatLikeType": float, "_layout": str, "Storage": Any,
    }  # fmt: skip


def _version() -> Names:
    from flambeau.as_torch.finder import VERSION

    return {"__version__": VERSION, "cuda": None, "hip": None, "xpu": None, "debug": False, "git_version": "flambeau"}


@contextmanager
def _recorded(*args: Any, **kwargs: Any) -> Any:
    yield type("_Record", (), {"key_averages": lambda self: [], "step": _nothing, "export_chrome_trace": _nothing})()


def _profiler() -> Names:
    activity = type("ProfilerActivity", (), {"CPU": "cpu", "CUDA": "cuda", "XPU": "xpu"})
    return {"profile": _recorded, "record_function": _recorded, "ProfilerActivity": activity, "schedule": _nothing}


def _multiprocessing() -> Names:
    import multiprocessing

    return {name: getattr(multiprocessing, name) for name in multiprocessing.__all__} | {
        "set_sharing_strategy": _nothing, "get_sharing_strategy": lambda: "file_system", "get_all_sharing_strategies": set,
        "spawn": _refused("multiprocessing.spawn"),
    }  # fmt: skip


def _fx() -> Names:
    """Graphs of modules are not made; what libraries register for making them is taken."""
    classes = ("GraphModule", "Graph", "Node", "Proxy", "Tracer", "Interpreter", "Transformer", "ProxyableClassMeta")
    return {
        **{name: type(name, (), {"__init__": _refused(f"fx.{name}")}) for name in classes}, "wrap": _same,
        "symbolic_trace": _refused("fx.symbolic_trace"),
    }  # fmt: skip


def _pytree() -> Names:
    def tree_map(function: Callable[[Any], Any], tree: Any, *rest: Any, is_leaf: Any = None) -> Any:
        if isinstance(tree, dict):
            return {k: tree_map(function, v, *(r[k] for r in rest)) for k, v in tree.items()}
        if isinstance(tree, (list, tuple)):
            items = [tree_map(function, v, *(r[i] for r in rest)) for i, v in enumerate(tree)]
            return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
        return function(tree, *rest)

    def leaves(tree: Any) -> list[Any]:
        found: list[Any] = []
        tree_map(found.append, tree)
        return found

    return {
        "tree_map": tree_map, "tree_leaves": leaves, "register_pytree_node": _nothing, "_register_pytree_node": _nothing,
        "Context": Any, "KeyEntry": Any, "MappingKey": type("MappingKey", (), {}), "tree_flatten": _refused("tree_flatten"),
        "tree_map_only": lambda kind, f, tree: tree_map(lambda x: f(x) if isinstance(x, kind) else x, tree),
    }  # fmt: skip


def _onnx() -> Names:
    return {"is_in_onnx_export": _false, "export": _refused("onnx.export"), "operators": None}


def _c() -> Names:
    return {
        "_log_api_usage_once": _nothing, "_get_tracing_state": _nothing, "Generator": _generator(), "_TensorMeta": type(Tensor),
        "device": device, "Size": Size, "dtype": DType, "_jit_set_profiling_executor": _nothing,
        "_jit_set_profiling_mode": _nothing, "_jit_override_can_fuse_on_cpu": _nothing, "_jit_set_texpr_fuser_enabled": _nothing,
        "ScriptMethod": type("ScriptMethod", (), {}), "ScriptFunction": type("ScriptFunction", (), {}), "Value": Any, "Graph": Any,
        "_functorch": None,
    }  # fmt: skip


def _generator() -> Any:
    from flambeau.generator import Generator

    return Generator


def _storage() -> Names:
    from flambeau.functions.storage import UntypedStorage

    return {"UntypedStorage": UntypedStorage, "TypedStorage": type("TypedStorage", (), {})}


def _random() -> Names:
    from flambeau import generator

    def fork_rng(*args: Any, **kwargs: Any) -> Any:
        return _forked()

    names = ("manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "default_generator")
    return {"fork_rng": fork_rng, **{name: getattr(generator, name) for name in names}}


@contextmanager
def _forked() -> Any:
    from flambeau import generator

    state = generator.get_rng_state()
    try:
        yield
    finally:
        generator.set_rng_state(state)


def _cpp_extension() -> Names:
    names = ("load", "load_inline", "CUDAExtension", "CppExtension", "BuildExtension")
    return {name: _refused(f"utils.cpp_extension.{name}") for name in names} | {"CUDA_HOME": None, "ROCM_HOME": None}


def _empty() -> Names:
    return {}


#: A module's name -> what is put beside the names of ours.
STAND_INS: dict[str, Callable[[], Names]] = {
    "torch": lambda: {"ops": OPS, "typename": lambda x: type(x).__name__},
    "torch.library": _library,
    "torch.distributed": _distributed,
    "torch.compiler": _compiler,
    "torch._dynamo": _dynamo,
    "torch._inductor": _empty,
    "torch.overrides": _overrides,
    "torch.types": _types,
    "torch._C": _c,
    "torch.version": _version,
    "torch.torch_version": _version,
    "torch.profiler": _profiler,
    "torch.autograd.profiler": _profiler,
    "torch.multiprocessing": _multiprocessing,
    "torch.fx": _fx,
    "torch.fx.node": _fx,
    "torch.fx.graph_module": _fx,
    "torch.utils._pytree": _pytree,
    "torch.onnx": _onnx,
    "torch.storage": _storage,
    "torch.random": _random,
    "torch.utils.cpp_extension": _cpp_extension,
    "torch.return_types": _empty,
    "torch.testing": _empty,
    "torch.sparse": _empty,
    "torch.utils.model_zoo": _empty,
}
