"""Training: optimizers and schedules, steps, the course that time buys, checkpoints."""

from .adaptation import Adaptation as Adaptation
from .adaptation import started as started
from .course import Course as Course
from .course import Growth as Growth
from .course import Pace as Pace
from .muon import Muon as Muon
from .optimizers import LARS as LARS
from .optimizers import SGD as SGD
from .optimizers import AdamW as AdamW
from .optimizers import Optimizer as Optimizer
from .steps import Descent as Descent
from .steps import Learner as Learner
from .steps import State as State
from .steps import Step as Step
from .steps import minimised as minimised
