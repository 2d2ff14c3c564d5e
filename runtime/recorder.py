"""The trace recorder: tensors, functions, traces. A thin layer over the C extension `_recorder`.

In: functions (`Function`), hooks (`set_hooks`) and buffers. Out: tensors whose operations are recorded, and programs
run when a value is needed. See docs/architecture.md, "The recorder". Next: `frontend/engine.py`, which gives the hooks.

**Function(name, params, kind, rule, \\*\\*extra)**: `params` is a tuple of (name, kind, default or REQUIRED[, keyword_only])
with kinds tensor, operand, tensors, optional, number, static, starts (views only); `kind` is "pure", "view" or "inplace".
`extra` keywords become attributes (`f.put`, `f.writes`, `f.doc`); three of them mean something here: `variadic` (the last
positional static may be given as several arguments), `fallible` (keep the user's line of every call, not just of the
first) and `detach` (a view that cuts gradient history).

**Operand infos** (given to hooks; one per parameter that is not static or starts, in the order of the parameters):
- `("tensor", shape, dtype, requires_grad, is_leaf, view_payload or None, shape of the base)`
- `("scalar", "float" | "int" | "bool")`: a number that enters the trace as an operand
- `("number", value)`: a number specialised by value
- `None` for an optional that is None; a list of tensor infos for a `tensors` parameter
Statics are a dict by parameter name; lists have become tuples, a variadic one always is a tuple.

**Hooks**
- `expand(function, operands, statics, mode) -> (payload, results, writes[, single])`. `results` is a sequence of
  (shape, dtype, requires_grad). `writes` is None or, per result, the index of the operand it replaces or -1, counted over
  the *flattened* operands (lists opened; None and numbers count). `single` (default: exactly one result): return the only
  new tensor bare, else a tuple. In-place calls without new results return the first argument when its kind is tensor,
  else None. A result that replaces an operand has the shape and dtype of the operand's *base*.
- `expand` of a view: `operands` is `[tensor info, number of starts]`; answers `(payload, (shape, dtype)[, limits])`, where
  `limits` has the greatest allowed value of each start (the least is 0; outside: IndexError) or is None.
  A view made where gradients are off, from a tensor that requires grad, is detached without asking.
- `build_program(export, live_slots, history_slots) -> Program`. `live_slots` ascend; the Program must give at least these.
  `history_slots` is None when no gradient history is needed after the flush, else the slots whose history live tensors
  hold; then the Program must have `residual_slots` (possibly empty): what `backward()` later needs besides the inputs.
- `expand_backward(export, loss_slot, gradient_slot or None, leaves, flags) -> (payload, results[, freed_slots])`, see below
- `expand_grad(export, output_slots, gradient_slots, input_slots, flags) -> (payload, results[, freed_slots])`
- `read_view(buffer, base_shape, dtype, view_payload, starts) -> Buffer`: the elements a view selects, contiguous
- `replay(export, live_slots, inputs, error) -> ({slot: Buffer}, exception)` after a failed run: `inputs` is a list of
  (slot, Buffer or number); the dict has the live slots that eager execution would have computed before the failing op
  (for a slot that is a write, what the written storage then held). Live tensors that are missing keep their value
  from before the trace, or else raise the exception whenever they are read.

**Export**: a list of entries in order; slots are small ints.
- `("input", slot, shape, dtype, requires_grad, False)`; `("scalar", slot, "float" | "int" | "bool")`
- `("leaf", slot, data_slot)`: a leaf that requires grad; the same data
- `("graft", slot, data_slot, history_slot)`: the data of one, the gradient history of the other
- `("call", payload, operands, result_slots, writes, (file, line) or None, function)`; `operands` is flattened like the
  operand infos: `(slot, view_payload or None, slots of the view's starts)` for tensors, `(slot, None, ())` for scalars,
  None for None and for numbers specialised by value. `writes` per result: operand index or -1
- `("backward" | "grad", payload, operands, result_slots, writes, loc, None)`: a result slot is None where there is none
- `("segment", base, entries, id, {old slot: slot})`: an imported trace; its slot s is slot base + s here. The dict gives
  the slots whose values are provided; the others are recomputed. `id` is the same for the same entries

**Program(executable, output_slots, updates=None, residual_slots=None, input_slots=None)**: `executable` is a `Plan` or a
callable `(inputs, donate) -> list of Buffer` for output_slots then residual_slots. Inputs are the trace's inputs and
scalars in slot order (only those in `input_slots`, if given): Buffers and Python numbers. `donate[i]` says that the
buffer may be overwritten, if the run cannot fail any more. `executable` and `updates` may be replaced at any time;
`runs` and `ns` count.
"""

from __future__ import annotations

from flambeau.runtime._recorder import (
    REQUIRED,
    Function,
    Program,
    Tensor,
    clear,
    explain_log,
    flush,
    flush_all,
    flush_count,
    flush_if_pending,
    get_mode,
    is_shared,
    make_leaf,
    realize,
    same_storage,
    set_cell,
    set_hooks,
    set_limits,
    set_mode,
    set_requires_grad,
    set_shadow,
    set_shared,
    set_slot,
    slot_for_tensor,
    stats,
    tensor_from_buffer,
    trace_export,
    view_info,
)

__all__ = [
    "REQUIRED",
    "Function",
    "Program",
    "Tensor",
    "clear",
    "explain_log",
    "flush",
    "flush_all",
    "flush_count",
    "flush_if_pending",
    "get_mode",
    "is_shared",
    "make_leaf",
    "realize",
    "same_storage",
    "set_cell",
    "set_hooks",
    "set_limits",
    "set_mode",
    "set_requires_grad",
    "set_shadow",
    "set_shared",
    "set_slot",
    "slot_for_tensor",
    "stats",
    "tensor_from_buffer",
    "trace_export",
    "view_info",
]
