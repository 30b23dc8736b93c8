"""DDPG + HER from scratch (book chapter 5): learn to reach goals from almost nothing but failures.

A point mass is to stop at a goal and is told only whether it is there. `--verify` checks the parts
one by one, `--demo` trains with and without hindsight, `--compare-sb3` asks Stable-Baselines3 to do
the same, `--hyperparameters` explains every setting.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Obs = dict[str, Floats]
Info = dict[str, float]
RewardFn = Callable[[Floats, Floats, Any], Any]

ENV_ID = "PointReach-v0"
FIGURE = Path("figures/ddpg_her_demo.png")
PACKAGES = ("gymnasium", "numpy", "torch")


# --8<-- [start:settings]
def setting(default: Any, meaning: str) -> Any:
    """A field of a dataclass with its meaning, which `--hyperparameters` prints."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class DDPGConfig:
    """How the networks learn."""

    gamma: float = setting(0.98, "discount; the worst value is -1 / (1 - gamma) = -50")
    tau: float = setting(0.01, "share of the networks that enters their targets per update")
    actor_lr: float = setting(1e-3, "step size of Adam for the actor")
    critic_lr: float = setting(1e-3, "step size of Adam for the critic")
    hidden_dim: int = setting(64, "units in each of the two hidden layers")
    action_l2: float = setting(0.1, "price of large actions, keeps tanh out of saturation")


@dataclass(frozen=True)
class HERConfig:
    """What is replayed."""

    k: int = setting(4, "hindsight goals per original one; 0 switches hindsight off")
    strategy: str = setting("future", "where new goals come from: future, final or episode")
    capacity: int = setting(1000, "episodes kept; then the oldest is overwritten")


@dataclass(frozen=True)
class TrainConfig:
    """How long, and how to explore."""

    seed: int = setting(0, "of networks, goals, exploration and replay")
    episodes: int = setting(150, "training episodes of 50 steps")
    updates_per_episode: int = setting(40, "gradient steps after each episode")
    batch_size: int = setting(128, "transitions per gradient step")
    noise_std: float = setting(0.2, "standard deviation of the noise on actions")
    random_share: float = setting(0.3, "share of actions that are drawn uniformly instead")
    eval_every: int = setting(20, "training episodes between two evaluations")
    eval_episodes: int = setting(50, "noise-free episodes per evaluation, each on a fresh seed")
    ddpg: DDPGConfig = DDPGConfig()
    her: HERConfig = HERConfig()


# --8<-- [end:settings]


