"""A diagnosis in words: one line a subject, as `likeness doctor` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .doctor import Diagnosis
from .errors import counted
from .inspection import Extent, Inspection

SHOWN = 3  # examples a line names
CLASSES = 6  # classes that are named with their counts
UNEVEN = 3  # times the largest class exceeds the smallest before it is said
LARGE = 1_000_000
UNITS = {"size": "px"}

Line = tuple[str, str]  # subject, facts


def lines(found: Diagnosis) -> list[Line]:
    """What a person should know, most important first."""
    each = [
        (found.source, _contents(found)),
        *(("unreadable", line) for line in _unreadable(found.reasons)),
        ("duplicates", _duplicates(found)),
        *(("look", _look(inspection)) for inspection in found.inspections.values()),
        *_table(found),
        *(("note", note) for note in found.notes),
        ("this machine", _machine(found)),
        ("plan", _plan(found)),
        *(("next", command) for command in found.next),
    ]
    return [(subject, facts) for subject, facts in each if facts]


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(part for part in parts if part)


def _counts(counts: Mapping[str, int], most: int = CLASSES) -> str:
    """'jpg 4,790, png 22'."""
    named = [f"{name} {many:,}" for name, many in list(counts.items())[:most]]
    rest = len(counts) - len(named)
    return ", ".join([*named, *([f"{rest} more"] if rest else [])])


def _contents(found: Diagnosis) -> str:
    inspections = list(found.inspections.values())
    partly = [f"only {each.read:,} of them read, for lack of time" for each in inspections if not each.whole]
    bad = f"{found.unreadable:,} unreadable" if found.unreadable else ""
    whole = f"{found.items:,} {found.modality}{'' if found.items == 1 else 's'}"
    sizes = [_extent(inspection.extent) for inspection in inspections]
    kinds = [_kinds(inspection.kinds) for inspection in inspections]
    return _joined([whole, _counts(found.formats), bad, *partly, *sizes, *kinds])


def _extent(extent: Extent | None) -> str:
    """'640 x 480', where sizes differ 'typically 640 x 480 (80 x 60 to 4000 x 3000)'."""
    if extent is None:
        return ""
    least, typical, most = (" x ".join(f"{n}" for n in size) for size in (extent.least, extent.typical, extent.most))
    return typical if least == most else f"{typical} typical ({least} to {most})"


def _kinds(kinds: Mapping[str, int]) -> str:
    total = sum(kinds.values())
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} {100 * many / total:.0f} %" for kind, many in kinds.items())


def _unreadable(reasons: Mapping[str, str]) -> list[str]:
    named = [f"{id!r}: {reason}" for id, reason in list(reasons.items())[:SHOWN]]
    rest = len(reasons) - len(named)
    return [*named, *([f"{rest:,} more; they are left out and named in a run's quarantine.jsonl"] if rest else [])]


def _duplicates(found: Diagnosis) -> str:
    twins = found.duplicates
    many = counted(twins.exact, "exact copy", "exact copies")
    own = f"{many} in {counted(twins.groups, 'group')}" if twins.exact else "no exact copies"
    example = " = ".join(twins.examples[0][:SHOWN]) if twins.examples else ""
    mixed = f"{counted(twins.mixed, 'group')} under different labels" if twins.mixed else ""
    leaked = "" if twins.leaked is None else f"{counted(twins.leaked, 'test item')} also in training"
    return _joined([own, example, mixed, leaked, "" if twins.complete else "not all compared, for lack of time"])


def _look(inspection: Inspection) -> str:
    sample = (
        f"in a sample of {inspection.judged:,}" if inspection.judged < inspection.read - len(inspection.reasons) else ""
    )
    odd = [
        f"{many:,} {odd}" + (f" ({inspection.named[odd][0]})" if many == 1 else "")
        for odd, many in inspection.odd.items()
    ]
    return _joined([*(odd or ["nothing odd"]), sample]) if inspection.judged else ""


def _table(found: Diagnosis) -> list[Line]:
    """What is known beside the items themselves."""
    said: list[Line] = []
    if found.labels:
        many, counts = len(found.labels), sorted(found.labels.values())
        uneven = (
            f"the largest {counts[-1] / max(counts[0], 1):.0f} times the smallest"
            if counts[-1] >= UNEVEN * counts[0]
            else ""
        )
        use = "used for scoring only, never for training"
        said.append(("labels", _joined([counted(many, "class", "classes"), _counts(found.labels), uneven, use])))
    if found.splits:
        said.append(("splits", _counts(found.splits)))
    if found.groups:
        said.append(("groups", f"{counted(found.groups, 'group')}, never split by a hold-out"))
    return said


def _machine(found: Diagnosis) -> str:
    machine = found.machine
    device = "no GPU" if machine.device == "cpu" else machine.device
    speed = f"{machine.items_per_second:,.0f} {found.modality}s/s with this plan" if machine.items_per_second else ""
    return _joined([f"{counted(machine.cores, 'core')}, {device}", speed])


def _facts(facts: Mapping[str, object]) -> str:
    """'3 channels, 64 px'."""
    return ", ".join(f"{value} {UNITS.get(name, name)}" for name, value in facts.items())


def _plan(found: Diagnosis) -> str:
    known = found.plan
    if known is None:
        return f"none: {found.problem}"
    weights = f"{known.parameters / LARGE:.1f} M weights"
    bought = f"{known.epochs:,.0f} epochs" if known.epochs >= 10 else f"{known.epochs:.1f} epochs"
    length = f"{known.budget} buys {bought} here" if known.budget else bought
    views, held = ", ".join(known.views), f"{known.held:,} held out to score on" if known.held else ""
    network = f"{known.encoder} ({weights})"
    shown = [network, known.method, _facts(known.facts), f"batch {known.batch}", views, known.optimizer, length, held]
    return _joined(shown)
