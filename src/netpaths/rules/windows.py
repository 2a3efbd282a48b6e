"""Selection through receptive fields: shared by every rule whose outputs combine several inputs."""

from __future__ import annotations

from dataclasses import replace

import torch

from netpaths import kernels
from netpaths.errors import BadOption
from netpaths.graph import Field
from netpaths.kernels import Chosen, Problem
from netpaths.rules.rule import Active, Layer, Selection


def field_of(layer: Layer) -> Field:
    """The layer's receptive fields."""
    field = layer.node.field
    if field is None:
        raise BadOption(f"{layer.node.name} has no receptive fields")
    return field


def problem_of(layer: Layer, inputs: torch.Tensor, weight: torch.Tensor | None) -> Problem:
    """The kernel's question about the active outputs, whose contributions are inputs times weights."""
    field = field_of(layer)
    active, shape = layer.active, (-1, *field.out_shape)
    return Problem(
        inputs.detach().reshape(-1, *field.in_shape),
        weight,
        field.rows.to(inputs.device),
        field.cols.to(inputs.device),
        field.per_group,
        field.groups,
        active.mask.reshape(shape),
        layer.output.detach().reshape(shape),
        None if active.reversed is None else active.reversed.reshape(shape),
        layer.selector.theta,
        layer.selector.target == "neuron" and layer.node.layer,
        active.amount is not None,
        layer.node.weight_norms if layer.node.layer else None,
        layer.node.arguments.get("bias"),
    )


def select_windows(layer: Layer, weight: torch.Tensor | None) -> Selection:
    """Select the smallest sufficient set in every active output's receptive field."""
    problem = problem_of(layer, layer.inputs[0], weight)
    chosen = kernels.select(problem)
    return Selection((activate(layer, chosen),), regrouped(chosen, field_of(layer).parts))


def select_scaled_windows(layer: Layer, contributions: torch.Tensor) -> Selection:
    """Likewise where every output has factors of its own.

    contributions: (batch · parts, channels, out_height, kernel height, out_width, kernel width).
    """
    field = field_of(layer)
    height, rows = field.rows.shape
    width, cols = field.cols.shape
    own_rows, own_cols = (
        torch.where(table >= 0, torch.arange(table.numel()).reshape(table.shape), -1).to(contributions.device)
        for table in (field.rows, field.cols)
    )
    problem = replace(
        problem_of(layer, layer.inputs[0], None),
        inputs=contributions.reshape(len(contributions), -1, height * rows, width * cols).contiguous(),
        rows=own_rows,
        cols=own_cols,
    )
    chosen = kernels.select(problem)
    shape = layer.inputs[0].shape
    reached = torch.zeros(shape, dtype=torch.bool, device=contributions.device)
    places = sources(layer, chosen)
    reached.view(-1)[places] = True
    amount = None if chosen.values is None else carried(places, chosen.values, shape)
    chosen = replace(chosen, reached=(reached,))
    return Selection((Active(reached, None, amount),), regrouped(chosen, field.parts))


def regrouped(chosen: Chosen, parts: int) -> Chosen:
    """What was chosen part by part, with the ``parts`` of an image together."""
    if parts == 1:
        return chosen
    batch, outputs, size = chosen.shape
    place = chosen.images() % parts
    synapses = chosen.synapses + place * (outputs * size)
    return replace(chosen, shape=(batch // parts, outputs * parts, size), synapses=synapses)


def activate(layer: Layer, chosen: Chosen) -> Active:
    """The inputs that the chosen synapses read, as active neurons, with the contributions they carried."""
    shape = layer.inputs[0].shape
    amount = None
    if chosen.values is not None:
        amount = carried(sources(layer, chosen), chosen.values, shape)
    return Active(chosen.reached[0].reshape(shape), None, amount)


def sources(layer: Layer, chosen: Chosen) -> torch.Tensor:
    """The input each chosen synapse reads: (m,) int64, flat positions with the batch included."""
    field = field_of(layer)
    return chosen.images() * torch.Size(field.in_shape).numel() + field.sources(chosen.synapses)


def carried(places: torch.Tensor, values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The positive contributions summed at flat ``places`` (m,) of a tensor of ``shape``, batch included."""
    amount = torch.zeros(shape.numel(), device=values.device)
    return amount.index_add_(0, places, values.clamp(min=0)).reshape(shape)
