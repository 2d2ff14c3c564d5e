"""Fourier transforms of frames of a signal: stft and istft.

In: signals, [T] or [B, T], or the transforms of frames, [(B,) frequencies, frames]; windows. Out: the one from the other. Composed
of `unfold`, `fft` and the adding up of frames. Next: `fourier.py`, `signal_windows.py`.
"""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.declarations import declared
from flambeau.functions import assemble, create, fourier, windows
from flambeau.functions.complex import numbers, view_as_real
from flambeau.functions.ramps import arange
from flambeau.functions.scattering import index_add
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

_TRANSFORM: Any = fourier  # whose names are made in a loop

_SIGNALS = calls(
    lambda: [
        call(data(40), 8, return_complex=True, gradient=False),
        call(data(2, 30), 8, 3, 6, data(6, low=0.5, high=1), normalized=True, return_complex=False),
        call(data(2, 30), 6, center=False, onesided=False, return_complex=True, gradient=False),
        call(data(2, 30), 6, win_length=4, center=False, align_to_window=True, return_complex=False),
        call(data(40), 8, error=(RuntimeError, "Say whether the result is complex")),
        call(data(40), 0, return_complex=True, error=(RuntimeError, "n_fft is 0")),
        call(data(40), 8, 0, return_complex=True, error=(RuntimeError, "hop_length is 0")),
        call(data(40), 8, None, 9, return_complex=True, error=(RuntimeError, "win_length is 9")),
        call(data(40), 8, window=data(7), return_complex=True, error=(RuntimeError, "window has shape")),
        call(data(2, 2, 9), 8, return_complex=True, error=(RuntimeError, "Pass one signal")),
        call(data(40), 8, align_to_window=True, return_complex=True, error=(RuntimeError, "center")),
    ]
)


def _lengths(op: str, n_fft: int, hop: int | None, width: int | None, window: Tensor | None) -> tuple[int, int]:
    """How far frames lie apart, and how long the window is. Raises RuntimeError for what cannot be."""
    hop = n_fft // 4 if hop is None else hop
    width = n_fft if width is None else width
    if n_fft <= 0:
        raise RuntimeError(f"[{op}] n_fft is {n_fft}. Use at least 1.")
    if hop <= 0:
        raise RuntimeError(f"[{op}] hop_length is {hop}. Use at least 1.")
    if not 0 < width <= n_fft:
        raise RuntimeError(f"[{op}] win_length is {width}. Use 1 to n_fft, {n_fft}.")
    if window is not None and tuple(window.shape) != (width,):
        raise RuntimeError(f"[{op}] window has shape {tuple(window.shape)}. Pass a vector of win_length, {width}.")
    return hop, width


def _padded(window: Tensor, n_fft: int) -> Tensor:
    """The window in the middle of `n_fft` places."""
    left = (n_fft - window.shape[0]) // 2
    return assemble.pad(window, (left, n_fft - window.shape[0] - left))


