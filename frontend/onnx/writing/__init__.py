"""What writes each primitive op as ONNX nodes: importing this package fills `builder.WRITERS`. Each module is a family of ops."""

from flambeau.onnx.writing import elementwise, folds, loops, moving, windows

__all__ = ["elementwise", "folds", "loops", "moving", "windows"]
