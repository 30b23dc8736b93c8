"""What the tests of the learners share: models of Push and of random batches, ours and SB3's.

Where a test compares with Stable-Baselines3, both draw the same noise from the same torch seed: our
updates ask for it in the same order, so nothing has to be patched.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from torch import Tensor

from robotics_rl.config import TrainSettings, resolve
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners.lean_sac import LeanSAC
from robotics_rl.learners.lean_td3 import LeanDDPG, LeanTD3
from robotics_rl.learners.overlapped import Overlapped
from robotics_rl.replay.episodes import Shape
from robotics_rl.replay.hindsight import Batch

PUSH = Shape(n_envs=2, horizon=50, observation=25, goal=3, action=4)
N_INPUTS = 31
BATCH_SIZE = 64
PAIRS: dict[str, tuple[type[BaseAlgorithm], type[Overlapped]]] = {
    "sac": (SAC, LeanSAC),
    "td3": (TD3, LeanTD3),
    "ddpg": (DDPG, LeanDDPG),
}
# Of plain SAC; a fixed coefficient is far from what "auto" begins with.
VARIANTS: dict[str, dict[str, Any]] = {
    "fixed": {"algo": "sac", "ent_coef": 0.2},
    "auto": {"algo": "sac", "ent_coef": "auto"},
    "td3": {"algo": "td3"},
    "ddpg": {"algo": "ddpg"},
}


def tiny(algo: str = "sac", *, her: bool = True, **given: Any) -> TrainSettings:
    """Settings of the engine that train in about a second."""
    defaults = {
        "n_envs": 2,
        "net_arch": (32, 32),
        "batch_size": BATCH_SIZE,
        "buffer_size": 2_000,
        "learning_starts": 100,
        "total_steps": 200,
        "device": "cpu",
        "track": "none",
        "progress": False,
        "engine": "fast",
    }
    return resolve(algo, "FetchPush-v4", defaults | given, her=her)


def entries(inputs: Tensor) -> dict[str, Tensor]:
    """Inputs taken apart, as Stable-Baselines3's policies take them."""
    parts = torch.split(inputs, [PUSH.goal, PUSH.goal, PUSH.observation], dim=1)
    return dict(zip(("achieved_goal", "desired_goal", "observation"), parts, strict=True))


class Batches:
    """Stands in for our replay: the same batches for whoever asks."""

    def __init__(self, batches: list[Batch]) -> None:
        self.store = SimpleNamespace(shape=PUSH)
        self._batches = iter(batches)

    def sample(self, batch_size: int) -> Batch:
        count, rest = divmod(batch_size, BATCH_SIZE)
        assert rest == 0
        # Ours draws several together, and takes every second or third row for each.
        parts = zip(*(vars(next(self._batches)).values() for _ in range(count)), strict=True)
        return Batch(*(np.stack(part, axis=1).reshape(-1, *part[0].shape[1:]) for part in parts))


class Sb3Batches(Batches):
    """Stands in for Stable-Baselines3's replay buffer."""

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:  # type: ignore[override]
        batch = super().sample(batch_size)
        rewards = torch.from_numpy(batch.rewards)[:, None]
        return DictReplayBufferSamples(
            observations=entries(torch.from_numpy(batch.inputs)),
            actions=torch.from_numpy(batch.actions),
            next_observations=entries(torch.from_numpy(batch.next_inputs)),
            dones=torch.zeros_like(rewards),
            rewards=rewards,
        )


def random_batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    normal, uniform = rng.standard_normal, rng.uniform
    return [
        Batch(
            inputs=normal((BATCH_SIZE, N_INPUTS), dtype=np.float32),
            actions=uniform(-1, 1, (BATCH_SIZE, PUSH.action)).astype(np.float32),
            rewards=-rng.integers(0, 2, BATCH_SIZE).astype(np.float32),
            next_inputs=normal((BATCH_SIZE, N_INPUTS), dtype=np.float32),
        )
        for _ in range(count)
    ]


def arguments(variant: str, env: FetchVecEnv) -> dict[str, Any]:
    """What Stable-Baselines3's class and ours are both called with."""
    return {
        "policy": "MultiInputPolicy",
        "env": env,
        "learning_rate": 1e-3,
        "gamma": 0.95,
        "tau": 0.05,
        "batch_size": BATCH_SIZE,
        "buffer_size": 1_000,
        "policy_kwargs": {"net_arch": [32, 32]},
        "device": "cpu",
        **{name: value for name, value in VARIANTS[variant].items() if name != "algo"},
    }


def build_lean(variant: str, env: FetchVecEnv, batches: list[Batch], **more: Any) -> Any:
    kind: Any = PAIRS[VARIANTS[variant]["algo"]][1]
    return kind(**arguments(variant, env), replay=Batches(batches), **more)


def build_pair(variant: str, env: FetchVecEnv, n_updates: int) -> tuple[Any, Any]:
    """Stable-Baselines3's model and ours, with equal weights that are all different."""
    batches = random_batches(n_updates)
    torch.manual_seed(0)
    kind: Any = PAIRS[VARIANTS[variant]["algo"]][0]
    theirs = kind(**arguments(variant, env))
    theirs.replay_buffer = Sb3Batches(batches)
    theirs.set_logger(Logger(None, []))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # targets apart from what they follow, so that taking one shows
        for part in theirs.policy.parameters():
            part += 0.1 * torch.randn(part.shape, generator=generator)
    _level(theirs.critic)
    _level(theirs.critic_target)
    ours = build_lean(variant, env, batches)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    return theirs, ours


def _level(critic: Any) -> None:
    """Shift the critics to a mean of 0, so that now the one is the least and now the other."""
    (batch,) = random_batches(1)
    with torch.no_grad():
        seen, actions = entries(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.actions)
        values = torch.cat(critic(seen, actions), dim=1)
        for network, mean in zip(critic.q_networks, values.mean(dim=0), strict=True):
            network[-1].bias -= mean
    least = (values - values.mean(dim=0)).argmin(dim=1)
    assert len(least.unique()) == len(critic.q_networks)


def train_noting(model: Any, n_updates: int, seed: int = 3) -> dict[str, list[float]]:
    """Train our model from a torch seed; what it notes of every update."""
    noted: dict[str, list[float]] = defaultdict(list)
    model.note = lambda name, value: noted[name].append(float(value.detach()))
    torch.manual_seed(seed)
    model.train(n_updates)
    return dict(noted)


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
