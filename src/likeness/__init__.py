"""likeness: learn representations by contrast.

A *view* shows an item; an *encoder* places every view in a space; a *relation* says which of them belong together; an
*objective* scores how far the space obeys it. A *method* is one sentence in these four words, a *plan* trains methods
in order, and a *space* is what remains to search and to judge.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Run as Run
    from .api import steps as steps
    from .api import train as train
    from .errors import Failed as Failed
    from .errors import Interrupted as Interrupted
    from .errors import LikenessError as LikenessError
    from .errors import WrongCall as WrongCall
    from .evaluations import evaluate as evaluate
    from .loaded import load as load
    from .mining import mine as mine
    from .sources import read as read
    from .space import Space as Space

_HOMES = {
    "api": ("Run", "steps", "train"),
    "errors": ("Failed", "Interrupted", "LikenessError", "WrongCall"),
    "evaluations": ("evaluate",),
    "loaded": ("load",),
    "mining": ("mine",),
    "sources": ("read",),
    "space": ("Space",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Failed",
    "Interrupted",
    "LikenessError",
    "Run",
    "Space",
    "WrongCall",
    "evaluate",
    "load",
    "mine",
    "read",
    "steps",
    "train",
]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import likeness` costs nothing."""
    if name == "sklearn":  # likeness.sklearn.ContrastiveEncoder, without a second import
        return import_module(".sklearn", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'likeness' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
