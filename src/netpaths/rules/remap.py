"""Operations whose outputs are copies of inputs: neurons move to where the copy came from; padding has no origin."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from netpaths.graph import Family, Node
from netpaths.rules.frozen import affine
from netpaths.rules.rule import Active, Layer, Selection, register


def select(layer: Layer) -> Selection:
    """The inputs that active outputs copy."""
    return Selection(tuple(_moved(layer, index) for index in range(len(layer.inputs))))


def refuse(node: Node) -> str | None:
    """As it is spelled, a stack in front of the images cannot be told from a batch."""
    places = ("indices", "index", "mask")
    if any(_reads(node.arguments.get(name)) for name in places):
        return "moves values to places that depend on the input"
    in_front = node.operation == "stack" and node.arguments.get("dim", 0) == 0 and not node.parents
    return "stacks in front of the images" if in_front else None


def _reads(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and any(map(_reads, value)))


def _moved(layer: Layer, index: int) -> Active:
    move, active = layer.node.moves[index], layer.active
    mask = move.back(active.mask)
    turned = active.reversed
    if turned is not None:
        turned = move.back(turned) if move.alone else mask & ~move.back(active.mask & ~turned)
    return Active(mask, turned, None if active.amount is None else move.add_back(active.amount))


FUNCTIONS: dict[Any, str] = {
    torch.cat: "tensors dim=0",
    torch.concat: "tensors dim=0",
    torch.stack: "tensors dim=0",
    torch.flatten: "input start_dim=0 end_dim=-1",
    torch.reshape: "input shape",
    torch.squeeze: "input dim=None",
    torch.unsqueeze: "input dim",
    torch.transpose: "input dim0 dim1",
    torch.permute: "input dims",
    torch.chunk: "input chunks dim=0",
    torch.split: "input split_size dim=0",
    torch.narrow: "input dim start length",
    torch.roll: "input shifts dims=None",
    torch.flip: "input dims",
    operator.getitem: "input index",
    F.pad: "input pad mode='constant' value=None",
    F.pixel_shuffle: "input upscale_factor",
    F.channel_shuffle: "input groups",
}

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
        modules={
            nn.Flatten: "start_dim end_dim",
            nn.Unflatten: "dim unflattened_size",
            nn.ZeroPad2d: "padding",
            nn.ConstantPad2d: "padding value",
            nn.ReflectionPad2d: "padding",
            nn.ReplicationPad2d: "padding",
            nn.PixelShuffle: "upscale_factor",
            nn.ChannelShuffle: "groups",
        },
        functions=FUNCTIONS,
        methods={
            "view": "input *shape",
            "reshape": "input *shape",
            "flatten": "input start_dim=0 end_dim=-1",
            "squeeze": "input dim=None",
            "unsqueeze": "input dim",
            "transpose": "input dim0 dim1",
            "permute": "input *dims",
            "chunk": "input chunks dim=0",
            "split": "input split_size dim=0",
            "narrow": "input dim start length",
        },
        remaps=True,
        takes=lambda node: not isinstance(node.arguments.get("condition"), str),
        refuse=refuse,
        operations=MOVES,
    ),
    select,
    affine,
)
