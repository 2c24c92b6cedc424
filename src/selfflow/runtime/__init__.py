"""The runtime: one model answering while you type. `Runtime` is a `Pipeline` that remembers and hurries."""

from selfflow.runtime.memory import PieceCache
from selfflow.runtime.runtime import Runtime

__all__ = ["PieceCache", "Runtime"]