# --8<-- [start:point_reach_env]
class PointReachGoalEnv(gym.Env[Obs, Floats]):
    """A point mass in a square with walls: accelerate to the goal and be there, at rest or not.

    observation (4,): position and velocity; achieved_goal (2,): position; desired_goal (2,).
    """

    def __init__(
        self,
        max_steps: int = 50,
        dt: float = 0.05,
        goal_range: float = 1.0,
        max_speed: float = 1.0,
        distance_threshold: float = 0.05,
        action_scale: float = 10.0,
        seed: int | None = None,
    ) -> None:
        self.max_steps, self.dt, self.goal_range = max_steps, dt, goal_range
        self.max_speed, self.distance_threshold = max_speed, distance_threshold
        self.action_scale = action_scale
        square = spaces.Box(-goal_range, goal_range, (2,), np.float64)
        high = np.repeat([goal_range, max_speed], 2)
        parts = {"observation": spaces.Box(-high, high, dtype=np.float64)}
        parts |= {"achieved_goal": square, "desired_goal": square}
        self.observation_space: Any = spaces.Dict({**parts})
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.position, self.velocity, self.goal = np.zeros(2), np.zeros(2), np.zeros(2)
        self.steps = 0
        super().reset(seed=seed)  # resets that name no seed go on from this one

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Obs, dict[str, Any]]:
        """Start at rest in the middle, with a goal from anywhere in the square."""
        super().reset(seed=seed)
        self.position, self.velocity, self.steps = np.zeros(2), np.zeros(2), 0
        self.goal = self.np_random.uniform(-self.goal_range, self.goal_range, 2)
        return self.observe(), {}

    def step(self, action: Floats) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Accelerate by action (2,), clipped to ±1, for a time of dt."""
        acceleration = self.action_scale * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        velocity = self.velocity + acceleration * self.dt
        velocity *= self.max_speed / max(self.max_speed, float(np.hypot(*velocity)))
        moved = self.position + velocity * self.dt
        self.position = np.clip(moved, -self.goal_range, self.goal_range)
        self.velocity = np.where(moved == self.position, velocity, 0.0)  # walls do not bounce
        self.steps += 1
        obs = self.observe()
        achieved, desired = obs["achieved_goal"], obs["desired_goal"]
        reward = float(self.compute_reward(achieved, desired, {}))
        info: dict[str, Any] = {"is_success": reward == 0.0}
        ends = self.compute_terminated(achieved, desired, info)
        return obs, reward, ends, self.compute_truncated(achieved, desired, info), info

    def observe(self) -> Obs:
        """The observation as copies."""
        state = np.concatenate([self.position, self.velocity])
        achieved, desired = state[:2].copy(), self.goal.copy()
        return {"observation": state, "achieved_goal": achieved, "desired_goal": desired}

    def compute_reward(self, achieved_goal: Floats, desired_goal: Floats, info: Any) -> Any:
        """0 at the goal, -1 elsewhere, (...,) for goals of shape (..., 2)."""
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return (distance <= self.distance_threshold) - 1.0

    def compute_terminated(self, achieved_goal: Floats, desired_goal: Floats, info: Any) -> bool:
        """Never: having reached the goal, it has to stay there."""
        return False

    def compute_truncated(self, achieved_goal: Floats, desired_goal: Floats, info: Any) -> bool:
        """Whether the time is up, which is no property of the state."""
        return self.steps >= self.max_steps


gym.registry.pop(ENV_ID, None)  # this module may be loaded twice; the last one counts
gym.register(ENV_ID, cast(Any, PointReachGoalEnv))
# --8<-- [end:point_reach_env]


# --8<-- [start:replay_buffer]
class Episode(NamedTuple):
    """T steps: observation (T+1, obs_dim), achieved (T+1, 2), desired (2,), action (T, act_dim).

    reward (T,) is for the desired goal; done (T,) is 1 after a termination, not at the time limit.
    """

    observation: Floats
    achieved: Floats
    desired: Floats
    action: Floats
    reward: Floats
    done: Floats


class Batch(NamedTuple):
    """state, next_state (B, obs_dim + 2); action (B, act_dim); reward, done (B,)."""

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    done: Tensor


class HindsightReplayBuffer:
    """Whole episodes of equal length; goals are replaced when a batch is drawn."""

    def __init__(self, config: HERConfig, compute_reward_fn: RewardFn) -> None:
        self.config, self.compute_reward_fn = config, compute_reward_fn
        self.parts: dict[str, Floats] = {}  # of Episode, with an axis of episodes in front
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.config.capacity)

    def add(self, episode: Episode) -> None:
        """Keep an episode, in place of the oldest one if the buffer is full."""
        for name, part in episode._asdict().items():
            empty = np.zeros((self.config.capacity, *part.shape))
            self.parts.setdefault(name, empty)[self.added % self.config.capacity] = part
        self.added += 1

    def outcomes(self, step: Ints, horizon: int, rng: np.random.Generator) -> Ints:
        """After which step (B,) of the same episode the new goals of steps (B,) were achieved."""
        if self.config.strategy == "final":
            return np.full_like(step, horizon - 1)
        if self.config.strategy == "episode":
            return rng.integers(0, horizon, size=len(step))
        return rng.integers(step, horizon)  # future; the step's own outcome is one of them

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draw steps uniformly; of k + 1 goals, k are hindsight goals on average."""
        parts, horizon, k = Episode(**self.parts), self.parts["action"].shape[1], self.config.k
        episode = rng.integers(len(self), size=batch_size)
        step = rng.integers(horizon, size=batch_size)
        relabel = rng.random(batch_size) < k / (k + 1)
        outcome = self.outcomes(step, horizon, rng)
        hindsight = parts.achieved[episode, outcome + 1]  # (B, 2): after that step
        goal = np.where(relabel[:, None], hindsight, parts.desired[episode])
        reward = self.compute_reward_fn(parts.achieved[episode, step + 1], goal, {})
        state = np.concatenate([parts.observation[episode, step], goal], axis=1)
        next_state = np.concatenate([parts.observation[episode, step + 1], goal], axis=1)
        arrays = state, parts.action[episode, step], reward, next_state, parts.done[episode, step]
        return Batch(*(torch.as_tensor(array, dtype=torch.float32) for array in arrays))


# --8<-- [end:replay_buffer]


