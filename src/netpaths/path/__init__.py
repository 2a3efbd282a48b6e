"""Paths as values: sites, selected elements, their algebra and their file format."""

from netpaths.path.budget import Budget
from netpaths.path.elements import Elements
from netpaths.path.path import KINDS, Path, Site, intersect, subtract, union
from netpaths.path.storage import load_path, save_path

__all__ = ["KINDS", "Budget", "Elements", "Path", "Site", "intersect", "load_path", "save_path", "subtract", "union"]
