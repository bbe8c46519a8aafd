"""How benchmarks/suppression.py trains encoders, and which rows its tables have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """How one encoder is trained.

    after:   the way of the first stage, None: there is none
    teacher: the way of the stages that are distilled into it, None: it is not distilled
    seed:    added to the seed of the row
    longer:  times as many steps
    colours: whether training knows each item's mean colour
    """

    fields: Fields
    after: str | None = None
    teacher: str | None = None
    seed: int = 0
    longer: float = 1.0
    colours: bool = False


NCE: Fields = {"objective": {"kind": "InfoNCE", "temperature": 0.2}}
HCL: dict[str, Any] = {"kind": "HardNegatives", "temperature": 0.2, "prior": 0.0, "beta": 1.0}
HARD: Fields = {"objective": HCL}
NET = {"kind": "plainnet:Plain"}
DEEP: Fields = {
    "encoder": {"kind": "Depths", "encoder": NET, "last": 3},
    "objective": {"kind": "Each", "objective": HCL},
}
WEIGHED: Fields = {**DEEP, "pairing": {"kind": "SoftNegatives", "temperature": 0.3}}
EVERY: Fields = {**WEIGHED, "encoder": {"kind": "Depths", "encoder": NET, "last": 5}, "vectors": "raw"}
TAUGHT: Fields = {"projection": [], "views.views": 1}
CELLS: Fields = {"against": {"kind": "Cells", "clusters": 5}}
WAYS: dict[str, Way] = {
    "simclr": Way(NCE),
    "simclr b": Way(NCE, seed=100),
    "mcl": Way({**NCE, **CELLS}, "simclr"),
    "mcl last": Way({**NCE, "against": {"kind": "Cells", "clusters": 5, "crossing": "last"}}, "simclr"),
    "soft": Way({**NCE, "against": "Soft"}, "simclr"),
    "uncorrelated": Way({**NCE, "against": "Uncorrelated"}, "simclr"),
    "hcl": Way(HARD),
    "hcl b": Way(HARD, seed=100),
    "hcl longer": Way(HARD, longer=2.0),
    "hcl longer b": Way(HARD, longer=2.0, seed=100),
    "hcl mcl": Way({**HARD, **CELLS}, "hcl"),
    "hcl soft": Way({**HARD, "against": "Soft"}, "hcl"),
    "deep": Way(DEEP),
    "deep colour": Way(WEIGHED, colours=True),
    "deep colour b": Way(WEIGHED, seed=100, colours=True),
    "deep raw": Way({**WEIGHED, "vectors": "raw"}),
    "deep raw b": Way({**WEIGHED, "vectors": "raw"}, seed=100),
    "deep raw longer": Way({**WEIGHED, "vectors": "raw"}, longer=2.0),
    "deep raw longer b": Way({**WEIGHED, "vectors": "raw"}, longer=2.0, seed=100),
    "every raw": Way(EVERY),
    "deep raw then": Way({**WEIGHED, "vectors": "raw", "against": "Nothing"}, "deep raw", seed=100),
    "one of mcl": Way(TAUGHT, teacher="mcl"),
    "one of deep": Way({**TAUGHT, "encoder": DEEP["encoder"]}, teacher="deep raw then"),
    "read": Way({**HARD, "encoder": {"kind": "Depths", "encoder": NET, "last": 5, "heads": "last"}}),
    "cascade": Way({"encoder": DEEP["encoder"], "objective": {"kind": "Cascade", "objective": HCL, "pieces": 4}}),
    "simclr .1": Way({"objective": {"kind": "InfoNCE", "temperature": 0.1}}),
    "ifm": Way({"objective": {"kind": "IFM", "temperature": 0.2, "epsilon": 0.1}}),
    "schedule": Way({"objective": {"kind": "TemperatureSchedule", "low": 0.1, "high": 0.4}}),
    "dropped": Way({**NCE, "views.grey": 0.5}),
    "strong": Way({**NCE, "views.crop": [0.08, 1.0], "views.colour": 0.8, "views.grey": 0.2}),
    "wide": Way({**NCE, "projection": [512, 256]}),
    "hcl wider": Way({**HARD, "encoder": {"kind": "plainnet:Wide"}}),
}
Row = tuple[tuple[str, ...], str]  # encoders, and what is read of each: its last level, the last three, or all five
ROWS: dict[str, Row] = {
    "untrained": (("untrained",), "last"),
    "untrained, three levels": (("untrained",), "levels"),
    "SimCLR": (("simclr",), "last"),
    "SimCLR, temperature .1": (("simclr .1",), "last"),
    "SimCLR, wide head": (("wide",), "last"),
    "SimCLR, colour dropped from half": (("dropped",), "last"),
    "SimCLR, strong views": (("strong",), "last"),
    "IFM": (("ifm",), "last"),
    "temperature schedule": (("schedule",), "last"),
    "HCL": (("hcl",), "last"),
    "HCL, features twice as wide": (("hcl wider",), "last"),
    "HCL, three levels": (("hcl",), "levels"),
    "HCL, five levels": (("hcl",), "all"),
    "HCL twice as long, three levels": (("hcl longer",), "levels"),
    "HCL twice as long, five levels": (("hcl longer",), "all"),
    "depth heads": (("deep",), "levels"),
    "depth heads + colour": (("deep colour",), "levels"),
    "depth heads + raw": (("deep raw",), "levels"),
    "depth heads + raw, five levels": (("deep raw",), "all"),
    "five depth heads + raw": (("every raw",), "all"),
    "depth heads + raw, twice as long": (("deep raw longer",), "levels"),
    "depth heads + raw, twice as long, five levels": (("deep raw longer",), "all"),
    "depths, the last alone taught, five levels": (("read",), "all"),
    "cascade of depth heads": (("cascade",), "levels"),
    "MCL in one network": (("one of mcl",), "last"),
    "2 depth heads + raw in one network": (("one of deep",), "levels"),
    "2 SimCLR": (("simclr", "simclr b"), "last"),
    "MCL": (("simclr", "mcl"), "last"),
    "MCL, last stage's clusters": (("simclr", "mcl last"), "last"),
    "SimCLR, then uncorrelated": (("simclr", "uncorrelated"), "last"),
    "SimCLR, then soft": (("simclr", "soft"), "last"),
    "2 HCL": (("hcl", "hcl b"), "last"),
    "HCL, then cells": (("hcl", "hcl mcl"), "last"),
    "HCL, then soft": (("hcl", "hcl soft"), "last"),
    "2 HCL, three levels": (("hcl", "hcl b"), "levels"),
    "2 HCL, five levels": (("hcl", "hcl b"), "all"),
    "2 HCL twice as long, five levels": (("hcl longer", "hcl longer b"), "all"),
    "2 depth heads + raw twice as long, five levels": (("deep raw longer", "deep raw longer b"), "all"),
    "depth heads, with and without colour": (("deep", "deep colour"), "levels"),
    "2 depth heads + colour": (("deep colour", "deep colour b"), "levels"),
    "2 depth heads + raw": (("deep raw", "deep raw b"), "levels"),
    "2 depth heads + raw, five levels": (("deep raw", "deep raw b"), "all"),
}
QUICK = ["untrained", "SimCLR", "HCL", "depth heads", "2 SimCLR", "MCL", "SimCLR, then soft"]
COMMON: Fields = {
    "projection": [128, 64],
    "batch": 128,
    "holdout": 0,
    "device": "cpu",
    "precision": "float32",
    "workers": 1,
    "views.colour": 0,
    "views.grey": 0,
    "views.blur": 0,
    "views.crop": [0.3, 1.0],
    "optimizer": {"kind": "AdamW", "learning_rate": 0.001, "weight_decay": 0.0001, "scale": "none"},
}
