"""Code of other packages in the compiler: what it is told, what cache keys hold of it, how its faults are named."""
