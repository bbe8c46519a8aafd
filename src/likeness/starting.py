"""Where training starts: a method's encoder with weights that exist, shown what these were trained to see."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

import torch

from .encoders import Encoder, Saved
from .errors import WrongCall
from .methods import Method
from .modalities import Modality
from .recipe import only_from
from .sources.data import Data
from .training import Adaptation

M = TypeVar("M", bound=Method)


def start_of(
    method: Method, text: str | None, adapt: Adaptation, roles: Mapping[str, str], device: torch.device
) -> Saved | None:
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
        towers = getattr(method, "encoders", {})
        must_be_idle(adapt, beside=any(isinstance(one, Saved) for one in towers.values()))
        return None
    elif "encoder" not in type(method).model_fields:
        raise WrongCall(f"{method.label()} has no field `encoder` that could start from {text}: set one of its fields")
    else:
        saved = Saved(path=text, encoder=named, role=getattr(method, "role", None))
    fresh = adapt.fresh or saved.fresh
    asked = {"fresh": fresh, "lora": adapt.lora or saved.lora, "frozen": adapt.keeps_statistics(fresh)}
    saved = saved.model_copy(update=asked)
    return saved.seeing(*next(iter(roles.items())), device) if len(roles) == 1 else saved.settled()


OWN = ("fresh", "lora", "statistics")  # which weights of a role have fields of their own for


def must_be_idle(adapt: Adaptation, beside: bool = False) -> None:
    """Refuse fields that say how weights are changed where there are none.

    beside: whether encoders of some roles start from weights, which say themselves what is drawn anew and the like

    Raises:
        WrongCall: with how to name some.
    """
    usual = Adaptation()
    asked = {name: value for name, value in adapt if value != getattr(usual, name) and (name in OWN or not beside)}
    if asked:
        said = " and ".join(f"{name}={value}" for name, value in asked.items())
        means = "means" if len(asked) == 1 else "mean"
        if beside:
            raise WrongCall(f"{said} is for from=RUN: say it of a role's weights, as encoders.ROLE.lora=8")
        raise WrongCall(f"name weights that exist with from=RUN: without any, {said} {means} nothing")


def taught_by(method: Method) -> Iterator[Saved]:
    """Weights that the method has beside its encoder, as a teacher's."""
    fields = (getattr(method, name) for name in type(method).model_fields if name != "encoder")
    return (value for value in fields if isinstance(value, Saved))


def beginning(method: M, saved: Saved) -> M:
    """The method with those weights in its encoder."""
    return method.model_copy(update={"encoder": saved})


def shown(data: Data, saved: Saved, kinds: Collection[str] = ()) -> Data:
    """With what the weights were trained to see (mean, std, size, channels) where the recipe leaves it open.

    kinds: modalities of the source, named as their recipes are; none: not looked at

    Raises:
        WrongCall: they are a run's, of another modality.
    """
    seen = _seen(saved)
    if seen is None:
        return data
    if kinds and seen.label() not in kinds:
        must_be_published(saved, seen, f"the source holds {' and '.join(sorted(kinds)).lower()}: name a run of that")
    modality = {name: one.like(seen) if one.label() == seen.label() else one for name, one in data.modality.items()}
    return data.model_copy(update={"modality": modality})


def shown_to(data: Data, role: str, kind: str, encoder: Encoder) -> Data:
    """The same for one role, of a modality named as its recipe is, where its encoder starts from weights.

    Raises:
        WrongCall: they are a run's, of another modality.
    """
    seen = _seen(encoder)
    asked = data.modality.get(role) or data.modality.get(kind.lower())
    if seen is None:
        return data
    if seen.label() != kind:
        if isinstance(encoder, Saved):
            must_be_published(encoder, seen, f"{role!r} is {kind.lower()}: name weights of that, or leave them out")
        return data
    return data.model_copy(update={"modality": {**data.modality, role: seen if asked is None else asked.like(seen)}})


def must_be_published(saved: Saved, seen: Modality, remedy: str) -> None:
    """Refuse a run's weights for another modality than its own; published ones do not say so surely.

    Raises:
        WrongCall: they are a run's.
    """
    if saved.found.about is not None:
        raise WrongCall(f"{saved.path} was trained on {seen.label().lower()}, and {remedy}")


def _seen(encoder: Encoder) -> Modality | None:
    """What its weights were trained to see; None where it has none, or that is not known."""
    tree = encoder.seen
    if not tree:
        return None
    with only_from(()):  # a file's words import no code
        return Modality.of(tree)
