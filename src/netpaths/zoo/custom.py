"""A user's own model: ``FILE.py:FUNCTION``, a function that returns an ``nn.Module`` and may import files beside it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from netpaths.errors import BadOption


def load_custom(name: str) -> nn.Module:
    """The model that ``FILE.py:FUNCTION`` returns; raises BadOption when there is no such function."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise BadOption(f"there is no file {path} (model {name!r}; expected FILE.py:FUNCTION)")
    make = getattr(_execute(path), function, None)
    if not callable(make):
        raise BadOption(f"{path} has no function {function!r}; expected FILE.py:FUNCTION")
    try:
        model = make()
    except Exception as error:
        raise BadOption(f"{function}() in {path} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise BadOption(f"{function}() in {path} returned {type(model).__name__}, expected a torch.nn.Module")
    return model


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadOption(f"{path} is not a Python file; expected FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    beside = str(path.resolve().parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadOption(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(beside)
    return module
