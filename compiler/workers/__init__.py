"""Compiler processes: started, fed, watched, and ended with their parent. `pool.py` is the way in."""
