"""The trace recorder: tensors, functions, traces. A thin layer over the C extension `_recorder`.

In: functions (`Function`), hooks (`set_hooks`) and buffers. Out: tensors whose operations are recorded, and programs
run when a value is needed. See docs/architecture.md, "The recorder". Next: `frontend/engine.py`, which gives the hooks.

**Function(name, params, kind, rule, **extra)**: `params` is a tuple of (name, kind, default or REQUIRED[,
keyword_only[, other names that callers may use]]) with kinds tensor, operand, tensors, optional, number, stream,
static, size (static, and its ints are sizes), starts (views only), default; `kind` is "pure", "view" or "inplace".
`extra` keywords become attributes (`f.put`, `f.writes`, `f.doc`); five of them mean something here: `variadic` (the
last positional static may be given as several arguments), `fallible` (keep the user's line of every call, not just of
the first), `detach` (a view that cuts gradient history), `aside` (so does this, and writes through it are nothing to gradients
that were recorded before) and `otherwise`, a callable that gets the arguments of a call
that raised TypeError: rare forms of a call are its business. An argument of kind default that is given another value
is such a form; the rule does not get to see it. A `stream` (a `Stream`, which has a seed and an offset; None is the
default one) enters as two scalars and moves on by the payload's `draws`.

**Public(function, name, report, spellings={}, more=None, views="")** is a callable that forwards to `function` at the cost
of a C call. Where that raises an Exception, `report(function, name, exception, args, kwargs)` gives the one to raise.
`spellings` maps other names of parameters to those that the function knows. `more` takes calls with `out=` and such; `views`
says what the views that it gives follow from ("operand", "types" or "place", see `frontend/declarations.py`): a call that equals
one of the last few thousand is answered without calling the function (`recall.c`).

**Operand infos** (given to hooks; one per parameter that is not static, size, starts or default, in their order):
- `("tensor", shape, dtype, requires_grad, is_leaf, view_payload or None, shape of the base, device)`; `is_leaf`: also a view of
  one; `device`: its name
- `("scalar", "float" | "int" | "bool")`: a number that enters the trace as an operand
- `("number", value)`: a number specialised by value
- `None` for an optional that is None; a list of tensor infos for a `tensors` parameter; a list of two scalars, the seed
  and the offset, for a stream
Statics are a dict by parameter name; lists have become tuples, a variadic one always is a tuple.

**Hooks**
- `expand(function, operands, statics, mode) -> (payload, results, writes[, single])`. The answer depends on nothing else: for
  equal ones the last answers are remembered, wherever in the trie. `results` is a sequence of
  (shape, dtype, requires_grad[, device]), on the CPU without one. `writes` is None or, per result, the index of the operand
  it replaces or -1, counted
  over the *flattened* operands (lists opened; None and numbers count). `single` (default: exactly one result): return
  the only new tensor bare, else a tuple. In-place calls without new results return the first argument if it is a
  tensor, else None. A result that replaces an operand has the shape and dtype of the operand's *base*.
- `expand` of a view: `operands` is `[tensor info, number of starts]`; answers `(payload, (shape, dtype)[, limits])`,
  where `limits` has the greatest allowed value of each start (the least is 0; outside: IndexError) or is None.
  A view made where gradients are off, from a tensor that requires grad, is detached without asking.
- `fit_sizes(values, sizes, seen, bases) -> (exprs, values) or None`: the sizes of a key that was not found (dims of the
  types of entering values, ints in `size` parameters, of the call and of its operands' views, in order); `values` are those of
  the trace's symbols, `seen` has (values, sizes) of earlier keys that differ in sizes only, `bases` per operand
  the shape of its slot where that has symbols, else None. Answers what each size is, an int or a Size, and the values of all
  symbols, new ones last; a new one appears by itself where its value comes from.
- `equations(export) -> list`: what is 0 of the symbols of a trace that has imported others, as rows of `Size.program`.
- `expand_sized(function, operands, statics, mode, values, bases, exprs)` as `expand`, where symbols take part; answers
  (payload, results, writes, single, guards, views): `guards` are (index of the relation to 0 among ==, !=, <, >=; rows of
  `Size.program`), `views` payloads with these sizes for the operands that are views, in order.
- `build_program(export, live_slots, history_slots) -> Program`. `live_slots` ascend; the Program must give at least
  these. `history_slots` is None when no gradient history is needed after the flush, else the slots whose history live
  tensors hold; then the Program must have `residual_slots` (possibly empty). A Program that is for `once` runs now; when
  the trace comes again, another one is asked for.
- `expand_backward(export, loss, gradient or None, leaves, flags) -> (payload, results[, freed_slots[, guards]])`: `loss`
  and `gradient` are operand references as in the export; `leaves` is a list of (slot of the leaf entry, reference of
  its existing .grad or None), those that the loss reaches or that were asked for; `flags & 1` is retain_graph, the rest
  is `backward`'s `flags`.
  `results`: per leaf None or (shape, dtype, requires_grad[, device]), where with an existing .grad the result is the new value
  of its base. `freed_slots`: slots whose history is now used up (none with retain_graph). Errors are not remembered.
- `expand_grad(export, outputs, gradients, inputs, flags) -> (payload, results[, freed_slots])` likewise, with
  lists of references (`gradients` may hold None); `flags` is `grad_entry`'s.
- `view_layout(view_payload, base_shape) -> (first, strides, steps) or None`: where in the base the elements lie that the view
  shows, in elements: the first one where all starts are 0, the strides, by how much each start moves it. Asked once per view
- `array_of(tensor)`: its elements as a NumPy array, for what the recorder cannot read (`dtype.code`, the letter of the struct
  module, says how an element is read; without one it cannot)
- `construct(cls, args, kwargs or None)`: what `Tensor(*args, **kwargs)` gives, and that of classes that inherit from it
- `window`, `copy`, `fill`: no hooks but Functions, with which `x[i]` and `x[i] = y` are made where i is ints, slices, None and
  `...`: the view `window(x, starts, sizes, steps, shape)`, the in-place `copy(view, tensor)` and `fill(view, number)`
- `read_view(buffer, base_shape, dtype, view_payload, starts) -> Buffer`: the elements a view selects, contiguous
- `replay(export, slots, inputs, error) -> ({slot: Buffer}, exception, slot)` after a failed run: `inputs` is a list of
  (slot, Buffer or number), `slots` the live slots and those that writes replaced; the dict has the ones that are computed
  before the failing op, the last slot is the first one that is not. Live tensors get the latest value of their storage in
  it, or keep the one from before the trace, or else raise the exception whenever they are read. Not asked where memory
  ran out (all of the trace is dropped) or for what is no Exception (the trace stays, and runs before the next call)

**Export**: a list of entries in order; slots are small ints. It is one list per trace, which grows; leave it alone.
- `("input", slot, shape, dtype, requires_grad, False, device)`; `("scalar", slot, "float" | "int" | "bool")`
- `("leaf", slot, data_slot or None)`: a leaf that requires grad; the same data. None: only its place in the history is
  known here (it was met through an imported trace), nothing reads its data
- `("graft", slot, data_slot, history_slot)`: the data of one, the gradient history of the other
- `("call", payload, operands, result_slots, writes, (file, line) or None, function)`; `operands` is flattened like
  operand infos: `(slot, view_payload or None, slots of the view's starts)` for tensors, `(slot, None, ())` for
  scalars, None for None and for numbers specialised by value. `writes` per result: operand index or -1
- `("backward" | "grad", payload, operands, result_slots, writes, loc, None)`: operands of backward are loss, gradient
  or None, then per leaf its .grad or None; of grad: outputs, gradients, inputs. A missing result's slot is None
- `("segment", base, entries, id, {old slot: slot}, sizes)`: an imported trace; its slot s is slot base + s here. The dict
  gives the slots whose values are provided (inputs of the current trace): its `residual_slots` and all its scalars;
  the others must be recomputed if they are needed. `id` is the same for the same entries. These are written in symbols
  of their own; `sizes` is what those are in this trace
- `("freed", slots)`: their history was used up, by a gradient recorded op by op or before their trace was imported
- `("link", slot, history_slot)`: gradients that arrive at `slot` go on to `history_slot`. Links lead from an input to
  the imported slot that computed it, from an imported leaf (base + s) to the leaf's entry in this trace, and from an
  imported input to the slot of its own, earlier import. They may lead forward: sort by dependence, not by position
- `("modified", slots)`: the tensors of these slots of an imported trace have been written since
- `("written_aside", slots)`: likewise, by way of tensors that share their data and not their history

**Program(executable, output_slots, updates=None, residual_slots=None, input_slots=None, watched=None)**: `executable` is a
`Plan`, an `OpList` or a callable `(inputs, donate) -> list of Buffer` for output_slots, then residual_slots; each ascends.
`residual_slots` (required when history was asked for) are the slots whose values `backward()` will need; they may be inputs
or also be in output_slots; scalars are kept anyway. `watched` (they ascend) are those whose tensors must still have the
same values by then. Inputs of the executable are the trace's inputs and scalars in slot order (only those in `input_slots`,
if given): Buffers and Python numbers. `donate[i]` says that the buffer may be overwritten once the run cannot fail any
more. `executable`, `others` (None, or a tuple of Plans for sizes that the executable, a Plan, is not for) and `updates` may
be replaced at any time; `runs` and `ns` count.

**Functions**
- `flush()`, `flush_all()` (every thread), `flush_if_pending(tensor) -> bool`, `flush_count()`,
  `realize(tensor) -> Buffer` of the base
- `abandon(error)`: drop the current trace because of an OutOfMemory or MemoryError, which is raised
- `if_lost(tensor, call)`: if the value that the tensor now waits for is never computed, call `call()`. For what Python
  remembers beside the trace; to be safe from interrupts it must run no Python code, as `partial(d.pop, key)`
- `together(calls)`: `call()` of each in a tuple; an interrupt (no Exception) comes before all of them or after all of them. Each
  must record all that it does at its end, as a Function does
- `flush_point(long=False)`: flush if the trace is long (soft_ops, or soft_ns of the payloads' `cost`), or the caller says so.
  Called where programs repeat, so that long loops are cut at the same place in every round; the end of a second backward() is
  such a place too
- `set_mode(bits) -> old bits`, `get_mode()`: per thread, 12 bits; bit 0 is grad mode. `ModeScope(mask, bits)`: a context manager
  that holds bits of it, `GradScope(mode)`: one of bit 0 that acts when it is made; entered and left in C, so that no interrupt
  falls in between. `is_entered(cls)`: whether the thread is in a block of one of this subclass
- `Context`: base of context managers written in Python: `enter()`, and `leave()`, which is called until no interrupt cuts it short
- `tensor_from_buffer(buffer, shape, dtype, requires_grad=False, cls=None, shared=False, unset=False, device="cpu")`;
  unset: nothing was written to it yet
- `tensor_on(array, dtypes)`: a tensor on the memory of a NumPy array, if that is writable, laid out row by row and of a dtype in
  `dtypes`, {NumPy's: ours}; else None. `array_on(tensor)`: an array on the memory of a tensor, which is shared from then on; None
  where strides cannot express what it shows. `tell_address(tensor)`: from now on its memory may be written to unseen
- `move_storage(tensor, buffer)`: the storage that the tensor and its views share lies in a buffer, which others see, from now on
- `Forwarding`: base of classes whose calls go to `forward`, and to `_call_impl` where their `_call_hooks` is not None
- `alias(tensor, cls)`: another handle, of class `cls`, of the same value with the same history; a leaf's is the same leaf
- `intercept(cls, handler, callables)`: from now on a call with a tensor of class `cls` of one of a tuple of Functions and Publics,
  or of one that is made later, goes to `handler(callable, *args, **kwargs)`; methods of classes are left as they are
- `make_leaf(tensor, requires_grad, cls=None)`: a new handle of class `cls` on the same storage
- `set_requires_grad(tensor, flag)`; a tensor that is a view of another shape must be cloned first (ValueError)
- `not_recalled()`: the calls of Python functions that are on their way are never made again without Python.
- `set_cell(tensor, other)`: `tensor.data = other`; `is_lone_view(tensor)`: whether it is a view of what nobody else holds,
  `is_part(tensor)`: whether it is a view that shows its base in another way than whole;
  `set_apart(tensor)`: writes to its storage raise RuntimeError from now on
- `view_info(tensor) -> (view payload or None, shape of the base, starts)`, `same_storage(a, b)`
- `item(tensor)`, `tolist(tensor)`, `to_bool`, `to_int`, `to_float`, `to_index`: what is in it, read in C.
  `memory(tensor) -> (shape, NumPy dtype, Buffer, offset, strides)`, as numpy.ndarray takes them, or None where an array could
  not show it; `strides(tensor)`, in elements, or None
- `literal(data, dtype or None, dtype of floats, of ints, of bools) -> Tensor`, or None for data that is no nested list of numbers
- `set_shared(tensor, flag)`, `is_shared(tensor)`: memory that others can see. First say so, then hand it out: it becomes
  this tensor's alone, if others lay in it. It counts as shared until nobody else can
  write to it any more (`owners.c`); `stats()["copied"]` are the bytes copied because of it
- `backward(tensor, gradient=None, retain_graph=False, leaves_hint=None, flags=0)`,
  `grad_entry(outputs, inputs, grad_outputs=None, flags=0) -> tuple of Tensor or None`
- `trace_sizes()`: the values of the symbols of the current trace; `trace_equations(start) -> (n, list)`: programs of what is 0
  because of its guards, and for imported traces (what their symbols are here, their list): of the states from `start` to n
- `trace_key()`: (number of the state, sizes), which says all of the current trace but its values; None with imports in it
- `trace_returns()`: how often the trace that is about to run was run by programs that were for `once`, and the nanoseconds `spent`
  on them; None where it has another
- `trace_notes()`: a dict that lives as long as the current trace, for what is worked out about it
- for recording gradients op by op: `trace_export()`, `trace_scalars() -> {slot: number}`, `trace_scalar(slot)`,
  `trace_leaves() -> [(slot, object with grad)]`, `slot_for_tensor(tensor)`,
  `tensor_for_slot(slot)`: with the slot's value and history, also where it is one of an imported trace,
  `import_history(tensor) -> slot`, `known_history(tensor) -> slot or None` (if it is in the trace or imported),
  `free_history(slots)`: as a backward that does not retain the graph; the slots ascend
- `held(fn, *args)`: `fn(*args)`, while no other thread runs the trace, whose slots stay what they are. It may be called
  anew, where it needs a value that another thread still owes. `replace_grad(owner, old, new)`: `owner.grad = new` if it is
  `old`; whether it was
- `mark_history(tensor, object)`: the object lives as long as the place in a history that the tensor, a result, has now;
  `trace_marks() -> [(slot, object)]` of the trace and its imports; `is_of_leaf(tensor)`: a leaf or a view of one.
  `track(tensor)`: the collector of garbage sees what this tensor holds from now on, its history too. For tensors that such
  objects keep
- `tree_tensors(tree)`: the tensors of nested dicts (and other mappings), lists and tuples, in order; `tree_mapped(change, tree)`:
  the same nesting with its tensors changed, `tree_changed(change, tree)`: with all leaves changed
- `set_slot(name, callable) -> what was there`: operators, named nb_add ... nb_inplace_add ... mp_subscript, lt ... ge
- `set_hooks(**hooks) -> those before`, `set_limits(max_ops=, soft_ops=, max_bytes=, max_states=, max_ns=, soft_ns=,
  max_programs=, max_types=, soft_backwards=)`, `set_shadow(flag)`, `stats()`, `clear(counters=True)`
- for recording a call without consequences: `capture_begin()` flushes; then this thread's trace does not run until
  `capture_open()` (who needs a value gets RuntimeError, and `capture_read()` says where that was: (file, line), () if unknown,
  or None), and `capture_end()` drops what has not run and undoes every change of what existed before: storage, versions,
  gradients, streams, handles. `capture_changes() -> [(kind, name of what did it, (file, line) or None, what)]` with
  "write" and a tensor on the changed storage, "grad" and a leaf (`leaf_of(tensor)`) that has got another gradient, or "note" and
  the tensors given to `capture_note(name, tensors)`, by who cares to announce a change instead of making it.
  `capturing()`; `capture_outside(tensor)`: its storage existed before
- for recording what a function computes, beside the trace: `region_begin(name)`, then this thread records into a trace of its own,
  which reads values of the one around it as they are, computed or not; `region_inputs() -> [(slot, tensor)]`, what it has read;
  after `region_draws()` it may draw random numbers: `region_drawn() -> {stream: how many}`, and these are put back when it ends;
  `region_end()` drops it. It must not change what is outside, nor need a value of its own. They nest
- `explain_log()`: counts of misses, builds and flushes by place
"""

