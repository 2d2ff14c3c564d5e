"""`backends.opt_einsum`: finds the order of `einsum`."""

enabled = True
strategy = "auto"


def is_available() -> bool:
    """True: it is installed with the package."""
    return True
