"""From graphs to plans of native kernels. `driver.py` is the way in, `loops/phases.py` lists the stages in order.

Imports dialects and runtime, never the frontend.
"""
