"""Objectives: each owns the student, its EMA and whatever else must persist, and turns clean data into losses."""

from selfflow.objectives.base import Losses
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.objectives.self_flow import SelfFlow

__all__ = ["FlowMatching", "Losses", "SelfFlow"]
