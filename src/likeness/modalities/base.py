"""What a modality is: how one kind of item is read, shown to an encoder, and seen from different sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from torch.utils import _pytree

from ..accelerator import pinned, sent
from ..recipe import Recipe
from ..stacks import Stack, interleaved, is_stack
from .alone import Alone
from .baseline import Baseline, Fitting, Ranker, Train

GIST = 32  # rows and columns of the picture that near copies are told by: fine detail shows, and a million take 1 GB


def _version(package: str) -> str:
    """As it is installed; empty where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class Unreadable(Exception):
    """One item cannot be read; the message is the reason, in a few plain words. Everything else goes on."""


@dataclass(frozen=True)
class Names:
    """What the random parameters of a batch's views are a pure function of, with the view's number.

    epoch: what tells showings of an item apart that are not one batch's
    item:  (N,) int64, the items' numbers in the source
    first: the number of the first view; the others follow
    """

    seed: int
    epoch: int
    item: Tensor
    first: int = 0


@dataclass(frozen=True)
class Prepared:
    """N items decoded for V views each, before augmentation.

    data: stacks on one device, in tuples or the like, each of one or more rows an item, all first ones before all
          second ones; what they are is the modality's own affair
    cut:  whether geometry is done already and `data` holds V * N rows, all first views before all second ones; else
          it holds the N items whole, whatever is drawn of them. Which of the two is a property of the data
    done: whether all is done that was drawn at random (`Augmentation.finished`)
    known: name -> (V * N, ...) what is known of what each view shows, all first views before all second ones
    """

    data: Any
    cut: bool
    done: bool = False
    known: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Prepared:
        return replace(self, data=sent(self.data, device), known=sent(dict(self.known), device))

    def pinned(self, device: torch.device) -> Prepared:
        """The same where that device can fetch it while it computes."""
        return replace(self, data=pinned(self.data, device), known=pinned(dict(self.known), device))

    @property
    def bytes(self) -> int:
        return sum(x.nbytes for x in _pytree.tree_leaves(self.data))

    @staticmethod
    def joined(parts: Sequence[Prepared], items: Sequence[int]) -> Prepared:
        """Parts of a batch as one. items: how many each part holds, one at least."""
        every = ((part.data, dict(part.known)) for part in parts)
        data, known = _pytree.tree_map(lambda *stacks: interleaved(stacks, items), *every, is_leaf=is_stack)
        return replace(parts[0], data=data, known=known)


@dataclass(frozen=True)
class Looks:
    """What somebody who wants to know the data sees of one item.

    extent: its size as stored, in the order people say it: width and height of an image
    kind:   what it is like, in a word or two, to be counted: "colour", "grey, uint16"
    odd:    what is wrong with it, in plain words: "almost black"
    traits: what is harmless, and good to know: "CMYK", "animated, the first frame is taken"
    gist:   (GIST, GIST) uint8, a tiny grey picture of it, which its near copies share; None where a kind has none
    """

    extent: tuple[int, ...]
    kind: str
    odd: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    gist: NDArray[np.uint8] | None = None


