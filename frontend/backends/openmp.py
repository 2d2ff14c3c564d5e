"""`backends.openmp`: not there; kernels run in threads of ours."""


def is_available() -> bool:
    """False."""
    return False
