"""Networks from one modality's data to features (N, dim): ours, timm's, and the user's own."""

from .base import Encoder as Encoder
from .base import Kept as Kept
from .own import Own as Own
from .residual import Residual as Residual
from .timm import Timm as Timm
