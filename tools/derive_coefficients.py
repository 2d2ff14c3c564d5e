#!/usr/bin/env python3
"""Derives every polynomial and constant of `dialects/tape/coefficients.py` from the functions' definitions.

    python tools/derive_coefficients.py            # rewrite the file
    python tools/derive_coefficients.py --check    # fail if it would change

Each `Fit` asks for the polynomial p of a degree that minimises the greatest `weight(t) * |p(t) - target(t)|` on an
interval. It is found by Remez exchange in 70-digit arithmetic; then the coefficients are rounded to the format one
by one from the lowest on, and after each rounding the others are fitted again (least squares on Chebyshev points), so
that they make up for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mpmath import mp, mpf

mp.dps = 70
OUTPUT = Path(__file__).parent.parent / "dialects" / "tape" / "coefficients.py"
PRECISION = {"f32": 24, "f64": 53}

Function = Callable[[mpf], mpf]


@dataclass(frozen=True)
class Fit:
    """`target` on [lo, hi] by a polynomial of `degree`, rounded to `format`; `doc` says what it is used for."""

    name: str
    format: str
    degree: int
    lo: mpf
    hi: mpf
    target: Function
    weight: Function
    doc: str


# ---- rounding ---------------------------------------------------------------------------------------------------


def to_double(x: mpf) -> float:
    return float(x)  # mpmath rounds to nearest


def round_to(x: mpf, format: str) -> mpf:
    """The nearest number of the format (normal range)."""
    return round_bits(x, PRECISION[format])


def round_bits(x: mpf, bits: int, down: bool = False) -> mpf:
    """`x` with `bits` significant bits, to nearest or towards zero."""
    if x == 0:
        return mpf(0)
    with mp.workprec(bits):
        return mp.fmul(x, 1, rounding="d" if down else "n")


def expansion(x: mpf, count: int, bits: int, down: bool = False) -> list[mpf]:
    """`count` numbers of `bits` bits whose sum is `x` nearly."""
    parts = []
    for _ in range(count):
        parts.append(round_bits(x, bits, down))
        x -= parts[-1]
    return parts


def value(coefficients: list[mpf], t: mpf) -> mpf:
    """c0 + c1 t + c2 t^2 + ..., by Horner's rule (which order mpmath's `polyval` takes depends on its version)."""
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * t + c
    return result


# ---- Remez exchange ---------------------------------------------------------------------------------------------


def chebyshev(lo: mpf, hi: mpf, count: int) -> list[mpf]:
    """`count` points from lo to hi, denser at the ends."""
    centre, radius = (lo + hi) / 2, (hi - lo) / 2
    return [centre - radius * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]


class Samples:
    """Points of an interval with the target, its weight, and the extremes found by earlier exchanges."""

    def __init__(self, fit: Fit) -> None:
        tiny = (fit.hi - fit.lo) * mpf(2) ** -60  # steps off removable singularities
        grid = [t + tiny if t == 0 else t for t in chebyshev(fit.lo, fit.hi, 24 * (fit.degree + 2) + 1)]
        with mp.workdps(140):
            weights = [abs(fit.weight(t)) for t in grid]
            floor = max(weights) * mpf(10) ** -9  # where the weight vanishes nothing is asked of the polynomial
            self.points = [t for t, w in zip(grid, weights) if w > floor]
            self.weights = [w for w in weights if w > floor]
            self.targets = [fit.target(t) for t in self.points]

    def residuals(self, coefficients: list[mpf]) -> list[mpf]:
        return [g - value(coefficients, t) for t, g in zip(self.points, self.targets)]


def remez(samples: Samples, values: list[mpf], count: int) -> list[mpf]:
    """The `count` terms of the polynomial with the least greatest weighted distance from `values`."""
    last = len(samples.points) - 1
    reference = [round((1 - float(mp.cos(mp.pi * i / count))) / 2 * last) for i in range(count + 1)]
    for _ in range(40):
        terms, level = _solve(samples, values, count, reference)
        errors = [w * (g - value(terms, t)) for t, g, w in zip(samples.points, values, samples.weights)]
        found = _alternation(errors, count + 1)
        if found is None or max(map(abs, errors)) <= abs(level) * (1 + mpf(10) ** -6):
            break
        reference = found
    return terms


def _solve(samples: Samples, values: list[mpf], count: int, reference: list[int]) -> tuple[list[mpf], mpf]:
    """Terms and level E with weight * (value - polynomial) = +-E at the reference points."""
    matrix, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
    for row, i in enumerate(reference):
        t, w = samples.points[i], samples.weights[i]
        for column in range(count):
            matrix[row, column] = w * t**column
        matrix[row, count] = mpf(-1) ** row
        right[row] = w * values[i]
    solution = mp.lu_solve(matrix, right)
    return [solution[i] for i in range(count)], solution[count]


def _alternation(errors: list[mpf], count: int) -> list[int] | None:
    """`count` points where the error is extreme with alternating sign; None if there are fewer."""
    runs: list[int] = []
    for i, e in enumerate(errors):
        if runs and (e > 0) == (errors[runs[-1]] > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        elif e != 0:
            runs.append(i)
    while len(runs) > count:  # drop at the end whose error is smaller
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return runs if len(runs) == count else None


def least_squares(samples: Samples, residuals: list[mpf], lowest: int, count: int) -> list[mpf]:
    """The terms t^lowest ... with the least sum of squared weighted errors over the (Chebyshev) points."""
    rows = range(0, len(samples.points), 4)
    matrix, right = mp.matrix(len(rows), count), mp.matrix(len(rows), 1)
    for row, i in enumerate(rows):
        t, w = samples.points[i], samples.weights[i]
        for column in range(count):
            matrix[row, column] = w * t ** (lowest + column)
        right[row] = w * residuals[i]
    return list(mp.lu_solve(matrix, right))


def derive(fit: Fit) -> tuple[list[mpf], mpf]:
    """Rounded coefficients, lowest first, and their greatest weighted error."""
    samples = Samples(fit)
    terms = remez(samples, samples.targets, fit.degree + 1)
    fixed = [round_to(terms[0], fit.format)]
    for lowest in range(1, fit.degree + 1):
        terms = least_squares(samples, samples.residuals(fixed), lowest, fit.degree + 1 - lowest)
        fixed.append(round_to(terms[0], fit.format))
    error = max(abs(w * r) for w, r in zip(samples.weights, samples.residuals(fixed)))
    return fixed, error


# ---- what is derived --------------------------------------------------------------------------------------------


def by_square(f: Function) -> Function:
    """A function of t = x * x, given as a function of x."""
    return lambda t: f(mp.sqrt(t))


def erfc_exponent(t: mpf) -> mpf:
    """p with erfc(t) = exp(-(t + t p))."""
    return -mp.log(mp.erfc(t)) / t - 1


def atanh_tail(terms: int) -> Function:
    """(2 atanh(s) / s minus the first `terms` terms of its series) / t^terms, as a function of t = s * s."""

    def tail(t: mpf) -> mpf:
        s = mp.sqrt(t)
        series = sum(2 * t**k / (2 * k + 1) for k in range(terms))
        return (2 * mp.atanh(s) / s - series) / t**terms

    return tail


HALF_LN2 = mp.log(2) / 2 * mpf("1.01")
QUARTER_TURN = (mp.pi / 4 * mpf("1.02")) ** 2
ROOT = mp.sqrt(2)
ATANH_LIMIT = ((ROOT - 1) / (ROOT + 1)) ** 2
ERF_SPLIT = {"f32": mpf("0.921875"), "f64": mpf(1)}
ERF_END = {"f32": mpf("3.96"), "f64": mpf("5.95")}


def fits() -> Iterator[Fit]:
    """Every polynomial of the file."""
    exp = lambda r: (mp.expm1(r) - r) / r**2  # noqa: E731
    exp_weight = lambda r: r**2 / mp.expm1(r)  # noqa: E731
    for format, degree in (("f32", 4), ("f64", 9)):
        doc = "(e^r - 1 - r) / r^2 for |r| <= ln(2)/2"
        yield Fit("EXP", format, degree, -HALF_LN2, HALF_LN2, exp, exp_weight, doc + ", relative to e^r - 1")
    yield Fit(
        "LOG", "f32", 7, 1 / ROOT - 1, ROOT - 1,
        lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3, lambda f: f**3 / mp.log1p(f),
        "(ln(1 + f) - f + f^2/2) / f^3 for 1 + f from sqrt(1/2) to sqrt(2)",
    )  # fmt: skip
    yield Fit(
        "LOG", "f64", 6, mpf(0), ATANH_LIMIT, atanh_tail(1), lambda t: t / 2,
        "(2 atanh(s)/s - 2) / t for t = s^2, |s| <= (sqrt(2)-1)/(sqrt(2)+1)",
    )  # fmt: skip
    for format, small, large in (("f32", 6, 6), ("f64", 12, 18)):
        split, end = ERF_SPLIT[format], ERF_END[format]
        yield Fit(
            "ERF_SMALL", format, small, mpf(0), split**2,
            by_square(lambda x: mp.erf(x) / x - 1), by_square(lambda x: x / mp.erf(x)),
            f"erf(x)/x - 1 in t = x^2 for |x| <= {mp.nstr(split)}",
        )  # fmt: skip
        yield Fit(
            "ERF_LARGE", format, large, split, end,
            erfc_exponent, lambda t: t * mp.erfc(t) / mp.erf(t),
            f"-ln(erfc(x))/x - 1 for x from {mp.nstr(split)} to {mp.nstr(end)}, as it shows in erf",
        )  # fmt: skip
    for format, degree in (("f32", 2), ("f64", 5)):
        yield Fit(
            "SIN", format, degree, mpf(0), QUARTER_TURN,
            by_square(lambda x: (mp.sin(x) / x - 1) / x**2), by_square(lambda x: x**3 / mp.sin(x)),
            "(sin(x)/x - 1) / t for t = x^2, |x| <= pi/4",
        )  # fmt: skip
        yield Fit(
            "COS", format, degree, mpf(0), QUARTER_TURN,
            by_square(lambda x: (mp.cos(x) - 1 + x**2 / 2) / x**4), by_square(lambda x: x**4 / mp.cos(x)),
            "(cos(x) - 1 + t/2) / t^2 for t = x^2, |x| <= pi/4",
        )  # fmt: skip
    yield Fit(
        "POW_LOG2", "f32", 4, mpf(0), ATANH_LIMIT,
        by_square(lambda s: 2 * mp.atanh(s) / s / mp.log(2)), lambda t: mp.log(2) / 2,
        "log2(m)/s for t = s^2, s = (m - 1)/(m + 1), evaluated in f64 for powers of f32",
    )  # fmt: skip
    yield Fit(
        "POW_EXP2", "f32", 7, mpf("-0.51"), mpf("0.51"), lambda r: mpf(2) ** r, lambda r: mpf(2) ** -r,
        "2^r for |r| <= 1/2, evaluated in f64 for powers of f32",
    )  # fmt: skip
    yield Fit(
        "POW_LOG", "f64", 7, mpf(0), ATANH_LIMIT, atanh_tail(2), lambda t: t**2 / 2,
        "(2 atanh(s)/s - 2 - 2t/3) / t^2, for powers of f64",
    )  # fmt: skip


#: Fits whose coefficients are f64 although the result is f32.
WIDE = {"POW_LOG2", "POW_EXP2"}


def constants() -> Iterator[tuple[str, str, list[mpf], str]]:
    """(name, format, numbers, doc) of everything that is not a polynomial."""
    half_pi, ln2 = mp.pi / 2, mp.log(2)
    for format, bits, exponent_bits in (("f32", 24, 9), ("f64", 53, 12)):
        high = round_bits(ln2, bits - exponent_bits)
        yield "LN2", format, [high, round_bits(ln2 - high, bits)], "ln 2 in two parts; n times the first is exact"
        yield "HALF_PI", format, expansion(half_pi, 3, bits, down=True), "pi/2 in three parts, all positive"
    yield "HALF_PI_WIDE", "f64", expansion(half_pi, 2, 53), "pi/2 in two parts"
    yield "LN2_WIDE", "f64", expansion(ln2, 3, 42)[:2] + [ln2 - sum(expansion(ln2, 2, 42))], "ln 2 in parts of 42 bits"
    yield "TWO_THIRDS", "f64", expansion(mpf(2) / 3, 2, 53), "2/3 in two parts"


TURN_STEP = 24
TURN_GROUPS = 41


def turns() -> list[mpf]:
    """2/pi * 2^(TURN_STEP j) modulo 4, in four parts each: what Payne-Hanek reduction multiplies with."""
    table = []
    with mp.workprec(1400):
        for j in range(TURN_GROUPS):
            table += expansion(mp.fmod(2 / mp.pi * mpf(2) ** (TURN_STEP * j), 4), 4, 53)
    return table


# ---- writing ----------------------------------------------------------------------------------------------------

HEADER = '''"""Coefficients of the math functions. Written by tools/derive_coefficients.py: change that, not this.

