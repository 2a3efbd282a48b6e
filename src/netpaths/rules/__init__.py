"""Rules: for each layer family, what an active output selects among its inputs. One file a family.

Importing this package registers every rule and makes tracing know its operations.
"""

from netpaths.rules import (
    activation,
    add,
    affine,
    average_pool,
    choice,
    convolution,
    decoupling,
    elementwise,
    interpolation,
    linear,
    max_pool,
    mixing,
    normalisation,
    overlap,
    pattern,
    product,
    remap,
    sums,
)
from netpaths.rules.frozen import FROZEN
from netpaths.rules.rule import RULES, Active, Layer, Selection, Selector, register

__all__ = [
    "FROZEN",
    "RULES",
    "Active",
    "Layer",
    "Selection",
    "Selector",
    "activation",
    "add",
    "affine",
    "average_pool",
    "choice",
    "convolution",
    "decoupling",
    "elementwise",
    "interpolation",
    "linear",
    "max_pool",
    "mixing",
    "normalisation",
    "overlap",
    "pattern",
    "product",
    "register",
    "remap",
    "sums",
]
