"""Transforms of images: values against plain formulas, Pillow and PyTorch."""

import colorsys

import flambeau as fb
import numpy as np
import pytest
from flambeau import transforms as T
from flambeau.runtime import recorder
from support import against_numpy, arrays

IMAGE = (np.random.default_rng(0).random((7, 9, 3)) * 255).astype(np.uint8)
FLOATS = IMAGE.transpose(2, 0, 1).astype(np.float32) / 255


@pytest.mark.accept("DAT-12", "DAT-14")
def test_images_become_tensors():
    against_numpy(T.to_image(IMAGE), IMAGE.transpose(2, 0, 1))
    against_numpy(T.ToTensor()(IMAGE), FLOATS, 0)
    assert T.to_tensor(IMAGE[:, :, 0]).shape == (1, 7, 9) and T.to_image(fb.ones(2, 3, 4)).shape == (2, 3, 4)
    with pytest.raises(TypeError, match=r"\[to_image\] str is no image"):
        T.ToTensor()("path")
    with pytest.raises(ValueError, match=r"\[to_image\] an array has the shape \(2,\)"):
        T.to_image(np.zeros(2))


@pytest.mark.accept("DAT-12")
def test_images_of_pillow():
    Image = pytest.importorskip("PIL.Image")
    image = Image.fromarray(IMAGE)
    against_numpy(T.to_image(image), IMAGE.transpose(2, 0, 1))
    gray = np.asarray(image.convert("L"))
    against_numpy(T.to_tensor(image.convert("L")), gray[None].astype(np.float32) / 255, 0)
    assert T.to_image(image.convert("P")).shape == (3, 7, 9)
    assert T.to_image(image.convert("1")).unique().tolist() in ([0, 255], [0], [255])
    for size in ((14, 5), (3, 4), (20, 20)):
        wanted = np.asarray(image.resize(size[::-1], Image.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(T.resize(image, size).numpy().astype(int) - wanted).max() <= 1
        calm = Image.fromarray(IMAGE // 2 + 64)  # Pillow cuts between rows and columns what leaves the range
        wanted = np.asarray(calm.resize(size[::-1], Image.BICUBIC)).transpose(2, 0, 1)
        assert np.abs(T.resize(calm, size, "bicubic").numpy().astype(int) - wanted).max() <= 1


@pytest.mark.accept("DAT-14")
@pytest.mark.parametrize("size", [(3, 4), (14, 9), (7, 20), (1, 1)])
def test_resizing_against_torch(size):
    torch = pytest.importorskip("torch")
    x = torch.tensor(FLOATS)[None]
    for mode in ("bilinear", "bicubic"):
        wanted = torch.nn.functional.interpolate(x, size, mode=mode, antialias=True, align_corners=False)[0].numpy()
        np.testing.assert_allclose(T.resize(fb.tensor(FLOATS), size, mode).numpy(), wanted, atol=2e-6)
    wanted = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)[0].numpy()
    np.testing.assert_allclose(T.resize(fb.tensor(FLOATS), size, antialias=False).numpy(), wanted, atol=2e-6)
    wanted = torch.nn.functional.interpolate(x, size, mode="nearest")[0].numpy()
    np.testing.assert_array_equal(T.resize(fb.tensor(FLOATS), size, "nearest").numpy(), wanted)


@pytest.mark.accept("DAT-14", "DAT-15")
def test_resizing_by_hand():
    row = fb.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert T.resize(row, (1, 2), antialias=False).tolist() == [[0.5, 2.5]]
    np.testing.assert_allclose(T.resize(row, (1, 2)).numpy(), [[5 / 7, 16 / 7]], rtol=1e-6)  # (3, 3, 1) / 7 of 0, 1, 2
    assert T.resize(row, (2, 4), "nearest").tolist() == [[0, 1, 2, 3]] * 2
    assert T.resize(fb.zeros(2, 5, 3, 10, 20), 5).shape == (2, 5, 3, 5, 10), "any rank"
    assert T.Resize(6, max_size=8)(fb.zeros(1, 20, 10)).shape == (1, 8, 4)
    assert T.Resize((4,))(fb.zeros(1, 20, 10)).shape == (1, 8, 4)
    white = T.resize(fb.full((1, 4, 4), 255, dtype=fb.uint8), (9, 9), "bicubic")
    assert white.dtype is fb.uint8 and white.min().item() == 255
    for bad, text in (
        ({"interpolation": "box"}, "interpolation is 'box'"),
        ({"size": 0}, "would be"),
        ({"max_size": 3}, "max_size"),
    ):
        with pytest.raises(ValueError, match=text):
            T.resize(row, **{"size": 4, **bad})


@pytest.mark.accept("DAT-14")
def test_normalizing():
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    wanted = (FLOATS - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    against_numpy(T.Normalize(mean, std)(fb.tensor(FLOATS)), wanted, 1)
    against_numpy(T.normalize(fb.tensor(FLOATS)[None], 0.5, 0.2)[0], (FLOATS - np.float32(0.5)) / np.float32(0.2), 1)
    with pytest.raises(ValueError, match="std is"):
        T.normalize(fb.tensor(FLOATS), mean, [1, 0, 1])
    with pytest.raises(ValueError, match=r"\[normalize\] mean has 2 numbers"):
        T.normalize(fb.tensor(FLOATS), [1, 2], [1, 2])
    with pytest.raises(TypeError, match="dtype"):
        T.normalize(fb.tensor(IMAGE), mean, std)


@pytest.mark.accept("DAT-14", "DAT-15")
def test_crops_and_flips():
    x = fb.arange(2 * 6 * 8).reshape(2, 6, 8)
    assert T.CenterCrop(4)(x).equal(x[:, 1:5, 2:6]) and T.center_crop(x, (6, 3)).equal(x[:, :, 2:5])
    padded = T.CenterCrop((8, 9))(x)
    assert padded.shape == (2, 8, 9) and padded[:, 1:7, :8].equal(x) and padded.sum().item() == x.sum().item()
    assert (
        T.hflip(x).tolist() == x.numpy()[:, :, ::-1].tolist() and T.vflip(x[0]).tolist() == x.numpy()[0, ::-1].tolist()
    )
    assert T.RandomHorizontalFlip(1)(x).equal(T.hflip(x)) and T.RandomHorizontalFlip(0)(x).equal(x)
    assert T.RandomVerticalFlip(1)(x).equal(T.vflip(x))
    with pytest.raises(ValueError, match=r"\[crop\] \(3, 0\) with the size \(4, 4\) is not within"):
        T.crop(x, 3, 0, 4, 4)
    assert T.Pad((1, 2, 3, 4), fill=7)(x).shape == (2, 12, 12) and T.Pad(1)(x)[:, 1:-1, 1:-1].equal(x)


@pytest.mark.accept("DAT-14", "T-20")
def test_random_crops_are_all_places_and_follow_the_seed():
    x = fb.arange(5 * 6).reshape(1, 5, 6)

    def drawn(n):
        fb.manual_seed(4)
        crop = T.RandomCrop((3, 4))
        return [crop(x)[0, 0, 0].item() for _ in range(n)]

    places = drawn(200)
    assert set(places) == {6 * i + j for i in range(3) for j in range(3)} and drawn(20) == places[:20]
    assert T.RandomCrop(8, pad_if_needed=True)(x).shape == (1, 8, 8) and T.RandomCrop(5, padding=2)(x).shape == (
        1,
        5,
        5,
    )
    with pytest.raises(ValueError, match=r"\[RandomCrop\] the size \(8, 8\) is larger"):
        T.RandomCrop(8)(x)
    random = T.RandomResizedCrop(4)
    for _ in range(50):
        top, left, h, w = random.place(20, 30)
        assert 0 <= top <= 20 - h and 0 <= left <= 30 - w and 0.07 * 600 <= h * w <= 600 and 0.6 < w / h < 1.6
    assert random(fb.zeros(3, 20, 30)).shape == (3, 4, 4)
    assert T.RandomResizedCrop(4, (1, 1), (1, 1)).place(10, 30) == (0, 10, 10, 10)


@pytest.mark.accept("DAT-14")
def test_colours():
    x = fb.tensor(FLOATS)
    gray = np.float32(0.2989) * FLOATS[0] + np.float32(0.587) * FLOATS[1] + np.float32(0.114) * FLOATS[2]
    np.testing.assert_allclose(T.Grayscale()(x).numpy(), gray[None], rtol=1e-6)
    assert T.Grayscale(3)(x).shape == (3, 7, 9)
    np.testing.assert_allclose(T.adjust_brightness(x, 1.5).numpy(), np.clip(1.5 * FLOATS, 0, 1), rtol=1e-6)
    wanted = np.clip(0.5 * FLOATS + 0.5 * gray.mean(), 0, 1)
    np.testing.assert_allclose(T.adjust_contrast(x, 0.5).numpy(), wanted, rtol=1e-5)
    wanted = np.clip(2 * FLOATS - gray, 0, 1)
    np.testing.assert_allclose(T.adjust_saturation(x, 2.0).numpy(), wanted, atol=1e-6)
    turned = T.adjust_hue(x, 0.3).numpy()
    for i, j in np.ndindex(7, 9):
        h, s, v = colorsys.rgb_to_hsv(*FLOATS[:, i, j])
        np.testing.assert_allclose(turned[:, i, j], colorsys.hsv_to_rgb((h + 0.3) % 1, s, v), atol=1e-5)
    np.testing.assert_allclose(T.adjust_hue(x, 0.0).numpy(), FLOATS, atol=1e-6)
    assert T.adjust_brightness(IMAGE, 2).max().item() == 255 and T.adjust_hue(IMAGE, 0.1).dtype is fb.uint8
    jitter = T.ColorJitter(0.4, 0.4, 0.4, 0.1)
    fb.manual_seed(1)
    first = jitter(x)
    assert first.shape == x.shape and not first.equal(jitter(x))
    fb.manual_seed(1)
    assert jitter(x).equal(first) and T.ColorJitter()(x).equal(x)
    with pytest.raises(ValueError, match=r"\[ColorJitter\] hue is 0.7"):
        T.ColorJitter(hue=0.7)


@pytest.mark.accept("DAT-14")
def test_composed_transforms_compile_once():
    prepare = T.Compose(
        [T.Resize(8), T.RandomCrop(6), T.RandomHorizontalFlip(1), T.ToTensor(), T.Normalize([0.5], [0.25])]
    )
    with fb.compiler_options(mode="blocking"):
        for _ in range(3):
            prepare(IMAGE).sum().item()
        before = recorder.stats()["misses"]
        for seed in range(20):
            fb.manual_seed(seed)
            assert prepare(IMAGE).shape == (3, 6, 6)
            fb.flush()
        assert recorder.stats()["misses"] == before, "places compile nothing anew"
    assert "Normalize" in repr(prepare)
    assert T.Lambda(lambda x: x + 1)(1) == 2 and T.RandomApply([T.Lambda(abs)], p=1)(-1) == 1
    assert T.RandomChoice([T.Lambda(abs)])(-1) == 1


def test_nothing_is_kept_of_a_recording_that_came_to_nothing(tmp_path):
    resize = T.Resize((5, 3))
    image = fb.rand(3, 11, 7)
    with pytest.raises(RuntimeError, match="reads values while it runs"):
        fb.export(lambda x: resize(x) * x.sum().item(), image, tmp_path / "resized")
    expected = T.resize(image.double(), (5, 3)).float()
    assert fb.allclose(resize(image), expected, atol=1e-6)
    assert resize(image.bfloat16()).dtype is fb.bfloat16


def test_gradients_reach_the_image():
    x = fb.tensor(arrays(1, 4, 4), requires_grad=True)
    T.resize(x, 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy().sum(), 4, rtol=1e-6)
