"""Fusion groups: what is compiled together, as structured ops on tensors, one to one with a `func.func` of linalg.

`form.py` has the objects; `bodies.py` makes the scalar code of an op by running its lowering; `text.py` and `reading.py`
print groups as MLIR and read them back; `verify.py` has the rules that hold of every group.
"""
