"""A weights file -> the model's parameters. Files are hostile: nothing is unpickled unless the user allows it."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserCodeError
from harness.loading import first_line

if TYPE_CHECKING:
    import torch

#: keys under which training scripts keep the state dict in a checkpoint
NESTED = ("state_dict", "model_state_dict", "model")


def load_weights(model: torch.nn.Module, path: Path, allow_pickle: bool) -> torch.nn.Module:
    """The model with the file's weights; with `allow_pickle`, the pickled module itself where the file holds one.

    Raises UserCodeError for a file that is missing, damaged, wants code to run, or does not fit."""
    import torch

    if not path.is_file():
        raise UserCodeError(f"weights {path} do not exist", "paths are relative to the YAML")
    found = _safetensors(path) if path.suffix == ".safetensors" else _torch(path, allow_pickle)
    if isinstance(found, torch.nn.Module):
        return found
    state = _state_dict(found)
    if state is None:
        raise UserCodeError(
            f"weights {path.name}: {type(found).__name__} is not a state dict", "save model.state_dict()"
        )
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UserCodeError(f"weights {path.name} do not fit the model: {'; '.join(lines) or error}") from error
    if missing or unexpected:
        raise UserCodeError(
            f"weights {path.name} do not fit the model: missing {_listed(missing)}, unexpected {_listed(unexpected)}",
            "the factory must build the very model that the weights were saved from",
        )
    return model


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"[{', '.join(names[:8])}{more}]"


def _state_dict(found: Any) -> dict[str, torch.Tensor] | None:
    import torch

    if isinstance(found, dict) and found:
        if all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items()):
            return dict(found)
        for key in NESTED:
            if isinstance(found.get(key), dict):
                return _state_dict(found[key])
    return None


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserCodeError(f"weights {path.name} cannot be read: {str(error)[:200]}") from error


def _torch(path: Path, allow_pickle: bool) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols: what matters is whether it loads
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen types for a damaged file
        if not allow_pickle:
            raise _refused(path, error) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)  # the user said `allow_pickle: true`
    except Exception as error:
        raise UserCodeError(
            f"weights {path.name} cannot be read: {first_line(error)}"
        ) from error


def _refused(path: Path, error: Exception) -> UserCodeError:
    with path.open("rb") as file:
        start = file.read(2)
    is_pickle = start == b"PK" or start[:1] == b"\x80"  # torch's zip with a pickle in it, or a bare pickle
    if is_pickle and isinstance(error, pickle.UnpicklingError):
        return UserCodeError(
            f"weights {path.name} hold more than tensors; loading them could run any code in the file",
            "save model.state_dict(), or, if you trust the file, set `allow_pickle: true` under `model:`",
        )
    return UserCodeError(
        f"weights {path.name} cannot be read: {first_line(error)}",
        "the file is damaged or not a torch file",
    )
