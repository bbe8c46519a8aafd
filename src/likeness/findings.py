"""A diagnosis in words: one line a subject, as `likeness doctor` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .copies import Duplicates, Pair
from .diagnosis import Diagnosis
from .errors import counted
from .inspection import Extent, Inspection

SHOWN = 2  # examples a line names
CLASSES = 4  # classes that are named with their counts
LONG = 60  # characters of an id or a reason that a line shows
UNEVEN = 3  # times the largest class exceeds the smallest before it is said
LARGE, GIGA = 1_000_000, 1e9
DURATIONS = ((3600, "h"), (60, "min"), (1, "s"))

Line = tuple[str, str]  # subject, facts


def lines(found: Diagnosis) -> list[Line]:
    """What a person should know, most important first."""
    each = [
        (found.source, _contents(found)),
        ("unreadable", _unreadable(found.reasons)),
        ("leaks", _leaks(found)),
        ("duplicates", _exact(found.duplicates)),
        ("near copies", _near(found.duplicates)),
        *(("look", _of(found, role, _look(inspection))) for role, inspection in found.inspections.items()),
        *_table(found),
        ("note", _joined(found.notes)),
        ("this machine", _machine(found)),
        ("plan", _plan(found)),
        ("items kept", found.plan.kept if found.plan else ""),
        ("cost", _cost(found)),
        *(("next", command) for command in found.next),
    ]
    return [(subject, facts) for subject, facts in each if facts]


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(part for part in parts if part)


def _counts(counts: Mapping[str, int], most: int = CLASSES) -> str:
    """'jpg 4,790, png 22'."""
    named = [f"{name} {many:,}" for name, many in list(counts.items())[:most]]
    rest = len(counts) - len(named)
    return ", ".join([*named, *([f"{rest:,} more"] if rest else [])])


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"...{text[3 - LONG :]}"


def _contents(found: Diagnosis) -> str:
    inspections = list(found.inspections.values())
    roles = f" with {' and '.join(found.inspections)}" if len(inspections) > 1 else ""
    whole = f"{counted(found.items, _noun(found))}{roles}"
    partly = [f"a sample of {each.read:,} read, for lack of time" for each in inspections if not each.whole]
    sample = f" in a sample of {found.formats_of:,}" if found.formats_of < found.items - found.unreadable else ""
    forms = _counts(found.formats) + sample if found.formats else ""
    seen = [
        _of(found, role, _joined([_extent(inspection.extent, inspection.unit), _kinds(inspection.kinds)]))
        for role, inspection in found.inspections.items()
    ]
    return _joined([whole, *partly, forms, *seen])


def _noun(found: Diagnosis) -> str:
    """What one of them is called: 'image'; 'item', where it has several roles."""
    return found.modality if len(found.inspections) == 1 else "item"


def _of(found: Diagnosis, role: str, said: str) -> str:
    """What is said of a role, with its name where there are several."""
    return f"{role}: {said}" if said and len(found.inspections) > 1 else said


def _extent(extent: Extent | None, unit: str) -> str:
    """'640 x 480', where sizes differ '640 x 480 typical (80 x 60 to 4000 x 3000)'; '700 ms'."""
    if extent is None:
        return ""
    least, typical, most = (" x ".join(f"{n}" for n in size) for size in (extent.least, extent.typical, extent.most))
    measured = f"{typical} {unit}".rstrip()
    return measured if least == most else f"{measured} typical ({least} to {most})"


def _kinds(kinds: Mapping[str, int]) -> str:
    total = sum(kinds.values())
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} {_percent(many / total)}" for kind, many in kinds.items())


def _percent(share: float) -> str:
    """'3 %'; what there is little of is not said to be none."""
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _unreadable(reasons: Mapping[str, str]) -> str:
    named = [f"{_short(id)} ({reason[:LONG]})" for id, reason in list(reasons.items())[:SHOWN]]
    rest = len(reasons) - len(named)
    more = f"{rest:,} more" if rest else ""
    return _joined([f"{len(reasons):,}, left out", *named, more]) if reasons else ""


def _leaks(found: Diagnosis) -> str:
    """Items to test on that are trained on; where there are none to test on, nothing."""
    twins, tested = found.duplicates, found.test
    if twins.leaked is None:
        return ""
    of = f"{tested.items:,} in {_short(tested.source)}" if tested else ""
    bad = f"{tested.unreadable:,} unreadable" if tested and tested.unreadable else ""
    same = f"{counted(twins.leaked, 'test item')} also in training" if twins.leaked or twins.near_leaked else ""
    near = (
        f"{counted(twins.near_leaked or 0, 'near copy', 'near copies')} of training items" if twins.near_leaked else ""
    )
    none = "" if same else "no test item is in training"
    return _joined([of, bad, same, near, none, *map(_pair, twins.leaks[:1])])


def _pair(pair: Pair) -> str:
    """'a.jpg = b.jpg', 'a.jpg ~ b.jpg 0.98'."""
    first, second = _short(pair.first), _short(pair.second)
    return f"{first} ~ {second} {int(100 * pair.score) / 100:.2f}" if pair.score < 1 else f"{first} = {second}"


def _exact(twins: Duplicates) -> str:
    many = counted(twins.exact, "exact copy", "exact copies")
    own = f"{many} in {counted(twins.groups, 'group')}" if twins.exact else "no exact copies"
    example = " = ".join(map(_short, twins.examples[0][:SHOWN])) if twins.examples else ""
    sample = "" if twins.complete else f"among {twins.compared:,} items, for lack of time"
    return _joined([own, sample, example, _mixed(twins.mixed)])


def _near(twins: Duplicates) -> str:
    """Nothing where the kind of item has no near copies."""
    if not twins.seen:
        return ""
    own = f"{twins.near:,} in {counted(twins.near_groups, 'group')}" if twins.near else "none"
    sample = "" if twins.near_complete else f"among {twins.seen:,} items, for lack of time"
    return _joined([own, sample, *map(_pair, twins.near_examples[:1]), _mixed(twins.near_mixed)])


def _mixed(groups: int) -> str:
    return f"{counted(groups, 'group')} under different labels" if groups else ""


def _look(inspection: Inspection) -> str:
    if not inspection.judged:
        return ""
    sample = inspection.judged < inspection.read - len(inspection.reasons)
    odd, traits = (_named(inspection, words) for words in (inspection.odd, inspection.traits))
    return _joined([*(odd or ["nothing odd"]), *traits, f"in a sample of {inspection.judged:,}" if sample else ""])


def _named(inspection: Inspection, words: Mapping[str, int]) -> list[str]:
    """'6 almost black', '1 odd shape (strip.png)'."""
    return [
        f"{many:,} {word}" + (f" ({_short(inspection.named[word][0])})" if many == 1 else "")
        for word, many in words.items()
    ]


def _table(found: Diagnosis) -> list[Line]:
    """What is known beside the items themselves."""
    said = [("labels", _labels(found))]
    if found.splits:
        said.append(("splits", _counts(found.splits)))
    if found.groups:
        said.append(("groups", f"{counted(found.groups, 'group')}, never split by a hold-out"))
    return said


def _labels(found: Diagnosis) -> str:
    if not found.labels or not found.classes:
        return ""
    counts, odd = sorted(found.labels.values()), found.classes
    uneven = counts[-1] >= UNEVEN * counts[0]
    return _joined(
        [
            counted(len(found.labels), "class", "classes"),
            _counts(dict(sorted(found.labels.items(), key=lambda each: -each[1]))),
            f"the largest {counts[-1] / max(counts[0], 1):.0f} times the smallest" if uneven else "",
            f"{counted(len(odd.single), 'class', 'classes')} of one item" if odd.single else "",
            *(f"alike: {' = '.join(map(repr, names))}" for names in odd.alike[:SHOWN]),
            f"{odd.unlabelled:,} without" if odd.unlabelled else "",
            "training uses them" if found.taught else "for scoring only",
        ]
    )


def _machine(found: Diagnosis) -> str:
    machine, data = found.machine, found.machine.data
    device = "no GPU" if machine.device == "cpu" else machine.device
    own = f"{counted(machine.cores, 'core')}, {device}"
    if data is None:
        return own
    read = f"reads {data.read_by_all:,.0f} {_noun(found)}s/s ({data.read_by_one:,.0f} by one thread)"
    return _joined([own, read, f"makes {data.views:,.0f} views/s"])


def _plan(found: Diagnosis) -> str:
    known = found.plan
    if known is None:
        return f"cannot be made: {found.problem}"
    network = f"{known.encoder} ({known.parameters / LARGE:.1f} M weights)"
    held = f"{known.held:,} held out to score on" if known.held else ""
    views = ", ".join(known.views)
    return _joined(
        [network, known.method, *known.course, known.shown, f"batch {known.batch}", views, known.optimizer, held]
    )


def _cost(found: Diagnosis) -> str:
    """What training takes here."""
    known = found.plan
    if known is None:
        return ""
    bought = f"{known.epochs:,.0f} epochs" if known.epochs >= 10 else f"{known.epochs:.1f} epochs"
    return _joined(
        [
            f"{known.budget} buys {bought}{' in all' if known.course else ''}" if known.budget else bought,
            f"{known.items_per_second:,.0f} {_noun(found)}s/s, {100 * known.waiting:.0f} % of it waiting for data",
            f"{_duration(known.epoch_seconds)} an epoch",
            f"{known.memory / GIGA:.1f} GB of memory a step" if known.memory else "",
            f"{known.disk / GIGA:.2f} GB of disk",
        ]
    )


def _duration(seconds: float) -> str:
    """'14 s', '3.5 min', '2.1 h'."""
    size, unit = next((size, unit) for size, unit in DURATIONS if seconds >= size or size == 1)
    return f"{seconds / size:,.1f} {unit}" if seconds < 10 * size else f"{seconds / size:,.0f} {unit}"
