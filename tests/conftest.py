"""Shared by all tests: programs are compiled in the foreground, into a cache of the tests' own."""

import os
import tempfile

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_L2_SIZE", None)
os.environ.setdefault("FLAMBEAU_COMPILE", "blocking")
os.environ.setdefault("FLAMBEAU_CACHE", os.path.join(tempfile.gettempdir(), f"flambeau-tests-{os.getuid()}"))
os.environ.setdefault("FLAMBEAU_STRICT_SIZES", "1")
