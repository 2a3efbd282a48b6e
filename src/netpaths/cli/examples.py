"""The Examples section of a command's help."""

from __future__ import annotations


def section(*examples: str) -> str:
    """Command lines as a block that the help prints as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])
