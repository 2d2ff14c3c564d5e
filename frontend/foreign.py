"""Files that `load` is given by mistake: what kind they are, and how to convert them.

In: the first bytes. Out: a sentence, or None. Nothing of such a file is executed or unpacked; of an archive the list of
names is read. Next: `safetensors_format.py`.
"""

from __future__ import annotations

import zipfile
from typing import BinaryIO

LARGEST_HEADER = 100_000_000  # of a safetensors file: the format's own limit

_TORCH = (
    "this is a file of torch.save() (.pt, .pth) in a stream that cannot go back, and it is read from its end. Pass its path, or an "
    "io.BytesIO of it."
)
_NPZ = (
    "this is a NumPy archive (.npz). Its tensors are {k: flambeau.from_numpy(v) for k, v in numpy.load(path).items()}; "
    "flambeau.save writes them as safetensors."
)
_ZIP = "this is a zip archive, not a safetensors file. Unpack it, and load a .safetensors file."
_PICKLE = (
    "this is a pickle (.pkl) that torch.save() did not write, and is never executed here. If you trust it, read it with "
    "pickle.load, and save what is in it with flambeau.save."
)
_NPY = "this is a NumPy array (.npy). Use flambeau.from_numpy(numpy.load(path))."
_ONNX = (
    "this looks like an ONNX model. flambeau.onnx.load(path) makes a module of it, whose state_dict() are its weights."
)
_JSON = "this is JSON text, not a safetensors file. Pass the .safetensors file that belongs to it."
_OTHERS = {
    b"GGUF": "this is a GGUF file. Get the same weights as safetensors.",
    b"\x89HDF": "this is an HDF5 file (.h5, .hdf5). Read it with h5py, and make tensors with flambeau.from_numpy.",
    b"\x1f\x8b\x08": "this is compressed with gzip. Decompress it first.",
    b"\xfd7zX": "this is compressed with xz. Decompress it first.",
    b"\x28\xb5\x2f\xfd": "this is compressed with zstd. Decompress it first.",
    b"\x7fELF": "this is an executable or object file. Exported programs are run, not loaded.",
    b"version ": "this is a pointer of Git LFS, not the file itself. Run git lfs pull.",
}


def kind(stream: BinaryIO, start: bytes) -> str | None:
    """What a file is that begins with the 8 bytes `start` and goes on in `stream`, if it is no safetensors file."""
    small = int.from_bytes(start, "little") <= LARGEST_HEADER  # may be a length: then two bytes of a kind prove nothing
    if start.startswith(b"PK\x03\x04"):
        return _archive(stream) if stream.seekable() else _TORCH
    if start.startswith(b"\x93NUMPY"):
        return _NPY
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and not small:
        return _PICKLE
    if start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b":", b"B") and not small:  # ir_version, then a field
        return _ONNX
    if start[:1] == b"{" and start.isascii() and not small:
        return _JSON
    return next((text for magic, text in _OTHERS.items() if start.startswith(magic)), None)


def _archive(stream: BinaryIO) -> str:
    try:
        names = zipfile.ZipFile(stream).namelist()
    except Exception:  # whatever is wrong with the archive, it is none of ours
        return _ZIP
    return _NPZ if names and all(name.endswith(".npy") for name in names) else _ZIP
