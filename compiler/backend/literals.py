"""Rewrites the float literals of LLVM IR text to hexadecimal, which every LLVM reads alike.

MLIR's LLVM is newer than llvmlite's and prints shortest decimals, `f0x...`, `+inf` and `+nan(...)`, which the
older parser refuses. In and out: LLVM IR text. Next: `object_code.py`.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from functools import lru_cache

_FORMATS = {"half": (5, 10), "bfloat": (8, 7), "float": (8, 23), "double": (11, 52)}
_PREFIXES = {"half": "0xH{:04X}", "bfloat": "0xR{:04X}", "double": "0x{:016X}"}
_TOKEN = re.compile(
    r'(?P<string>c?"[^"\n]*")|(?P<type>\b(?:half|bfloat|float|double)\b)|'
    r"(?P<literal>(?<![\w.%@$-])(?:f0x[0-9A-Fa-f]+|[+-](?:inf|qnan|s?nan\(0x[0-9a-fA-F]+\))|[+-]?\d+\.\d*(?:[eE][+-]?\d+)?))"
)

#: The lines that may have one: few do, and all others are passed over without a call.
_may_have_one = re.compile(r"\d\.|f0x|[+-]inf|nan").search


def to_hexadecimal(text: str) -> str:
    """The same IR with every float literal in a form that LLVM 22 and newer accept."""
    lines = text.split("\n")
    for number, line in enumerate(lines):  # an expression takes far longer to find nothing than four searches for words
        has_words = "." in line or "nan" in line or "inf" in line or "f0x" in line
        if has_words and _may_have_one(line):
            lines[number] = _rewritten(line)
    return "\n".join(lines)


def _rewritten(line: str) -> str:
    current: str | None = None

    def rewrite(match: re.Match[str]) -> str:
        nonlocal current
        token = match.group()
        if match.lastgroup == "type":
            current = token
        elif match.lastgroup == "literal" and current:
            return _spell(current, token)
        return token

    return _TOKEN.sub(rewrite, line)


@lru_cache(4096)
def _spell(type: str, literal: str) -> str:
    bits = _bits(type, literal)
    if type != "float":
        return _PREFIXES[type].format(bits)
    sign, exponent, mantissa = bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:  # as a double with the same payload; arithmetic would quieten a NaN
        return f"0x{sign << 63 | 0x7FF << 52 | mantissa << 29:016X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', struct.unpack('<f', struct.pack('<I', bits))[0]))[0]:016X}"


def _bits(type: str, literal: str) -> int:
    exponent, mantissa = _FORMATS[type]
    if literal.startswith("f0x"):
        return int(literal[3:], 16)
    infinity, quiet = ((1 << exponent) - 1) << mantissa, 1 << (mantissa - 1)
    body, sign = literal.lstrip("+-"), 1 << (exponent + mantissa) if literal[0] == "-" else 0
    if body == "inf":
        return sign | infinity
    if body == "qnan":
        return sign | infinity | quiet
    if body.startswith("nan"):
        return sign | infinity | quiet | int(body[4:-1], 16)
    if body.startswith("snan"):
        return sign | infinity | int(body[5:-1], 16)
    return sign | _round(Fraction(body), exponent, mantissa)


def _round(x: Fraction, exponent: int, mantissa: int) -> int:
    """Bits of the nearest number of a binary format to x >= 0, ties to even."""
    if x == 0:
        return 0
    bias = (1 << (exponent - 1)) - 1
    power = max(x.numerator.bit_length() - x.denominator.bit_length() - 1, 1 - bias)
    while Fraction(2) ** (power + 1) <= x:
        power += 1
    steps = round(x / Fraction(2) ** (power - mantissa))  # round() of a Fraction ties to even
    return ((power + bias - 1) << mantissa) + steps if steps >= 1 << mantissa else steps
