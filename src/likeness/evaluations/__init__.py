"""Evaluations: what a space is judged by."""

from .base import Evaluation, Missing, Result, Row, Score
from .clustering import Clustering
from .given import evaluate, split
from .graded import Graded
from .judge import Report, judge, standard
from .neighbours import Neighbours
from .pairs import PairRetrieval
from .probes import FewLabels, LinearProbe
from .retrieval import Retrieval
from .verdict import table
from .zero_shot import ZeroShot

__all__ = [
    "Clustering",
    "Evaluation",
    "FewLabels",
    "Graded",
    "LinearProbe",
    "Missing",
    "Neighbours",
    "PairRetrieval",
    "Report",
    "Result",
    "Retrieval",
    "Row",
    "Score",
    "ZeroShot",
    "evaluate",
    "judge",
    "split",
    "standard",
    "table",
]
