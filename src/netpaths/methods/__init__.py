"""Notions of path, one file each."""

from netpaths.methods.activation import Activation
from netpaths.methods.contribution import MarginalContribution
from netpaths.methods.decoupling import CalculationPath
from netpaths.methods.effective import EffectivePath
from netpaths.methods.integrated import IntegratedGradients
from netpaths.methods.random_units import RandomUnits
from netpaths.methods.routing import DistillationGuidedRouting
from netpaths.methods.weight import WeightNorm

__all__ = [
    "Activation",
    "CalculationPath",
    "DistillationGuidedRouting",
    "EffectivePath",
    "IntegratedGradients",
    "MarginalContribution",
    "RandomUnits",
    "WeightNorm",
]
