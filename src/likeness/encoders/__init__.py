"""Networks from one modality's data to features (N, dim): ours, timm's, and the user's own."""

from .base import Encoder as Encoder
from .base import Kept as Kept
from .depths import Depths as Depths
from .head import Head as Head
from .joined import Joined as Joined
from .masked import Masking as Masking
from .ngrams import NgramBag as NgramBag
from .open_clip import OpenClip as OpenClip
from .own import Own as Own
from .projected import Projected as Projected
from .residual import Residual as Residual
from .saved import Saved as Saved
from .timm import Timm as Timm
from .transformers import Transformers as Transformers
from .words import TextTransformer as TextTransformer