from __future__ import annotations

import os

from flambeau.runtime import _recorder
from flambeau.runtime._recorder import (
    REQUIRED,
    Context,
    Forwarding,
    Function,
    GradScope,
    ModeScope,
    Program,
    Public,
    Size,
    Stream,
    Tensor,
    abandon,
    alias,
    array_on,
    backward,
    capture_begin,
    capture_changes,
    capture_end,
    capture_note,
    capture_open,
    capture_outside,
    capture_read,
    capturing,
    clear,
    explain_log,
    flush,
    flush_all,
    flush_count,
    flush_if_pending,
    flush_point,
    free_history,
    get_mode,
    grad_entry,
    held,
    if_lost,
    import_history,
    intercept,
    is_entered,
    is_lone_view,
    is_of_leaf,
    is_part,
    is_shared,
    item,
    known_history,
    leaf_of,
    literal,
    make_leaf,
    mark_history,
    memory,
    move_storage,
    not_recalled,
    realize,
    region_begin,
    region_drawn,
    region_draws,
    region_end,
    region_inputs,
    replace_grad,
    same_storage,
    set_apart,
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
    strides,
    tell_address,
    tensor_for_slot,
    tensor_from_buffer,
    tensor_on,
    to_bool,
    to_float,
    to_index,
    to_int,
    together,
    tolist,
    trace_equations,
    trace_export,
    trace_key,
    trace_leaves,
    trace_marks,
    trace_notes,
    trace_returns,
    trace_scalar,
    trace_scalars,
    trace_sizes,
    track,
    tree_changed,
    tree_mapped,
    tree_tensors,
    view_info,
)