class Modality(Recipe, ABC):
    """How items of one kind are read and what an encoder of them is shown. Kept beside the encoder's weights.

    Fields that are None are found from samples by `fitted`.
    """

    unread: ClassVar[tuple[str, ...]] = ()
    """Fields that `read` does not look at: items that were read are good whatever these are."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What is installed that `read` may use: another version may decode otherwise."""
    counted_in: ClassVar[str] = ""
    """What the extent of its items is counted in; empty where that goes without saying."""
    samples: ClassVar[int] = 500
    """Stored values that `fitted` looks at, at most."""

    @property
    def reading(self) -> str:
        """Equal where stored values are read alike: all fields that matter, and the versions of what decodes."""
        fields = self.model_dump_json(exclude=set(self.unread))
        there = {one: _version(one) for one in self.packages}
        return sha256(f"{fields} {there}".encode()).hexdigest()

    @classmethod
    @abstractmethod
    def claims(cls, raw: Any) -> bool:
        """Whether a stored value (path, bytes, array, PIL image) looks like one of this kind; cheap, reads no data."""

    @abstractmethod
    def fitted(self, samples: Sequence[Any]) -> Self:
        """With every None field found from some stored values (channels, mean, ...); unreadable ones are left out.

        Raises:
            Failed: none of the samples can be read.
        """

    def like(self, seen: Self) -> Self:
        """With fields that are None as an encoder's own modality has them: what it was trained to see."""
        return self.filled({name: getattr(seen, name) for name in type(seen).model_fields})

    def must_agree(self, reads: Mapping[str, Any]) -> None:
        """Refuse fields that an encoder settles (`Encoder.reads`) and that say otherwise here. By default none are.

        Raises:
            WrongCall: naming both.
        """
        return

    def ready(self) -> None:
        """Import what reading takes, before threads read: Ctrl-C in an import that several wait for leaves them stuck.

        By default nothing.
        """

    @abstractmethod
    def read(self, raw: Any) -> Any:
        """One stored value decoded, once, to what `plain` and `Augmentation.prepare` take.

        Raises:
            Unreadable: with the reason.
        """

    def contents(self, item: Any) -> tuple[int, ...]:
        """Hashes, never 0, of what an item as read may show: equal ones show the same, whatever their items.

        By default none, where hardly any two items show the same.
        """
        return ()

    @abstractmethod
    def plain(self, items: Sequence[Any]) -> Stack:
        """Items as read, as the encoder sees them when nothing is augmented: a stack of N rows."""

    @abstractmethod
    def baseline(self, train: Train, rows: int) -> Baseline:
        """The `raw` baseline of every score, fitted on training items, which are read only where it asks for them.

        rows: how many of its vectors are kept in memory
        """

    @property
    def baselines(self) -> Mapping[str, Fitting]:
        """Further baselines by name, for who asks for them. By default none."""
        return {}

    @property
    def rankers(self) -> Mapping[str, Ranker]:
        """Rankings that no vectors make, by name. By default none."""
        return {}

    @abstractmethod
    def looks(self, raw: Any) -> Looks:
        """One stored value as people see it; also where nothing is fitted yet.

        Raises:
            Unreadable: with the reason.
        """

    @abstractmethod
    def thumbnail(self, item: Any, side: int) -> Pillow.Image:
        """An item as read, drawn for people: an RGB picture whose longer side has `side` pixels."""

    def words(self, raw: Any) -> str | None:
        """A stored value as people read it; None where it must be seen or heard.

        Where there are words a string is an item itself; else it is the path of one.
        """
        return None

    def alone(self) -> Alone | None:
        """How items become an encoder's inputs where this package is not; None where a few lines do not say it."""
        return None

    @abstractmethod
    def example(self) -> Stack:
        """Two rows of the shape that `plain` gives; what is in them means nothing."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What encoders of this modality are filled from: channels, size, vocabulary, ..."""

    @property
    def sight(self) -> str:
        """What an encoder sees of an item, in a few words."""
        return ", ".join(f"{value} {name if name != 'size' else 'px'}" for name, value in self.facts.items())


class Augmentation(Recipe, ABC):
    """How several views of an item are drawn. Random parameters depend on (seed, epoch, item, view) alone."""

    if TYPE_CHECKING:  # a field where it is chosen, a property where it follows from something else

        @property
        def views(self) -> int:
            """Views drawn of each item."""

    @property
    @abstractmethod
    def operations(self) -> tuple[str, ...]:
        """What is done to make a view, by name, in order; what is switched off is not among it."""

    @abstractmethod
    def sides(self, size: int) -> tuple[int, ...]:
        """The sides or lengths that its views have, each once, where the encoder's is `size`."""

    @abstractmethod
    def suited(self, modality: Modality) -> Self:
        """With every None field (strengths that depend on size) chosen for what the modality found."""

    @abstractmethod
    def prepare(self, items: Sequence[Any], names: Names, modality: Any, size: int | None) -> Prepared:
        """The part done where items are decoded, on the CPU in a worker: stack, or cut where sizes differ."""

    @property
    def needs(self) -> Mapping[str, Any]:
        """Null fields of the modality that follow from how views are drawn, by name. By default none."""
        return {}

    def note(self, modality: Modality) -> str:
        """What of it means nothing for these items and is left out, in words; empty where all is done."""
        return ""

    def as_read(self, modality: Any) -> tuple[int, ...] | None:
        """Shape of the items that `prepare` stacks as they are read, all that it does; None where it does more."""
        return None

    def finished(self, prepared: Prepared, names: Names, modality: Any, size: int | None) -> Prepared:
        """What `draw` would still do at random, done in a worker: called after `prepare` where a CPU draws.

        By default nothing, for batches of whole items are drawn quicker together.
        """
        return prepared

    @abstractmethod
    def sheet(self, items: Sequence[Any], modality: Any, names: Names) -> Pillow.Image:
        """A picture of what it does: items as read, views of them as training draws them, each operation alone."""

    @abstractmethod
    def draw(self, prepared: Prepared, names: Names, modality: Any, size: int | None) -> Stack:
        """The batched part, on the device: V * N rows, all first views before all second ones.

        size: side or length of the views now, where training grows it; None is the modality's own
        """
