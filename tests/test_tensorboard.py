"""Logs for TensorBoard: what is read back from the event files."""

import struct

import flambeau as fb
import numpy as np
import pytest

pytest.importorskip("tensorboardX")

from flambeau.utils.tensorboard import SummaryWriter


def events(folder):
    """tag -> [(step, value)] of the files in a folder: records of length, checksum, message, checksum."""
    from tensorboardX.proto import event_pb2

    found = {}
    for path in sorted(folder.rglob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def test_scalars_images_histograms_and_text(tmp_path):
    x = fb.arange(12.0).reshape(3, 2, 2) / 12
    with SummaryWriter(tmp_path) as writer:
        assert writer.get_logdir() == str(tmp_path)
        for step in range(3):
            writer.add_scalar("loss", fb.tensor(0.5) * step, step)
        writer.add_scalar("accuracy", np.float64(0.25), 7)
        writer.add_image("picture", x, 1)
        writer.add_images("pictures", fb.stack([x, x]), 1)
        writer.add_histogram("weights", fb.arange(100).to(fb.float32), 2)
        writer.add_text("note", "hello", 3)
        writer.flush()
    found = events(tmp_path)
    assert [(step, v.simple_value) for step, v in found["loss"]] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert [(step, v.simple_value) for step, v in found["accuracy"]] == [(7, 0.25)]
    (step, picture), (_, grid) = found["picture"][0], found["pictures"][0]
    assert step == 1 and (picture.image.height, picture.image.width, picture.image.colorspace) == (2, 2, 3)
    assert picture.image.encoded_image_string.startswith(b"\x89PNG") and grid.image.width == 4
    histogram = found["weights"][0][1].histo
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 99, 100, 4950)
    assert any(tag.startswith("note") for tag in found)


def test_what_cannot_be_logged(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match=r"\[add_scalar\] a value of shape \(2,\)"):
            writer.add_scalar("loss", fb.ones(2))
        with pytest.raises(ValueError, match=r"\[add_histogram\] 'w' has 2 elements, 1 of them"):
            writer.add_histogram("w", fb.tensor([1.0, float("nan")]))
        with pytest.raises(ValueError, match=r"\[add_image\] 'p' has the shape \(2, 2\), dataformats is 'CHW'"):
            writer.add_image("p", fb.ones(2, 2))
