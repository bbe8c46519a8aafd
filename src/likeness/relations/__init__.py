"""Who belongs with whom: lazy relations, and the pairings that make them."""

from .alike import Alike as Alike
from .base import TILE as TILE
from .base import Relation as Relation
from .base import spans as spans
from .base import tiles as tiles
from .composed import Across as Across
from .content import Content as Content
from .pairings import LabelOrItem as LabelOrItem
from .pairings import Pairing as Pairing
from .pairings import SameContent as SameContent
from .pairings import SameItem as SameItem
from .pairings import SameLabel as SameLabel
from .soft import SoftNegatives as SoftNegatives
from .soft import Weighed as Weighed
from .transport import Transported as Transported
from .within import WithinCell as WithinCell
