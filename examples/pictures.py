"""What the examples have in common: the digits as images, batches, and pictures of losses and images."""

from pathlib import Path

import flambeau as fb


def digits(size=8):
    """(images [1797, 1, size, size] from 0 to 1, labels) of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = fb.tensor((images / 16).astype("float32")).reshape(-1, 1, 8, 8)
    if size != 8:
        images = fb.nn.functional.interpolate(images, size=(size, size), mode="bilinear")
    return images, fb.tensor(labels)


def batches(count, *tensors):
    """Batches of `count` rows drawn at random from the tensors, without end."""
    rows = tensors[0].shape[0]
    while True:
        order = fb.randperm(rows)
        for start in range(0, rows - count + 1, count):
            chosen = order[start : start + count]
            yield tuple(t[chosen] for t in tensors)


def _plots():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def plot(path, title, ylabel="loss", **curves):
    """Write curves over the steps as a picture."""
    figure, axes = _plots().subplots(figsize=(7, 4))
    for name, values in curves.items():
        axes.plot(values, linewidth=0.8, label=name)
    axes.set(xlabel="step", ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def show(path, title, images, columns=10):
    """Write images [n, channels, height, width] (1 or 3 channels, 0 to 1) or [n, height, width] as one picture."""
    plt = _plots()
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(columns * 0.8, rows * 0.8 + 0.5), squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes, image in zip(grid.ravel(), images.detach().clamp(0, 1).numpy()):
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    figure.suptitle(title)
    _save(figure, path)


def _save(figure, path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    _plots().close(figure)
    print(f"Picture: {path}")