# --8<-- [start:networks]
def mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Two hidden layers with ReLU."""
    first, second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden_dim, output_dim))


class Actor(nn.Module):
    """Deterministic policy: what to do, given an observation and a goal."""

    def __init__(self, state_dim: int, action_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.net = mlp(state_dim, hidden_dim, action_dim)

    def forward(self, state: Tensor) -> Tensor:
        """state: (B, state_dim) -> actions within ±1: (B, action_dim)."""
        return torch.tanh(self.net(state))


class Critic(nn.Module):
    """Q: minus the discounted number of steps not spent at the goal."""

    def __init__(self, state_dim: int, action_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.net = mlp(state_dim + action_dim, hidden_dim, 1)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """state: (B, state_dim), action: (B, action_dim) -> values: (B,)."""
        values: Tensor = self.net(torch.cat([state, action], dim=-1)).squeeze(-1)
        return values


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move target, by tau of the way, to online: target <- (1 - tau) target + tau online."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast, tau)


# --8<-- [end:networks]


# --8<-- [start:ddpg_agent]
class DDPGAgent:
    """An actor, a critic, slow copies of both, and their update."""

    def __init__(
        self, state_dim: int, action_dim: int, config: DDPGConfig, device: str = "cpu"
    ) -> None:
        self.config, self.device = config, device
        self.actor = Actor(state_dim, action_dim, config.hidden_dim).to(device)
        self.critic = Critic(state_dim, action_dim, config.hidden_dim).to(device)
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critic = copy.deepcopy(self.critic)
        adam = torch.optim.Adam
        self.actor_optimizer = adam(self.actor.parameters(), config.actor_lr, fused=True)
        self.critic_optimizer = adam(self.critic.parameters(), config.critic_lr, fused=True)

    @torch.no_grad()
    def act(self, state: Floats, rng: np.random.Generator, noise_std: float = 0.0) -> Floats:
        """state: (..., state_dim) -> actions (..., action_dim), with noise, within ±1."""
        action: Tensor = self.actor(torch.as_tensor(state, dtype=torch.float32, device=self.device))
        noise = noise_std * rng.standard_normal(action.shape)
        return np.clip(action.cpu().numpy() + noise, -1.0, 1.0).astype(np.float32)

    @torch.no_grad()
    def bellman_target(self, batch: Batch) -> Tensor:
        """Clip r + gamma (1 - done) Q'(s', mu'(s')), (B,), to the values that can occur."""
        next_q: Tensor = self.target_critic(batch.next_state, self.target_actor(batch.next_state))
        target = batch.reward + self.config.gamma * (1.0 - batch.done) * next_q
        return target.clamp(-1.0 / (1.0 - self.config.gamma), 0.0)

    def update_critic(self, batch: Batch) -> tuple[float, float]:
        """One step of the critic towards the target; return the loss and the mean Q."""
        q = self.critic(batch.state, batch.action)
        loss: Any = nn.functional.mse_loss(q, self.bellman_target(batch))
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return loss.item(), q.mean().item()

    def update_actor(self, state: Tensor) -> float:
        """One step of the actor, state (B, state_dim), towards actions of higher value."""
        action = self.actor(state)
        price = self.config.action_l2 * action.square().mean()
        loss = -self.critic(state, action).mean() + price
        self.actor_optimizer.zero_grad()
        loss.backward()  # also reaches the critic, whose gradient is cleared before its step
        self.actor_optimizer.step()
        return float(loss.item())

    def update(self, batch: Batch) -> Info:
        """One gradient step each, then the targets follow."""
        batch = Batch(*(part.to(self.device) for part in batch))
        critic_loss, q_mean = self.update_critic(batch)
        actor_loss = self.update_actor(batch.state)
        soft_update(self.target_critic, self.critic, self.config.tau)
        soft_update(self.target_actor, self.actor, self.config.tau)
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "q_mean": q_mean}


# --8<-- [end:ddpg_agent]


# --8<-- [start:training_loop]
def policy_input(obs: Obs) -> Floats:
    """What the networks see: observation and desired goal, (..., obs_dim + 2)."""
    return np.concatenate([obs["observation"], obs["desired_goal"]], axis=-1)


def collect_episode(
    env: PointReachGoalEnv, agent: DDPGAgent, config: TrainConfig, rng: np.random.Generator
) -> Episode:
    """Play one episode with exploration."""
    obs, _ = env.reset()
    seen, steps, over = [obs], [], False
    while not over:
        action = agent.act(policy_input(obs), rng, config.noise_std)
        if rng.random() < config.random_share:
            action = rng.uniform(-1.0, 1.0, action.shape)
        obs, reward, terminated, truncated, _ = env.step(action)
        seen.append(obs)
        steps.append((action, reward, terminated))  # the time limit does not count as done
        over = terminated or truncated
    observation = np.array([each["observation"] for each in seen])
    achieved = np.array([each["achieved_goal"] for each in seen])
    actions, rewards, dones = (np.array(part, np.float64) for part in zip(*steps, strict=True))
    return Episode(observation, achieved, obs["desired_goal"], actions, rewards, dones)


def evaluate(policy: Callable[[Obs], Floats], n_episodes: int, first_seed: int) -> float:
    """Share of episodes that end at their goal, all played side by side, each on its own seed."""
    envs = [PointReachGoalEnv(seed=first_seed + i) for i in range(n_episodes)]
    seen = [env.reset()[0] for env in envs]
    while True:
        actions = policy({key: np.array([obs[key] for obs in seen]) for key in seen[0]})
        steps = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        seen = [step[0] for step in steps]
        if steps[0][3]:  # truncated, as are all the others
            return float(np.mean([step[4]["is_success"] for step in steps]))


class Result(NamedTuple):
    """Per episode: returns, critic_loss, actor_loss, q_mean; per evaluation: at, success."""

    agent: DDPGAgent
    curves: dict[str, list[float]]
    seconds: float


def train(config: TrainConfig) -> Result:
    """Play an episode, replay it with hindsight, and so on."""
    start, rng = time.perf_counter(), np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    env = PointReachGoalEnv(seed=config.seed)
    agent = DDPGAgent(6, 2, config.ddpg)
    buffer = HindsightReplayBuffer(config.her, env.compute_reward)
    curves: dict[str, list[float]] = {"at": [], "success": []}
    for n in range(1, config.episodes + 1):
        episode = collect_episode(env, agent, config, rng)
        buffer.add(episode)
        batches = (buffer.sample(config.batch_size, rng) for _ in range(config.updates_per_episode))
        infos = [agent.update(batch) for batch in batches]
        row = {name: float(np.mean([info[name] for info in infos])) for name in infos[0]}
        for name, value in {"returns": float(episode.reward.sum()), **row}.items():
            curves.setdefault(name, []).append(value)
        if n % config.eval_every == 0 or n == config.episodes:
            fresh = 1_000_000 * (config.seed + 1) + 1000 * n  # no seed is used twice
            curves["at"].append(n)
            calm = np.random.default_rng(0)  # so that looking does not change what is drawn later
            policy = lambda obs: agent.act(policy_input(obs), calm)  # noqa: B023, E731
            curves["success"].append(evaluate(policy, config.eval_episodes, fresh))
    return Result(agent, curves, time.perf_counter() - start)


# --8<-- [end:training_loop]


Rows = list[tuple[str, float, float, float]]  # what, measured, lowest and highest allowed


def judge(claim: str, rows: Rows) -> bool:
    """Print what was measured, the bounds it was held to, and the verdict on the claim."""
    for what, measured, low, high in rows:
        bound = f"{low:g}" if low == high else f"{low:.4g} to {high:.4g}"
        print(f"  {what}: {measured:.4g} (bound: {bound})")
    passed = all(low <= measured <= high for _, measured, low, high in rows)
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def gap(first: Any, second: Any) -> float:
    """Largest absolute difference."""
    return float((torch.as_tensor(first) - torch.as_tensor(second)).abs().max())


def weights(network: nn.Module) -> Tensor:
    """All parameters in a row, (P,)."""
    return nn.utils.parameters_to_vector(network.parameters()).detach()


def check_environment(seed: int) -> bool:
    """Gymnasium accepts it; it moves, stops and rewards as by hand."""
    made: Any = gym.make(ENV_ID)
    check_env(made.unwrapped, skip_render_check=True)
    env, twin = PointReachGoalEnv(seed=seed), PointReachGoalEnv()
    goals = gap(env.reset()[0]["desired_goal"], twin.reset(seed=seed)[0]["desired_goal"])
    path = [env.step(np.array([1.0, -0.5]))[0]["observation"] for _ in range(2)]
    # v = 0.05 * 10 * a = (0.5, -0.25), then (1, -0.5), which is slowed down to a speed of 1.
    slowed = np.array([1.0, -0.5]) / np.sqrt(1.25)
    second = [0.025 + 0.05 * slowed[0], -0.0125 + 0.05 * slowed[1], *slowed]
    ends = [env.step(np.array([9.0, 9.0]))[1:4] for _ in range(48)]
    corner = gap(env.observe()["observation"], np.array([1.0, 1.0, 0.0, 0.0]))
    edge = np.array([[0.05, 0.0], [np.nextafter(0.05, 1.0), 0.0]])
    achieved, desired = np.random.default_rng(seed).uniform(-0.1, 0.1, (2, 500, 2))
    reward, alone = env.compute_reward, [*zip(achieved, desired, strict=True)]
    singly = np.array([reward(a, d, {}) for a, d in alone])
    rows: Rows = [
        ("goals of the same seed, difference", goals, 0, 0),
        ("first step, difference", gap(path[0], np.array([0.025, -0.0125, 0.5, -0.25])), 0, 1e-12),
        ("second step, difference", gap(path[1], np.array(second)), 0, 1e-12),
        ("at rest in the corner, difference", corner, 0, 0),
        ("terminations", sum(end[1] for end in ends), 0, 0),
        ("truncations in 50 steps", sum(end[2] for end in ends), 1, 1),
        ("truncated after step 50", ends[-1][2], 1, 1),
        ("reward 5 cm away", float(reward(edge * 0, edge, {})[0]), 0, 0),
        ("reward a float64 further", float(reward(edge * 0, edge, {})[1]), -1, -1),
        ("rewards together and singly", gap(reward(achieved, desired, {}), singly), 0, 0),
    ]
    return judge("environment: a GoalEnv that moves and rewards as by hand", rows)


def coded_batch(config: HERConfig, n_draws: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Draws from episodes n = 3, ..., 42 that are at (n, t) at time t and should be at (-1, n).

    Returns state (B, 4), next_state (B, 4) and reward (B,).
    """
    buffer = HindsightReplayBuffer(replace(config, capacity=40), PointReachGoalEnv().compute_reward)
    for n in range(43):  # three more than fit
        place = np.stack([np.full(51, float(n)), np.arange(51.0)], axis=1)
        minus, zeros = np.full(50, -1.0), np.zeros(50)
        buffer.add(Episode(place, place, np.array([-1.0, n]), place[:-1], minus, zeros))
    batch = buffer.sample(n_draws, np.random.default_rng(seed))
    return batch.state.numpy(), batch.next_state.numpy(), batch.reward.numpy()


