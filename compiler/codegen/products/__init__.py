"""Kernels of contractions. `cut.py` is the way in."""
