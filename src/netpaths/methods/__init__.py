"""Notions of path, one file each."""

from netpaths.methods.effective import EffectivePath
from netpaths.methods.method import PathMethod

__all__ = ["EffectivePath", "PathMethod"]
