"""Notions of path, one file each."""

from netpaths.methods.effective import EffectivePath

__all__ = ["EffectivePath"]
