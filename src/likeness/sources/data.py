"""The part of a recipe that says what is trained on, how it is read and how it is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from ..modalities import MODALITIES, Augmentation, Modality
from ..recipe import Recipe
from .base import Labels, Source, looked
from .kept import Cache
from .labelled import labels_of
from .population import Population
from .sampling import Sampling, Shuffle
from .triples import PAIR, triples

Share = Annotated[float, Field(gt=0, le=1)]
Word = Annotated[str, Field(coerce_numbers_to_str=True)]
NONE: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
LABEL = "label"  # the column that a source's own labels stand in
BATCH = 256  # items a step where nothing else is asked; SimCLR's learning rates are given for it
SNIFFED = Modality.samples  # items looked at to learn what they are like
NEAR = 8  # row groups or shards that these are taken from: each is read whole, or lies elsewhere


def _modalities() -> dict[str, Modality]:
    return {modality.__name__.lower(): modality() for modality, _ in MODALITIES}


def _augmentations() -> dict[str, Augmentation]:
    return {modality.__name__.lower(): augmentation() for modality, augmentation in MODALITIES}


class Data(Recipe):
    """What is trained on, how it is read, and how it is seen. Null fields are found from the data."""

    source: str | None = None
    """The source, as it was given."""
    columns: dict[str, str] = Field(default_factory=dict)
    """What a table's columns are: label=y, text=caption1+caption2."""
    exclude: tuple[str, ...] = ()
    """Patterns of files to leave out."""
    modality: dict[str, Modality] = Field(default_factory=_modalities)
    """How items of each role are read and what the encoder is shown."""
    views: dict[str, Augmentation] = Field(default_factory=_augmentations)
    """How views of each role are drawn."""
    batch: PositiveInt | None = None
    """Items a step, over all processes; null: 256, or all items where there are fewer."""
    grow: tuple[Share, Share] = (1.0, 1.0)
    """Share of the encoder's size that views have when training begins, and when it ends. Small views cost less, and
    an encoder trained on crops sees whole pictures best at a larger size (arXiv:1906.06423)."""
    grown: Share = 0.7
    """Share of training after which views have grown."""
    holdout: NonNegativeInt | None = None
    """Items kept out of training, to score on; null: a tenth, at most 1,000; 0: none."""
    labels: str | None = None
    """A column, or a CSV file of id,label, that training may use; null: labels are for scoring only."""
    triples: tuple[Word, Word] | None = None
    """Labels of pairs that belong together and of those that do not, such as [entailment,contradiction]: the first are
    trained on, and what stands beside the same first text in the others are hard negatives; null: all pairs are."""
    vectors: str | None = None
    """A file of stored vectors (`likeness embed`) that training may use, one an item by id; raw: the first principal
    components of the items as they are, before any encoder; null: none."""
    workers: NonNegativeInt | None = None
    """Threads that read and cut; null: one a core, at most 4 on a CPU and 16 beside a device; 0: none, to debug."""
    cache: Cache = "auto"
    """Where items are kept once they are read: memory (and a GPU's, if all fit), disk (a file that later runs use too),
    none; auto: memory if all fit in a quarter of what is free, else disk if they fit there and decoding takes longer
    than reading them back. Batches are the same."""
    sampling: Sampling = Shuffle()
    """Which items share a batch."""

    def fitted(
        self, source: Source, towers: Sequence[Sequence[str]] = (), reads: Mapping[str, Mapping[str, Any]] = NONE
    ) -> Data:
        """With every null field found from the source.

        towers: the roles that are trained on, those that share an encoder together; none: all, each by itself
        reads:  role -> fields of its modality that its encoder settles where they are null

        Raises:
            WrongCall: a column that training should use as labels is not there, or does not suit the sampling.
        """
        modality, views = {}, {}
        for together in towers or tuple((role,) for role in source.roles):
            raws = [
                looked(source.raw, role, row)
                for role in together
                for row in sniffed(source, self.asked(source, role).samples)
            ]
            fitted: dict[str, Modality] = {}  # roles that are asked for alike are read alike, and learned from once
            for role in together:
                kind = source.roles[role].lower()
                drawn = self.views.get(role) or self.views.get(kind) or _augmentations()[kind]
                asked = self.asked(source, role).filled(reads.get(role, {}))
                known = fitted.get(asked.fingerprint)
                modality[role] = fitted[asked.fingerprint] = asked.fitted(raws) if known is None else known
                views[role] = drawn.suited(modality[role])
        batch = min(self.batch or BATCH, len(source))
        sampling = self.sampling.suited(batch, self.population(source))
        return self.model_copy(update={"modality": modality, "views": views, "batch": batch, "sampling": sampling})

    def asked(self, source: Source, role: str) -> Modality:
        """How items of a role are read, as far as the recipe says."""
        kind = source.roles[role].lower()
        return self.modality.get(role) or self.modality.get(kind) or _modalities()[kind]

    def chosen(self, source: Source) -> Source:
        """What of a source is trained on, whichever of it is held out."""
        return source if self.triples is None else triples(source, self.triples)

    @property
    def read(self) -> dict[str, Modality]:
        """How items are read of which views are drawn: in no more detail than these need."""
        return {role: modality.filled(self.views[role].needs) for role, modality in self.modality.items()}

    def facts(self, source: Source) -> dict[str, object]:
        """What encoders, methods and objectives are filled from."""
        each = {role: {**modality.facts, "any_size": self._sized(role)} for role, modality in self.modality.items()}
        only: Mapping[str, object] = {}
        if len(each) == 1:
            role, facts = next(iter(each.items()))
            only = {"role": role, **facts}
        labels = self.known(source)
        known = {"classes": len(labels.names)} if labels else {}
        return {**each, **only, **known, "items": len(source)}

    def known(self, source: Source) -> Labels | None:
        """The classes that training may use; None where it is told none."""
        return None if self.labels is None else labels_of(source, self.labels)

    def taught_by_labels(self, source: Source) -> bool:
        """Whether training uses the column `label`: as classes, or as what tells pairs that belong together."""
        return self.labels == LABEL or (self.triples is not None and len(source.roles) == PAIR)

    def population(self, source: Source) -> Population:
        """What sampling may know of the items."""
        return Population.of(source, self.known(source))

    def _sized(self, role: str) -> bool:
        """Whether views of a role have other sizes than its encoder's."""
        size = self.modality[role].facts.get("size")
        return size is not None and self.views[role].sides(size) != (size,)


def sniffed(source: Source, most: int = SNIFFED) -> list[int]:
    """Rows that are looked at before training: evenly spread, or in a few blocks where the source has them."""
    if source.blocks is None:
        return spread(len(source), most)
    sizes, ends = source.blocks.tolist(), np.cumsum(source.blocks).tolist()
    blocks = spread(len(sizes), NEAR)
    return [ends[n] - sizes[n] + row for n in blocks for row in spread(sizes[n], most // len(blocks))]


def spread(many: int, most: int) -> list[int]:
    """At most `most` numbers below `many`, evenly spread."""
    return [n * many // min(many, most) for n in range(min(many, most))]
