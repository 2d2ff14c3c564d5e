"""ONNX files: `load` makes a module of one, `export` writes what a model computes as one. Needs the package `onnx` (the extra
`onnx`), which is imported when one of them is called. Start with `loading.py`.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.onnx.exporting import ONNXProgram, export
from flambeau.onnx.loading import OnnxModule, load

__all__ = ["ONNXProgram", "OnnxModule", "export", "load"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.onnx")
