"""The primitive ops: importing this package registers every record. Each module is a family.

In: `record.py`. Out: the records, by name. Start with `elementwise.py`.
"""

from flambeau.dialects.tape.assemble import concat, pad, update_slice
from flambeau.dialects.tape.check import check_index, check_range
from flambeau.dialects.tape.compare import eq, ge, gt, le, lt, ne
from flambeau.dialects.tape.contraction import matmul
from flambeau.dialects.tape.control import cond, while_loop
from flambeau.dialects.tape.convolution import convolution, convolution_input, convolution_weight
from flambeau.dialects.tape.division import floor_div, fmod, remainder
from flambeau.dialects.tape.elementwise import (
    abs_,
    add,
    cast,
    ceil,
    div,
    floor,
    maximum,
    minimum,
    mul,
    neg,
    round_,
    rsqrt,
    select,
    sign,
    sqrt,
    sub,
    trunc,
)
from flambeau.dialects.tape.exponents import frexp
from flambeau.dialects.tape.host import host_call
from flambeau.dialects.tape.indexing import gather
from flambeau.dialects.tape.integer import and_, int_div, int_rem, not_, or_, shl, shr, xor
from flambeau.dialects.tape.nan import canonical_nan, canonical_nan_of_root
from flambeau.dialects.tape.on_host import reference_call
from flambeau.dialects.tape.plane import fold, pick, put
from flambeau.dialects.tape.reduce import all_, any_, argmax, argmin, max_, min_, prod, sum_
from flambeau.dialects.tape.scan import cummax, cummin, cumprod, cumsum, recurrence
from flambeau.dialects.tape.scatter import scatter, scatter_add, scatter_max, scatter_min, scatter_mul
from flambeau.dialects.tape.sort import argsort, searchsorted, topk
from flambeau.dialects.tape.source import constant, iota, random_bits
from flambeau.dialects.tape.transcendental import cos, erf, exp, expm1, log, log1p, pow_, sigmoid, sin, tanh
from flambeau.dialects.tape.transfer import to_device
from flambeau.dialects.tape.view import broadcast, dynamic_slice, flip, permute, reshape, slice_, unfold
from flambeau.dialects.tape.window import (
    adaptive_argmax,
    adaptive_max,
    adaptive_sum,
    pool_argmax,
    pool_max,
    pool_spread,
    pool_sum,
)

__all__ = [
    "abs_",
    "adaptive_argmax",
    "adaptive_max",
    "adaptive_sum",
    "add",
    "all_",
    "and_",
    "any_",
    "argmax",
    "argmin",
    "argsort",
    "broadcast",
    "canonical_nan",
    "canonical_nan_of_root",
    "cast",
    "ceil",
    "check_index",
    "check_range",
    "concat",
    "cond",
    "constant",
    "convolution",
    "convolution_input",
    "convolution_weight",
    "cos",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "div",
    "dynamic_slice",
    "eq",
    "erf",
    "exp",
    "expm1",
    "flip",
    "floor",
    "floor_div",
    "fmod",
    "fold",
    "frexp",
    "gather",
    "ge",
    "gt",
    "host_call",
    "int_div",
    "int_rem",
    "iota",
    "le",
    "log",
    "log1p",
    "lt",
    "matmul",
    "max_",
    "maximum",
    "min_",
    "minimum",
    "mul",
    "ne",
    "neg",
    "not_",
    "or_",
    "pad",
    "permute",
    "pick",
    "pool_argmax",
    "pool_max",
    "pool_spread",
    "pool_sum",
    "pow_",
    "prod",
    "put",
    "random_bits",
    "recurrence",
    "reference_call",
    "remainder",
    "reshape",
    "round_",
    "rsqrt",
    "scatter",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "searchsorted",
    "select",
    "shl",
    "shr",
    "sigmoid",
    "sign",
    "sin",
    "slice_",
    "sqrt",
    "sub",
    "sum_",
    "tanh",
    "to_device",
    "topk",
    "trunc",
    "unfold",
    "update_slice",
    "while_loop",
    "xor",
]
