"""Groups written by hand, one or more of every form: what `GROUPS` holds is named by what it shows."""

from __future__ import annotations

from collections.abc import Callable

from flambeau.compiler.codegen.values import spell_number
from flambeau.compiler.groups.form import (
    PARALLEL,
    REDUCTION,
    Affine,
    Body,
    BodyOp,
    Group,
    GroupBuilder,
    Map,
    Order,
    identity_map,
)
from flambeau.compiler.groups.slices import reshape
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import bool_, float32, float64, int64
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int, is_static, symbol

ZERO, ONE = "0x00000000", "0x3F800000"
S0 = symbol(0)
LINE = Loc("user.py", 3)


def axes(*loops: int) -> Map:
    """A map whose results are loops."""
    return tuple(map(Affine.of, loops))


def f32(*shape: Int) -> Aval:
    return Aval(shape, float32)


def scalar_code(types: tuple[str, ...], *ops: tuple, results: tuple[int, ...] = ()) -> Body:
    """A body: ops as (name, operands, attribute, types, regions); the last value is yielded if none is named."""
    made = tuple(BodyOp(*op) for op in ops)
    last = len(types) + sum(len(op.types) for op in made) - 1
    return Body(types, made, results or (last,))


def pointwise(b: GroupBuilder, x: int, name: str) -> int:
    """One op of one operand."""
    aval = b.avals[x]
    element = aval.dtype.mlir
    body = scalar_code((element, element), (name, (0,), None, (element,)))
    (y,) = b.generic(
        (PARALLEL,) * aval.rank,
        aval.shape,
        ((x, identity_map(aval.rank)),),
        ((aval, identity_map(aval.rank), None),),
        body,
    )
    return y


def folding(order: str, loops: tuple[int, ...], op: str = "arith.addf", identity: str = ZERO) -> Body:
    """The body of a fold along loops, of one operand."""
    places = tuple(("linalg.index", (), loop, ("index",)) for loop in loops)
    given = (2, *range(3, 3 + len(loops)))
    fold = ("flambeau.fold", given, Order(order, identity), ("f32",))
    return scalar_code(("f32", "f32"), (op, (1, 0), None, ("f32",)), *places, fold)


def reduced(order: str, kept: tuple[int, ...], shape: tuple[Int, ...], **how: str) -> Group:
    """A tensor folded along all axes but those that are kept."""
    b = GroupBuilder((40,) if not is_static(shape) else ())
    x = b.input(f32(*shape))
    kinds = tuple(PARALLEL if k in kept else REDUCTION for k in range(len(shape)))
    result = f32(*(shape[k] for k in kept))
    body = folding(order, tuple(k for k in range(len(shape)) if k not in kept), **how)
    start = how.get("identity", ZERO)
    (y,) = b.generic(kinds, shape, ((x, identity_map(len(shape))),), ((result, axes(*kept), start),), body, loc=LINE)
    return b.build((y,))


# ---- maps and views -----------------------------------------------------------------------------------------------


def elementwise() -> Group:
    """Two ops, with a number from outside and one in the body."""
    b = GroupBuilder()
    x, y = b.input(f32(4, 8)), b.input(f32(4, 8))
    (two,) = b.call("arith.constant", (), (f32(),), {"value": "0x40000000"}, loc=LINE)
    body = scalar_code(
        ("f32", "f32", "f32", "f32"),
        ("arith.mulf", (0, 3), None, ("f32",)),
        ("arith.constant", (), ONE, ("f32",)),
        ("arith.cmpf", (4, 5), "ogt", ("i1",)),
        ("arith.select", (6, 1, 4), None, ("f32",)),
    )
    operands = ((x, identity_map(2)), (y, identity_map(2)))
    (z,) = b.generic((PARALLEL,) * 2, (4, 8), operands, ((f32(4, 8), identity_map(2), None),), body, (two,), loc=LINE)
    return b.build((pointwise(b, z, "math.exp"), z))


