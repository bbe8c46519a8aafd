"""Sampling: which items make up a step, as a pure function of the step's number, so that a run goes on from there."""

from .balanced import Balanced as Balanced
from .base import Passes as Passes
from .base import Sampling as Sampling
from .base import share as share
from .distinct import Distinct as Distinct
from .grouped import Grouped as Grouped
from .order import Labelled as Labelled
from .order import Order as Order
from .order import Shuffle as Shuffle
from .weighted import Weighted as Weighted