def check_replay(seed: int) -> bool:
    """New goals come from the right times of the same episode, as often as they should."""
    rows: Rows = []
    for strategy, k in (("future", 4), ("final", 4), ("episode", 1), ("future", 0)):
        state, after, reward = coded_batch(HERConfig(k, strategy), 20_000, seed)
        n, t, goal = state[:, 0], state[:, 1], state[:, 2:]
        new, own = goal[:, 0] >= 0, np.stack([np.full_like(n, -1.0), n], axis=1)
        wrong = np.any(after - state != [0.0, 1.0, 0.0, 0.0], axis=1) | (n < 3)
        wrong |= np.where(new, goal[:, 0] != n, np.any(goal != own, axis=1))
        wrong |= reward != -np.any(goal != after[:, :2], axis=1).astype(float)
        name, share = f"{strategy}, k = {k}", k / (k + 1)
        slack = 4 * np.sqrt(share * (1 - share) / len(n))  # four standard deviations, as below
        rows.append((f"{name}: wrong transitions", int(wrong.sum()), 0, 0))
        rows.append((f"{name}: share of new goals", new.mean(), share - slack, share + slack))
        if not k:
            continue
        when, first = goal[new, 1].astype(float), t[new].astype(float) + 1
        first = {"future": first, "final": 0 * first + 50, "episode": 0 * first + 1}[strategy]
        mean, slack = (first + 50).mean() / 2, 4 * np.sqrt(np.sum(((51 - first) ** 2 - 1) / 12))
        slack /= len(first)  # uniform from first to 50
        rows.append((f"{name}: goals from before that", int(np.sum(when < first)), 0, 0))
        rows.append((f"{name}: mean time of the goals", when.mean(), mean - slack, mean + slack))
    return judge("replay: hindsight goals, their rewards and their share", rows)


