"""Where training starts: a method's encoder with weights that exist, shown what these were trained to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from .encoders import Encoder, Saved
from .errors import WrongCall
from .methods import Method
from .modalities import Modality
from .recipe import only_from
from .sources.data import Data
from .training import Adaptation

M = TypeVar("M", bound=Method)


def start_of(method: Method, text: str | None, adapt: Adaptation, roles: Mapping[str, str]) -> Saved | None:
    """The weights that a plan names, or its method's encoder; None where it begins from random ones.

    roles: role -> modality of the source; where there are several, weights of several encoders are told apart later

    Raises:
        WrongCall: both name some, the method has no encoder that could start from them, or there are none.
    """
    named = getattr(method, "encoder", None)
    if isinstance(named, Saved):
        if text not in (None, named.path):
            raise WrongCall(f"from={text} and encoder={named.path} both say where to start: give one of them")
        saved = named
    elif text is None:
        if method.adapts and named is None:
            raise WrongCall(
                f"{method.label()} starts from weights that exist: name them with from=RUN, or a network to train from "
                "scratch with encoder="
            )
        must_be_idle(adapt)
        return None
    elif "encoder" not in type(method).model_fields:
        raise WrongCall(f"{method.label()} has no field `encoder` that could start from {text}: set one of its fields")
    else:
        saved = Saved(path=text, encoder=named, role=getattr(method, "role", None))
    fresh = adapt.fresh or saved.fresh
    asked = {"fresh": fresh, "lora": adapt.lora or saved.lora, "frozen": adapt.keeps_statistics(fresh)}
    saved = saved.model_copy(update=asked)
    return saved.seeing(*next(iter(roles.items()))) if len(roles) == 1 else saved.settled()


def must_be_idle(adapt: Adaptation) -> None:
    """Refuse fields that say how weights are changed where there are none.

    Raises:
        WrongCall: with how to name some.
    """
    usual = Adaptation()
    asked = {name: value for name, value in adapt if value != getattr(usual, name)}
    if asked:
        said = " and ".join(f"{name}={value}" for name, value in asked.items())
        raise WrongCall(f"{said} means nothing without weights that exist: name them with from=RUN, or leave it out")


def taught_by(method: Method) -> Iterator[Saved]:
    """Weights that the method has beside its encoder, as a teacher's."""
    fields = (getattr(method, name) for name in type(method).model_fields if name != "encoder")
    return (value for value in fields if isinstance(value, Saved))


def beginning(method: M, saved: Saved) -> M:
    """The method with those weights in its encoder."""
    return method.model_copy(update={"encoder": saved})


def shown(data: Data, saved: Saved) -> Data:
    """With what the weights were trained to see (mean, std, size, channels) where the recipe leaves it open."""
    seen = _seen(saved)
    if seen is None:
        return data
    modality = {name: one.like(seen) if one.label() == seen.label() else one for name, one in data.modality.items()}
    return data.model_copy(update={"modality": modality})


def shown_to(data: Data, role: str, kind: str, encoder: Encoder) -> Data:
    """The same for one role, of a modality named as its recipe is, where its encoder starts from weights."""
    seen = _seen(encoder) if isinstance(encoder, Saved) else None
    asked = data.modality.get(role) or data.modality.get(kind.lower())
    if seen is None or seen.label() != kind:
        return data
    return data.model_copy(update={"modality": {**data.modality, role: seen if asked is None else asked.like(seen)}})


def _seen(saved: Saved) -> Modality | None:
    """What weights were trained to see; None where that is not known."""
    tree = None if saved.open else saved.found.seen
    if not tree:
        return None
    with only_from(()):  # a file's words import no code
        return Modality.of(tree)
