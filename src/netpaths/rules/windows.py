"""Selection through receptive fields: shared by every rule whose outputs combine several inputs."""

from __future__ import annotations

import torch

from netpaths import kernels
from netpaths.errors import BadOption
from netpaths.graph import Field
from netpaths.kernels import Chosen, Problem
from netpaths.rules.rule import Active, Layer, Selection, Synapses


def field_of(layer: Layer) -> Field:
    """The layer's receptive fields."""
    field = layer.node.field
    if field is None:
        raise BadOption(f"{layer.node.name} has no receptive fields")
    return field


def problem_of(layer: Layer, inputs: torch.Tensor, weight: torch.Tensor | None) -> Problem:
    """The kernel's question about the active outputs, whose contributions are inputs times weights."""
    field = field_of(layer)
    device = inputs.device
    active = layer.active.mask.reshape(-1).nonzero()[:, 0]
    values = layer.output.detach().reshape(-1)[active]
    negate = values < 0
    if layer.active.reversed is not None:
        negate = negate ^ layer.active.reversed.reshape(-1)[active]
    target = None
    if layer.selector.target == "neuron" and layer.node.layer:
        target = torch.where(negate, -values, values)
    return Problem(
        inputs.detach().reshape(-1, *field.in_shape),
        weight,
        field.rows.to(device),
        field.cols.to(device),
        field.out_shape[0],
        field.per_group,
        field.groups,
        active,
        negate,
        layer.selector.theta,
        target,
    )


def select_windows(layer: Layer, weight: torch.Tensor | None) -> Selection:
    """Select the smallest sufficient set in every active output's receptive field."""
    problem = problem_of(layer, layer.inputs[0], weight)
    chosen = kernels.select(problem)
    active = activate(layer, chosen, layer.inputs[0].shape)
    return Selection((active,), Synapses(problem.active, chosen))


def activate(layer: Layer, chosen: Chosen, shape: torch.Size) -> Active:
    """The inputs that the chosen synapses read, as active neurons of an input of ``shape``, batch included."""
    return activate_places(layer, chosen.sources, chosen.values, shape)


def activate_places(layer: Layer, places: torch.Tensor, values: torch.Tensor, shape: torch.Size) -> Active:
    """Neurons at flat ``places`` (m,) of an input of ``shape``, batch included, with the contributions they carried."""
    mask = torch.zeros(shape.numel(), dtype=torch.bool, device=places.device)
    mask[places] = True
    amount = None
    if layer.active.amount is not None:
        amount = torch.zeros(shape.numel(), device=mask.device)
        amount = amount.index_add_(0, places, values.clamp(min=0)).reshape(shape)
    return Active(mask.reshape(shape), None, amount)
