"""selfflow: one model that learns to represent and to generate together."""

__version__ = "0.1.0"
