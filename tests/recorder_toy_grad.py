"""Reverse mode for the toy: expansions of backward and grad entries, on top of `recorder_toy`.

A payload of a call that is differentiable has `vjp(cotangents, results, *args) -> cotangents of args`, on NumPy arrays.
A backward payload walks the export it was given, so it is the plainest possible engine.
"""

from __future__ import annotations

import numpy as np
import recorder_toy as T
from flambeau.runtime import recorder as R


def unbroadcast(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=axes, keepdims=True).reshape(shape)


VJPS = {
    "add": lambda g, x, y: (unbroadcast(g, np.shape(x)), unbroadcast(g, np.shape(y))),
    "sub": lambda g, x, y: (unbroadcast(g, np.shape(x)), unbroadcast(-g, np.shape(y))),
    "mul": lambda g, x, y: (unbroadcast(g * y, np.shape(x)), unbroadcast(g * x, np.shape(y))),
    "matmul": lambda g, x, y: (g @ y.T, x.T @ g),
    "sum": lambda g, x: (np.broadcast_to(g, x.shape),),  # over all axes only
    "add_": lambda g, x, y: (unbroadcast(g, np.shape(x)), unbroadcast(g, np.shape(y))),
    "mul_": lambda g, x, y: (unbroadcast(g * y, np.shape(x)), unbroadcast(g * x, np.shape(y))),
}


def flatten(entries, offset=0, links=None, found=None):
    """Differentiable edges: (result slot, operand slots, vjp name, views), segments opened."""
    links = {} if links is None else links
    found = [] if found is None else found
    for e in entries:
        if e[0] == "call":
            found.append((offset + e[3][0], [None if r is None else (offset + r[0], r[1]) for r in e[2]], e[6].name))
        elif e[0] == "graft":
            links[offset + e[1]] = offset + e[3]
        elif e[0] == "link":
            links[offset + e[1]] = offset + e[2]
        elif e[0] == "segment":
            flatten(e[2], offset + e[1], links, found)
    return found, links


def gradients(entries, seeds, env, wanted):
    calls, links = flatten(entries)
    by_result = {c[0]: c for c in calls}
    order, seen = [], set()

    def visit(slot):
        if slot in seen:
            return
        seen.add(slot)
        if slot in by_result:
            for ref in by_result[slot][1]:
                if ref is not None and not (ref[1] is not None and ref[1].detached):
                    visit(ref[0])
        if slot in links:
            visit(links[slot])
        order.append(slot)

    for slot in seeds:
        visit(slot)
    cotangents = dict(seeds)
    for slot in reversed(order):
        g = cotangents.get(slot)
        if g is None:
            continue
        if slot in links:
            to = links[slot]
            cotangents[to] = cotangents.get(to, 0) + g
        elif slot in by_result:
            _, refs, name = by_result[slot]
            args = [env[r[0]] if r[1] is None else r[1].read(env[r[0]]) for r in refs]
            for ref, ct in zip(refs, VJPS[name](g, *args), strict=True):
                if ref is None or (np.ndim(env[ref[0]]) == 0 and not isinstance(env[ref[0]], np.ndarray)):
                    continue
                if ref[1] is not None:
                    if ref[1].detached:
                        continue
                    ct = np.asarray(ct).reshape(env[ref[0]].shape)  # the toy differentiates reshapes only
                cotangents[ref[0]] = cotangents.get(ref[0], 0) + ct
    return [cotangents.get(s) for s in wanted]


def leaf_types(entries, slots):
    found = T.avals(entries)
    return [found[s] for s in slots]


def freed_slots(entries):
    """The slots whose history entries of this trace have used up."""
    found = set()
    for kind, *rest in entries:
        found.update(rest[0] if kind == "freed" else rest[0].freed if kind in ("backward", "grad") else ())
    return found


def expand_backward(export, loss, gradient, leaves, flags):
    export = list(export)  # it grows
    T.counts["expand"] += 1
    slots = [s for s, _ in leaves]
    _, used = reached(export, loss[0])
    if used & freed_slots(export):
        raise RuntimeError("[backward] the graph was freed; pass retain_graph=True.")
    has = [grad is not None for _, grad in leaves]

    def run(env, values):
        seed = np.float32(1) if values[1] is None else values[1]
        seed = np.broadcast_to(seed, env[loss[0]].shape)
        grads = gradients(export, {loss[0]: seed}, env, slots)
        return [g if not h else old + g for g, h, old in zip(grads, has, values[2:], strict=True)]

    run.types = leaf_types(export, slots)
    run.freed = () if flags & 1 else sorted(used)
    return run, [(*t, False) for t in run.types], run.freed