def views() -> Group:
    """Operands transposed, stretched, strided, shifted and flipped, and a scalar: all in one nest."""
    b = GroupBuilder()
    x, row, wide = b.input(f32(8, 4)), b.input(f32(8)), b.input(f32(4, 20))
    flipped = (Affine(((0, -1),), 3), Affine(((1, 2),), 1))
    (c,) = b.call("arith.constant", (), (f32(),), {"value": "0x7FC00001"})
    body = scalar_code(
        ("f32",) * 5,
        ("arith.addf", (0, 1), None, ("f32",)),
        ("arith.maximumf", (5, 2), None, ("f32",)),
        ("math.fma", (6, 3, 0), None, ("f32",)),
    )
    operands = ((x, axes(1, 0)), (row, axes(1)), (wide, flipped), (c, ()))
    results = b.generic((PARALLEL,) * 2, (4, 8), operands, ((f32(4, 8), identity_map(2), None),), body)
    return b.build(results)


def conversions() -> Group:
    """Numbers of several types, in one body with several results."""
    b = GroupBuilder()
    x = b.input(Aval((5,), float64))
    body = scalar_code(
        ("f64", "f32", "i64", "i1"),
        ("arith.truncf", (0,), None, ("f32",)),
        ("llvm.fptosi.sat", (0,), None, ("i64",)),
        ("arith.bitcast", (0,), None, ("i64",)),
        ("arith.cmpi", (5, 6), "slt", ("i1",)),
        ("linalg.index", (), 0, ("index",)),
        ("arith.index_cast", (8,), None, ("i64",)),
        ("arith.addi", (5, 9), None, ("i64",)),
        results=(4, 10, 7),
    )
    results = ((Aval((5,), t), identity_map(1), None) for t in (float32, int64, bool_))
    return b.build(b.generic((PARALLEL,), (5,), ((x, identity_map(1)),), tuple(results), body))


def nothing_read() -> Group:
    """A tensor full of one number, and coordinates: no operands."""
    b = GroupBuilder()
    (c,) = b.call("arith.constant", (), (f32(),), {"value": ONE})
    (x,) = b.generic((PARALLEL,), (3,), (), ((f32(3), axes(0), None),), Body(("f32", "f32"), (), (1,)), (c,))
    coordinates = scalar_code(("i64",), ("linalg.index", (), 0, ("index",)), ("arith.index_cast", (1,), None, ("i64",)))
    (y,) = b.generic((PARALLEL,), (3,), (), ((Aval((3,), int64), axes(0), None),), coordinates)
    return b.build((x, y))


def of_rank_0() -> Group:
    """Tensors of rank 0: a nest without loops, and a number read out of one."""
    b = GroupBuilder()
    x = b.input(f32())
    y = pointwise(b, x, "math.sqrt")
    (element,) = b.call("tensor.extract", (x,), (f32(),))
    body = scalar_code(("f32",) * 3, ("arith.subf", (0, 2), None, ("f32",)))
    return b.build(b.generic((), (), ((y, ()),), ((f32(), (), None),), body, (element,)))


# ---- folds --------------------------------------------------------------------------------------------------------


def product(order: str = "blocks") -> Group:
    """A contraction: fused multiply-adds, folded along k."""
    b = GroupBuilder()
    x, y = b.input(f32(6, 5)), b.input(f32(5, 7))
    body = scalar_code(
        ("f32", "f32", "f32"),
        ("math.fma", (0, 1, 2), None, ("f32",)),
        ("linalg.index", (), 2, ("index",)),
        ("flambeau.fold", (3, 4), Order(order, ZERO), ("f32",)),
    )
    kinds, operands = (PARALLEL, PARALLEL, REDUCTION), ((x, axes(0, 2)), (y, axes(2, 1)))
    (z,) = b.generic(kinds, (6, 7, 5), operands, ((f32(6, 7), axes(0, 1), ZERO),), body, tiles=((1, 4), (0, 2)))
    return b.build((pointwise(b, z, "math.tanh"),))


