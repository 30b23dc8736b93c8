"""Checkpoints: plain Stable-Baselines3 loads what we save, and we load without running code."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from robotics_rl import tensors
from robotics_rl.artifacts import atomic_write, metadata_path, read_json, sha256_of, write_json
from robotics_rl.errors import UsageError
from robotics_rl.learners.sb3 import ALGORITHMS, policy_kwargs, policy_name
from robotics_rl.options import is_folder_name
from robotics_rl.schemas import Metadata, Training

# What a loading process must not need: this project, an environment, or a gigabyte of buffer. The
# values trained with stand in the metadata.
_NEUTRAL: dict[str, Any] = {
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "buffer_size": 1_000,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "_last_obs": None,
    "_last_original_obs": None,
    "_last_episode_starts": None,
    "_custom_logger": False,
}


def save(
    model: BaseAlgorithm,
    checkpoint: Path,
    describe: Callable[[str], Metadata],
    make_room: Callable[[], None],
) -> Metadata:
    """Write the checkpoint and its metadata; whoever sees the one sees the other complete.

    Args:
        model: any Stable-Baselines3 algorithm.
        checkpoint: path of the zip.
        describe: the metadata of a zip with this SHA-256.
        make_room: called when the zip is safely on disk, before it takes its place.
    """
    with atomic_write(checkpoint) as temporary:
        with _neutral(model), temporary.open("wb") as file:
            model.save(file)
        metadata = describe(sha256_of(temporary))
        make_room()
        write_json(metadata_path(checkpoint), metadata)
    return metadata


@contextmanager
def _neutral(model: BaseAlgorithm) -> Iterator[None]:
    trained_with = {name: getattr(model, name) for name in _NEUTRAL if hasattr(model, name)}
    for name in trained_with:
        setattr(model, name, _NEUTRAL[name])
    try:
        yield
    finally:
        for name, value in trained_with.items():
            setattr(model, name, value)


def read_metadata(checkpoint: Path) -> Metadata | None:
    """The metadata beside a checkpoint; None where there is none that can be used."""
    path = metadata_path(checkpoint)
    if not path.exists():
        return None
    document = read_json(path)
    if document.pop("schema", None) != Metadata.schema:
        return None
    try:
        metadata = Metadata(**{**document, "training": Training(**document["training"])})
    except (KeyError, TypeError):
        return None
    return metadata if _names_are_harmless(metadata) else None


def _names_are_harmless(metadata: Metadata) -> bool:
    """A stranger's metadata must not choose the folder that results are written to."""
    names = (metadata.run_tag or "x", metadata.chapter or "x", metadata.env_id)
    return type(metadata.seed) is int and all(is_folder_name(name) for name in names)


def inspect(checkpoint: Path, *, trust_pickle: bool = False) -> Metadata | None:
    """The metadata that the policy will be rebuilt from; None only with ``trust_pickle``.

    Raises:
        UsageError: the file is missing, truncated or foreign, or has no usable metadata.
    """
    if "policy.pth" not in _entries(checkpoint):
        raise UsageError(
            f"{checkpoint} holds no policy: it is truncated or foreign; "
            "copy it again, or give a Stable-Baselines3 checkpoint"
        )
    metadata = read_metadata(checkpoint)
    if metadata is None and not trust_pickle:
        raise UsageError(
            f"{checkpoint} has no usable {metadata_path(checkpoint).name} beside it (missing, or "
            "of another version of this project), so the policy cannot be rebuilt without "
            "unpickling, which runs code from the file; if you trust its author, "
            "add --trust-pickle"
        )
    return metadata


BuildPolicy = Callable[[Metadata, spaces.Space[Any], spaces.Space[Any]], BasePolicy]


@dataclass(frozen=True)
class Loaded:
    """A policy ready to act, and where it comes from."""

    policy: BasePolicy
    algo: str
    metadata: Metadata | None
    sha256: str
    warning: str | None


def load_policy(
    checkpoint: Path,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    algo: str = "auto",
    device: str = "cpu",
    trust_pickle: bool = False,
    build: BuildPolicy | None = None,
) -> Loaded:
    """Rebuild the policy from metadata and spaces, and load its tensors alone.

    A Stable-Baselines3 zip also holds pickled Python objects, and unpickling runs whatever code
    their author wished. They are not read here unless ``trust_pickle`` says so.

    Args:
        checkpoint: path of the zip.
        observation_space: of the environment that the policy is to act in.
        action_space: likewise.
        algo: algorithm, where nothing else says which.
        device: where it is to compute.
        trust_pickle: run the code inside a checkpoint that has no metadata.
        build: makes the policy; Stable-Baselines3's own where None.

    Raises:
        UsageError: the file is missing, truncated or foreign, has no usable metadata, fits
            other spaces, or comes from a training that diverged.
    """
    metadata = inspect(checkpoint, trust_pickle=trust_pickle)
    sha256 = sha256_of(checkpoint)
    if metadata is None:
        algo = _algorithm_in(checkpoint) if algo == "auto" else algo
        policy = _load_everything(checkpoint, algo, device)
        _require_spaces(policy, observation_space, action_space, checkpoint)
        return Loaded(policy, algo, None, sha256, None)
    if algo not in ("auto", metadata.algo):
        raise UsageError(f"{checkpoint} was trained with {metadata.algo}; leave out --algo {algo}")
    weights = _tensors(checkpoint, device)
    if tensors.have_diverged(weights.values()):
        raise UsageError(
            f"the training of {checkpoint} diverged: its weights are not numbers any more, or "
            "beyond all bounds; train again with a smaller --learning-rate"
        )
    policy = _rebuild(
        checkpoint, metadata, weights, observation_space, action_space, build or _build_policy
    ).to(device)
    policy.set_training_mode(False)
    warning = None
    if sha256 != metadata.checkpoint_sha256:
        warning = f"{checkpoint} is not the file that its metadata describes (SHA-256 differs)"
    return Loaded(policy, metadata.algo, metadata, sha256, warning)


