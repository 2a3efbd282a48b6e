"""Operations whose outputs are copies of inputs: neurons move to where the copy came from; padding has no origin."""

from __future__ import annotations

from typing import Any

from netpaths.graph import Family, Node
from netpaths.rules.frozen import affine
from netpaths.rules.rule import Active, Layer, Selection, register


def select(layer: Layer) -> Selection:
    """The inputs that active outputs copy."""
    return Selection(tuple(_moved(layer, index) for index in range(len(layer.inputs))))


def refuse(node: Node) -> str | None:
    """Places that are constants."""
    moves = any(_reads(node.arguments.get(name)) for name in ("indices", "index", "mask"))
    return "moves values to places that depend on the input" if moves else None


def _reads(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and any(map(_reads, value)))


def _moved(layer: Layer, index: int) -> Active:
    move, active = layer.node.moves[index], layer.active
    mask = move.back(active.mask)
    turned = active.reversed
    if turned is not None:
        turned = move.back(turned) if move.alone else mask & ~move.back(active.mask & ~turned)
    return Active(mask, turned, None if active.amount is None else move.add_back(active.amount))


MOVES = (
    "cat",
    "stack",
    "flatten",
    "unflatten",
    "reshape",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
    "t",
    "narrow",
    "roll",
    "flip",
    "slice",
    "select",
    "index",
    "index_select",
    "pad",
    "constant_pad_nd",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "expand",
    "repeat",
    "repeat_interleave",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "reflection_pad3d",
    "replication_pad3d",
    "unfold",
    "select_scatter",
    "slice_scatter",
    "diagonal_scatter",
    "index_put",
    "index_copy",
    "scatter",
    "gather",
    "take_along_dim",
    "diagonal",
    "tril",
    "triu",
    "rot90",
    "native_channel_shuffle",
    "im2col",
    "masked_fill",
    "where",
    "movedim",
    "swapaxes",
    "tile",
)

register(
    Family(
        "rearrangement",
        "concatenation, flatten, reshape, padding, slices, transposition, channel shuffle, chunks",
        "rearrangement",
        remaps=True,
        takes=lambda node: not isinstance(node.arguments.get("condition"), str),
        refuse=refuse,
        operations=MOVES,
    ),
    select,
    affine,
)