def expand_grad(export, outputs, seeds, inputs, flags):
    export = list(export)
    slots = [r[0] for r in inputs]
    n = len(outputs)
    places = [reached(export, o[0]) for o in outputs]
    found, used = (set().union(*sets) for sets in zip(*places))
    if used & freed_slots(export):
        raise RuntimeError("[grad] the graph was freed; pass retain_graph=True.")

    def run(env, values):
        seeds = zip(outputs, values[n : 2 * n], strict=True)
        start = {o[0]: np.ones_like(env[o[0]]) if s is None else s for o, s in seeds}
        grads = gradients(export, start, env, slots)
        return grads

    types = T.avals(export)
    run.types = [types[s] if s in found else None for s in slots]
    run.freed = () if flags & 1 else sorted(used)
    return run, [t and (*t, False) for t in run.types], run.freed


def reached(export, loss):
    """The slots that the loss depends on, and those of them that calls computed."""
    calls, links = flatten(export)
    by_result = {c[0]: c for c in calls}
    seen, todo = set(), [loss]
    while todo:
        slot = todo.pop()
        if slot in seen:
            continue
        seen.add(slot)
        todo += [r[0] for r in by_result.get(slot, (0, ()))[1] if r is not None]
        todo += [links[slot]] if slot in links else []
    return seen, {s for s in seen if s in by_result}


class Machine(T.Machine):
    def run(self, inputs, env=None, base=0, stop=None):
        env, inputs = {}, iter(inputs)
        for e in self.entries:
            if e[0] == "segment":
                self.segment(e, env)
            elif e[0] in ("backward", "grad"):
                values = [None if r is None else env.get(r[0]) for r in e[2]]
                for slot, value in zip(e[3], e[1](env, values), strict=True):
                    if slot is not None:
                        env[slot] = value
            elif e[0] == "input":
                env[e[1]] = self.array(next(inputs), (e[2], e[3]))
            elif e[0] == "scalar":
                env[e[1]] = next(inputs)
            elif e[0] in ("leaf", "graft"):
                if e[2] is not None:
                    env[e[1]] = env[e[2]]
            elif e[0] == "call":
                self.call(e, env)
        return env

    def segment(self, e, env):
        """Recompute what can be recomputed from the provided values."""
        _, base, entries, _, provided, _ = e
        inner = {old: env[new] for old, new in provided.items()}
        for x in entries:
            if x[0] in ("leaf", "graft") and x[1] not in inner and x[2] in inner:
                inner[x[1]] = inner[x[2]]
            elif x[0] == "segment":
                nested = {old: inner[new] for old, new in x[4].items() if new in inner}
                for k, v in self.nested(x, nested).items():
                    inner.setdefault(k, v)
            elif x[0] == "call" and x[3][0] not in inner and all(r is None or r[0] in inner for r in x[2]):
                self.call(x, inner)
        for slot, v in inner.items():
            env[base + slot] = v

    def nested(self, e, provided):
        env = dict(provided)
        shifted = {}
        self.segment(("segment", 0, e[2], e[3], {k: k for k in env}), env)
        for k, v in env.items():
            shifted[e[1] + k] = v
        return shifted


def computed(entries):
    return {s for e in entries if e[0] in ("call", "backward", "grad") for s in e[3] if s is not None}


def build_program(export, live, history):
    T.counts["build"] += 1
    T.last_export[:] = export
    T.requested[:] = [live, history]
    machine, types = Machine(export), T.avals(export)
    residuals = None
    outputs = list(live)
    if history is not None:  # keep everything that is a tensor: the plainest choice
        tensors = {e[1] for e in export if e[0] == "input"}
        kept = {e[3][0] for e in export if e[0] == "call" and e[6].name in ("matmul", "sum")}
        residuals = sorted(tensors | kept)

    def execute(inputs, donate):
        T.counts["runs"] += 1
        env = machine.run(inputs)
        return [T.to_buffer(env[s], types[s][1].numpy) for s in [*outputs, *(residuals or ())]]

    return R.Program(execute, outputs, None, residuals, None, sorted(types))


HOOKS = {"build_program": build_program, "expand_backward": expand_backward, "expand_grad": expand_grad}


def installed():
    return T.installed(**HOOKS)