def softmax() -> Group:
    """Three nests: an extreme, exponentials, their sum; the last two read what is stretched."""
    b = GroupBuilder()
    x = b.input(f32(32, 100))
    lowest = spell_number(float("-inf"), "f32")
    kinds, row = (PARALLEL, REDUCTION), ((x, identity_map(2)),)
    (top,) = b.generic(
        kinds, (32, 100), row, ((f32(32), axes(0), lowest),), folding("any", (1,), "arith.maximumf", lowest), loc=LINE
    )
    lowered = scalar_code(("f32",) * 3, ("arith.subf", (0, 1), None, ("f32",)), ("math.exp", (3,), None, ("f32",)))
    whole = (f32(32, 100), identity_map(2), None)
    operands = ((x, identity_map(2)), (top, axes(0)))
    (e,) = b.generic((PARALLEL,) * 2, (32, 100), operands, (whole,), lowered, loc=LINE)
    (total,) = b.generic(
        kinds, (32, 100), ((e, identity_map(2)),), ((f32(32), axes(0), ZERO),), folding("lanes", (1,)), loc=LINE
    )
    divided = scalar_code(("f32",) * 3, ("arith.divf", (0, 1), None, ("f32",)))
    operands = ((e, identity_map(2)), (total, axes(0)))
    return b.build(b.generic((PARALLEL,) * 2, (32, 100), operands, (whole,), divided, loc=LINE))


def sum_of_squares() -> Group:
    """A nest whose result only a fold reads."""
    b = GroupBuilder()
    x = b.input(f32(7, 100))
    squared = scalar_code(("f32", "f32"), ("arith.mulf", (0, 0), None, ("f32",)))
    (y,) = b.generic(
        (PARALLEL,) * 2, (7, 100), ((x, identity_map(2)),), ((f32(7, 100), identity_map(2), None),), squared
    )
    start = ((f32(7), axes(0), ZERO),)
    return b.build(b.generic((PARALLEL, REDUCTION), (7, 100), ((y, identity_map(2)),), start, folding("lanes", (1,))))


def argmax() -> Group:
    """Two results of one nest: the extreme and its place."""
    b = GroupBuilder()
    x = b.input(f32(4, 10))
    lowest = spell_number(float("-inf"), "f32")
    body = scalar_code(
        ("f32", "f32", "i64"),
        ("linalg.index", (), 1, ("index",)),
        ("arith.index_cast", (3,), None, ("i64",)),
        ("arith.cmpf", (0, 1), "ogt", ("i1",)),
        ("arith.select", (5, 0, 1), None, ("f32",)),
        ("arith.select", (5, 4, 2), None, ("i64",)),
        ("flambeau.fold", (6, 3), Order("any", lowest), ("f32",)),
        ("flambeau.fold", (7, 3), Order("any", "0"), ("i64",)),
        results=(8, 9),
    )
    results = ((f32(4), axes(0), lowest), (Aval((4,), int64), axes(0), "0"))
    _, y = b.generic((PARALLEL, REDUCTION), (4, 10), ((x, identity_map(2)),), results, body)
    return b.build((y,))


def one_place() -> Group:
    """Two folded loops numbered by one linear form, as rewrites leave it."""
    b = GroupBuilder()
    x = b.input(f32(3, 4, 5))
    body = scalar_code(
        ("f32", "f32"),
        ("arith.addf", (1, 0), None, ("f32",)),
        ("linalg.index", (), 1, ("index",)),
        ("linalg.index", (), 2, ("index",)),
        ("affine.apply", (3, 4), Affine(((0, 5), (1, 1))), ("index",)),
        ("flambeau.fold", (2, 5), Order("lanes", ZERO), ("f32",)),
    )
    kinds = (PARALLEL, REDUCTION, REDUCTION)
    return b.build(b.generic(kinds, (3, 4, 5), ((x, identity_map(3)),), ((f32(3), axes(0), ZERO),), body))


def window() -> Group:
    """A convolution's maps, and a tensor that only says how large the window is."""
    b = GroupBuilder()
    x = b.input(f32(17))
    (size,) = b.call("tensor.empty", (), (f32(3),))
    lowest = spell_number(float("-inf"), "f32")
    body = scalar_code(
        ("f32", "f32", "f32"),
        ("arith.maximumf", (2, 0), None, ("f32",)),
        ("linalg.index", (), 1, ("index",)),
        ("flambeau.fold", (3, 4), Order("any", lowest), ("f32",)),
    )
    operands = ((x, (Affine(((0, 2), (1, 1))),)), (size, axes(1)))
    return b.build(b.generic((PARALLEL, REDUCTION), (8, 3), operands, ((f32(8), axes(0), lowest),), body))


def unread() -> Group:
    """Tensors without elements, some of which nobody reads, as clusters have them."""
    b = GroupBuilder()
    b.input(f32(3, 0))
    b.call("tensor.empty", (), (f32(3, 0),))
    return b.build(b.call("tensor.empty", (), (f32(0),)))


