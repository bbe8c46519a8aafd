"""Where training starts: a method's encoder with weights that exist, shown what these were trained to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from .encoders import Saved
from .errors import WrongCall
from .methods import Method
from .modalities import Modality
from .recipe import only_from
from .sources.data import Data
from .training import Adaptation

M = TypeVar("M", bound=Method)
STATISTICS = ("mean", "std")  # of channels: they mean nothing where channels are others


def start_of(method: Method, text: str | None, adapt: Adaptation) -> Saved | None:
    """The weights that a plan names, or its method's encoder; None where it begins from random ones.

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
        return None
    elif "encoder" not in type(method).model_fields:
        raise WrongCall(f"{method.label()} has no field `encoder` that could start from {text}: set one of its fields")
    else:
        saved = Saved(path=text, encoder=named, role=getattr(method, "role", None))
    fresh = adapt.fresh or saved.fresh
    asked = {"fresh": fresh, "lora": adapt.lora or saved.lora, "frozen": adapt.keeps_statistics(fresh)}
    return saved.model_copy(update=asked).settled()


def taught_by(method: Method) -> Iterator[Saved]:
    """Weights that the method has beside its encoder, as a teacher's."""
    fields = (getattr(method, name) for name in type(method).model_fields if name != "encoder")
    return (value for value in fields if isinstance(value, Saved))


def beginning(method: M, saved: Saved) -> M:
    """The method with those weights in its encoder."""
    return method.model_copy(update={"encoder": saved})


def shown(data: Data, saved: Saved) -> Data:
    """With what the weights were trained to see (mean, std, size, channels) where the recipe leaves it open."""
    tree = saved.found.seen
    if not tree:
        return data
    with only_from(()):  # a file's words import no code
        seen: Modality = Modality.of(tree)
    modality = {
        name: one.filled(_known(one, seen)) if one.label() == seen.label() else one
        for name, one in data.modality.items()
    }
    return data.model_copy(update={"modality": modality})


def _known(modality: Modality, seen: Modality) -> dict[str, Any]:
    """What of that holds here: how pixels are stored is the data's own affair."""
    here, there = modality.facts, seen.facts
    alike = here.get("channels") in (None, there.get("channels"))
    return {**there, **({name: getattr(seen, name, None) for name in STATISTICS} if alike else {})}
