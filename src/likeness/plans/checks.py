"""What a plan refuses before anything starts: what a method could learn nothing from, or an encoder cannot take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import torch
from torch import nn

from ..components import RAW
from ..encoders import Kept, Saved
from ..errors import WrongCall
from ..headroom import headroom
from ..methods import Method
from ..modalities import Augmentation, Modality
from ..parts import evaluating
from ..sources.base import Source, looked
from ..sources.data import Data, sniffed
from ..sources.kept_where import sized
from ..training.course import LEAST

OTHER_KIND = ("invalid combination of arguments", "object has no attribute")  # how torch and Python say it
ABOUT = ("mean", "std")  # which differ a little from sample to sample


def must_compare(method: Method, data: Data, batch: int | None) -> None:
    """Refuse what a method could learn nothing from; batch: as it was asked for.

    Raises:
        WrongCall: it compares views, and there is one; or items, and a step has one.
    """
    least = method.compares
    for role, augmentation in data.views.items():
        if augmentation.views < method.least(role):
            several = f"{role}." if len(data.views) > 1 else ""
            raise WrongCall(
                f"{method.label()} compares views of an item, and {several}views={augmentation.views}: "
                f"draw {method.least(role)} at least"
            )
    if batch is not None and batch < least:
        raise WrongCall(f"{method.label()} compares items, and batch={batch}: take {least} at least")


def must_teach(method: Method, vectors: str | None) -> None:
    """Refuse to distil what is easiest to see of items: nobody has learned it.

    Raises:
        WrongCall: that is all that the method would be taught.
    """
    fields = type(method).model_fields
    if vectors == RAW and "teacher" in fields and getattr(method, "teacher", None) is None:
        raise WrongCall(f"vectors={RAW} are three numbers that no encoder has learned: name one with teacher=RUN")


def unread_vectors(method: Method, vectors: str | None) -> tuple[str, ...]:
    """What to say where vectors of the items were asked for and nothing in the method looks at them."""
    if vectors is None or method.foreign or any(recipe.reads_vectors for recipe in method.held()):  # foreign code may
        return ()
    return (f"vectors={vectors}: nothing here reads them, as pairing=SoftNegatives would",)


def must_meet(source: Source, roles: Sequence[str]) -> None:
    """Refuse roles that no item has both of: without a pair nothing brings them together.

    Raises:
        WrongCall: there is none.
    """
    rows = chain(sniffed(source), range(len(source)))  # one is found soon, where there are any to speak of
    if not any(all(looked(source.raw, role, row) is not None for role in roles) for row in rows):
        raise WrongCall(f"{source.name}: none of {len(source):,} items has {' and '.join(roles)}: nothing is paired")


def takes(kept: Kept, modality: Modality, size: int | None = None) -> str | None:
    """Why an encoder cannot take two rows of what it will be shown, at another size if one is given; None if it can."""
    resized = modality if size is None else modality.model_copy(update={"size": size})
    try:
        with torch.inference_mode(), evaluating(kept.module):
            kept.module(resized.example())
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
        return str(error).partition("\n")[0]
    return None


def must_take(kept: Kept, modality: Modality) -> None:
    """Try an encoder before anything starts.

    Raises:
        WrongCall: it cannot take the data; networks made for large pictures cannot halve small ones often enough.
    """
    why = takes(kept, modality)
    if why is not None:
        if any(sign in why for sign in OTHER_KIND):
            kind = modality.label().lower()
            why = f"it is made for another kind of data than {kind}; of several roles name each one's, encoders.{kind}="
        raise WrongCall(f"encoder {kept.recipe.bare.label()} cannot take the data ({modality.sight}): {why}")


def must_take_views(kept: Kept, modality: Modality, augmentation: Augmentation) -> None:
    """Try an encoder with views that are smaller than what it is made for, as multi-crop has them.

    Raises:
        WrongCall: it cannot take them; the message names the nearest size that it takes.
    """
    size = modality.facts.get("size", 0)
    for side in augmentation.sides(size) if size else ():
        why = takes(kept, modality, side) if side != size else None
        if why is not None:
            others = sorted(range(LEAST, size, LEAST), key=lambda other: abs(other - side))
            fit = next((other for other in others if takes(kept, modality, other) is None), size)
            raise WrongCall(
                f"encoder {kept.recipe.bare.label()} cannot take views of {side} of {size} pixels: {why.rstrip('.')}; "
                f"the nearest it takes are of {fit}: resolution={fit / size:.3g}"
            )


def must_read_alike(stages: Sequence[Saved]) -> None:
    """Refuse encoders that are to be one, and were trained on items read in different ways, but for mean and std.

    Raises:
        WrongCall: naming the first two that differ, or the one that is there twice.
    """
    twice = [path for path, many in Counter(stage.path for stage in stages).items() if many > 1]
    if twice:
        raise WrongCall(f"after={twice[0]} is there twice: its features would stand side by side with themselves")
    for first, other in pairwise(stages):
        one, two = first.seen or {}, other.seen or {}
        apart = [name for name in one if name not in ABOUT and one[name] != two.get(name)]
        if apart:
            raise WrongCall(f"after={first.path} and {other.path} read items in different ways ({', '.join(apart)})")


def must_leave_none(method: Method, kept: Mapping[str, Kept]) -> None:
    """Refuse stages whose classifiers would be left behind.

    Raises:
        WrongCall: there is one.
    """
    if any(one.head is not None for one in kept.values()):
        what = f"{method.label()} teaches a classifier, and stages have none"
        raise WrongCall(f"{what}: train them by another method, and what they leave by finetune from=RUN")


def must_fit(kept: Mapping[str, Kept], stages: int) -> None:
    """Refuse more stages than memory holds. kept: of one of them

    Raises:
        WrongCall: with what they take, and what there is.
    """
    nets, room = {id(one.module): one.module for one in kept.values()}.values(), headroom()
    each = sum(weight.nbytes for net in nets for weight in net.state_dict().values())
    if stages * each > room:
        raise WrongCall(
            f"stages={stages:,} of {sized(each)} each take {sized(stages * each)}, and {sized(room)} of memory are "
            "free: ask for fewer"
        )


def shown_otherwise(called: str, stage: Saved, modality: Modality) -> str:
    """What to say where an encoder that is trained already will be shown items in another way than it was, else ''."""
    if (stage.seen or {}).get("kind") != modality.label():
        return ""
    fields = {*type(modality).model_fields} - {*ABOUT}
    seen = {name: was for name, was in (stage.seen or {}).items() if name in fields and isinstance(was, int | str)}
    apart = [name for name, was in seen.items() if getattr(modality, name) != was]
    now = ", ".join(f"{name}={getattr(modality, name)} (trained with {seen[name]})" for name in apart)
    return f"{called}={stage.path} is shown {now}" if apart else ""


def must_mean_alike(stages: Sequence[Mapping[str, Kept]], merge: str) -> None:
    """Refuse stages of which no encoder begins alike in all: a mean of them takes their numbers to say the same.

    A text tower that is, and stands still, holds the picture towers of all stages to one space.

    Raises:
        WrongCall: naming what would do.
    """
    if not any(
        all(same(one[role].module, other[role].module) for one, other in pairwise(stages)) for role in stages[0]
    ):
        raise WrongCall(
            f"merge={merge} mixes features that live in one space, and these stages begin anew, each in its "
            "own: say begin=previous, begin all with one run's weights, or put them side by side (merge=concatenate)"
        )


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights."""
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(mine[name].equal(its[name]) for name in mine)