# ---- elements picked and put ---------------------------------------------------------------------------------------


def gather() -> Group:
    """Rows of a table, at indices that may be out of range."""
    b = GroupBuilder()
    table, index = b.input(f32(50, 8)), b.input(Aval((32,), int64))
    body = scalar_code(
        ("i64", "f32", f32(50, 8).mlir),
        ("arith.constant", (), "50", ("i64",)),
        ("arith.cmpi", (0, 3), "uge", ("i1",)),
        ("flambeau.check", (4,), 1, ()),
        ("arith.constant", (), "0", ("i64",)),
        ("arith.select", (4, 5, 0), None, ("i64",)),
        ("arith.index_cast", (6,), None, ("index",)),
        ("linalg.index", (), 1, ("index",)),
        ("tensor.extract", (2, 7, 8), None, ("f32",)),
    )
    results = ((f32(32, 8), identity_map(2), None),)
    return b.build(b.generic((PARALLEL,) * 2, (32, 8), ((index, axes(0)),), results, body, (table,)))


def scatter() -> Group:
    b = GroupBuilder()
    x, index, updates = b.input(f32(50, 8)), b.input(Aval((32, 8), int64)), b.input(f32(32, 8))
    added = scalar_code(("f32", "f32"), ("arith.addf", (0, 1), None, ("f32",)))
    attributes = {"axis": 0, "code": 1, "order": "sequential"}
    return b.build(b.call("flambeau.scatter", (x, index, updates), (f32(50, 8),), attributes, (added,), LINE))


def scan() -> Group:
    b = GroupBuilder()
    x, factor = b.input(f32(5, 30)), b.input(f32(5, 30))
    added = scalar_code(("f32", "f32"), ("arith.addf", (0, 1), None, ("f32",)))
    step = scalar_code(("f32",) * 3, ("arith.mulf", (0, 1), None, ("f32",)), ("arith.addf", (3, 2), None, ("f32",)))
    sums = b.call("flambeau.scan", (x,), (f32(5, 30),), {"axis": 1, "order": "prefixes", "reverse": 0}, (added,), LINE)
    attributes = {"axis": 0, "order": "sequential", "reverse": 1}
    return b.build(b.call("flambeau.recurrence", (factor, *sums), (f32(5, 30),), attributes, (step,), LINE))


def orders() -> Group:
    b = GroupBuilder()
    x, values = b.input(f32(5, 30)), b.input(f32(5, 4))
    places = b.call("flambeau.argsort", (x,), (Aval((5, 30), int64),), {"axis": 1, "descending": 1}, (), LINE)
    first = b.call("flambeau.topk", (x,), (Aval((2, 30), int64),), {"axis": 0, "k": 2, "largest": 0}, (), LINE)
    found = b.call("flambeau.searchsorted", (x, values), (Aval((5, 4), int64),), {"axis": 1, "right": 0}, (), LINE)
    return b.build((*places, *first, *found))


def convolutions() -> Group:
    """A convolution with a stride, the gradient by its maps of which the batch is unknown, and the gradient by its kernel."""
    b = GroupBuilder((3,))
    x, w = b.input(f32(S0, 3, 7, 6)), b.input(f32(4, 3, 3, 2))
    how = {"dilation": (1, 2), "groups": 1, "padding": (1, 0), "stride": (2, 1)}
    (y,) = b.call("flambeau.convolution", (x, w), (f32(S0, 4, 4, 4),), how, loc=LINE)
    (back,) = b.call("flambeau.convolution_input", (y, w), (f32(S0, 3, 7, 6),), how)
    (kernel,) = b.call("flambeau.convolution_weight", (back, y), (f32(4, 3, 3, 2),), how)
    return b.build((y, kernel))


