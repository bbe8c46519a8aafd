"""Evaluations: what a space is judged by."""

from .base import Evaluation, Missing, Result, Row, Score
from .clustering import Clustering
from .judge import Report, evaluate, judge, split, standard
from .neighbours import Neighbours
from .probes import FewLabels, LinearProbe
from .retrieval import Retrieval
from .verdict import table

__all__ = [
    "Clustering",
    "Evaluation",
    "FewLabels",
    "LinearProbe",
    "Missing",
    "Neighbours",
    "Report",
    "Result",
    "Retrieval",
    "Row",
    "Score",
    "evaluate",
    "judge",
    "split",
    "standard",
    "table",
]
