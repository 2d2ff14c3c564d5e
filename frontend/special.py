"""`flambeau.special`: special functions under the names of `torch.special`.

Its names are those that functions declare with `free="special"`, and other names of functions of the package. Next:
`functions/special.py`.
"""

from __future__ import annotations

from flambeau import border as _border
from flambeau import declarations as _declarations
from flambeau import missing as _missing

#: Name here -> name in the package.
_OTHERS = {
    "expit": "sigmoid",
    "gammainc": "igamma",
    "gammaincc": "igammac",
    "gammaln": "lgamma",
    "log_softmax": "log_softmax",
    "logsumexp": "logsumexp",
    "multigammaln": "mvlgamma",
    "psi": "digamma",
    "softmax": "softmax",
}
_found = {
    **_declarations.names("special"),
    **{name: _declarations.names(_declarations.TOP)[other] for name, other in _OTHERS.items()},
}

globals().update(_found)
__all__ = sorted(_found)

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.special")