def windows() -> Group:
    b = GroupBuilder()
    x, index = b.input(f32(2, 7, 9)), b.input(Aval((2, 4, 4), int64))
    how = {"axis": 1, "dilation": (1, 2), "low": (1, 0), "size": (3, 2), "step": (2, 2)}
    (best,) = b.call("flambeau.window", (x,), (f32(2, 4, 4),), how | {"how": "max"}, loc=LINE)
    (at,) = b.call("flambeau.window", (x,), (Aval((2, 4, 4), int64),), how | {"how": "argmax"}, loc=LINE)
    none = {"axis": 1, "dilation": (), "low": (), "size": (), "step": ()}
    (sums,) = b.call("flambeau.window", (x,), (f32(2, 4, 4),), none | {"how": "sum"}, loc=LINE)
    (spread,) = b.call("flambeau.window", (sums,), (f32(2, 7, 9),), how | {"how": "spread"}, loc=LINE)
    (put,) = b.call("flambeau.put", (best, at), (f32(2, 7, 9),), {"axis": 1, "how": "add"}, loc=LINE)
    (pick,) = b.call("flambeau.pick", (spread, index), (f32(2, 4, 4),), {"axis": 1}, loc=LINE)
    (folded,) = b.call("flambeau.fold_windows", (x,), (f32(2, 21),), {"axis": 1, "dilation": 1, "step": 2}, loc=LINE)
    return b.build((put, pick, folded))


# ---- whole tensors -------------------------------------------------------------------------------------------------


def assembled() -> Group:
    """Padded, joined, regrouped."""
    b = GroupBuilder()
    x, y = b.input(f32(3, 4)), b.input(f32(2, 6))
    (zero,) = b.call("arith.constant", (), (f32(),), {"value": ZERO})
    (padded,) = b.call("tensor.pad", (x, zero), (f32(5, 6),), {"low": (1, 0), "high": (1, 2)})
    (joined,) = b.call("tensor.concat", (padded, y), (f32(7, 6),), {"dim": 0})
    return b.build((reshape(b, joined, (6, 7)), reshape(b, y, (2, 2, 3)), reshape(b, y, (12,))))


def slices() -> Group:
    """Windows: at a start known when the group runs, with steps, and one replaced by other elements."""
    b = GroupBuilder()
    x, part, start = b.input(f32(16, 4)), b.input(f32(3, 4)), b.input(Aval((), int64))
    (window,) = b.call("tensor.extract_slice", (x, start), (f32(5, 2),), {"starts": ("clamped", 1), "steps": (3, 2)})
    (whole,) = b.call(
        "tensor.insert_slice", (part, x, start), (f32(16, 4),), {"starts": ("clamped", 0), "steps": (1, 1)}
    )
    return b.build((window, whole))


def unknown_extents() -> Group:
    """Extents and starts known at run time only, in types, in a body, and as a number."""
    b = GroupBuilder((40,))
    x = b.input(f32(7, S0))
    (half,) = b.call("tensor.extract_slice", (x,), (f32(7, S0 - 3),), {"starts": (0, 3), "steps": (1, 1)})
    (late,) = b.call("tensor.extract_slice", (x,), (f32(7, 1),), {"starts": (0, S0 - 1), "steps": (1, 1)})
    (count,) = b.call("flambeau.size", (), (Aval((), int64),), {"size": S0 * 7})
    body = scalar_code(
        ("f32", "f32", "i64"),
        ("flambeau.size", (), S0, ("i64",)),
        ("arith.subi", (2, 3), None, ("i64",)),
        ("arith.sitofp", (4,), None, ("f32",)),
        ("arith.addf", (0, 5), None, ("f32",)),
    )
    operands = ((half, identity_map(2)),)
    results = ((f32(7, S0 - 3), identity_map(2), None),)
    (y,) = b.generic((PARALLEL,) * 2, (7, S0 - 3), operands, results, body, (count,))
    return b.build((y, late, reshape(b, x, (7 * S0,))))


# ---- control flow in bodies ----------------------------------------------------------------------------------------


