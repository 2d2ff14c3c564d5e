"""What an op is: one `OpRecord` holds its types, reference, gradient, lowering and samples.

In: the families in `tape/`. Out: records, callable on `builder.Value`s. Tests, docs, the MLIR
dialect and the recorder are generated from them. Next: `tape/elementwise.py` for examples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from flambeau.dialects import families
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.domain import Domain
from flambeau.dialects.dtypes import DType
from flambeau.dialects.family import Family


class Kind(StrEnum):
    """The names of the built-in families (`families.py` says what they are), for records to say. Those of packages are said by
    their names. Nothing compares them: ask `OpRecord.family` for what you want to know."""

    ELEMENTWISE = "elementwise"
    SOURCE = "source"
    REDUCTION = "reduction"
    VIEW = "view"
    ASSEMBLE = "assemble"
    CONTRACTION = "contraction"
    CONVOLUTION = "convolution"
    GATHER = "gather"
    SCATTER = "scatter"
    PUT = "put"
    SCAN = "scan"
    SORT = "sort"
    WINDOW = "window"
    CONTROL = "control"
    HOST_CALL = "host_call"
    TRANSFER = "transfer"
    REFERENCE_CALL = "reference_call"
    LINEAR_ALGEBRA = "linear_algebra"
    FOURIER = "fourier"


class Nans(StrEnum):
    """The NaNs of an elementwise op's real results: of any sign and payload, always the canonical one, or those of a root, which
    LLVM knows more of, so that they have to be found by their bits."""

    COMPUTED = "computed"
    CANONICAL = "canonical"
    OF_ROOT = "of root"


@dataclass(frozen=True)
class NoGradient:
    """Stands where a vjp would, with the reason why the op has none."""

    reason: str


@dataclass(frozen=True)
class Sample:
    """One call used by the generated tests: operand arrays are made from `operands` by the test's generator.

    `operands` are NumPy arrays. float64 ones stand for data and are cast to each dtype of the record in turn
    (saturating, as the op `cast` does); other arrays are passed as they are, and so is everything in a bad call.
    `numbers` are the operands in complex dtypes where the data mixed with itself would not do.
    `gradient` says whether finite differences make sense there; `error` is the exception class and a fragment of its
    message when the call must be refused.
    """

    operands: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    error: tuple[type[Exception], str] | None = None
    gradient: bool = True
    numbers: tuple[Any, ...] | None = None


REGISTRY: dict[str, OpRecord] = {}
#: The work of an element, in additions, of an op that says nothing lighter.
HEAVY = 30


@dataclass(frozen=True, eq=False)
class OpRecord:
    """A primitive op.

    name       unique; `tape.<name>` is the MLIR op.
    kind       the name of its family: a `Kind`, or what a package calls it.
    attrs      names of the static attributes, in order; values are hashable and marshal-able
               (ints, bools, floats, strings, None, dtypes, tuples of those, `graph.Region`s).
    infer      (operand avals..., attrs...) -> Aval, or a tuple of them for an op with several `results`; raises the user's
               error for bad operands. What is said of the result below is a tuple then, with one for each.
    reference  (operand arrays..., attrs...) -> array; NumPy, the meaning of the op.
    vjp        (cotangent, result, operands..., attrs...) -> one cotangent or None per operand, written with
               records on `builder.Value`s; or `NoGradient`. Of several results' cotangents, some may be None.
    lower      elementwise and source ops: (b, operands..., attrs...) -> value, on scalars or vectors alike, with
               the emitter `b` of `compiler/codegen/emitter.py`. Reductions: a `Monoid`. Others: what their family makes
               of it; of built-in ones None, family and attributes say it all.
    dtypes     accepted dtypes of the data operands, one of the sets of `dtypes.py` or a tuple (conditions,
               indices, starts and seeds have a fixed dtype).
    exact      the NumPy reference agrees with compiled code to the bit, so it may stand in for it.
    in_order   (operand arrays..., attrs...) -> result with the bits of compiled code, for real dtypes, where the reference has
               others: it may stand in, too. None: nothing does, but for elementwise ops their lowering.
    fallible   may fail at run time on data (index out of range, division by zero).
    keep       a flushed forward keeps this op's result for the backward instead of recomputing it.
    ulp        accepted distance from the correctly rounded result, in units in the last place: one number, or one per dtype
               name.
    rounds_once  on narrow floats, computing in the dtype itself gives what computing in its accumulation dtype and rounding once
               gives: a machine that has the dtype may do so. True of + - * / and sqrt (Figueroa, "When is double rounding
               innocuous?", 1995), and of what does not round.
    hands_on   elementwise ops: the result is one of the operands, unchanged, as the choice of one is: it does not round, and its
               NaNs are theirs.
    by_bits    elementwise ops: lowered among the bits of narrow floats, for which nothing has to be widened, as what is handed on.
    nans       what the compiler has to know of the NaNs that it computes, see `Nans`.
    weight     elementwise ops: the work of an element, in additions: decides what is computed again, and how loops are unrolled.
    fixed      attributes named like extents ("size", "low", ...) for which kernels are made: they never become symbols.
    samples    good calls and bad ones.
    doc        one line, shown in docs.
    fails      fallible elementwise ops: (b, operands..., attrs...) -> i1, true where the op must fail; `lower` is then
               still safe to run and its value there does not matter. Other fallible ops: None, their family says it.
    domain     fallible ops: (operand avals..., attrs...) -> `Domain`, what must hold of an operand's elements, from which
               the errors of exported programs are made. None: those name no value.
    results    the names of the results, in order. None: there are as many as `infer` says, and it always gives a tuple.
    effect     it does something besides giving results: it is neither dropped, nor done twice, nor moved past another one. Its
               first operand and first result are tokens, whose order is theirs; see `tape/host.py`.
    moves_to   transfers: the attribute that names the device of the result. None: results lie where operands do, which types
               say; no other part of a record knows of devices.
    regions    the names of the attributes that are regions: programs that the op runs.
    run        ops with regions: (call, operand arrays..., attrs...) -> a tuple of arrays, where `call(region, arrays)` runs a
               region once. The meaning of the op on every tier; the reference has NumPy run them, see `control.by_numpy`.
    reaches    ops with regions: (per result, whether it has a cotangent; attrs...) -> per operand, whether one reaches it or would
               have to: what the rule of its gradient gives, found without what that computes.
    parts      what complex numbers need: (operands..., attrs...) -> result, on `parts.Pair`s of real `builder.Value`s, of which the
               result is one where it is complex. None: the op is done to real parts and to imaginary parts.
    by_memory  complex numbers are handed over as they lie in memory, to an op of their own that is made of this one:
               `parts.memory_form`. For families that have code for them.
    failure    fallible ops: (position, operand avals..., attrs...) -> the exception to raise when the op failed first
               at row-major `position` (of the result; of the index operand for gather and scatter).
    """

    name: str
    kind: str
    attrs: tuple[str, ...]
    infer: Callable[..., Aval | tuple[Aval, ...]]
    reference: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]] | NoGradient
    lower: Any
    dtypes: Sequence[DType]
    exact: bool = True
    in_order: Callable[..., Any] | None = None
    fallible: bool = False
    keep: bool = False
    ulp: float | Mapping[str, float] = 0.0
    rounds_once: bool = False
    hands_on: bool = False
    by_bits: bool = False
    nans: Nans = Nans.COMPUTED
    weight: int = HEAVY
    fixed: tuple[str, ...] = ()
    samples: Callable[[], list[Sample]] = list
    doc: str = ""
    fails: Callable[..., Any] | None = None
    failure: Callable[..., Exception] | None = None
    domain: Callable[..., Domain] | None = None
    results: tuple[str, ...] | None = ("result",)
    regions: tuple[str, ...] = ()
    run: Callable[..., Any] | None = None
    effect: bool = False
    moves_to: str | None = None
    reaches: Callable[..., Sequence[bool]] | None = None
    parts: Callable[..., Any] | None = None
    by_memory: bool = False

    def __post_init__(self) -> None:
        if self.name in REGISTRY:
            raise ValueError(f"[record] op '{self.name}' is defined twice. Choose another name.")
        if not (callable(self.vjp) or isinstance(self.vjp, NoGradient)):
            raise TypeError(f"[record] op '{self.name}' has no vjp. Give one, or NoGradient with the reason.")
        if self.fallible != (self.failure is not None):
            raise TypeError(f"[record] op '{self.name}': `fallible` and `failure` go together. Give both or neither.")
        if bool(self.regions) != (self.run is not None):
            raise TypeError(f"[record] op '{self.name}': `regions` and `run` go together. Give both or neither.")
        self.family.check(self)
        if self.parts is not None:
            from flambeau.dialects.parts import by_parts  # which is written in ops

            object.__setattr__(self, "reference", by_parts(self))
        REGISTRY[self.name] = self
        if self.by_memory:
            from flambeau.dialects.parts import memory_form  # that module imports this one

            memory_form(self)

    @cached_property
    def family(self) -> Family:
        """What ops that touch memory like this one have in common. Raises TypeError where there is none of that name,
        PluginError where a package's cannot be used."""
        try:
            return families.find(self.kind)
        except ValueError as error:
            raise TypeError(f"[record] op '{self.name}' is of a family that does not exist. {error}") from None

    @cached_property
    def is_single(self) -> bool:
        """Whether there is one result, which rules then give and get as it is, else in a tuple."""
        return self.results is not None and len(self.results) == 1

    def ulp_in(self, dtype: DType) -> float:
        """`ulp` of results of this dtype; of narrow ones 1, for they are rounded from others. Raises KeyError where the record says
        none."""
        if dtype.is_narrow:
            return 1.0
        return self.ulp if isinstance(self.ulp, float) else self.ulp[dtype.name]

    def infer_results(self, avals: Sequence[Aval], attrs: tuple[Any, ...], device: str = CPU) -> tuple[Aval, ...]:
        """The results' types. They lie where the operands do; those of a transfer where it moves them, and those of an op without
        operands on `device`. Raises RuntimeError for operands on several devices."""
        place = self._place(avals, device)
        if place != CPU:
            avals = [a.on(CPU) for a in avals]
        found: Any = self.infer(*avals, *attrs)
        results = (found,) if self.is_single else found
        if self.moves_to is not None:
            place = attrs[self.attrs.index(self.moves_to)]
        return results if place == CPU else tuple(a.on(place) for a in results)

    def _place(self, avals: Sequence[Aval], device: str) -> str:
        """Where an op with such operands is computed."""
        if not avals:
            return device
        place = avals[0].device
        for a in avals:
            if a.device != place:
                shown = ", ".join(dict.fromkeys(a.device for a in avals))
                raise RuntimeError(f"[{self.name}] operands lie on {shown}. Move them to one device with to(device).")
        return place

    def run_reference(self, arrays: Sequence[Any], attrs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The reference's results, an array each."""
        found = self.reference(*arrays, *attrs)
        return (found,) if self.is_single else found

    def run_lower(self, b: Any, operands: Sequence[Any], attrs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values that the lowering emits, one for each result."""
        found = self.lower(b, *operands, *attrs)
        return (found,) if self.is_single else found

    def __call__(self, *operands: Any, **attrs: Hashable) -> Any:
        """Apply to `builder.Value`s: the result, or a tuple of several. Sources take the builder as `builder=`."""
        builder: Any = attrs.pop("builder", None) or operands[0].builder
        results = builder.emit_all(self, operands, tuple(attrs[name] for name in self.attrs))
        return results[0] if self.is_single else results

    def __repr__(self) -> str:
        return f"tape.{self.name}"

    def __reduce__(self):
        return (find, (self.name,))


@dataclass(frozen=True)
class Monoid:
    """The fold of a reduction: `identity(dtype)` is a Python number, `combine(b, x, y)` emits one step."""

    identity: Callable[[DType], float | int | bool]
    combine: Callable[..., Any]


def find(name: str) -> OpRecord:
    """The record called `name`: a built-in one, which importing `flambeau.dialects.tape` registers, or a plug-in's.
    Raises KeyError when there is none, PluginError when its plug-in cannot be imported."""
    found = REGISTRY.get(name)
    if found is not None:
        return found
    import flambeau.dialects.tape  # noqa: F401

    if name not in REGISTRY:
        from flambeau.dialects import plugins  # that module imports this one

        plugins.load_op(name)
    return REGISTRY[name]
