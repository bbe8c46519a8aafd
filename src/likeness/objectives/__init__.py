"""How far a space disobeys a relation. One family a file; every objective reads (queries, keys, relation, its part)."""

from .base import Objective as Objective
from .base import Term as Term
from .base import similarity as similarity
from .infonce import InfoNCE as InfoNCE
