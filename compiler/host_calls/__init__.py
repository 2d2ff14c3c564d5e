"""Kernels that are functions of this process: LAPACK, Fourier transforms, references in Python."""
