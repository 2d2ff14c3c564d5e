"""What stands for torchvision where it needs no C++: models, datasets, ops on boxes, grids of images. Transforms are those
of `flambeau.transforms`.

Next: `models/`, `datasets.py`, `ops.py`, `utils.py`.
"""
