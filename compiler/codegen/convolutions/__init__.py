"""Kernels of convolutions and their gradients. `cut.py` is the way in."""
