"""The IR that frontend and compiler share: dtypes, avals, graphs, op records and their MLIR form.

Nothing here imports the frontend or the compiler. Read `record.py` for what an op is,
`graph.py` for what a program is, `tape/` for the ops themselves.
"""
