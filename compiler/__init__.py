"""From graphs to plans of native kernels. `driver.py` is the way in, `stages.py` lists the stages in order.

Imports dialects and runtime, never the frontend.
"""