@declared(free="flambeau", method=True, samples=_SIGNALS)
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """The Fourier transforms of frames of `n_fft` elements of a signal, [T] or [B, T], that begin every `hop_length` (n_fft // 4),
    each times a window of `win_length` (n_fft): [(B,) frequencies, frames], complex, or with a last dimension of 2 for the parts.

    `center`: frames lie around their places, and the signal is padded on both sides as `pad_mode` says. `normalized`: divided
    by the root of n_fft. `onesided`: the first half of the frequencies, the default of what is real. `align_to_window`, without
    `center`: the first window begins where the signal does, not the first frame.

    Raises RuntimeError for shapes, lengths and windows that do not fit, and for integers.
    """
    if center and align_to_window is not None:
        raise RuntimeError("[stft] align_to_window is for frames without center. Pass center=False.")
    made_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not made_complex:
            raise RuntimeError(
                "[stft] real frames have complex transforms. Say whether the result is complex: return_complex."
            )
        return_complex = True
    if not input.dtype.is_inexact:
        raise RuntimeError(f"[stft] the signal has dtype {input.dtype}. Convert it to a floating-point one.")
    if input.ndim not in (1, 2):
        raise RuntimeError(f"[stft] the signal has shape {tuple(input.shape)}. Pass one signal, or a batch of them.")
    hop, width = _lengths("stft", n_fft, hop_length, win_length, window)
    if made_complex and onesided:
        raise RuntimeError("[stft] half of the frequencies says nothing of complex frames. Pass onesided=False.")
    x = input if input.ndim == 2 else input.unsqueeze(0)
    if center:
        x = assemble.pad(x.unsqueeze(0), (n_fft // 2, n_fft // 2), pad_mode).squeeze(0)
    elif align_to_window and (left := (n_fft - width) // 2):
        x = assemble.pad(x, (left, left))
    if not n_fft <= x.shape[-1]:
        raise RuntimeError(f"[stft] a signal of {x.shape[-1]} elements has no frame of {n_fft}. Pass a longer one.")
    frames: Any = windows.unfold(x, -1, n_fft, hop)
    if window is not None or width < n_fft:
        frames = frames * _padded(
            create.ones(width, dtype=x.dtype, device=x.device) if window is None else window, n_fft
        )
    is_half = not made_complex if onesided is None else onesided
    transform: Any = _TRANSFORM.rfft if is_half else _TRANSFORM.fft
    found = transform(frames, n_fft, -1, "ortho" if normalized else None).transpose(1, 2)
    found = found if input.ndim == 2 else found.squeeze(0)
    return found if return_complex else view_as_real(found)


_FRAMES = calls(
    lambda: [
        call(numbers(5, 4), 8, window=data(8, low=0.5, high=1), gradient=False),
        call(numbers(2, 4, 5), 6, 2, 6, data(6, low=0.5, high=1), normalized=True, gradient=False),
        call(
            numbers(6, 5),
            6,
            None,
            6,
            data(6, low=0.5, high=1),
            onesided=False,
            length=9,
            return_complex=True,
            gradient=False,
        ),
        call(data(5, 4), 8, error=(RuntimeError, "expected a complex one")),
        call(numbers(4, 4), 8, error=(RuntimeError, "4 frequencies")),
        call(numbers(5, 4), 8, return_complex=True, error=(RuntimeError, "onesided")),
        call(numbers(5, 4), 8, 9, error=(RuntimeError, "hop_length is 9")),
        call(numbers(5, 4), 8, window=data(8) * 0, error=(RuntimeError, "add up to 0")),
    ]
)


@declared(free="flambeau", method=True, samples=_FRAMES)
def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal, [T] or [B, T], whose `stft` with the same arguments comes nearest to `input`: frames times the window are added
    up, and divided by the sum of the windows' squares. `length` cuts the signal, or adds zeros to its end. `return_complex`: the
    signal is complex, and `onesided` is False.

    Raises RuntimeError for shapes, lengths and windows that do not fit, and where the squares of the windows add up to 0. That is
    looked at: what was recorded is computed then.
    """
    if not input.dtype.is_complex:
        raise RuntimeError(f"[istft] input has dtype {input.dtype}, expected a complex one. Pass what stft gives.")
    if input.ndim not in (2, 3) or not input.numel():
        raise RuntimeError(
            f"[istft] input has shape {tuple(input.shape)}. Pass frequencies and frames, in a batch or not."
        )
    hop, width = _lengths("istft", n_fft, hop_length, win_length, window)
    if hop > width:
        raise RuntimeError(f"[istft] hop_length is {hop}, above win_length {width}. Frames must meet.")
    count = input.shape[-2]
    is_half = count != n_fft if onesided is None else onesided
    if count != (n_fft // 2 + 1 if is_half else n_fft):
        raise RuntimeError(
            f"[istft] there are {count} frequencies for n_fft {n_fft} and onesided={is_half}. Make them fit."
        )
    if return_complex and is_half:
        raise RuntimeError("[istft] half of the frequencies makes no complex signal. Pass onesided=False.")
    if window is not None and window.dtype.is_complex and not return_complex:
        raise RuntimeError("[istft] a complex window makes a complex signal. Pass return_complex=True.")
    if window is None:
        warnings.warn("[istft] no window is given: all elements of a frame weigh the same.", stacklevel=2)
        window = create.ones(width, dtype=input.dtype.to_real(), device=input.device)
    weights: Any = _padded(window, n_fft)
    frames = _frames(input if input.ndim == 3 else input.unsqueeze(0), n_fft, normalized, is_half, return_complex)
    total = _added(frames * weights, hop)
    squares = _added((weights * weights).expand(1, frames.shape[1], n_fft), hop)
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total.shape[-1] - start
    total, squares = total[:, start:end], squares[:, start:end]
    if bool((squares.abs() < 1e-11).any()):
        raise RuntimeError("[istft] squares of the windows add up to 0 somewhere. Choose another window or hop_length.")
    found = total / squares
    if length is not None and found.shape[-1] < length:
        found = assemble.pad(found, (0, length - found.shape[-1]))
    return found if input.ndim == 3 else found.squeeze(0)


def _frames(input: Any, n_fft: int, normalized: bool, is_half: bool, made_complex: bool) -> Any:
    """[B, frames, n_fft], each the inverse transform of its frequencies."""
    spectra, norm = input.transpose(1, 2), "ortho" if normalized else None
    if made_complex:
        return _TRANSFORM.ifft(spectra, n_fft, -1, norm)
    if not is_half:
        spectra = spectra[..., : n_fft // 2 + 1]
    return _TRANSFORM.irfft(spectra, n_fft, -1, norm)


def _added(frames: Any, hop: int) -> Any:
    """[B, frames, n] -> [B, T]: frames added up where they lie, `hop` apart."""
    batch, count, n = frames.shape
    total = (count - 1) * hop + n
    at = (arange(count, device=frames.device) * hop).unsqueeze(1) + arange(n, device=frames.device)
    zeros = create.zeros(batch, total, dtype=frames.dtype, device=frames.device)
    return index_add(zeros, 1, at.reshape(-1), frames.reshape(batch, -1))
