"""The C header of an exported program: its functions, and the shapes and dtypes of what they take and give.

In: `Contents`, a `Platform`. Out: text. Next: `object_file.py`, which defines the functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.compiler.export.object_file import Contents
from flambeau.compiler.targets.platforms import Platform
from flambeau.dialects.aval import Aval

_TEMPLATE = """\
/* {name}: compiled ahead of time by Flambeau for {platform} ({target}).
 *
 * Build:  cc -O2 -Iruntime/include your_program.c {name}.o $(find runtime/src -name '*.c') -pthread
 *
 * Tensors are row-major without gaps, in the machine's byte order.
{tensors}
 */
#ifndef FLAMBEAU_EXPORTED_{name}_H
#define FLAMBEAU_EXPORTED_{name}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{sizes}

/* Computes all outputs; 0 on success, else the outputs are untouched and {name}_error() says why. Thread-safe. */
int {name}_run(const void *const inputs[{n_inputs}], void *const outputs[{n_outputs}]);

/* Runs the embedded sample and compares every output bit for bit with what Python computed; 0 if all are equal. */
int {name}_check(void);

/* The message of this thread's last failure. */
const char *{name}_error(void);

#ifdef __cplusplus
}}
#endif
#endif
"""


def header(contents: Contents, platform: Platform) -> str:
    """The header's text."""
    guard = contents.name.upper()
    return _TEMPLATE.format(
        name=contents.name,
        platform=platform.name,
        target=platform.target,
        tensors="\n".join([*_lines("input", contents.inputs), *_lines("output", contents.outputs)]),
        sizes="\n".join([*_sizes(guard, "INPUT", contents.inputs), *_sizes(guard, "OUTPUT", contents.outputs)]),
        n_inputs=max(1, len(contents.inputs)),
        n_outputs=len(contents.outputs),
    )


def _lines(kind: str, avals: Sequence[Aval]) -> list[str]:
    return [
        f" *   {kind}s[{k}]: {_c_type(a)}{''.join(f'[{extent}]' for extent in a.shape)}" for k, a in enumerate(avals)
    ]


def _c_type(aval: Aval) -> str:
    if not aval.dtype.c_type:
        raise ValueError(
            f"[export] C has no type for elements of {aval.dtype.name}. Cast inputs and outputs to real dtypes."
        )
    return aval.dtype.c_type


def _sizes(guard: str, kind: str, avals: Sequence[Aval]) -> list[str]:
    return [f"#define {guard}_{kind}_{k}_BYTES {a.nbytes}" for k, a in enumerate(avals)]
