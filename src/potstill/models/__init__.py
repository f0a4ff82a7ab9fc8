"""The networks: one encoder for the whole BERT family, and the heads that stand on it."""

from potstill.architectures.config import EncoderConfig
from potstill.architectures.presets import preset
from potstill.models.encoder import Encoder, EncoderOutput
from potstill.models.layout import TextLayout, arrange
from potstill.models.task_model import TaskModel

__all__ = [
    "Encoder",
    "EncoderConfig",
    "EncoderOutput",
    "TaskModel",
    "TextLayout",
    "arrange",
    "preset",
]
