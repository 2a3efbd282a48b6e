"""Models as graphs of named nodes; the only code that runs networks."""

from netpaths.graph.alignment import Alignment, align
from netpaths.graph.cutting import part
from netpaths.graph.family import FAMILIES, Family, register_family, supported
from netpaths.graph.field import Field, adaptive_table, along, window_table
from netpaths.graph.graph import Graph, Trace, ranked_classes
from netpaths.graph.keeping import keep_exports
from netpaths.graph.method import PathMethod, RankedMethod
from netpaths.graph.node import Node
from netpaths.graph.rewriting import Backward
from netpaths.graph.streaming import Step

__all__ = [
    "FAMILIES",
    "Alignment",
    "Backward",
    "Family",
    "Field",
    "Graph",
    "Node",
    "PathMethod",
    "RankedMethod",
    "Step",
    "Trace",
    "adaptive_table",
    "align",
    "along",
    "keep_exports",
    "part",
    "ranked_classes",
    "register_family",
    "supported",
    "window_table",
]
