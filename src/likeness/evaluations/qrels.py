"""Judgements as they are stored: TREC's lines of four, or a table with a header."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import WrongCall
from .judged import Qrels

QUERY = ("query", "query_id", "query-id", "qid")
DOCUMENT = ("document", "document_id", "doc_id", "corpus-id", "docid", "id")
RELEVANCE = ("relevance", "score", "label", "rel")
TREC = 4  # query, iteration, document, relevance


def read_qrels(path: Path) -> Qrels:
    """query -> document -> relevance, from TREC's text (query 0 document relevance) or a .csv or .tsv, also as .gz.

    A table's columns are query, document and, unless all are relevant, relevance; BEIR's names for them do as well.

    Raises:
        WrongCall: the file is missing or of another form.
    """
    found: dict[str, dict[str, float]] = {}
    for query, document, relevance in _read(path):
        try:
            found.setdefault(query, {})[document] = float(relevance)
        except ValueError:
            raise WrongCall(
                f"judgements {path}: the relevance of {document!r} is {relevance!r}, not a number"
            ) from None
    if not found:
        raise WrongCall(f"judgements {path} are empty")
    return found


def _read(path: Path) -> list[tuple[str, str, str]]:
    kinds = {".csv": ",", ".tsv": "\t"}
    zipped = path.suffix.lower() == ".gz"
    kind = Path(path.stem).suffix.lower() if zipped else path.suffix.lower()
    opened = gzip.open if zipped else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(_table(file, kinds[kind], path) if kind in kinds else _trec(file, path))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise WrongCall(f"judgements {path} cannot be read: {error}") from None


def _table(file: Iterator[str], mark: str, path: Path) -> Iterator[tuple[str, str, str]]:
    rows = csv.DictReader(file, delimiter=mark)
    names = rows.fieldnames or []
    query, document, relevance = (_column(names, known) for known in (QUERY, DOCUMENT, RELEVANCE))
    if query is None or document is None:
        raise WrongCall(f"judgements {path} need the columns query, document and relevance, not {', '.join(names)}")
    for row in rows:
        yield row[query], row[document], row[relevance] if relevance is not None else "1"


def _column(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in names), None)


def _trec(file: Iterator[str], path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(file, 1):
        parts = line.split()
        if parts and len(parts) != TREC:
            raise WrongCall(f"judgements {path}, line {number}: not `query 0 document relevance` but {line.strip()!r}")
        if parts:
            yield parts[0], parts[2], parts[3]
