"""How far training has come, and how many steps are left: a fixed number, or as many as time buys."""

from __future__ import annotations

from dataclasses import dataclass, replace

LEAST = 8  # pixels a side: oneDNN's bfloat16 gradients of strided filters on single pixels may be NaN (torch 2.15)
EPSILON = 1e-6  # a share of 0.75 of 32 is 24 also after rounding
SAMPLES = 200  # points at which a mean over progress is taken


@dataclass(frozen=True)
class Course:
    """Progress runs from 0 at the first step to 1 at the last, evenly since the course was last set.

    steps: the number of the step at which training ends; start, done: step and progress when that was decided
    """

    steps: int
    start: int = 0
    done: float = 0.0

    def progress(self, step: int) -> float:
        if step >= self.steps:
            return 1.0
        return self.done + (1 - self.done) * (step - self.start) / (self.steps - self.start)

    def middle(self, step: int) -> float:
        """Progress in the middle of a step: what its learning rate is read at, so that no step has a rate of 0."""
        return (self.progress(step) + self.progress(step + 1)) / 2

    def reset(self, step: int, left: int) -> Course:
        """The course with `left` more steps from `step` on; progress goes on from where it is."""
        return Course(step + max(left, 1), step, self.progress(step))

    def state(self) -> dict[str, float]:
        return {"steps": self.steps, "start": self.start, "done": self.done}


@dataclass(frozen=True)
class Growth:
    """How the size of the views grows with training: small pictures cost less and teach the coarse things first.

    Progressive resizing as in fast.ai's DAWNBench entry (2018) and EfficientNetV2 (arXiv:2104.00298, sec. 4).
    size: the encoder's; first, last: shares of it that views have at the start, and from progress `until` on
    """

    size: int | None
    first: float = 1.0
    last: float = 1.0
    until: float = 0.7
    multiple: int = 4

    def at(self, progress: float) -> int | None:
        """Side of the views; None where the modality has no size."""
        if self.size is None:
            return None
        share = self.first + (self.last - self.first) * min(progress / self.until, 1.0)
        if abs(share - 1) < EPSILON:
            return self.size
        return max(int(share * self.size + EPSILON) // self.multiple * self.multiple, min(self.size, LEAST))

    @property
    def largest(self) -> int | None:
        """Side of the largest views; None where the modality has no size."""
        return max((side for side in (self.at(0.0), self.at(1.0)) if side is not None), default=None)

    @property
    def telling(self) -> set[int]:
        """Sizes before the last that tell whether a network takes them all: some want multiples of their patch."""
        least, most = self.at(0.0), self.at(1.0)
        if least is None or most is None:
            return set()
        return {least, min(least + self.multiple, most), most} - {self.size}


@dataclass(frozen=True)
class Pace:
    """What a step takes, as measured before training at the smallest and the largest size, and what came of it.

    Times are the leading process's. `drift`: measured over expected time of the latest steps.
    """

    small: float
    large: float
    growth: Growth
    drift: float = 1.0

    def cost(self, size: int | None) -> float:
        """Seconds a step at that size: linear in the number of pixels between the two measured."""
        least, most = self.growth.at(0.0), self.growth.at(1.0)
        if size is None or least is None or most is None or least == most:
            return self.large
        share = (size**2 - least**2) / (most**2 - least**2)
        return self.small + share * (self.large - self.small)

    def between(self, done: float, end: float = 1.0) -> float:
        """Seconds a step takes on average from progress `done` to `end`, as measured before training."""
        points = [done + (end - done) * (n + 0.5) / SAMPLES for n in range(SAMPLES)]
        return sum(self.cost(self.growth.at(point)) for point in points) / SAMPLES

    def left(self, seconds: float, done: float) -> int:
        """Steps that `seconds` buy from progress `done` on."""
        return max(int(seconds / (self.drift * self.between(done))), 1)

    def corrected(self, expected: float, measured: float) -> Pace:
        """After steps that took `measured` seconds and should have taken `expected` without drift."""
        return replace(self, drift=measured / expected) if expected > 0 and measured > 0 else self
