"""How the encoders of all stages become one, and how a router that mixes them is trained in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..encoders import Joined, Kept
from ..encoders.joined import Merge
from ..journey import Slot
from ..methods import Method
from ..training import Adaptation
from .base import Plan, Stage

P = TypeVar("P", bound=Plan)
Finished = Sequence[Mapping[str, Kept]]  # of each stage, role -> its encoder
AT_ONCE = Adaptation(rate=1.0, layer_decay=1.0, freeze=0.0)  # a gate is a head: it learns at full speed, from the start


def joined(stages: Finished, merge: Merge) -> dict[str, Kept]:
    """Role -> the encoders of all stages as one; roles that share an encoder in each share this one."""
    made: dict[tuple[int, ...], Kept] = {}
    for role in stages[0]:
        each = [one[role] for one in stages]
        name = tuple(id(one.module) for one in each)
        recipe = Joined(encoders=tuple(one.recipe for one in each), merge=merge)
        made.setdefault(name, Kept(recipe, recipe.joining([one.module for one in each])))
    return {role: made[tuple(id(one[role].module) for one in stages)] for role in stages[0]}


def routing(plan: P, stages: Finished, share: float, seed: int, slot: Slot | None) -> tuple[P, Stage]:
    """The plan and the stage that train a router on finished stages, by the method's own loss on ordinary batches.

    share: of the steps of a stage; slot: the time there is, None: its steps tell
    """
    kept = joined(stages, "route")
    length = {
        "steps": plan.steps and shorter(plan.steps, share),
        "epochs": plan.epochs and share * plan.epochs,
        "adapt": AT_ONCE,
    }
    weights = {role: one.module.state_dict() for role, one in kept.items()}
    return plan.model_copy(update=length), Stage(upon(plan.method, kept), seed, slot, weights=weights)


def shorter(steps: int, share: float) -> int:
    """That share of so many steps, one at least."""
    return max(round(share * steps), 1)


def routed(stages: Finished, learned: Mapping[str, Kept]) -> dict[str, Kept]:
    """The encoders of all stages as one, with the gates that have been learned."""
    kept = joined(stages, "route")
    for role, one in kept.items():
        one.module.load_state_dict(learned[role].module.state_dict())
    return kept


def upon(method: Method, kept: Mapping[str, Kept]) -> Method:
    """The method, which is fitted, with these encoders, which stand still, in the place of its own.

    Those of two roles lead to one space already, and take no further maps to it. A role that stood still has the same
    encoder in all stages, or the same below its map: where it has no map, its gate has nothing to tell apart, and
    stands still too.
    """
    recipes = {role: one.recipe.model_copy(update={"frozen": True}) for role, one in kept.items()}
    if "encoders" not in type(method).model_fields:
        return method.model_copy(update={"encoder": next(iter(recipes.values()))})
    maps: dict[str, tuple[str, ...]] = {} if getattr(method, "embed_dim", None) is None else {"locked": ()}
    return method.model_copy(update={"encoders": recipes, "embed_dim": None, **maps})
