"""The operations that record lowerings are written in: one method per op, for scalars and vectors alike.

In: `Val`s and Python numbers. Out: arith, math and vector ops, each handed to `op` as what it is: name, operands, attribute
and result type. A scalar operand beside a vector is splatted; a number takes the type of the other operand. Whether an integer is
signed says its type (`Val.is_signed`); the ops of arith say it in their names.
Next: `lane_ops.py`, the lanes of vectors; `spelling.py`, how an op is written; `emitter.py`, which mixes this in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flambeau.compiler.codegen import narrow_ranges
from flambeau.compiler.codegen.lane_ops import LaneOps
from flambeau.compiler.codegen.values import (
    Number,
    Operand,
    Val,
    dtype_of,
    float_bits,
    register_type,
    spell_number,
    spell_type,
)
from flambeau.dialects.dtypes import DType
from flambeau.dialects.size import Size

_FLOAT_PREDICATE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_SIGNED_PREDICATE = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_UNSIGNED_PREDICATE = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}


def _model(*operands: Operand) -> Val:
    """The first operand that is no number: it says which type numbers take."""
    return next(x for x in operands if isinstance(x, Val))


def _real(x: Val, floating: str, signed: str, unsigned: str = "", boolean: str = "") -> str:
    """Which of an op's names is that for values like x. Raises TypeError for complex ones: they have no arithmetic yet."""
    dtype = x.dtype
    if dtype.is_complex:
        raise TypeError(f"[emitter] there is no {signed} of {dtype.name} yet. Use a real dtype.")
    if dtype.is_floating_point:
        return floating
    if dtype.is_bool and boolean:
        return boolean
    return signed if dtype.is_signed or not unsigned else unsigned


def _is_narrow(x: Val) -> bool:
    """Whether values like x are floats that machines convert but do not compare, with infinities above all finite ones."""
    return x.dtype.is_narrow and x.dtype.has_infinity