Polynomials are tuples with the lowest coefficient first; keys are formats. Errors are relative to the function's
value, in units of 2^-24 (f32) or 2^-53 (f64), before rounding in the evaluation. Next: `approximations.py`.
"""

'''


def tuple_text(numbers: list[mpf], indent: str) -> str:
    rows = "".join(f"{indent}    {to_double(x)!r},\n" for x in numbers).replace("e+", "e")  # as the formatter has it
    return f"(\n{rows}{indent})"


def tables(fits: Iterator[Fit], constants: Iterator[tuple[str, str, list[mpf], str]]) -> str:
    """Every name with its numbers for each format."""
    groups: dict[str, list[tuple[str, list[mpf], str]]] = {}
    for fit in fits:
        wide = Fit(**{**fit.__dict__, "format": "f64"}) if fit.name in WIDE else fit
        numbers, error = derive(wide)
        comment = f"{fit.doc}; error {mp.nstr(error * mpf(2) ** PRECISION[fit.format], 2)}"
        groups.setdefault(fit.name, []).append((fit.format, numbers, comment))
    for name, format, numbers, doc in constants:
        groups.setdefault(name, []).append((format, numbers, doc))
    blocks = []
    for name, entries in groups.items():
        rows = "".join(
            f'    # {comment}\n    "{format}": {tuple_text(numbers, "    ")},\n' for format, numbers, comment in entries
        )
        blocks.append(f"{name} = {{\n{rows}}}\n")
    return "\n".join(blocks)


def generate() -> str:
    """The whole file."""
    text = f"{HEADER}{tables(fits(), constants())}\n"
    text += f"#: 2/pi * 2^({TURN_STEP} j) modulo 4, in four parts for each j.\nTURN_STEP = {TURN_STEP}\n"
    return text + f"TURNS = {tuple_text(turns(), '')}\n"


def main(doc: str, generate: Callable[[], str], output: Path) -> int:
    """Write the file, or, if asked to, compare it."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    arguments = parser.parse_args()
    text = generate()
    if arguments.check:
        return 0 if output.read_text() == text else 1
    output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, generate, OUTPUT))
