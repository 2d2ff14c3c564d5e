"""Kernels that go block of rows by block of rows, as attention does. `kernel.py` is the way in."""
