"""Judging a search of documents by what people found relevant, beside TF-IDF and BM25."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .beside import Judging, Placing, Raw, Side, sides_of
from .errors import WrongCall
from .evaluations import Result
from .evaluations.judge import chance, reported
from .evaluations.judged import ROWS, Qrels, Ranking, by_cosine, judged, must_fit, rounded
from .evaluations.qrels import read_qrels
from .evaluations.verdict import told
from .loaded import Towers
from .modalities import Modality
from .modalities.baseline import Scoring
from .scoring import NOTHING, Progress, Question, Scored
from .sources.base import Quarantine, Source
from .sources.shown import prompted

BM25 = {"bm25": "BM25"}


@dataclass(frozen=True)
class Search:
    """Documents, what is asked of them, and what is right.

    judgements: a file of query, document and relevance
    query_prompt, document_prompt: what encoders are shown before each text; baselines are not
    """

    documents: Source
    queries: Source
    judgements: Path
    query_prompt: str = ""
    document_prompt: str = ""


def score_search(
    run: Path,
    asked: Search,
    question: Question = NOTHING,
    *,
    allow: tuple[str, ...] = (),
    device: str = "auto",
    workers: int = 2,
    say: Progress = lambda line: None,
) -> Scored:
    """How well the run's encoders rank documents: nDCG@10, MRR, mAP and recall@100, means over queries.

    Raises:
        WrongCall: it is not clear what takes queries and documents, or the judgements are of others.
    """
    qrels, bad = read_qrels(asked.judgements), Quarantine()
    must_fit(qrels, asked.queries.ids, asked.documents.ids)
    encoders = Towers(run, allow, None, device, untrained=False)
    role = None if question.role is None else encoders.only(question.role)
    sides = {
        "documents": _only(asked.documents, encoders, role),
        "queries": _only(asked.queries, encoders, role if len(encoders) == 1 else None),
    }
    judging = Judging(asked.documents, asked.queries, list(sides.values()), allow, device, workers, bad)
    shown = {
        "documents": prompted(asked.documents, sides["documents"].place, asked.document_prompt),
        "queries": prompted(asked.queries, sides["queries"].place, asked.query_prompt),
    }
    bare = {"documents": asked.documents, "queries": asked.queries}
    raw, untrained = Raw(judging), Towers(run, allow, None, device, untrained=True)
    columns: dict[str, tuple[Placing, Mapping[str, Source]]] = {
        "encoder": (judging.by(encoders).place, shown),
        "untrained": (judging.by(untrained).place, shown),
        "raw": (raw, bare),
        **{name: (judging.named(name).place, shown) for name in question.baselines},
    }
    results: dict[str, dict[str, Result]] = {}
    for name, (place, sources) in columns.items():
        say(name)
        documents, queries = (place(sources[side], sides[side]) for side in sides)
        results[name] = judged(by_cosine(documents, queries), queries.ids, documents.ids, qrels)
        if name == "encoder":
            drawn = chance(documents, 0), chance(queries, 1)
            results["chance"] = judged(by_cosine(*drawn), queries.ids, documents.ids, qrels)
    results |= _ranked(bare, sides, qrels, say)
    called = {**raw.called, **BM25}
    many = {"train": len(asked.documents), "test": len(asked.queries)}
    report = reported(results, told(results, ROWS, called), encoders.fingerprint, many, called)
    return Scored(report, ROWS, f"{many['train']:,} documents, {many['test']:,} queries", bad)


def _only(source: Source, encoders: Towers, role: str | None) -> Side:
    sides = sides_of(source, encoders, role)
    if len(sides) != 1:
        raise WrongCall(f"{source.name} has {' and '.join(side.place for side in sides)}: name one with --role")
    return sides[0]


def _ranked(
    sources: Mapping[str, Source], sides: Mapping[str, Side], qrels: Qrels, say: Callable[[str], None]
) -> dict[str, dict[str, Result]]:
    """What rankings of the documents' kind make of them, without vectors."""
    modality = sides["documents"].encoder.modality
    read = {name: _items(source, sides[name].place, modality) for name, source in sources.items()}
    (documents, items), (queries, asked) = read["documents"], read["queries"]
    found: dict[str, dict[str, Result]] = {}
    for name, ranker in modality.rankers.items():
        say(name)
        found[name] = judged(_ranking(ranker(items), asked), queries, documents, qrels)
    return found


def _ranking(scores: Scoring, asked: list[Any]) -> Ranking:
    return lambda rows: rounded(scores(asked[rows]))


def _items(source: Source, role: str, modality: Modality) -> tuple[list[str], list[Any]]:
    """Ids and items of those that can be read."""
    from .sources.feed import readable

    rows, items = readable(source, role, modality, range(len(source)), len(source))
    return [source.ids[row] for row in rows], items
