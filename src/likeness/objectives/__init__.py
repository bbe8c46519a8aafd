"""How far a space disobeys a relation. One family a file; every objective reads (queries, keys, relation, its part)."""

from .align import Align as Align
from .align import AlignUniform as AlignUniform
from .base import Objective as Objective
from .base import Reads as Reads
from .base import Term as Term
from .base import similarity as similarity
from .clusters import SelfDistillation as SelfDistillation
from .clusters import Swapped as Swapped
from .cyclip import CyCLIP as CyCLIP
from .decoupled import Decoupled as Decoupled
from .feature import IFM as IFM
from .hard import HardNegatives as HardNegatives
from .infonce import InfoNCE as InfoNCE
from .margin import Margin as Margin
from .margin import Triplet as Triplet
from .nearest import nearest as nearest
from .redundancy import BarlowTwins as BarlowTwins
from .redundancy import VICReg as VICReg
from .robust import RINCE as RINCE
from .sigmoid import Sigmoid as Sigmoid
from .sigreg import SIGReg as SIGReg
from .sogclr import SogCLR as SogCLR
from .sogclr import iSogCLR as iSogCLR
from .temperatures import MACL as MACL
from .temperatures import TemperatureSchedule as TemperatureSchedule
from .visreg import VISReg as VISReg
