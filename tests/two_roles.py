"""Methods of two roles, and batches for them: pictures with captions, some of which repeat, or texts with texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from conftest import VECTOR
from torch import Tensor

from likeness.encoders import NgramBag, Residual, TextTransformer
from likeness.methods import DeCLIP, TwoTowers
from likeness.methods.contrasted import Contrasted
from likeness.objectives import InfoNCE, Objective, Sigmoid
from likeness.relations import Pairing, Transported
from likeness.stacks import Packed, Padded
from likeness.training import Learner
from likeness.views import Batch, Origin, Views

ITEMS, VIEWS, CAPTIONS, LENGTH, VOCABULARY = 10, 2, 7, 6, 20
MASK, SPECIAL = 3, (0, 1, 2, 3)
PICTURES, TEXTS = {"image": "Image", "text": "Text"}, {"text": "Text", "de": "Text"}
TRIPLES = {"anchor": "Text", "positive": "Text", "negative": "Text"}
TILE = 3  # less than a batch: what streams, does
WORDS = TextTransformer(dim=8, depth=1, heads=2, dropout=0.0)
ENCODERS = {"image": Residual(widths=(8, 12), norm="group")}
TEXT = {"vocabulary": VOCABULARY, "length": LENGTH, "mask": MASK, "special": SPECIAL}
FACTS: dict[str, Any] = {"items": 100, "classes": 3, "buckets": VOCABULARY, "image": {"channels": 3}}
HEADS: dict[str, Any] = {"projection": (10, 6), "prediction": 5, "queue": 12}


def fitted(method: Contrasted, roles: dict[str, str], text: Any = WORDS) -> Contrasted:
    """As a plan makes it from a source of these roles."""
    if "image" in roles and method.embed_dim is None:
        method = method.model_copy(update={"embed_dim": 6})
    towers = method.towers(roles)
    chosen = {role: method.encoder_for(role, "") or ENCODERS.get(role, text) for role in roles}
    facts = {**FACTS, **{role: TEXT for role in roles if role != "image"}}
    return method.with_encoders(towers, chosen).filled(facts).filled(facts)


def variants() -> dict[str, Contrasted]:
    """Every way in which two roles are trained: with each objective, learned and streaming too, and in each form."""
    found = {name: fitted(TwoTowers(objective=objective), PICTURES) for name, objective in objectives().items()}
    found |= {f"TwoTowers {word}": fitted(TwoTowers(pairing=kind()), PICTURES) for word, kind in pairings().items()}
    contrast = InfoNCE(temperature=0.2)
    forms: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "shared": ({}, TEXTS),
        "shared, narrower": ({"embed_dim": 5}, TEXTS),
        "apart": ({"shared": False}, TEXTS),
        "negatives": ({}, TRIPLES),
        "negatives, apart": ({"shared": False}, TRIPLES),
        "within": ({"within": contrast}, PICTURES),
        "within, shared": ({"within": contrast}, TEXTS),
        "chunks": ({"split": 3}, PICTURES),
        "within, weighed": ({"within": contrast, "within_weight": 0.5}, PICTURES),
    }
    found |= {f"TwoTowers {name}": fitted(TwoTowers(**fields), roles) for name, (fields, roles) in forms.items()}
    found["TwoTowers bags"] = fitted(TwoTowers(), TEXTS, NgramBag(dim=8))
    found |= {f"DeCLIP {name}": fitted(DeCLIP(**HEADS, **some), roles) for name, (some, roles) in declips().items()}
    return found


def objectives() -> dict[str, Objective]:
    found: dict[str, Objective] = {}
    for name, kind in Objective.names().items():
        if kind.reads in TwoTowers.reads and ":" not in name:
            more = {"bimodal": True} if "bimodal" in kind.model_fields else {}
            found[f"TwoTowers {name}"] = kind(**more)
            if "learned" in kind.model_fields:
                found[f"TwoTowers {name} learned"] = kind(learned=True, **more)
            if "tile" in kind.model_fields:
                found[f"TwoTowers {name} streaming"] = kind(tile=TILE, **more)
    return found


def pairings() -> dict[str, type[Pairing]]:
    return {name: kind for name, kind in Pairing.names().items() if ":" not in name}


def declips() -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """DeCLIP whole, each of its terms alone beside CLIP's, and what else may be put in."""
    terms = ("simsiam", "mlm", "neighbours")
    alone = {f"{name} alone": ({other: float(other == name) for other in terms}, PICTURES) for name in terms}
    return {
        "whole": ({}, PICTURES),
        **alone,
        "chunks": ({"split": 3}, PICTURES),
        "texts": ({}, TEXTS),
        "texts, shared": ({"shared": True}, TEXTS),
        "Sigmoid": ({"objective": Sigmoid()}, PICTURES),
        "Transported": ({"pairing": Transported(start=0.0)}, PICTURES),
    }


