"""Logs for TensorBoard, by way of the package `tensorboardX` (the extra `tensorboard`), imported when a writer is made.

In: numbers, tensors, arrays. Out: event files in a folder. Names and signatures are those of `torch.utils.tensorboard`. Next:
`stopping.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flambeau import border as _border
from flambeau import host
from flambeau import missing as _missing
from flambeau.runtime.recorder import Tensor


class SummaryWriter:
    """Writes to `log_dir`, or to a new folder in `runs`, named by time, machine and `comment`. What is logged waits in a queue
    of `max_queue` and is written every `flush_secs` seconds, by `flush` and by `close`; as a context manager it closes at the
    end of the block.

    Raises ImportError without tensorboardX.
    """

    def __init__(
        self,
        log_dir: Any = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError("[SummaryWriter] logs need tensorboardX. Install flambeau[tensorboard].") from error
        self._writer = tensorboardX.SummaryWriter(
            None if log_dir is None else str(log_dir),
            comment=comment,
            purge_step=purge_step,
            max_queue=max_queue,
            flush_secs=flush_secs,
            filename_suffix=filename_suffix,
        )
        self.log_dir = self._writer.logdir

    def get_logdir(self) -> str:
        """The folder."""
        return self.log_dir

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """A number, or a tensor of one element. `new_style` and `double_precision` change nothing."""
        self._writer.add_scalar(tag, _number("add_scalar", scalar_value), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Several numbers for one chart, each in a folder of its own."""
        numbers = {name: _number("add_scalars", value) for name, value in tag_scalar_dict.items()}
        self._writer.add_scalars(main_tag, numbers, global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """How the elements are distributed. Raises ValueError for none, and for NaN or infinite ones."""
        array = _array(values).reshape(-1).astype(np.float64)
        bad = int((~np.isfinite(array)).sum())
        if not array.size or bad:
            raise ValueError(
                f"[add_histogram] '{tag}' has {array.size} elements, {bad} of them NaN or infinite. Pass finite ones."
            )
        self._writer.add_histogram(tag, array, global_step, bins, walltime, max_bins)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """An image: uint8, or floats from 0 to 1. `dataformats` says what its dimensions are: "CHW", "HWC" or "HW"."""
        self._image("add_image", tag, img_tensor, global_step, walltime, dataformats)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Several images, side by side in a grid."""
        self._image("add_images", tag, img_tensor, global_step, walltime, dataformats)

    def _image(self, op: str, tag: str, image: Any, step: int | None, walltime: float | None, formats: str) -> None:
        array = _array(image)
        if array.ndim != len(formats):
            raise ValueError(
                f"[{op}] '{tag}' has the shape {array.shape}, dataformats is '{formats}'. Make them agree."
            )
        getattr(self._writer, op)(tag, array, step, walltime=walltime, dataformats=formats)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Text, in Markdown."""
        self._writer.add_text(tag, text_string, global_step, walltime)

    def add_hparams(self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any], run_name: Any = None) -> None:
        """What was chosen, and what came out."""
        self._writer.add_hparams(
            dict(hparam_dict), {k: _number("add_hparams", v) for k, v in metric_dict.items()}, run_name
        )

    def flush(self) -> None:
        """Write what waits."""
        self._writer.file_writer.flush()

    def close(self) -> None:
        """Write what waits and close the files."""
        self._writer.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _array(values: Any) -> np.ndarray:
    return np.array(host.array_of(values)) if isinstance(values, Tensor) else np.asarray(values)


def _number(op: str, value: Any) -> float:
    array = _array(value)
    if array.size != 1 or array.dtype.kind in "SUO":
        raise ValueError(
            f"[{op}] a value of shape {array.shape} and dtype {array.dtype} is no number. Pass one number."
        )
    return float(array.reshape(()))


__all__ = ["SummaryWriter"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.utils.tensorboard")
