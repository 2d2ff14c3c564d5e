"""Checkpoints of whole trainings: `flambeau.checkpoints`.

In: a folder, and what is trained by name. Out: a folder per step that is there whole or not at all. Next: `manager.py`.
"""

from flambeau import border as _border
from flambeau.checkpoints.keys import migrated
from flambeau.checkpoints.manager import CheckpointManager
from flambeau.checkpoints.position import ResumableLoader
from flambeau.checkpoints.shape_of_models import architecture, fingerprint
from flambeau.checkpoints.shards import resharded

__all__ = ["CheckpointManager", "ResumableLoader", "architecture", "fingerprint", "migrated", "resharded"]

_border.publish(globals(), __all__)
