"""Objectives: each owns the student, its EMA and whatever else must persist, and turns clean data into losses."""

from selfflow.objectives.alignment import Alignment
from selfflow.objectives.auxiliary import Auxiliary, CleanData, LayerSync
from selfflow.objectives.base import Losses
from selfflow.objectives.flow_map import FlowMap, Guided
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.objectives.negative_aware import Judged, NegativeAware
from selfflow.objectives.on_policy import OnPolicy
from selfflow.objectives.progressive import Progressive
from selfflow.objectives.repa import Repa
from selfflow.objectives.self_flow import SelfFlow
from selfflow.objectives.targets import Standardise

__all__ = [
    "Alignment",
    "Auxiliary",
    "CleanData",
    "FlowMap",
    "FlowMatching",
    "Guided",
    "Judged",
    "LayerSync",
    "Losses",
    "NegativeAware",
    "OnPolicy",
    "Progressive",
    "Repa",
    "SelfFlow",
    "Standardise",
]
