"""The front end: what a model computes, as a graph of functional ATen operations.

`torch.export` follows the computation instead of its spelling: hooks run, in-place operations become functional ones,
and the batch is a symbol in every shape. What depends on parameters alone is folded into constants.
"""

from __future__ import annotations

import builtins
import operator
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from netpaths.errors import BadInput, NetpathsError, UnsupportedOperation
from netpaths.graph.copying import evaluation_copy
from netpaths.graph.einsum import is_product
from netpaths.graph.keeping import keep, kept_export
from netpaths.graph.module import Canonical, hold, reread
from netpaths.graph.spelling import CANONICAL, FILLED, IDENTITIES, pieces
from netpaths.graph.writing import mutates, static_fill, without_writes

aten = torch.ops.aten

MOST_IMAGES = 1 << 20
"""The largest batch an exported network is asked to take."""

FIXED = "Constraints violated"
"""What torch.export says where a model was traced for one number of images alone."""

AUTOCAST = 4
"""Where a block of autocast keeps what it runs, behind device, type, whether it is on, and whether it caches."""

BLOCKS: dict[Any, int] = {
    torch.ops.higher_order.wrap_with_set_grad_enabled: 1,
    torch.ops.higher_order.wrap_with_autocast: AUTOCAST,
}
"""Operations that run other operations, and which argument holds those."""


def export_module(model: nn.Module, example: torch.Tensor) -> Canonical:
    """What ``model`` computes on batches like ``example`` (2, *input shape) of any size, with the model's own tensors.

    Raises BadInput where the model fails on the example or returns something else than one tensor, and
    UnsupportedOperation where it branches on the values of its input.
    """
    if isinstance(model, Canonical):
        return reread(model, example)
    key, known = kept_export(model, example)
    if known is not None:
        return known
    rebuilt = _Rebuilt(_program(model, example))
    if key is not None and rebuilt.constants is not None:
        keep(key, rebuilt.module, rebuilt.constants)
    return rebuilt.module


def _program(model: nn.Module, example: torch.Tensor) -> Any:
    """What torch.export makes of a copy of the model, written without operations in place."""
    copied = evaluation_copy(model)
    try:
        try:
            return _functional(_export(copied, example))
        except Exception as error:
            if FIXED not in str(error):
                raise
            with _counting_images():
                return _functional(_export(copied, example))
    except NetpathsError:
        raise
    except Exception as error:
        raise _refusal(copied, example, error) from error


def _functional(program: Any) -> Any:
    """The program without operations in place, and with free sums as plain ones."""
    functional = without_writes(program.graph, program.graph_signature.user_inputs)
    program.graph_module.recompile()
    if not functional or any(_sums_freely(node) for node in program.graph.nodes):
        table = torch.export.default_decompositions()
        wanted = {aten.einsum.default: table[aten.einsum.default]} if aten.einsum.default in table else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions(wanted)
    return program


def _sums_freely(node: fx.Node) -> bool:
    return node.target is aten.einsum.default and not is_product(str(node.args[0]))


def _export(model: nn.Module, example: torch.Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)


