"""Ways to learn, one a file."""

from .base import Method as Method
from .simclr import SimCLR as SimCLR
