"""Where PyTorch programs look for the libraries behind its operations. Here the compiler makes every kernel, so none of
them is there, and switches among their ways of computing change nothing: results have the same bits always.
"""

from flambeau import missing as _missing
from flambeau.backends import cuda, cudnn, mkl, mkldnn, mps, openmp, opt_einsum

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]

__getattr__ = _missing.module_getattr("flambeau.backends")