@contextmanager
def _counting_images() -> Iterator[None]:
    """Within it ``len`` of a tensor is its first size, which may be a symbol, for this thread alone."""
    plain, own = builtins.len, threading.get_ident()

    def counted(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dim() and threading.get_ident() == own:
            return value.shape[0]
        return plain(value)

    builtins.len = counted
    try:
        yield
    finally:
        builtins.len = plain


def _refusal(model: nn.Module, example: torch.Tensor, error: Exception) -> NetpathsError:
    """Why a model cannot be exported: it fails on the example, or it decides by values of its input."""
    try:
        with torch.no_grad():
            model(example)
    except Exception as own:
        return BadInput(
            f"the model fails on the example of shape {tuple(example.shape)}: {_first_line(own)}{_place(own)}"
        )
    reason = f"{_first_line(error)}{_place(error)}; its forward must not branch on the values of its input"
    if FIXED in str(error):
        reason = "its forward makes a plain number of the number of images, as int(len(x)) does: write x.shape[0]"
    return UnsupportedOperation(f"{type(model).__name__} cannot be traced: {reason}")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _place(error: Exception) -> str:
    """The last line of the user's code that the error went through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and "/netpaths/" not in frame.filename and "<" not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


class _Rebuilt:
    """An exported program as a plain module: constants folded, copies gone, one spelling for one operation.

    constants: by name, those of the module that no tensor of the model went into; None where others are among them.
    """

    def __init__(self, program: Any) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self._known: dict[fx.Node, Any] = {}
        self._names: dict[fx.Node, str] = {}
        self._made: dict[fx.Node, fx.Node] = {}
        self._attributes: dict[str, fx.Node] = {}
        self._results: dict[fx.Node, Sequence[Any]] = {}
        self._free: set[fx.Node] = set()
        self.constants: dict[str, torch.Tensor] | None = {}
        self._read_placeholders(program)
        self._add_all(program.graph_module)
        self.graph.output(self._result(program))
        self.graph.eliminate_dead_code()
        self.module = Canonical(self.root.eval(), self.graph)

    def _read_placeholders(self, program: Any) -> None:
        signature = program.graph_signature
        own = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = signature.inputs_to_lifted_tensor_constants
        for node in program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in own:
                name = own[node.name]
                held = program.state_dict.get(name)
                self._known[node] = program.constants[name] if held is None else held
                self._names[node] = name
            elif node.name in lifted:
                self._known[node] = program.constants[lifted[node.name]]
                self._free.add(node)
            else:
                self._made[node] = self.graph.node_copy(node)

    def _add_all(self, owner: fx.GraphModule) -> None:
        for node in owner.graph.nodes:
            if node.op == "call_function" and node.target in BLOCKS:
                self._add_block(owner, node)
            elif node.op == "call_function":
                self._add(node)

    def _add_block(self, owner: fx.GraphModule, node: fx.Node) -> None:
        """The operations inside ``with torch.no_grad()`` and the like, where the block stands."""
        skipped = BLOCKS[node.target]
        if skipped == AUTOCAST and node.args[2] is not False:
            raise UnsupportedOperation(f"the model computes in {node.args[1]} by autocast of its own: switch that off")
        inner = getattr(owner, str(node.args[skipped].target))  # type: ignore[union-attr]
        given = node.args[skipped + 1 :]
        places = [own for own in inner.graph.nodes if own.op == "placeholder"]
        for place, source in zip(places, given):
            kept = self._known if source in self._known else self._made
            kept[place] = kept[source]  # type: ignore[index]
            if source in self._names:
                self._names[place] = self._names[source]  # type: ignore[index]
            if source in self._free:
                self._free.add(place)
        self._add_all(inner)
        returned = next(own for own in inner.graph.nodes if own.op == "output").args[0]
        self._results[node] = returned if isinstance(returned, (tuple, list)) else (returned,)

    def _add(self, node: fx.Node) -> None:
        sources = node.all_input_nodes
        if node.target is operator.getitem and node.args[0] in self._results:
            self._rename(node, self._results[node.args[0]][node.args[1]])  # type: ignore[index]
            return
        if (not node.users and not mutates(node)) or (sources and any(self._dropped(source) for source in sources)):
            return
        if static_fill(node) and not mutates(node):
            value = node.meta["val"]
            number = FILLED[node.target](node)
            self._known[node] = torch.full(tuple(value.shape), number, dtype=value.dtype, device=value.device)
            self._free.add(node)
            return
        if not sources or all(source in self._known for source in sources):
            values = fx.map_arg((node.args, node.kwargs), lambda source: self._known[source])
            with torch.no_grad():
                self._known[node] = node.target(*values[0], **values[1])  # type: ignore[operator]
            if all(source in self._free for source in sources):
                self._free.add(node)
            return
        if node.target in IDENTITIES and IDENTITIES[node.target](node):
            self._made[node] = self._value(node.args[0])
            return
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node) and node.args[0] not in self._made:
            self._made[node] = self._piece(node)
            return
        if isinstance(node.meta.get("val"), (tuple, list)):
            return  # its pieces are operations of their own
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        self._made[node] = self._canonical(node, node.target, args, kwargs)

    def _rename(self, node: fx.Node, source: fx.Node) -> None:
        if source in self._known:
            self._known[node] = self._known[source]
            self.constants = None
        elif source in self._made:
            self._made[node] = self._made[source]

    def _dropped(self, source: fx.Node) -> bool:
        several = isinstance(source.meta.get("val"), (tuple, list))
        return source not in self._known and source not in self._made and not several

    def _canonical(self, node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: Any) -> fx.Node:
        change = CANONICAL.get(target)
        if change is None:
            return self._call(node, target, args, kwargs)
        return change(Rewriter(self, node), *args, **kwargs)

    def _piece(self, node: fx.Node) -> fx.Node:
        whole, index = node.args
        args, kwargs = fx.map_arg((whole.args, whole.kwargs), self._value)  # type: ignore[union-attr]
        found = pieces(whole, int(index), args, kwargs)  # type: ignore[arg-type]
        if found is None:  # left to be refused with all others
            self._made[whole] = self._call(whole, whole.target, args, kwargs)  # type: ignore[index,union-attr,arg-type]
            return self._call(node, operator.getitem, (self._made[whole], index), {})  # type: ignore[index]
        target, arguments = found
        meta = {**whole.meta, "val": node.meta["val"]}  # type: ignore[union-attr]
        node.meta = meta
        return self._canonical(node, target, arguments, {})

    def _call(self, like: fx.Node, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> fx.Node:
        made = self.graph.call_function(target, args, kwargs)
        made.meta = dict(like.meta)
        return made

    def _value(self, source: Any) -> Any:
        """What stands for a node of the program: an operation, a constant by name, or a plain number."""
        if not isinstance(source, fx.Node):
            return source
        if source in self._made:
            return self._made[source]
        value = self._known[source]
        if source not in self._names and source not in self._free:
            self.constants = None
        if not isinstance(value, torch.Tensor):
            return value
        if source in self._names:
            return self.attribute(self._names[source], value)
        name = f"constants.value_{source.name}"
        if self.constants is not None:
            self.constants[name] = value
        return self.attribute(name, value)

    def size(self, size: torch.SymInt) -> fx.Node:
        """The node that computes a size that counts images."""
        images = next(node for node in self.graph.nodes if node.op == "placeholder")
        batch = images.meta["val"].shape[0]
        parts = size.node.expr / batch.node.expr
        made = self.graph.call_function(aten.sym_size.int, (images, 0))
        made.meta["val"] = batch
        if parts != 1:
            made = self.graph.call_function(operator.mul, (made, int(parts)))
            made.meta["val"] = size
        return made

    def attribute(self, name: str, value: torch.Tensor) -> fx.Node:
        """The node that reads ``value``, held by the module under ``name``."""
        if name not in self._attributes:
            hold(self.root, name, value)
            self._attributes[name] = self.graph.get_attr(name)
            self._attributes[name].meta["val"] = value
        return self._attributes[name]

    def held(self, node: Any) -> torch.Tensor | None:
        """The constant that a node reads, or None where it depends on the input or the batch."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        value: torch.Tensor = node.meta["val"]
        return value

    def _result(self, program: Any) -> Any:
        wanted = [spec.arg.name for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
        returned = next(node for node in program.graph.nodes if node.op == "output").args[0]
        found = [node for node in returned if isinstance(node, fx.Node) and node.name in wanted]
        if len(found) != 1 or len(wanted) != 1 or program.call_spec.out_spec.num_children:
            raise BadInput("the model must return one tensor of logits (batch, classes); wrap it to pick one")
        if found[0] not in self._made:
            raise BadInput("the model's answer does not depend on its input")
        return self._made[found[0]]


class Rewriter:
    """What a change of spelling may do: read constants and add operations in place of one."""

    def __init__(self, owner: _Rebuilt, node: fx.Node) -> None:
        self._owner, self.node = owner, node

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """An operation that stands where the node did and has its value."""
        return self._owner._canonical(self.node, target, args, kwargs)

    def last(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Likewise, for an operation that is as it should be."""
        return self._owner._call(self.node, target, args, kwargs)

    def step(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """An operation on the way to the node's value, with a value of its own."""
        mode = self.node.meta["val"].fake_mode

        def value(source: fx.Node) -> Any:
            held = source.meta["val"]
            real = isinstance(held, torch.Tensor) and not isinstance(held, type(self.node.meta["val"]))
            return mode.from_tensor(held, static_shapes=True) if real else held

        given = fx.map_arg((args, kwargs), value)
        with mode, torch.no_grad():
            found = target(*given[0], **given[1])
        made = self._owner._call(self.node, target, args, kwargs)
        made.meta["val"] = found
        return made

    def sizes(self) -> list[Any]:
        """The sizes of the node's value: numbers, and operations that read the batch."""
        return self.known(list(self.node.meta["val"].shape))

    def known(self, sizes: Sequence[Any]) -> list[Any]:
        """Sizes as numbers, and as operations that read the batch where they count images."""
        return [size if isinstance(size, int) else self._owner.size(size) for size in sizes]

    def filled(self, number: Any) -> fx.Node:
        """A tensor of the node's sizes that holds one number and reads the batch alone."""
        value = self.node.meta["val"]
        return self.last(aten.full.default, self.sizes(), number, dtype=value.dtype, device=value.device)

    def constant(self, value: torch.Tensor) -> fx.Node:
        """A new constant."""
        self._owner.constants = None
        return self._owner.attribute(f"constants.value_{self.node.name}_{len(self._owner._attributes)}", value)

    def held(self, node: Any) -> torch.Tensor | None:
        """The constant that a node reads, or None."""
        return self._owner.held(node)