class Arithmetic(LaneOps):
    """Mixed into `Emitter`, which provides `op`, `constant_name`, `size` and `while_`.

    Where lanes are `parted`, vectors of wide floats made of floats kept as bits have the elements of even places first, then
    those of odd ones: that takes no shuffle. Whoever sets it mixes these with nothing that has an order of its own.
    """

    parted = False

    def constant_name(self, literal: str, type: str) -> str:
        raise NotImplementedError

    def size(self, number: Size) -> Val:
        raise NotImplementedError

    def while_(
        self, carried: Sequence[Val], condition: Callable[..., Val], body: Callable[..., Sequence[Val]]
    ) -> list[Val]:
        raise NotImplementedError

    # ---- constants and shapes of values --------------------------------------------------------------------

    def const(self, number: Number, like: Val | str, lanes: int = 1) -> Val:
        """A constant of the type and lanes of `like`, or of the element type `like` with `lanes` lanes. A size is read
        when the kernel is called."""
        element, lanes = (like.type, like.lanes) if isinstance(like, Val) else (like, lanes)
        if isinstance(number, Size):
            return self.splat(self.cast(self.size(number), element), lanes)
        literal = spell_number(number, element)
        text = literal if lanes == 1 else f"dense<{literal}>"
        return Val(self.constant_name(text, spell_type(element, lanes)), element, lanes)

    def const_vector(self, numbers: Sequence[Number], element: str) -> Val:
        """A vector constant with one number per lane."""
        if len(numbers) == 1:
            return self.const(numbers[0], element)
        literals = ", ".join(spell_number(n, element) for n in numbers)
        return Val(self.constant_name(f"dense<[{literals}]>", spell_type(element, len(numbers))), element, len(numbers))

    def iota(self, lanes: int, element: str = "i64") -> Val:
        """The vector 0, 1, 2, ... ; for one lane the scalar 0."""
        return self.const_vector(range(lanes), element)

    def unify(self, *operands: Operand) -> list[Val]:
        """The operands as values with equal lanes; numbers become constants of the first value's type."""
        vals = [x for x in operands if isinstance(x, Val)]
        first, lanes = vals[0], max([x.lanes for x in vals])
        if len(vals) == len(operands) and all([x.lanes == lanes for x in vals]):
            return vals
        return [self.splat(x, lanes) if isinstance(x, Val) else self.const(x, first.type, lanes) for x in operands]

    def _same(self, op: str, *operands: Operand) -> Val:
        """An op whose operands and result all have one type."""
        vals = self.unify(*operands)
        x = vals[0]
        if any([v.type != x.type for v in vals]):
            raise TypeError(f"[emitter] {op} of {', '.join(v.type for v in vals)}. Cast the operands to one type.")
        if x.dtype.carrier:
            raise TypeError(
                f"[emitter] there is no {op} of {x.type}. Cast the operands, as the pass legalise-dtypes does."
            )
        return self.op(op, vals, x.type, x.lanes)

    def _numeric(self, name: str, x: Operand, y: Operand) -> Val:
        return self._same(_real(_model(x, y), f"arith.{name}f", f"arith.{name}i"), x, y)

    # ---- arithmetic ----------------------------------------------------------------------------------------

    def add(self, x: Operand, y: Operand) -> Val:
        return self._numeric("add", x, y)

    def sub(self, x: Operand, y: Operand) -> Val:
        return self._numeric("sub", x, y)

    def mul(self, x: Operand, y: Operand) -> Val:
        return self._numeric("mul", x, y)

    def div(self, x: Operand, y: Operand) -> Val:
        """Float division; integers go through `int_div_floor`."""
        return self._same("arith.divf", x, y)

    def fma(self, x: Operand, y: Operand, z: Operand) -> Val:
        """x * y + z, rounded once."""
        return self._same("math.fma", x, y, z)

    def dot4(self, x: Val, y: Val, z: Val) -> Val:
        """z + the sums of the products of four neighbours each: x of uint8, y of int8, z of int32. Wraps. Only where
        `Target.has_dots` of as many lanes."""
        return self.op("llvm.x86.avx512.vpdpbusd", [z, x, y], "i32", z.lanes)

    def neg(self, x: Val) -> Val:
        if _is_narrow(x):
            return self.bitcast(self.xor(self.bitcast(x, f"i{x.bits}"), -1 << (x.bits - 1)), x.type)
        return self._same("arith.negf", x) if x.is_float else self.sub(self.const(0, x), x)

    def bit_length(self, x: Val) -> Val:
        """The bits that integers, not negative, need: 0 for 0."""
        return self.sub(x.bits, self._same("math.ctlz", x))

    def abs(self, x: Val) -> Val:
        if _is_narrow(x):
            return self.bitcast(self._magnitude(x), x.type)
        name = _real(x, "math.absf", "math.absi", "itself")
        return x if name == "itself" else self._same(name, x)

    def sqrt(self, x: Val) -> Val:
        return self._same("math.sqrt", x)

    def floor(self, x: Val) -> Val:
        return self._same("math.floor", x)

    def ceil(self, x: Val) -> Val:
        return self._same("math.ceil", x)

    def trunc(self, x: Val) -> Val:
        return self._same("math.trunc", x)

    def round_even(self, x: Val) -> Val:
        return self._same("math.roundeven", x)

    def copysign(self, x: Operand, y: Operand) -> Val:
        return self._same("math.copysign", x, y)

    def minimum(self, x: Operand, y: Operand) -> Val:
        """The lesser; NaN if either is NaN; -0.0 is less than 0.0. Of bools: and."""
        if _is_narrow(model := _model(x, y)):
            return self._of_keys(self.minimum, x, y)
        return self._same(_real(model, "arith.minimumf", "arith.minsi", "arith.minui", "arith.andi"), x, y)

    def maximum(self, x: Operand, y: Operand) -> Val:
        """The greater; NaN if either is NaN; 0.0 is greater than -0.0. Of bools: or."""
        if _is_narrow(model := _model(x, y)):
            return self._of_keys(self.maximum, x, y)
        return self._same(_real(model, "arith.maximumf", "arith.maxsi", "arith.maxui", "arith.ori"), x, y)

    def _of_keys(self, choose: Callable[..., Val], x: Operand, y: Operand) -> Val:
        """An extreme of narrow floats, found among integers in the same order, since machines lack the comparison; beside a NaN
        the canonical one."""
        x, y = self.unify(x, y)
        chosen = self.ordered(choose(*(self.ordered(self.bitcast(v, f"i{v.bits}")) for v in (x, y))))
        magnitude = self.maximum(self._magnitude(x), self._magnitude(y))
        nan = self.cmp("gt", magnitude, float_bits(math.inf, x.type))
        return self.select(nan, math.nan, self.bitcast(chosen, x.type))

    def ordered(self, bits: Val) -> Val:
        """Bits of floats as integers in the order of the floats, -0.0 before 0.0; and such integers as bits: its own inverse."""
        return self.xor(bits, self.and_(self.shr(bits, bits.bits - 1), (1 << (bits.bits - 1)) - 1))

    def _magnitude(self, x: Val) -> Val:
        """The bits of a float but for its sign."""
        return self.and_(self.bitcast(x, f"i{x.bits}"), (1 << (x.bits - 1)) - 1)

    def int_div_floor(self, x: Operand, y: Operand) -> Val:
        """Integer quotient rounded down; 0 for a zero divisor; wraps for the least integer by -1."""
        return self._int_divide(x, y)[0]

    def int_rem_floor(self, x: Operand, y: Operand) -> Val:
        """Integer remainder with the divisor's sign; 0 for a zero divisor."""
        return self._int_divide(x, y)[1]

    def _int_divide(self, x: Operand, y: Operand) -> tuple[Val, Val]:
        """Hardware division traps for y = 0 and for the least integer by -1: both are computed by other means."""
        x, y = self.unify(x, y)
        if not x.is_signed:
            return self._unsigned_divide(x, y)
        zero, one, is_minus_one = self.const(0, x), self.const(1, x), self.cmp("eq", y, -1)
        is_zero = self.cmp("eq", y, zero)
        divisor = self.select(self.or_(is_zero, is_minus_one), one, y)
        quotient = self._same("arith.divsi", x, divisor)
        remainder = self.sub(x, self.mul(quotient, divisor))
        inexact = self.cmp("ne", remainder, zero)
        opposite = self.cmp("lt", self.xor(remainder, divisor), zero)
        down = self.and_(inexact, opposite)
        quotient = self.select(down, self.sub(quotient, one), quotient)
        remainder = self.select(down, self.add(remainder, divisor), remainder)
        quotient = self.select(is_minus_one, self.sub(zero, x), quotient)
        return self.select(is_zero, zero, quotient), remainder

    def _unsigned_divide(self, x: Val, y: Val) -> tuple[Val, Val]:
        zero = self.const(0, x)
        is_zero = self.cmp("eq", y, zero)
        divisor = self.select(is_zero, self.const(1, x), y)
        quotient = self.div_unsigned(x, divisor)
        return self.select(is_zero, zero, quotient), self.sub(x, self.mul(quotient, divisor))

    def div_unsigned(self, x: Operand, y: Operand) -> Val:
        """Quotient of integers known to be non-negative and positive: index arithmetic."""
        return self._same("arith.divui", x, y)

    def rem_unsigned(self, x: Operand, y: Operand) -> Val:
        return self._same("arith.remui", x, y)

    def mul_hi_u32(self, x: Operand, y: Operand) -> Val:
        """The upper 32 bits of the 64-bit product of unsigned i32 values."""
        wide = [self.extend_unsigned(v, "i64") for v in self.unify(x, y)]
        return self.truncate(self.shr(self.mul(*wide), 32), "i32")

    # ---- bits and logic ------------------------------------------------------------------------------------

    def and_(self, x: Operand, y: Operand) -> Val:
        return self._same("arith.andi", x, y)

    def or_(self, x: Operand, y: Operand) -> Val:
        return self._same("arith.ori", x, y)

    def xor(self, x: Operand, y: Operand) -> Val:
        return self._same("arith.xori", x, y)

    def not_(self, x: Val) -> Val:
        return self._same("arith.xori", x, self.const(-1, x))

    def shl(self, x: Operand, y: Operand) -> Val:
        """Left shift; the count must be below the bit width, as for `shr` and `shru`."""
        return self._same("arith.shli", x, y)

    def shr(self, x: Operand, y: Operand) -> Val:
        """Right shift that keeps the sign, if x has one."""
        return self._same("arith.shrsi" if _model(x, y).is_signed else "arith.shrui", x, y)

    def shru(self, x: Operand, y: Operand) -> Val:
        """Logical right shift (fills with zeros)."""
        return self._same("arith.shrui", x, y)

    def bitcast(self, x: Val, element: str) -> Val:
        """The same bits as another type of the same width."""
        if register_type(x.type) == register_type(element):  # as signed or unsigned: the register stays
            return x._replace(type=element)
        return self._convert("arith.bitcast", x, element)

    def regrouped(self, x: Val, element: str) -> Val:
        """The same bits as elements of another width, in the order in which they would lie in memory."""
        return self.op("llvm.bitcast", [x], element, x.lanes * x.bits // dtype_of(element).bits)

    # ---- comparison and choice -----------------------------------------------------------------------------

    def cmp(self, predicate: str, x: Operand, y: Operand) -> Val:
        """eq, ne, lt, le, gt, ge. Comparisons with NaN are false, except ne, which is true."""
        x, y = self.unify(x, y)
        if x.type != y.type:
            raise TypeError(f"[emitter] cmp of {x.mlir}, {y.mlir}. Cast the operands to one type.")
        if x.dtype.carrier:
            x, y = (self.cast(v, x.dtype.accumulation.mlir) for v in (x, y))
        if x.is_float:
            return self.op("arith.cmpf", [x, y], "i1", x.lanes, _FLOAT_PREDICATE[predicate])
        if x.dtype.is_complex and predicate not in ("eq", "ne"):
            raise TypeError(f"[emitter] values of {x.dtype.name} have no order. Compare real and imaginary parts.")
        names = _SIGNED_PREDICATE if x.is_signed else _UNSIGNED_PREDICATE
        return self.op("arith.cmpi", [x, y], "i1", x.lanes, names[predicate])

    def is_nan(self, x: Val) -> Val:
        return (
            self.cmp("gt", self._magnitude(x), float_bits(math.inf, x.type)) if _is_narrow(x) else self.cmp("ne", x, x)
        )

    def select(self, c: Val, x: Operand, y: Operand) -> Val:
        """x where c, else y; a scalar condition chooses between whole vectors."""
        x, y = self.unify(x, y)
        lanes = max(c.lanes, x.lanes)
        x, y = self.splat(x, lanes), self.splat(y, lanes)
        if x.type != y.type:
            raise TypeError(f"[emitter] select of {x.mlir}, {y.mlir}. Cast the operands to one type.")
        return self.op("arith.select", [c, x, y], x.type, lanes)

    # ---- conversions ---------------------------------------------------------------------------------------

    def cast(self, x: Val, element: str) -> Val:
        """The language's cast: float to int saturates and takes NaN to 0; number to bool is x != 0; integers wrap."""
        source, target = x.dtype, dtype_of(element)
        if source is target:
            return x
        if source.is_complex or target.is_complex:
            raise TypeError(f"[emitter] there is no cast from {source.name} to {target.name} yet. Use real dtypes.")
        if target.is_bool:
            return self.cmp("ne", x, self.const(0, x))
        if source.is_floating_point:
            return self._from_float(x, target)
        if target.is_floating_point:
            return self._convert("arith.sitofp" if source.is_signed else "arith.uitofp", x, element)
        if source.bits >= target.bits:
            return self.bitcast(x, element) if source.bits == target.bits else self.truncate(x, element)
        return self.extend_signed(x, element) if source.is_signed else self.extend_unsigned(x, element)

    def _from_float(self, x: Val, target: DType) -> Val:
        if x.dtype.carrier:
            return self.cast(self._uncarried(x), target.mlir)
        if target.carrier:
            return self._carried(self.cast(x, target.accumulation.mlir), target)
        if not target.is_floating_point:
            return self.saturated(x, target)
        if target.bits == x.bits:  # f16 and bf16: no direct conversion
            return self.cast(self.cast(x, target.accumulation.mlir), target.mlir)
        return self._convert("arith.extf" if target.bits > x.bits else "arith.truncf", x, target.mlir)

    def saturated(self, x: Val, target: DType) -> Val:
        """Floats as integers. LLVM's saturating conversion of a vector goes element by element: integers of at most 16 bits,
        whose bounds are floats, are limited first."""
        if x.lanes == 1 or target.bits > 16:
            name = "llvm.fptosi.sat" if target.is_signed else "llvm.fptoui.sat"
            return self.op(name, [x], target.mlir, x.lanes)
        low, high = (self.const(float(n), x) for n in (target.least, target.greatest))
        y = self.select(self.cmp("gt", x, low), x, low)  # NaN becomes the least
        found = self._convert("arith.fptosi", self.select(self.cmp("lt", y, high), y, high), "i32")
        if target.is_signed:
            found = self.select(self.is_nan(x), self.const(0, found), found)
        return self.truncate(found, target.mlir)

    def _uncarried(self, x: Val) -> Val:
        """A float that is kept as its bits, in the dtype that it accumulates in. Exact."""
        wide = x.dtype.accumulation
        if wide.exponent != x.dtype.exponent:
            return narrow_ranges.widened(self, x)
        if self._parts(x.lanes, wide, x.dtype):
            pairs, low = self.regrouped(self.bitcast(x, x.dtype.carrier), f"i{wide.bits}"), x.bits
            return self.bitcast(self.join_lanes(self.shl(pairs, low), self.and_(pairs, -1 << low)), wide.mlir)
        bits = self.extend_unsigned(self.bitcast(x, x.dtype.carrier), f"i{wide.bits}")
        return self.bitcast(self.shl(bits, wide.mantissa - x.dtype.mantissa), wide.mlir)

    def _carried(self, x: Val, target: DType) -> Val:
        """x, of the accumulation dtype, rounded to nearest even: the bits that are dropped carry into those that stay."""
        wide = target.accumulation
        if wide.exponent != target.exponent:
            return narrow_ranges.narrowed(self, x, target)
        dropped, integer = wide.mantissa - target.mantissa, f"i{wide.bits}"
        bits = self.bitcast(x, integer)
        odd = self.and_(self.shru(bits, dropped), 1)
        carried = self.add(bits, self.add(odd, (1 << (dropped - 1)) - 1))
        if self._parts(x.lanes, wide, target):
            whole, half = (
                self.select(self.is_nan(x), float_bits(math.nan, target.mlir) << dropped, carried),
                x.lanes // 2,
            )
            even, odd = (self.slice_lanes(whole, start, half) for start in (0, half))
            pairs = self.or_(self.shru(even, dropped), self.and_(odd, -1 << dropped))
            return self.bitcast(self.regrouped(pairs, target.carrier), target.mlir)
        rounded = self.shru(carried, dropped)
        nan = self.const(float_bits(math.nan, target.mlir), rounded)
        kept = self.truncate(self.select(self.is_nan(x), nan, rounded), target.carrier)
        return self.bitcast(kept, target.mlir)

    def _parts(self, lanes: int, wide: DType, narrow: DType) -> bool:
        """Whether a vector of floats that are half as wide is taken apart by places."""
        return self.parted and lanes > 1 and wide.bits == 2 * narrow.bits

    def extend_signed(self, x: Val, element: str) -> Val:
        return self._convert("arith.extsi", x, element)

    def extend_unsigned(self, x: Val, element: str) -> Val:
        return self._convert("arith.extui", x, element)

    def truncate(self, x: Val, element: str) -> Val:
        """The low bits of an integer."""
        return self._convert("arith.trunci", x, element)

    def _convert(self, op: str, x: Val, element: str) -> Val:
        return self.op(op, [x], element, x.lanes)

    # ---- control flow --------------------------------------------------------------------------------------

    def repeat(
        self,
        carried: Sequence[Val],
        condition: Callable[..., Val],
        body: Callable[..., Sequence[Val]],
        at_most: int,
    ) -> list[Val]:
        """The values after `body(*values)` was applied while `condition(*values)` (i1) holds in some lane, at most `at_most`
        times. All lanes go on together: what is done to one that needs it no more must leave it as it is."""

        def more(left: Val, *values: Val) -> Val:
            return self.and_(self.cmp("gt", left, 0), self.any(condition(*values)))

        def step(left: Val, *values: Val) -> list[Val]:
            found, kept = list(body(*values)), [x.mlir for x in values]
            if [x.mlir for x in found] != kept:
                raise TypeError(f"[emitter] loop carries {kept}, got {[x.mlir for x in found]}. Keep the types.")
            return [self.sub(left, 1), *found]

        return self.while_([self.const(at_most, "i64"), *carried], more, step)[1:]