def _entries(checkpoint: Path) -> list[str]:
    if not checkpoint.exists():
        raise UsageError(f"checkpoint {checkpoint} does not exist; train it first, or check --ckpt")
    if checkpoint.is_dir():
        raise UsageError(f"{checkpoint} is a folder; give --ckpt the path of a checkpoint's zip")
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise UsageError(
            f"{checkpoint} is truncated or not a checkpoint; copy it again or train it anew"
        ) from None


def _tensors(checkpoint: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            content = archive.read("policy.pth")
        loaded = tensors.load(io.BytesIO(content), device)
        if not (isinstance(loaded, dict) and all(map(torch.is_tensor, loaded.values()))):
            raise tensors.DamagedTensorsError("they are not tensors with a name each")
        return loaded
    except (zipfile.BadZipFile, tensors.DamagedTensorsError):
        raise UsageError(
            f"the tensors in {checkpoint} are damaged or are not plain tensors; "
            "it was not loaded, get a sound copy"
        ) from None


def _rebuild(
    checkpoint: Path,
    metadata: Metadata,
    weights: Mapping[str, Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    build: BuildPolicy,
) -> BasePolicy:
    other_spaces = UsageError(
        f"{checkpoint} was trained for other spaces than those of this environment "
        f"(it comes from {metadata.env_id}); give the --env it was trained on"
    )
    try:
        policy = build(metadata, observation_space, action_space)
    # Stable-Baselines3 has an error of its own for each kind of space that does not fit.
    except (RuntimeError, TypeError, AttributeError, AssertionError, NotImplementedError):
        raise other_spaces from None
    try:
        policy.load_state_dict(weights)
    except RuntimeError:
        if _n_inputs(weights) != _n_inputs(policy.state_dict()):
            raise other_spaces from None
        raise UsageError(
            f"{checkpoint} has other layers than {metadata_path(checkpoint).name} tells (net_arch "
            f"{metadata.hyperparameters['net_arch']}); get the two that one training wrote"
        ) from None
    return policy


def _n_inputs(weights: Mapping[str, Any]) -> int | None:
    """Of the first layer, which takes the observations."""
    layers = (part for part in weights.values() if torch.is_tensor(part) and part.ndim == 2)
    return next((layer.shape[1] for layer in layers), None)


def _build_policy(
    metadata: Metadata, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> BasePolicy:
    try:
        policy_class = ALGORITHMS[metadata.algo].policy_aliases[policy_name(observation_space)]
        kwargs = policy_kwargs(metadata.algo, metadata.hyperparameters["net_arch"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the metadata names no usable policy ({error}); write it again") from None
    # The learning rate only reaches the optimizer, which is not used here.
    return policy_class(observation_space, action_space, lambda _: 0.0, **kwargs)


def _algorithm_in(checkpoint: Path) -> str:
    """The algorithm, from the readable part of a foreign zip."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            module = json.loads(archive.read("data"))["policy_class"]["__module__"]
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
        module = ""
    for algo in ("ppo", "sac", "td3"):
        if f".{algo}." in module:
            return algo
    if module == "stable_baselines3.common.policies":  # PPO's policies are the shared ones
        return "ppo"
    raise UsageError(f"cannot tell which algorithm made {checkpoint}; name it with --algo")


def _load_everything(checkpoint: Path, algo: str, device: str) -> BasePolicy:
    if algo not in ALGORITHMS:
        raise UsageError(f"unknown --algo {algo!r}; choose one of: {', '.join(ALGORITHMS)}")
    loaded = ALGORITHMS[algo].load(
        checkpoint, device=device, custom_objects={**_NEUTRAL, "learning_rate": 0.0}
    )
    loaded.policy.set_training_mode(False)
    return loaded.policy


def _require_spaces(
    policy: BasePolicy, observation_space: Any, action_space: Any, checkpoint: Path
) -> None:
    if _shapes(policy.observation_space) != _shapes(observation_space) or _shapes(
        policy.action_space
    ) != _shapes(action_space):
        raise UsageError(
            f"{checkpoint} was trained for other spaces than those of this environment; "
            "give the --env it was trained on"
        )


def _shapes(space: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: part.shape for key, part in space.items()}
    return space.shape
