"""The engine ``fast``: batched Fetch environments, our replay, and leaner updates.

PPO is Stable-Baselines3's own, on the batched environments.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from robotics_rl import config, envs
from robotics_rl.config import TrainSettings
from robotics_rl.envs import Env, MakeEnv
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners import sb3
from robotics_rl.learners.diagnosis import Diagnosis
from robotics_rl.learners.lean_sac import LeanSAC, SACUpdate
from robotics_rl.learners.lean_td3 import LeanDDPG, LeanTD3
from robotics_rl.learners.overlapped import Overlapped
from robotics_rl.learners.vectors import FromVectors
from robotics_rl.provenance import usable_cores
from robotics_rl.replay.episodes import EpisodeStore, Shape
from robotics_rl.replay.hindsight import Hindsight, HindsightReplay

ALGORITHMS: dict[str, type[FromVectors]] = {"sac": LeanSAC, "td3": LeanTD3, "ddpg": LeanDDPG}


def make_training_env(settings: TrainSettings, make_env: MakeEnv) -> FetchVecEnv:
    """The environments of a training; they share one model, so nobody else can build them."""
    assert make_env is envs.make_env, "the engine fast builds its own environments"
    run = settings.run
    cores = usable_cores()
    if settings.fast and not settings.fast.deterministic_engine and cores > 1:
        cores -= 1  # the learner's, which works beside them
    return FetchVecEnv(settings.env_id, run.n_envs, run.seed, n_threads=min(cores, run.n_envs))


def make_model(settings: TrainSettings, env: FetchVecEnv, device: str) -> BaseAlgorithm:
    """The algorithm with fresh weights: those that Stable-Baselines3 would draw."""
    if settings.algo not in ALGORITHMS:
        return sb3.make_model(settings, env, device)
    fast = settings.fast
    assert fast is not None
    return ALGORITHMS[settings.algo](
        **sb3.arguments(dataclasses.replace(settings, her=None), env, device),
        replay=_make_replay(settings, env),
        random_action_prob=fast.random_action_prob,
        normalize_observations=fast.normalize_observations,
        synchronous=fast.deterministic_engine,
        bf16=fast.bf16,
        **({"policy_delay": fast.policy_delay} if isinstance(fast, config.FastSAC) else {}),
    )


def _make_replay(settings: TrainSettings, env: FetchVecEnv) -> HindsightReplay:
    values, horizon = settings.hyperparameters, env.batch.max_episode_steps
    assert isinstance(values, config.OffPolicy)
    shape = _shape(env.observation_space, env.action_space, env.num_envs, horizon)
    return HindsightReplay(
        EpisodeStore(values.buffer_size, shape), *drawing(settings, env.batch.task)
    )


def drawing(
    settings: TrainSettings, task: Any
) -> tuple[Callable[..., Any], float, np.random.Generator, Hindsight | None]:
    """How goals are drawn from a replay: what ``HindsightDraws`` takes beside its store."""
    her, hindsight = settings.her, None
    if her:
        assert isinstance(her, config.SelectiveHER)
        k = her.n_sampled_goal
        hindsight = Hindsight(her.goal_selection_strategy, k / (k + 1), her.trivial_goal_keep)
    # A stream of its own, apart from those of the environments.
    rng = np.random.default_rng([settings.run.seed, settings.run.n_envs])
    return task.compute_reward, task.distance_threshold, rng, hindsight


def _shape(observations: Any, actions: Any, n_envs: int, horizon: int) -> Shape:
    goal, observation = observations["desired_goal"].shape[0], observations["observation"].shape[0]
    return Shape(n_envs, horizon, observation, goal, actions.shape[0])


def transition_bytes(settings: TrainSettings, env: Env) -> int:
    """Bytes that one transition takes in the replay."""
    assert env.spec is not None
    assert env.spec.max_episode_steps is not None
    assert isinstance(env.observation_space, spaces.Dict)
    horizon, n_envs = env.spec.max_episode_steps, settings.run.n_envs
    return _shape(env.observation_space, env.action_space, n_envs, horizon).transition_bytes


def export(settings: TrainSettings, model: BaseAlgorithm) -> BaseAlgorithm:
    """The same policy as plain Stable-Baselines3 has it, for a checkpoint.

    The scaling of inputs goes into the first layers. Optimizers begin anew: whoever trains on from
    a checkpoint does so with other settings; training states hold the real ones.
    """
    if not isinstance(model, FromVectors):
        return model
    assert model.env is not None
    small = dataclasses.replace(settings.hyperparameters, buffer_size=1_000)  # type: ignore[call-arg]
    bare = dataclasses.replace(settings, her=None, hyperparameters=small)
    plain = plain_twin(model, lambda: sb3.make_model(bare, model.env, str(model.device)))
    if model.normalizer.enabled:
        model.normalizer.fold_into(plain.policy)
    return plain


def plain_twin(model: Overlapped, make: Callable[[], BaseAlgorithm]) -> BaseAlgorithm:
    """What Stable-Baselines3's class makes, with the weights and counters of a model of ours."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and thrown away
        plain = make()
    plain.policy.load_state_dict(model.policy.state_dict())
    for name in ("num_timesteps", "_n_updates", "_episode_num", "_total_timesteps"):
        setattr(plain, name, getattr(model, name))
    if isinstance(model, SACUpdate):
        assert isinstance(plain, SAC)
        if model.log_ent_coef is None:
            plain.ent_coef_tensor = model.ent_coef_tensor
        else:
            assert plain.log_ent_coef is not None
            plain.log_ent_coef.data.copy_(model.log_ent_coef)
    return plain


def diagnose(model: BaseAlgorithm) -> Diagnosis | None:
    """The twin critics on a random batch; None without them, or with nothing to draw."""
    if not isinstance(model, LeanSAC | LeanTD3) or isinstance(model, LeanDDPG):
        return None
    if model.num_timesteps <= model.learning_starts or not model.replay_buffer.ready:
        return None
    batch = model.replay_buffer.peek(model.batch_size)
    with torch.no_grad():
        q1, q2 = model.values(model.transitions(batch))
    n_goal = model.replay_buffer.store.shape.goal
    reached, rewards = torch.from_numpy(batch.next_inputs), torch.from_numpy(batch.rewards)
    achieved, desired = reached[:, :n_goal], reached[:, n_goal : 2 * n_goal]
    ent_coef = sb3.entropy_coefficient(model) if isinstance(model, SAC) else None
    return Diagnosis(q1, q2, rewards, achieved, desired, ent_coef)