def random_batch(seed: int) -> Batch:
    """64 transitions that mean nothing."""
    draw = torch.Generator().manual_seed(seed)
    state, after, action = (torch.rand(64, n, generator=draw) * 2 - 1 for n in (6, 6, 2))
    return Batch(state, action, -torch.ones(64), after, torch.zeros(64))


def check_target(seed: int) -> bool:
    """The Bellman target by hand, from the slow networks and without a gradient."""
    agent = DDPGAgent(6, 2, DDPGConfig(gamma=0.98))
    gradient = agent.bellman_target(random_batch(seed)).requires_grad
    stand_ins: dict[str, Any] = {"target_actor": lambda s: s[:, 1:3]}
    stand_ins["target_critic"] = lambda s, a: a[:, 0]  # Q'(s', mu'(s')) = s'[1]
    vars(agent).update(stand_ins)
    after = torch.tensor([-10.0, -10.0, -100.0, 5.0])[:, None].expand(4, 6)
    reward, done = torch.tensor([-1.0, -1.0, -1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    target = agent.bellman_target(Batch(after, after[:, :2], reward, after, done)).tolist()
    rows: Rows = [
        ("-1 + 0.98 (-10)", target[0], -10.80001, -10.79999),
        ("-1, terminated", target[1], -1, -1),
        ("-1 + 0.98 (-100), clipped", target[2], -50.00001, -49.99999),
        ("0 + 0.98 (+5), clipped", target[3], 0, 0),
        ("carries a gradient", gradient, 0, 0),
    ]
    return judge("target: r + gamma (1 - done) Q'(s', mu'(s')) from the targets, clipped", rows)


def check_update(seed: int) -> bool:
    """An update moves the networks, the targets by tau of the way, and mixes no gradients."""
    torch.manual_seed(seed)
    before, batch = DDPGAgent(6, 2, DDPGConfig(tau=0.01)), random_batch(seed)
    after, mixed, pure = (copy.deepcopy(before) for _ in range(3))
    loss, q = after.update(batch)["critic_loss"], before.critic(batch.state, batch.action)
    by_hand = (q - before.bellman_target(batch)).square().mean().item()
    rows: Rows = [("critic loss, difference", gap(loss, by_hand), 0, 1e-6)]
    for name in ("actor", "critic"):
        start, online = weights(getattr(before, name)), weights(getattr(after, name))
        target = weights(getattr(after, f"target_{name}"))
        rows.append((f"{name}, largest step", gap(online, start), 1e-4, 2e-3))
        rows.append((f"{name}'s target, error", gap(target, 0.99 * start + 0.01 * online), 0, 1e-7))
    mixed.update_actor(batch.state)
    moved = gap(weights(mixed.critic), weights(before.critic))
    for agent in (mixed, pure):
        agent.update_critic(batch)
    rows.append(("critic moved by the actor's step", moved, 0, 0))
    stale = gap(weights(mixed.critic), weights(pure.critic))
    rows.append(("critic moved by the actor's gradient", stale, 0, 0))
    for _ in range(50):
        last = pure.update_critic(batch)[0]
    rows.append(("critic loss, last to first of 50", last / loss, 0, 0.5))
    return judge("update: a step for each network, tau of the way for each target", rows)


def check_actor(seed: int) -> bool:
    """The actor finds the action that a known critic values most; noise is as large as said."""
    torch.manual_seed(seed)
    agent, state = DDPGAgent(6, 2, DDPGConfig(action_l2=0.0)), random_batch(seed).state
    stand_in: Any = lambda s, a: -(a - 0.5 * s[:, :2]).square().sum(-1)  # noqa: E731
    agent.critic = stand_in
    rng, best = np.random.default_rng(seed), 0.5 * state[:, :2].numpy()
    start = np.abs(agent.act(state.numpy(), rng) - best).mean()
    for _ in range(300):
        agent.update_actor(state)
    actions = agent.act(state.numpy(), rng)
    noise = agent.act(np.repeat(state.numpy(), 100, 0), rng, 0.1) - np.repeat(actions, 100, 0)
    wild = agent.act(state.numpy(), rng, 9.0)
    rows: Rows = [
        ("distance from the best action, before", start, 0.1, 1),
        ("after 300 steps", np.abs(actions - best).mean(), 0, 0.05),
        ("standard deviation of noise of 0.1", noise.std(), 0.096, 0.104),
        ("largest action with noise of 9", np.abs(wild).max(), 1, 1),
    ]
    return judge("actor: climbs to the action of the highest value", rows)


def check_time_limit(seed: int) -> bool:
    """Being out of time is not done, and a termination is."""
    agent, rng = DDPGAgent(6, 2, DDPGConfig()), np.random.default_rng(seed)
    env: Any = PointReachGoalEnv(seed=seed)
    config = TrainConfig(noise_std=0.0, random_share=0.0)
    late = collect_episode(env, agent, config, rng)
    env.compute_terminated = lambda achieved, desired, info: env.steps == 50
    failed = collect_episode(env, agent, config, rng)
    expected = agent.act(np.append(late.observation[7], late.desired), rng)
    rows: Rows = [
        ("steps", len(late.action), 50, 50),
        ("done at the time limit", late.done.sum(), 0, 0),
        ("done after a termination", failed.done[-1], 1, 1),
        ("action that is not the actor's", gap(late.action[7], expected), 0, 1e-6),
    ]
    return judge("time limit: a truncation, after which the value goes on", rows)


def check_training(seed: int) -> bool:
    """A few episodes: the seed decides all, and values stay possible."""
    config = TrainConfig(seed=seed, episodes=6, updates_per_episode=10, eval_every=3)
    runs = [train(replace(config, seed=s, eval_episodes=4)).curves for s in (seed, seed, seed + 1)]
    rows: Rows = [
        ("same seed, difference", max(gap(runs[0][key], runs[1][key]) for key in runs[0]), 0, 0),
        ("other seed, difference of Q", gap(runs[0]["q_mean"], runs[2]["q_mean"]), 1e-6, 50),
        ("evaluations", len(runs[0]["success"]), 2, 2),
        ("lowest mean Q", min(runs[0]["q_mean"]), -50, 0.5),
    ]
    return judge("training: reproducible, with values that can occur", rows)


CHECKS = [check_environment, check_replay, check_target, check_update, check_actor]
CHECKS += [check_time_limit, check_training]


def finish(passed: list[bool], last_line: str) -> int:
    """Print the last line and return the exit code."""
    failed = passed.count(False)
    print(f"[FAILED] {failed} of {len(passed)} checks" if failed else f"[ALL PASS] {last_line}")
    return 1 if failed else 0


def verify(seed: int) -> int:
    """Run the checks; return the exit code."""
    print("DDPG + HER From Scratch -- Verification")
    return finish([check(seed) for check in CHECKS], "DDPG + HER implementation verified")


MODES = {"with HER": HERConfig(), "without HER": HERConfig(k=0)}
COLORS = {"with HER": "#173f8a", "without HER": "#e8901a"}  # dark and light, also in print
TITLES: tuple[str, ...] = (
    "Return while exploring, mean of 10 episodes",
    "Success without noise, share of 50",
)
TITLES += ("Losses of critic and actor", "Mean Q of the batches")
CURVES = {"returns": 0, "success": 1, "critic_loss": 2, "actor_loss": 2, "q_mean": 3}  # panels
Lines = Iterator[tuple[str, str, Floats, Floats]]


def lines(results: dict[str, list[Result]]) -> Lines:
    """What both figures show: name of the curve, mode, x (N,) and, for each seed, y (S, N)."""
    for name in CURVES:
        for mode, runs in results.items():
            y = np.array([run.curves[name] for run in runs])
            x = np.array(runs[0].curves["at"]) if name == "success" else 1.0 + np.arange(y.shape[1])
            if name == "returns" and len(x) >= 10:  # noisy, as actions are
                x, y = x[9:], np.lib.stride_tricks.sliding_window_view(y, 10, axis=1).mean(-1)
            yield name, mode, x, y


def draw_png(results: dict[str, list[Result]], title: str, path: Path) -> None:
    """Four panels: mean over seeds, in a band from the lowest to the highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(title)
    panels = [*figure.subplots(2, 2).flat]
    for name, mode, x, y in lines(results):
        panel, color = panels[CURVES[name]], COLORS[mode]
        style = {"actor_loss": "--", "success": "o-"}.get(name, "-")
        label = f"{name.split('_')[0]}, {mode}" if "loss" in name else mode
        panel.plot(x, y.mean(0), style, color=color, label=label)
        panel.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.25, lw=0)
    for panel, heading in zip(panels, TITLES, strict=True):
        panel.set(title=heading, xlabel="training episodes")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=9, ncols=2 if panel is panels[2] else 1)
    panels[1].set_ylim(-0.03, 1.03)
    panels[2].set(yscale="log", ylim=(1e-4, 1e2))  # leaves room for its legend
    figure.savefig(path, format="png", dpi=150)


def draw_html(results: dict[str, list[Result]], title: str, path: Path) -> None:
    """The same four panels to zoom into, with every seed; the page loads plotly.js from the web."""
    from plotly.subplots import make_subplots

    figure: Any = make_subplots(rows=2, cols=2, subplot_titles=TITLES)
    for name, mode, x, y in lines(results):
        place = {"row": CURVES[name] // 2 + 1, "col": CURVES[name] % 2 + 1}
        for run, values in enumerate([y.mean(0), *y]):
            line = {"color": COLORS[mode], "width": 1 if run else 3}
            line["dash"] = "dash" if name == "actor_loss" else "solid"
            look = {"opacity": 0.4 if run else 1.0, "showlegend": not run, "line": line}
            label = f"{name}, {mode}, {f'run {run}' if run else 'mean'}"
            figure.add_scatter(x=x, y=values, name=label, **look, **place)
    figure.update_xaxes(title_text="training episodes")
    figure.update_yaxes(type="log", row=2, col=1)
    figure.update_layout(title_text=title, height=800)
    figure.write_html(path, include_plotlyjs="cdn")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary file beside path; it takes the place of path if all went well."""
    temporary = path.with_name(f"{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch()
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)


def train_both(config: TrainConfig) -> dict[str, Result]:
    """Train with and without hindsight, otherwise alike; print how success grew."""
    runs = {}
    for mode, her in MODES.items():
        print(f"seed {config.seed}, {mode}", flush=True)
        runs[mode] = train(replace(config, her=her))
        curves = runs[mode].curves
        print("  after  " + " ".join(f"{at:5.0f}" for at in curves["at"]) + " episodes")
        print("  success" + " ".join(f"{share:5.2f}" for share in curves["success"]))
        print(f"  {runs[mode].seconds:.1f} s (aim: 60 s on two CPU cores)", flush=True)
    return runs


def demo(seeds: range, config: TrainConfig, paths: dict[str, Path], command: str) -> int:
    """Train with and without hindsight on each seed, draw, store; return the exit code."""
    rows, passed, versions = [], [], {name: version(name) for name in PACKAGES}
    with contextlib.ExitStack() as stack:  # what cannot be written fails before the work is done
        files = {name: stack.enter_context(replacing(path)) for name, path in paths.items()}
        both = [train_both(replace(config, seed=seed)) for seed in seeds]
        results = {mode: [runs[mode] for runs in both] for mode in MODES}
        for seed, runs in zip(seeds, both, strict=True):
            good, bad = (runs[mode].curves["success"][-1] for mode in MODES)
            row = {"seed": seed, "success_with_her": good, "success_without_her": bad}
            seconds = round(runs["with HER"].seconds, 1)
            rows.append({**row, "episodes": config.episodes, "seconds": seconds})
            bounds: Rows = [("with HER", good, 0.9, 1), ("without HER", bad, 0, 0.2)]
            claim = f"seed {seed}: {config.episodes} episodes are enough with HER, not without"
            passed.append(judge(claim, bounds))
        names = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        title = f"DDPG on {ENV_ID}: mean and range of {names}"
        draw_png(results, title, files["png"])
        if "html" in files:
            draw_html(results, title, files["html"])
        if "json" in files:
            found = {"schema": "lab-seeds/1", "command": command, "rows": rows}
            text = json.dumps({**found, "versions": versions}, indent=2, sort_keys=True)
            files["json"].write_text(text + "\n", encoding="utf-8")
    print("wrote " + ", ".join(map(str, paths.values())))
    return finish(passed, "Hindsight made the difference")


def sb3_point_reach(config: TrainConfig) -> float:
    """Success of Stable-Baselines3's DDPG + HER after as many episodes with the same settings."""
    from stable_baselines3 import DDPG, HerReplayBuffer
    from stable_baselines3.common.noise import NormalActionNoise

    ddpg, her = config.ddpg, config.her
    noise = NormalActionNoise(np.zeros(2), np.full(2, config.noise_std))
    goals = {"n_sampled_goal": her.k, "goal_selection_strategy": her.strategy}
    options: dict[str, Any] = {
        "gamma": ddpg.gamma,
        "tau": ddpg.tau,
        "batch_size": config.batch_size,
    }
    options |= {
        "learning_rate": ddpg.critic_lr,
        "policy_kwargs": {"net_arch": [ddpg.hidden_dim] * 2},
    }
    options |= {"train_freq": (1, "episode"), "gradient_steps": config.updates_per_episode}
    options |= {"learning_starts": 1000, "action_noise": noise}  # 20 random episodes come first
    options |= {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": goals}
    env = gym.make(ENV_ID)
    model = DDPG("MultiInputPolicy", env, seed=config.seed, device="cpu", **options)
    model.learn(50 * config.episodes)
    fresh = 1_000_000 * (config.seed + 1)
    return evaluate(lambda obs: model.predict(obs, deterministic=True)[0], 50, fresh)


def sb3_bit_flipping(seed: int, steps: int, hindsight: bool) -> float:
    """Success of Stable-Baselines3's DQN at flipping 15 bits to 1, one per step."""
    from stable_baselines3 import DQN, HerReplayBuffer
    from stable_baselines3.common.envs import BitFlippingEnv
    from stable_baselines3.common.evaluation import evaluate_policy

    options: dict[str, Any] = {"learning_rate": 1e-3, "gamma": 0.98, "batch_size": 128}
    options |= {"train_freq": (1, "episode"), "gradient_steps": 15, "target_update_interval": 300}
    options |= {"learning_starts": 500, "exploration_fraction": 0.5}
    if hindsight:
        options |= {"replay_buffer_class": HerReplayBuffer}  # 4 future goals, its default
    env = BitFlippingEnv(n_bits=15)
    model = DQN("MultiInputPolicy", env, seed=seed, device="cpu", **options)
    model.learn(steps)
    monitored: Any = model.get_env()
    returns, _ = evaluate_policy(model, monitored, 50, return_episode_rewards=True)
    return float(np.mean(np.array(returns) > -15))  # -1 for each of 15 steps is a failure


def compare_sb3(config: TrainConfig, bit_steps: int) -> int:
    """Stable-Baselines3 on the same task, and on the task that made HER known."""
    print("DDPG + HER From Scratch -- SB3 Comparison")
    reach = sb3_point_reach(config)
    passed = [judge(f"SB3's DDPG + HER solves {ENV_ID} too", [("success", reach, 0.9, 1)])]
    flips = {her: sb3_bit_flipping(config.seed, bit_steps, her) for her in (True, False)}
    rows: Rows = [("with HER", flips[True], 0.9, 1), ("without HER", flips[False], 0, 0.2)]
    passed.append(
        judge(f"SB3's DQN flips 15 bits after {bit_steps} steps, but not without HER", rows)
    )
    return finish(passed, "SB3 agrees")


def hyperparameters() -> int:
    """Print every setting, its default value and its meaning."""
    for config in (TrainConfig, DDPGConfig, HERConfig):
        print(f"{config.__name__}: {config.__doc__}")
        for each in fields(config):
            if "meaning" in each.metadata:
                print(f"  {each.name:20} {each.default!s:>8}  {each.metadata['meaning']}")
    return 0


def seed_range(text: str) -> range:
    """Seeds as they are typed: 3 or 0-4, both ends included."""
    first, _, last = text.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if not seeds:
        raise ValueError(text)
    return seeds


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--demo", action="store_true", help="train with and without HER, draw both")
    mode.add_argument("--compare-sb3", action="store_true", help="let Stable-Baselines3 do it")
    mode.add_argument("--hyperparameters", action="store_true", help="print and explain settings")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--seeds", type=seed_range, help="of the demo, such as 0-4, not --seed")
    parser.add_argument("--episodes", type=int, default=TrainConfig.episodes, help="default: 150")
    parser.add_argument("--json", type=Path, help="also store the results of the demo here")
    parser.add_argument("--out", type=Path, default=FIGURE, help="PNG; the HTML goes beside it")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if args.episodes < 1:
        parser.error(f"--episodes {args.episodes} is too few; give 1 or more")
    torch.set_num_threads(1)  # more of them only get in each other's way with networks this small
    config = TrainConfig(seed=args.seed, episodes=args.episodes)
    if args.verify:
        return verify(args.seed)
    if args.compare_sb3:
        return compare_sb3(config, 6000)
    if args.hyperparameters:
        return hyperparameters()
    if args.demo:
        paths = {"png": args.out, "html": args.out.with_suffix(".html"), "json": args.json}
        paths = {name: path for name, path in paths.items() if path}
        if importlib.util.find_spec("plotly") is None:
            print(f"no {paths.pop('html')}: pip install plotly")
        command = shlex.join(["python", "scripts/labs/ddpg_her_from_scratch.py", *argv])
        try:
            return demo(args.seeds or range(args.seed, args.seed + 1), config, paths, command)
        except OSError as error:
            print(f"error: {error}; choose other files with --out and --json", file=sys.stderr)
            return 2
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
