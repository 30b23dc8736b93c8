"""The state of an unfinished training: everything that a resumed run needs to go on exactly.

One file of tensors and plain values per state, written atomically and read with ``weights_only``.
"""

import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from robotics_rl import tensors
from robotics_rl.artifacts import atomic_write
from robotics_rl.errors import UsageError
from robotics_rl.learners.overlapped import Overlapped
from robotics_rl.replay.hindsight import HindsightDraws

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_learns_after")
_LAST = ("_last_obs", "_last_original_obs", "_last_episode_starts")


def capture(model: BaseAlgorithm) -> dict[str, Any]:
    """State of a model between two rollouts, its environments and all random streams.

    Nothing in it changes when training goes on, except the replay buffer's arrays, which are not
    copied: write it before the next step if there is one.
    """
    if isinstance(model, Overlapped):
        model.record_losses()  # else a resumed run would log others than one never stopped
    return {
        "parameters": _copied(model.get_parameters()),
        "log_ent_coef": _copied(getattr(model, "log_ent_coef", None)),
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "last": {name: _copied(getattr(model, name)) for name in _LAST},
        "episodes": [list(model.ep_info_buffer or ()), list(model.ep_success_buffer or ())],
        "logged": {key: float(value) for key, value in model.logger.name_to_value.items()},
        "random": _random_streams(),
        "env": model.env.state(),  # type: ignore[union-attr]
        "replay": _replay(model),
    }


def restore(model: BaseAlgorithm, state: dict[str, Any]) -> bool:
    """Put a freshly built model and its environments into a captured state.

    Returns:
        False where the environments could not be restored exactly and began new episodes.
    """
    model.set_parameters(state["parameters"], exact_match=True)
    if state["log_ent_coef"] is not None:
        model.log_ent_coef.data.copy_(state["log_ent_coef"])  # type: ignore[attr-defined]
    for name, value in (state["counters"] | state["last"]).items():
        setattr(model, name, value)
    exact: bool = model.env.restore(state["env"])  # type: ignore[union-attr]
    if not exact:
        model._last_obs = model.env.reset()  # type: ignore[union-attr, assignment]
    window = model._stats_window_size
    episodes, successes = state["episodes"]
    model.ep_info_buffer = deque(episodes, maxlen=window)
    model.ep_success_buffer = deque(successes, maxlen=window)
    for key, value in state["logged"].items():
        model.logger.record(key, value)
    if isinstance(model, Overlapped):
        _restore_draws(model, state["replay"])
    elif state["replay"] is not None:
        _restore_replay(model.replay_buffer, state["replay"])  # type: ignore[attr-defined]
    _restore_random_streams(state["random"])
    return exact


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state; a reader finds it whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(_tensors(state), file)
        except RuntimeError as error:  # torch's name for a write that failed
            raise OSError(str(error).splitlines()[0]) from error


def read(path: Path) -> dict[str, Any]:
    """Read a state back, without running code from the file.

    Raises:
        UsageError: the file is damaged.
    """
    stored = _load(path)
    state: dict[str, Any] = _arrays(stored)
    state["parameters"] = stored["parameters"]  # stays tensors
    state["log_ent_coef"] = stored["log_ent_coef"]
    return state


def identity(path: Path) -> dict[str, Any]:
    """Settings of the training that a state is of; the rest of the file is not read.

    Raises:
        UsageError: the file is damaged.
    """
    found: dict[str, Any] = _arrays(_load(path, mmap=True)["identity"])
    return found


def _load(path: Path, *, mmap: bool = False) -> Any:
    try:
        return tensors.load(path, mmap=mmap)
    except tensors.DamagedTensorsError as error:
        raise UsageError(
            f"the training state {path} cannot be read: it is damaged or cut short; "
            "start again without --resume"
        ) from error


def _replay(model: BaseAlgorithm) -> dict[str, Any] | None:
    buffer: ReplayBuffer | HindsightDraws | None = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    if isinstance(buffer, HindsightDraws):
        return buffer.state()
    used = buffer.size()
    arrays = {
        name: {key: array[:used] for key, array in value.items()}
        if isinstance(value, dict)
        else value[: used if len(value) == buffer.buffer_size else None]
        for name, value in _stored(buffer)
    }
    return {"pos": buffer.pos, "full": buffer.full, "arrays": arrays}


def _restore_draws(model: Overlapped, state: dict[str, Any]) -> None:
    """Go on with the replay; what it kept in memory alone may have been too large to save."""
    lost = model.replay_buffer.restore(state)
    if lost:
        model.refill()
        print(f"WARN: {lost:,} transitions of the replay are lost; it refills before learning")


def _restore_replay(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    buffer.pos, buffer.full = state["pos"], state["full"]
    for name, value in _stored(buffer):
        saved = state["arrays"][name]
        pairs = [(value[key], saved[key]) for key in saved] if isinstance(value, dict) else None
        for array, rows in pairs or [(value, saved)]:
            array[: len(rows)] = rows


def _stored(buffer: ReplayBuffer) -> list[tuple[str, Any]]:
    """The arrays of a buffer, dictionaries of arrays included; info objects are not used by HER."""
    return [
        (name, value)
        for name, value in vars(buffer).items()
        if (
            isinstance(value, dict)
            and value
            and all(isinstance(item, np.ndarray) for item in value.values())
        )
        or (isinstance(value, np.ndarray) and value.dtype != object)
    ]


def _random_streams() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys, position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_streams(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(torch.as_tensor(state["torch"]))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.as_tensor(stream) for stream in state["cuda"]])


def _copied(value: Any) -> Any:
    """Deep copy of nested dictionaries, lists, tensors and arrays."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _tensors(value: Any) -> Any:
    """Arrays and numpy scalars as what ``torch.load(weights_only=True)`` accepts."""
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_tensors(item) for item in value)
    if isinstance(value, np.ndarray):
        # uint32 keys of the Mersenne Twister have no tensor operations, but int64 holds them.
        return torch.as_tensor(value.astype(np.int64) if value.dtype == np.uint32 else value)
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value: Any) -> Any:
    """Counterpart of ``_tensors``."""
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays(item) for item in value)
    return value.numpy() if isinstance(value, torch.Tensor) else value
