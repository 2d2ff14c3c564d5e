"""What users call, as rules call it: names that are found when they are asked for, so that nothing is said of their types.

In: nothing. Out: `fb`, `F`. Next: `node.py`.
"""

from __future__ import annotations

from typing import Any

import flambeau
import flambeau.nn.functional

fb: Any = flambeau
F: Any = flambeau.nn.functional
