"""Kernel text to machine code in this process. `object_code.py` is the way in."""
