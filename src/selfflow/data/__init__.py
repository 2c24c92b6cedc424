"""Data: sources of captioned pictures, one reader per format, and the loader that orders them."""

from selfflow.data.sample import DecodeError, Sample, Source

__all__ = ["DecodeError", "Sample", "Source"]
