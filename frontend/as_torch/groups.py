"""`torch.distributed`: there is one process, which is part of no group.

In: nothing. Out: `GROUPS`: a module's name, and a function that gives what stands in it. Whether there are groups is answered; the
classes and functions that need some have names, for `isinstance` and annotations, and raise when they are used. Next: `helpers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flambeau.as_torch.ops import Names, false, nothing, refused


def _distributed() -> Names:
    return {
        "is_available": false, "is_initialized": false, "is_torchelastic_launched": false, "is_nccl_available": false,
        "is_gloo_available": false, "is_mpi_available": false, "is_ucc_available": false, "is_xccl_available": false,
        "get_rank": lambda group=None: 0, "get_world_size": lambda group=None: 1, "barrier": nothing,
        "destroy_process_group": nothing, "group": type("group", (), {"WORLD": None}),
        "ReduceOp": type("ReduceOp", (), {name: name.lower() for name in ("SUM", "AVG", "MAX", "MIN", "PRODUCT")}),
        **_absent("torch.distributed", _COLLECTIVES),
    }  # fmt: skip


_COLLECTIVES = (
    "init_process_group all_reduce all_gather all_gather_into_tensor all_gather_coalesced all_to_all all_to_all_single broadcast "
    "broadcast_object_list all_gather_object gather_object scatter_object_list reduce reduce_scatter reduce_scatter_tensor scatter "
    "gather send recv isend irecv new_group batch_isend_irecv monitored_barrier get_backend get_process_group_ranks ProcessGroup "
    "DeviceMesh Work Backend Store TCPStore FileStore PrefixStore P2POp"
)


def _absent(module: str, names: str) -> Names:
    """Classes and functions of `module` that raise when they are made and called."""
    inner = module.removeprefix("torch.")
    return {name: _class(name, inner) if name[0].isupper() else refused(f"{inner}.{name}") for name in names.split()}


def _class(name: str, module: str) -> type:
    return type(name, (), {"__init__": refused(f"{module}.{name}"), "__module__": f"torch.{module}"})


_TENSOR = "DTensor DeviceMesh Placement Replicate Shard Partial distribute_tensor distribute_module"
_SHARDED = (
    "FullyShardedDataParallel FSDPModule BackwardPrefetch CPUOffload CPUOffloadPolicy OffloadPolicy MixedPrecision "
    "MixedPrecisionPolicy ShardingStrategy StateDictType StateDictConfig FullStateDictConfig LocalStateDictConfig "
    "ShardedStateDictConfig OptimStateDictConfig FullOptimStateDictConfig LocalOptimStateDictConfig ShardedOptimStateDictConfig "
    "OptimStateKeyType StateDictSettings fully_shard register_fsdp_forward_method"
)
#: Below `torch.distributed`: a module, and the names that libraries take from it.
_NAMES = {
    "tensor": _TENSOR,
    "_tensor": _TENSOR,
    "tensor.parallel": "ColwiseParallel RowwiseParallel SequenceParallel PrepareModuleInput PrepareModuleOutput ParallelStyle "
    "parallelize_module loss_parallel",
    "tensor.experimental": "context_parallel implicit_replication",
    "fsdp": _SHARDED,
    "fsdp.api": _SHARDED,
    "fsdp.fully_sharded_data_parallel": _SHARDED,
    "_composable.fsdp": _SHARDED,
    "fsdp.wrap": "ModuleWrapPolicy CustomPolicy always_wrap_policy lambda_auto_wrap_policy transformer_auto_wrap_policy "
    "size_based_auto_wrap_policy enable_wrap wrap _or_policy",
    "fsdp.sharded_grad_scaler": "ShardedGradScaler",
    "checkpoint": "FileSystemReader FileSystemWriter save load save_state_dict load_state_dict async_save",
    "checkpoint.state_dict": "StateDictOptions get_model_state_dict get_optimizer_state_dict get_state_dict "
    "set_model_state_dict set_optimizer_state_dict set_state_dict",
    "optim": "DistributedOptimizer PostLocalSGDOptimizer ZeroRedundancyOptimizer",
    "device_mesh": "DeviceMesh init_device_mesh",
    "algorithms.join": "Join Joinable JoinHook",
    "elastic.multiprocessing.errors": "ChildFailedError record",
    "utils": "_sync_module_states",
    "nn": "",
    "algorithms": "",
    "elastic": "",
    "elastic.multiprocessing": "",
    "_composable": "",
    "_functional_collectives": "all_reduce all_gather_tensor reduce_scatter_tensor broadcast",
    "nn.functional": "all_reduce all_gather all_to_all broadcast gather reduce reduce_scatter scatter",
}


def _rpc() -> Names:
    names = "RRef init_rpc rpc_sync rpc_async remote shutdown get_worker_info"
    return {"is_available": false, **_absent("torch.distributed.rpc", names)}


GROUPS: dict[str, Callable[[], Names]] = {
    "torch.distributed": _distributed,
    "torch.distributed.rpc": _rpc,
    **{f"torch.distributed.{inner}": partial(_absent, f"torch.distributed.{inner}", n) for inner, n in _NAMES.items()},
}
