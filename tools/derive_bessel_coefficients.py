#!/usr/bin/env python3
"""Derives the polynomials of Bessel's and Airy's functions in `coefficients_bessel.py`.

    python tools/derive_bessel_coefficients.py            # rewrite the file
    python tools/derive_bessel_coefficients.py --check    # fail if it would change

Each is interpolated at Chebyshev's points in 40-digit arithmetic, in a variable from -1 to 1, and its terms are rounded to
float64: what float32 needs is computed in float64, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from derive_coefficients import main
from mpmath import mp, mpf

mp.dps = 40
OUTPUT = Path(__file__).parent.parent / "dialects" / "tape" / "coefficients_bessel.py"
#: Below this J and Y are power series with a logarithm, beyond it amplitudes of a cosine and a sine.
SPLIT = mpf(8)
#: The same of K, beyond which it is a scaled exponential.
SPLIT_K = mpf(2)
#: Ai is a polynomial between these, oscillates below, and is a scaled exponential above.
AIRY = (mpf(-5), mpf(0), mpf(2))

Function = Callable[[mpf], mpf]


def interpolated(f: Function, low: mpf, high: mpf, degree: int) -> list[mpf]:
    """The terms, lowest first, of a polynomial in t from -1 to 1, which stands for low to high."""
    count = degree + 1
    angles = [mp.pi * (2 * i + 1) / (2 * count) for i in range(count)]
    values = [f(low + (high - low) * (1 + mp.cos(a)) / 2) for a in angles]
    weights = [
        2 * mp.fsum(v * mp.cos(k * a) for v, a in zip(values, angles)) / count * (mpf(1) / 2 if k == 0 else 1)
        for k in range(count)
    ]
    before, now = [mpf(1)], [mpf(0), mpf(1)]
    terms = [mpf(0)] * count
    for k, weight in enumerate(weights):
        chebyshev = before if k == 0 else now
        for power, factor in enumerate(chebyshev):
            terms[power] += weight * factor
        if k > 0:
            doubled = [mpf(0), *(2 * c for c in now)]
            before, now = now, [d - (before[i] if i < len(before) else 0) for i, d in enumerate(doubled)]
    return terms


# ---- what is left of the functions ------------------------------------------------------------------------------


def j_series(order: int, z: mpf) -> mpf:
    """J_n(x) / x^n at z = x^2."""
    x = mp.sqrt(z)
    return mp.besselj(order, x) / x**order


def y_series(order: int, z: mpf) -> mpf:
    """Y_n(x) without its logarithm and pole, over x^n."""
    x = mp.sqrt(z)
    pole = 2 / (mp.pi * x) if order else 0
    return (mp.bessely(order, x) - 2 / mp.pi * mp.log(x) * mp.besselj(order, x) + pole) / x**order


def _hankel(order: int, v: mpf) -> tuple[mpf, mpf]:
    """(P, x Q) at v = 1/x^2: J = sqrt(2 / (pi x)) (P cos - Q sin) of x less its phase, and Y = ... (P sin + Q cos)."""
    if v < mpf(10) ** -6:
        return mpf(1) - (4 * order - 1) * (4 * order - 9) * v / 128, (mpf(4 * order) - 1) / 8
    x = 1 / mp.sqrt(v)
    phase = x - (2 * order + 1) * mp.pi / 4
    j, y, c, s = mp.besselj(order, x), mp.bessely(order, x), mp.cos(phase), mp.sin(phase)
    scale = mp.sqrt(mp.pi * x / 2)
    return scale * (j * c + y * s), scale * (y * c - j * s) * x


def k_series(order: int, z: mpf) -> mpf:
    """K_0 + ln(x/2) I_0, or x (K_1 - ln(x/2) I_1), at z = x^2."""
    x = mp.sqrt(z)
    if order == 0:
        return mp.besselk(0, x) + mp.log(x / 2) * mp.besseli(0, x)
    return x * (mp.besselk(1, x) - mp.log(x / 2) * mp.besseli(1, x))


def k_tail(order: int, u: mpf) -> mpf:
    """K_n(x) e^x sqrt(x) at x = 1/u."""
    return mp.besselk(order, 1 / u) * mp.exp(1 / u) / mp.sqrt(u)


def airy_tail(u: mpf) -> mpf:
    """Ai(x) e^w x^(1/4) at w = 2/3 x^(3/2) = 1/u."""
    x = (mpf(3) / (2 * u)) ** (mpf(2) / 3)
    return mp.airyai(x) * mp.exp(1 / u) * x ** (mpf(1) / 4)


def _airy_waves(v: mpf) -> tuple[mpf, mpf]:
    """(F, w G) at v = 1/w^2: Ai(-x) = (F sin(w + pi/4) - G cos(w + pi/4)) / (sqrt(pi) x^(1/4)), w = 2/3 x^(3/2)."""
    w = 1 / mp.sqrt(v)
    x = (3 * w / 2) ** (mpf(2) / 3)
    c, s = mp.cos(w + mp.pi / 4), mp.sin(w + mp.pi / 4)
    ai, bi = mp.airyai(-x), mp.airybi(-x)
    scale = mp.sqrt(mp.pi) * x ** (mpf(1) / 4)
    return scale * (ai * s + bi * c), scale * (bi * s - ai * c) * w


def fits() -> Iterator[tuple[str, str, Function, mpf, mpf, int]]:
    """(name, what it is, function, the ends of its interval, degree)."""
    square, far = SPLIT**2, 1 / SPLIT**2
    for n in (0, 1):
        yield f"J{n}", f"J{n}(x) / x^{n} in x^2 up to 64", lambda z, n=n: j_series(n, z), mpf(0), square, 22
        yield (
            f"Y{n}",
            f"Y{n}(x) less its logarithm and pole, over x^{n}",
            lambda z, n=n: y_series(n, z),
            mpf(0),
            square,
            22,
        )
        yield f"P{n}", f"the amplitude P of order {n} in 1/x^2", lambda v, n=n: _hankel(n, v)[0], mpf(0), far, 13
        yield (
            f"Q{n}",
            f"x times the amplitude Q of order {n} in 1/x^2",
            lambda v, n=n: _hankel(n, v)[1],
            mpf(0),
            far,
            13,
        )
        yield f"K{n}", f"K{n} less its logarithm in x^2 up to 4", lambda z, n=n: k_series(n, z), mpf(0), SPLIT_K**2, 12
        yield f"K{n}_TAIL", f"K{n}(x) e^x sqrt(x) in 1/x", lambda u, n=n: k_tail(n, u), mpf(0), 1 / SPLIT_K, 28
    waves = 1 / (mpf(2) / 3 * mp.sqrt(-AIRY[0]) ** 3) ** 2
    yield "AI_LEFT", "Ai(x) from -5 to 0", mp.airyai, AIRY[0], AIRY[1], 32
    yield "AI_RIGHT", "Ai(x) from 0 to 2", mp.airyai, AIRY[1], AIRY[2], 22
    yield (
        "AI_TAIL",
        "Ai(x) e^w x^(1/4) in 1/w, w = 2/3 x^(3/2), from 2 on",
        airy_tail,
        mpf(0),
        3 / (2 * mp.sqrt(AIRY[2]) ** 3),
        28,
    )
    yield "AI_SINE", "the amplitude of the sine in 1/w^2 below -5", lambda v: _airy_waves(v)[0], mpf(0), waves, 14
    yield "AI_COSINE", "w times the amplitude of the cosine in 1/w^2", lambda v: _airy_waves(v)[1], mpf(0), waves, 14


HEADER = '''"""Coefficients of Bessel's and Airy's functions. Written by tools/derive_bessel_coefficients.py: change that, not this.

Polynomials are tuples with the lowest coefficient first, in t from -1 to 1, which stands for the interval that is told.
Next: `approximations_waves.py`.
"""
'''


def generate() -> str:
    """The whole file."""
    parts = [HEADER]
    for name, doc, function, low, high, degree in fits():
        terms = interpolated(function, low, high, degree)
        rows = "".join(f"    {float(c)!r},\n" for c in terms)
        parts.append(f"#: {doc}: ({float(low)!r}, {float(high)!r}).\n{name} = (\n{rows})\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main(__doc__, generate, OUTPUT))
