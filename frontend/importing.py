"""Imports what the package is made of, in order: a module of its own, so that nothing else is imported before.

In: nothing. Out: loaded modules. Next: `hooks.py`, `operators.py`, `public.py`.
"""

from flambeau.runtime.imports import imported

#: Tensors work from the first one on.
for _name in ("hooks", "operators", "public"):
    imported(f"flambeau.{_name}")
