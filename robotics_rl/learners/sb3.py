"""The engine ``sb3``: plain Stable-Baselines3 with this project's settings."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from robotics_rl import config
from robotics_rl.config import TrainSettings
from robotics_rl.entropy_options import AdaptiveEntropy, AutoEntropy, ScheduledEntropy
from robotics_rl.envs import Env, MakeEnv
from robotics_rl.envs.resumable_vec_env import ResumableVecEnv, make_vec_env
from robotics_rl.learners.diagnosis import Diagnosis

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC, "td3": TD3, "ddpg": DDPG}


def make_training_env(settings: TrainSettings, make_env: MakeEnv) -> ResumableVecEnv:
    """The environments of a training."""
    run = settings.run
    return make_vec_env(settings.env_id, run.n_envs, run.seed, make_env)


def make_model(settings: TrainSettings, env: Any, device: str) -> BaseAlgorithm:
    """The algorithm with fresh weights, drawn from the global random streams as they stand."""
    return ALGORITHMS[settings.algo](**arguments(settings, env, device))


def arguments(settings: TrainSettings, env: Any, device: str) -> dict[str, Any]:
    """What the algorithm's class is called with.

    No seed is handed over: Stable-Baselines3 would seed the environments with it as well.
    """
    values = settings.hyperparameters
    common: dict[str, Any] = {
        "policy": policy_name(env.observation_space),
        "env": env,
        "device": device,
        "policy_kwargs": policy_kwargs(settings.algo, values.net_arch),
        "learning_rate": values.learning_rate,
        "gamma": values.gamma,
        "batch_size": values.batch_size,
    }
    match values:
        case config.PPO():
            names = ("n_steps", "n_epochs", "clip_range", "gae_lambda", "ent_coef")
            return common | {name: getattr(values, name) for name in names}
        case config.SAC():
            return common | _off_policy(settings, values) | _entropy(settings, values)
        case config.TD3():
            n_actions = int(np.prod(env.action_space.shape or (0,)))
            noise = NormalActionNoise(np.zeros(n_actions), np.full(n_actions, values.action_noise))
            return common | _off_policy(settings, values) | {"action_noise": noise}
    raise TypeError(f"no algorithm for {values}")


def _off_policy(settings: TrainSettings, values: config.OffPolicy) -> dict[str, Any]:
    names = ("buffer_size", "learning_starts", "tau", "train_freq", "gradient_steps")
    chosen: dict[str, Any] = {name: getattr(values, name) for name in names}
    if settings.her:
        chosen |= {
            "replay_buffer_class": HerReplayBuffer,
            "replay_buffer_kwargs": {
                "n_sampled_goal": settings.her.n_sampled_goal,
                "goal_selection_strategy": settings.her.goal_selection_strategy,
            },
        }
    return chosen


def _entropy(settings: TrainSettings, values: config.SAC) -> dict[str, Any]:
    """The coefficient to begin with; ``robotics_rl.entropy`` moves it."""
    match settings.entropy:
        case AutoEntropy() as learned:
            return {"ent_coef": "auto", "target_entropy": learned.target_entropy}
        case ScheduledEntropy() as scheduled:
            return {"ent_coef": scheduled.ent_coef_max}
        case AdaptiveEntropy() as adaptive:
            return {"ent_coef": adaptive.start}
    return {"ent_coef": values.ent_coef}


def policy_kwargs(algo: str, net_arch: Sequence[int]) -> dict[str, Any]:
    """What the policy is built with, when training and when loading."""
    kwargs: dict[str, Any] = {"net_arch": list(net_arch)}
    if algo == "ddpg":
        kwargs["n_critics"] = 1  # its policy class is TD3's, which has two
    return kwargs


def policy_name(observation_space: spaces.Space[Any]) -> str:
    """What Stable-Baselines3 calls the policy for these observations."""
    return "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"


def gradient_steps(model: BaseAlgorithm) -> int:
    """Optimizer steps taken so far (PPO counts epochs; each holds several)."""
    assert isinstance(model, PPO | OffPolicyAlgorithm)
    minibatches = 1
    if isinstance(model, PPO):
        minibatches = math.ceil(model.n_steps * model.n_envs / model.batch_size)
    return int(model._n_updates) * minibatches


# What Stable-Baselines3 decides where the settings say nothing.
_DECIDED_BY_SB3 = (
    "vf_coef",
    "max_grad_norm",
    "normalize_advantage",
    "target_entropy",
    "policy_delay",
    "target_policy_noise",
    "target_noise_clip",
)


def hyperparameters(model: BaseAlgorithm) -> dict[str, Any]:
    """Everything in use that is not among the settings."""
    found = {name: getattr(model, name) for name in _DECIDED_BY_SB3 if hasattr(model, name)}
    policy: Any = model.policy
    activation = getattr(policy, "activation_fn", None) or policy.net_args["activation_fn"]
    return {**found, "activation": activation.__name__, "policy": type(policy).__name__}


def diagnose(model: BaseAlgorithm) -> Diagnosis | None:
    """The twin critics on a random batch; None without them, or with nothing to draw."""
    if not isinstance(model, SAC | TD3) or isinstance(model, DDPG):
        return None
    if model.num_timesteps <= model.learning_starts:
        return None
    assert model.replay_buffer is not None
    stream = np.random.get_state()  # training goes on as if nothing had been drawn
    batch: Any = model.replay_buffer.sample(model.batch_size)
    np.random.set_state(stream)
    with torch.no_grad():
        q1, q2 = model.critic(batch.observations, batch.actions)
    goals = batch.next_observations if isinstance(batch.next_observations, dict) else {}
    return Diagnosis(
        q1.squeeze(1),
        q2.squeeze(1),
        batch.rewards.squeeze(1),
        goals.get("achieved_goal"),
        goals.get("desired_goal"),
        entropy_coefficient(model) if isinstance(model, SAC) else None,
    )


def entropy_coefficient(model: SAC) -> torch.Tensor:
    """The α of SAC as it stands."""
    learned = model.log_ent_coef
    return model.ent_coef_tensor if learned is None else learned.detach().exp()


def transition_bytes(settings: TrainSettings, env: Env) -> int:
    """Bytes that one transition takes in the replay buffer."""
    space = env.observation_space
    parts: list[Any] = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    observation: int = sum(int(np.prod(part.shape)) * part.dtype.itemsize for part in parts)
    action = int(np.prod(env.action_space.shape or (0,))) * 4
    reward_done_timeout = 3 * 4
    # HER keeps two 8-byte episode indices, and an empty info dictionary with its pointer.
    episode = 16 + 72 if settings.her else 0
    return 2 * observation + action + reward_done_timeout + episode
