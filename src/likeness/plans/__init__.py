"""Plans: which methods are trained, in which order, for how long."""

from .against import Against as Against
from .against import Cells as Cells
from .against import Nothing as Nothing
from .against import Soft as Soft
from .against import Uncorrelated as Uncorrelated
from .base import BUDGET as BUDGET
from .base import Plan as Plan
from .base import Stage as Stage
from .base import Training as Training
from .multistage import Multistage as Multistage
from .once import Once as Once
