"""Ways to learn, one a file."""

from .base import Method as Method
from .byol import BYOL as BYOL
from .declip import DeCLIP as DeCLIP
from .dino import DINO as DINO
from .distil import Distil as Distil
from .finetune import Finetune as Finetune
from .generative import Generative as Generative
from .moco import MoCo as MoCo
from .nnclr import NNCLR as NNCLR
from .simclr import SimCLR as SimCLR
from .swav import SwAV as SwAV
from .two_towers import TwoTowers as TwoTowers
