"""Objectives: each owns the student, its EMA and whatever else must persist, and turns clean data into losses."""

from selfflow.objectives.auxiliary import Auxiliary, CleanData, LayerSync
from selfflow.objectives.base import Losses
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.objectives.self_flow import Alignment, SelfFlow
from selfflow.objectives.targets import Standardise

__all__ = ["Alignment", "Auxiliary", "CleanData", "FlowMatching", "LayerSync", "Losses", "SelfFlow", "Standardise"]