METHODS = variants()


def seen(method: Contrasted, seed: int = 0, items: int = ITEMS, dtype: torch.dtype = torch.float32) -> dict[str, Views]:
    """Two views of each item in each role; but the first item lacks the second role, and the last the first."""
    assert method.roles is not None
    batch = {}
    for n, role in enumerate(method.roles):
        there = torch.arange(items)[slice(n == 1, items - (n == 0))]
        item, view = there.repeat(VIEWS), torch.arange(VIEWS).repeat_interleave(len(there)) + n * VIEWS
        captions = torch.stack([item % CAPTIONS + 1, torch.where(item % 2 == 0, 0, item + 2 * CAPTIONS)], 1) + 50 * n
        shown = torch.where((view % 2 == 1) & (item % 2 == 1), captions[:, 1], captions[:, 0])
        vector = torch.outer(item + 1.0, torch.arange(1.0, 1 + VECTOR)).square().sin().to(dtype)
        known = {"label": (item % 3).to(dtype), "score": (item % 4 / 3).to(dtype), "vector": vector}
        if role != "image":
            known |= {"content": shown, "accepts": captions * (captions > 50 * n)}
        batch[role] = Views(data(method, role, item, view, shown, seed, dtype), Origin(item, view, known))
    return batch


def data(method: Any, role: str, item: Tensor, view: Tensor, shown: Tensor, seed: int, dtype: torch.dtype) -> Any:
    """Noise for pictures; for texts tokens, the same wherever the same is shown."""
    if role == "image":
        return torch.randn(len(item), 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
            dtype
        )
    draws = [torch.randint(4, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(int(n))) for n in shown]
    values, sizes = torch.stack([*draws, torch.zeros(LENGTH, dtype=torch.long)])[:-1], 2 + shown % (LENGTH - 1)
    if isinstance(method.encoders[role], NgramBag):
        return Packed.of(torch.cat([row[:size] for row, size in zip(values, sizes, strict=True)]), sizes)
    mask = torch.arange(LENGTH) < sizes[:, None]
    return Padded(torch.where(mask, values, 0), mask)


def moved(batch: Batch, by: int) -> dict[str, Views]:
    """The same views of other items."""
    return renamed(batch, lambda item: item + by)


def renamed(batch: Batch, name: Callable[[Tensor], Tensor]) -> dict[str, Views]:
    return {
        role: Views(views.data, Origin(name(views.origin.item), views.origin.view, views.origin.known))
        for role, views in batch.items()
    }


def learner_of(method: Contrasted, steps: int = 2, dtype: torch.dtype = torch.float32) -> Learner:
    """In the midst of training: queues are full, and memories hold items of other batches."""
    torch.manual_seed(0)
    learner = Learner(method).to(dtype)
    for seed in range(1, steps + 1):
        learner(moved(seen(method, seed, dtype=dtype), 20 * seed))
        learner.advance(0.5)
    return learner
