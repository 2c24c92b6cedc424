"""The network: a transformer in which known tokens are read once and generated tokens attend to them."""

from selfflow.nn.memory import Memory
from selfflow.nn.transformer import Modality, Transformer, TransformerConfig

__all__ = ["Memory", "Modality", "Transformer", "TransformerConfig"]
