"""IREE (MLIR/LLVM): StableHLO taken from jax_peer.pure(), compiled for llvm-cpu, run by iree.runtime.
JAX only traces; import_s counts IREE's own packages."""

import time

import numpy as np
from workloads import Case, Unsupported

TH = 1


def load(variant, threads):
    global rt, compiler, TH
    TH = threads
    t = time.perf_counter()
    import importlib.metadata as im

    import iree.compiler as compiler
    import iree.runtime as rt

    return {"iree": im.version("iree-base-compiler"), "own_import_s": time.perf_counter() - t}


def make(name):
    if name.startswith("W8"):
        raise Unsupported("not written")
    import jax
    import jax_peer as J

    J.load("jit", TH)
    fn, state, batch = J.pure(name)
    infer = name[:2] in ("W6", "W7", "W9")
    f = (lambda s, *b: fn(s, *b)[0]) if infer else fn
    leaves, tree = jax.tree_util.tree_flatten(state)
    flat = lambda *a: jax.tree_util.tree_leaves(
        f(jax.tree_util.tree_unflatten(tree, a[: len(leaves)]), *a[len(leaves) :])
    )
    text = jax.jit(flat, keep_unused=True).lower(*leaves, *batch).as_text()
    t0 = time.perf_counter()
    vmfb = compiler.compile_str(
        text,
        input_type="stablehlo",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"],
    )
    ct = time.perf_counter() - t0
    cfg = rt.Config("local-sync" if TH == 1 else "local-task")
    ctx = rt.SystemContext(config=cfg)
    ctx.add_vm_module(rt.VmModule.copy_buffer(ctx.instance, vmfb))
    main = [m for n, m in ctx.modules.items() if n.startswith("jit")][0]["main"]
    dev = lambda a: rt.asdevicearray(cfg.device, np.asarray(a))
    st, bt = [dev(l) for l in leaves], [dev(b) for b in batch]
    box = [st]

    def step():
        r = main(*box[0], *bt)
        r = list(r) if isinstance(r, (tuple, list)) else [r]
        if not infer:
            box[0] = r[1:]
        return r[0]

    def loss(r):
        r = np.asarray(r.to_host())
        return float(r if r.ndim == 0 else r.sum() if r.shape[0] == 1 else r.reshape(-1)[0])

    return Case(step, loss, note=f"iree-compile {ct:.2f} s, vmfb {len(vmfb) // 1024} KiB")
