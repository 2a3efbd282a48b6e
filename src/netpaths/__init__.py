"""Find the paths a prediction takes through a neural network, and put them to use."""

from netpaths import rules as _rules  # registers every layer family before a model is traced
from netpaths.graph import Graph, Trace
from netpaths.methods import EffectivePath, PathMethod
from netpaths.path import Path, Site

__version__ = "0.1.0"
