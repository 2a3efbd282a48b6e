"""What an explained logit is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What carries one image's explained logit when gates, patterns and slopes stand still, in units of the logit.

    pixels: through the network from the image. biases: of layers, and shifts of norms. constants: everything else that
    is added, such as positions, a class token or a sigmoid's value at zero. logit: their sum. on_path: the part of
    ``pixels`` from the pixels on the path; 0 for a path that does not reach them.
    """

    pixels: float
    biases: float
    constants: float
    logit: float
    on_path: float = 0.0