__all__ = [
    "REQUIRED",
    "Context",
    "Forwarding",
    "Function",
    "GradScope",
    "ModeScope",
    "Program",
    "Public",
    "Size",
    "Stream",
    "Tensor",
    "abandon",
    "alias",
    "array_on",
    "backward",
    "capture_begin",
    "capture_changes",
    "capture_end",
    "capture_note",
    "capture_open",
    "capture_outside",
    "capture_read",
    "capturing",
    "clear",
    "explain_log",
    "flush",
    "flush_all",
    "flush_count",
    "flush_if_pending",
    "flush_point",
    "free_history",
    "get_mode",
    "grad_entry",
    "held",
    "if_lost",
    "import_history",
    "intercept",
    "is_entered",
    "is_lone_view",
    "is_of_leaf",
    "is_part",
    "is_shared",
    "item",
    "known_history",
    "leaf_of",
    "literal",
    "make_leaf",
    "mark_history",
    "memory",
    "move_storage",
    "not_recalled",
    "realize",
    "region_begin",
    "region_drawn",
    "region_draws",
    "region_end",
    "region_inputs",
    "replace_grad",
    "same_storage",
    "set_apart",
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
    "strides",
    "tell_address",
    "tensor_for_slot",
    "tensor_from_buffer",
    "tensor_on",
    "to_bool",
    "to_float",
    "to_index",
    "to_int",
    "together",
    "tolist",
    "trace_equations",
    "trace_export",
    "trace_key",
    "trace_leaves",
    "trace_marks",
    "trace_notes",
    "trace_returns",
    "trace_scalar",
    "trace_scalars",
    "trace_sizes",
    "track",
    "tree_changed",
    "tree_mapped",
    "tree_tensors",
    "view_info",
]

# A child process has only the forking thread: what others recorded is run before.
os.register_at_fork(before=flush_all, after_in_child=_recorder._after_fork)