def branch() -> Group:
    """A branch that all lanes take together, with a table that only it reads, and one inside of it."""
    b = GroupBuilder()
    x = b.input(Aval((4, 8), float64))
    table = "dense<[0x3FF0000000000000, 0x4000000000000000, 0x7FF8000000000001]>"
    inner = scalar_code(("f64", "f64"), ("math.floor", (0,), None, ("f64",)), ("arith.addf", (2, 1), None, ("f64",)))
    then = scalar_code(
        ("f64", "i1"),
        ("llvm.fptosi.sat", (0,), None, ("i64",)),
        ("arith.constant", (), table, ("tensor<3xf64>",)),
        ("arith.index_cast", (2,), None, ("index",)),
        ("tensor.extract", (3, 4), None, ("f64",)),
        ("scf.if", (1, 5, 0), None, ("f64",), (inner, Body(("f64", "f64"), (), (1,)))),
        ("arith.constant", (), "3", ("i64",)),
        results=(6, 7),
    )
    otherwise = scalar_code(("f64", "i1"), ("arith.constant", (), "0", ("i64",)), results=(0, 2))
    body = scalar_code(
        ("f64", "f64"),
        ("arith.constant", (), "0x40F86A0000000000", ("f64",)),
        ("arith.cmpf", (0, 2), "ogt", ("i1",)),
        ("flambeau.any_lane", (3,), None, ("i1",)),
        ("scf.if", (4, 0, 3), None, ("f64", "i64"), (then, otherwise)),
        ("arith.sitofp", (6,), None, ("f64",)),
        ("arith.mulf", (5, 7), None, ("f64",)),
    )
    results = ((Aval((4, 8), float64), identity_map(2), None),)
    return b.build(b.generic((PARALLEL,) * 2, (4, 8), ((x, identity_map(2)),), results, body))


def repeated() -> Group:
    """A loop that all lanes run together, which reads a value from outside and a captured one; it may fail."""
    b = GroupBuilder()
    x = b.input(f32(9))
    (half,) = b.call("arith.constant", (), (f32(),), {"value": "0x3F000000"})
    before = scalar_code(
        ("i64", "f32", "f32", "f32"),
        ("arith.constant", (), "0", ("i64",)),
        ("arith.cmpi", (0, 4), "sgt", ("i1",)),
        ("arith.cmpf", (1, 2), "oge", ("i1",)),
        ("flambeau.any_lane", (6,), None, ("i1",)),
        ("arith.andi", (5, 7), None, ("i1",)),
        results=(8, 0, 1),
    )
    after = scalar_code(
        ("i64", "f32", "f32", "f32"),
        ("arith.constant", (), "1", ("i64",)),
        ("arith.subi", (0, 4), None, ("i64",)),
        ("arith.mulf", (1, 3), None, ("f32",)),
        results=(5, 6),
    )
    failing = scalar_code(("i1",), ("flambeau.check", (0,), 2, ()), results=())
    failing = failing._replace(results=())
    body = scalar_code(
        ("f32", "f32", "f32"),
        ("arith.constant", (), "64", ("i64",)),
        ("arith.constant", (), ONE, ("f32",)),
        ("scf.while", (3, 0, 4, 2), None, ("i64", "f32"), (before, after)),
        ("arith.cmpf", (6, 4), "oge", ("i1",)),
        ("scf.if", (7, 7), None, (), (failing,)),
        results=(6,),
    )
    return b.build(b.generic((PARALLEL,), (9,), ((x, axes(0)),), ((f32(9), axes(0), None),), body, (half,)))


GROUPS: dict[str, Callable[[], Group]] = {
    "elementwise": elementwise,
    "views as maps": views,
    "conversions, several results": conversions,
    "no operands": nothing_read,
    "rank 0": of_rank_0,
    "sum in lanes": lambda: reduced("lanes", (0,), (7, 100)),
    "sum in chains": lambda: reduced("chains", (1,), (100, 7)),
    "sum in order": lambda: reduced("sequential", (0,), (7, 100)),
    "maximum in any order": lambda: reduced("any", (), (9, 3), op="arith.maximumf", identity="0xFF800000"),
    "product in blocks": product,
    "product in lanes": lambda: product("lanes"),
    "sum over an unknown extent": lambda: reduced("lanes", (0,), (7, S0)),
    "sum of a middle axis": lambda: reduced("chains", (0, 2), (3, S0, 4)),
    "softmax": softmax,
    "sum of squares": sum_of_squares,
    "argmax": argmax,
    "one place for two loops": one_place,
    "a window": window,
    "no elements": unread,
    "gather": gather,
    "scatter": scatter,
    "scans": scan,
    "orders": orders,
    "convolutions": convolutions,
    "windows": windows,
    "pad, concat and reshape": assembled,
    "slices": slices,
    "unknown extents": unknown_extents,
    "a branch and a table": branch,
    "a loop and a check": repeated,
}
