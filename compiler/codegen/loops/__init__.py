"""Kernels of loop nests: points, folds, scans, sorting, windows. `cut.py` is the way in."""
