"""PPO from scratch (book chapter 3): act, judge the actions, improve the policy by a clipped step.

`--verify` checks the parts one by one, `--compare-sb3` holds them against Stable-Baselines3's own
buffer and update, `--demo` learns CartPole-v1 or, in exercise 5, FetchReachDense-v4.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal

Info = dict[str, float]


# --8<-- [start:actor_critic_network]
class ActorCritic(nn.Module):
    """One tanh backbone, two heads: the policy (what to do) and the value (what to expect)."""

    def __init__(self, obs_dim: int, act_dim: int, hidden_dim: int = 64, discrete: bool = False):
        super().__init__()
        first, second = nn.Linear(obs_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.backbone = nn.Sequential(first, nn.Tanh(), second, nn.Tanh())
        self.policy_head = nn.Linear(hidden_dim, act_dim)
        self.value_head = nn.Linear(hidden_dim, 1)
        self.log_std = None if discrete else nn.Parameter(torch.zeros(act_dim))
        # 0.01: at first the state hardly matters, every action is tried everywhere.
        gains = {first: 2**0.5, second: 2**0.5, self.policy_head: 0.01, self.value_head: 1.0}
        for layer, gain in gains.items():
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def forward(self, obs: Tensor) -> tuple[Distribution, Tensor]:
        """obs: (B, obs_dim) -> distribution of B actions, values: (B,)."""
        features = self.backbone(obs)  # (B, hidden_dim)
        output = self.policy_head(features)  # (B, act_dim)
        values = self.value_head(features).squeeze(-1)  # (B, 1) -> (B,)
        if self.log_std is None:
            return Categorical(logits=output, validate_args=False), values
        return Normal(output, self.log_std.exp().expand_as(output), validate_args=False), values


def per_action(dist: Distribution, numbers: Tensor) -> Tensor:
    """Log-probabilities or entropies (B,): those of independent components (B, act_dim) add up."""
    return numbers.sum(-1) if isinstance(dist, Normal) else numbers


# --8<-- [end:actor_critic_network]
# --8<-- [start:gae_computation]
def compute_gae(
    rewards: Tensor,
    values: Tensor,
    next_value: Tensor | float,
    dones: Tensor,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Advantages (T,) and returns (T,) of T steps in a row, computed from the last to the first.

    rewards, values, dones (1 where an episode ended): (T,); next_value: V after the last step.
    """
    advantages = torch.zeros_like(values)
    next_advantage: Tensor | float = 0.0
    for t in reversed(range(len(rewards))):
        going_on = 1.0 - float(dones[t])
        # delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
        delta = rewards[t] + gamma * next_value * going_on - values[t]
        # A_t = delta_t + gamma lambda A_{t+1}
        next_advantage = delta + gamma * gae_lambda * going_on * next_advantage
        advantages[t] = next_advantage
        next_value = values[t]
    return advantages, advantages + values  # R_t = A_t + V(s_t)


# --8<-- [end:gae_computation]
# --8<-- [start:ppo_loss]
def compute_ppo_loss(
    dist: Distribution,
    old_log_probs: Tensor,
    actions: Tensor,
    advantages: Tensor,
    clip_range: float = 0.2,
) -> tuple[Tensor, Info]:
    """The clipped loss, a scalar, of today's policy dist; old_log_probs, advantages: (B,)."""
    log_ratio = per_action(dist, dist.log_prob(actions)) - old_log_probs
    ratio = log_ratio.exp()  # r = pi(a|s) / pi_old(a|s)
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    # L = -E[min(r A, clip(r, 1 - eps, 1 + eps) A)]
    loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    with torch.no_grad():
        info = {
            "policy_loss": loss.item(),
            "approx_kl": (ratio - 1.0 - log_ratio).mean().item(),  # of pi_old from pi, >= 0
            "clip_fraction": ((ratio - 1.0).abs() > clip_range).float().mean().item(),
            "ratio_mean": ratio.mean().item(),
        }
    return loss, info


# --8<-- [end:ppo_loss]
# --8<-- [start:value_loss]
def compute_value_loss(values: Tensor, returns: Tensor) -> tuple[Tensor, Info]:
    """Half the mean squared error of values (B,) as predictions of returns (B,), a scalar."""
    errors = values - returns
    loss = 0.5 * errors.pow(2).mean()  # L = 1/2 E[(V(s) - R)^2]
    with torch.no_grad():
        # 1: every difference between returns is foreseen, 0: none, as if V were a constant.
        explained = 1.0 - errors.var() / returns.var().clamp(min=1e-8)
    return loss, {"value_loss": loss.item(), "explained_variance": explained.item()}


# --8<-- [end:value_loss]


class Batch(NamedTuple):
    """What an update learns from."""

    observations: Tensor  # (B, obs_dim)
    actions: Tensor  # (B, act_dim), or (B,) if discrete
    old_log_probs: Tensor  # (B,)
    advantages: Tensor  # (B,)
    returns: Tensor  # (B,), what the values are to become


# --8<-- [start:ppo_update]
def ppo_update(
    model: ActorCritic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    clip_range: float = 0.2,
    value_coef: float = 0.5,
    entropy_coef: float = 0.0,
    max_grad_norm: float = 0.5,
) -> Info:
    """One gradient step on the batch."""
    dist, values = model(batch.observations)
    # Mean 0, spread 1: the step does not depend on the unit in which rewards are counted.
    advantages = batch.advantages - batch.advantages.mean()
    advantages = advantages / (batch.advantages.std() + 1e-8)
    policy_loss, policy_info = compute_ppo_loss(
        dist, batch.old_log_probs, batch.actions, advantages, clip_range
    )
    value_loss, value_info = compute_value_loss(values, batch.returns)
    entropy = per_action(dist, dist.entropy()).mean()
    # L = L_policy + c_value L_value - c_entropy H
    loss = policy_loss + value_coef * value_loss - entropy_coef * entropy
    optimizer.zero_grad()
    loss.backward()
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    totals = {"entropy": entropy, "total_loss": loss, "grad_norm": grad_norm}
    return policy_info | value_info | {name: total.item() for name, total in totals.items()}


# --8<-- [end:ppo_update]


class Transition(NamedTuple):
    """One step, as far as learning needs it."""

    observation: Tensor  # (obs_dim,)
    action: Tensor  # (act_dim,), or () if discrete
    log_prob: Tensor  # ()
    value: Tensor  # ()
    reward: float
    done: bool  # the episode ended, for whatever reason
    cut_value: float  # V of the last observation if only the time limit ended it, else 0


class Settings(NamedTuple):
    """What the exercises turn; each is a flag."""

    learning_rate: float = 1e-3
    clip_range: float = 0.2
    gamma: float = 0.99
    gae_lambda: float = 0.95
    entropy_coef: float = 0.0
    value_coef: float = 0.5
    n_steps: int = 1024
    n_epochs: int = 10
    batch_size: int = 128


# --8<-- [start:ppo_training_loop]
@torch.no_grad()
def collect_rollout(
    env: Any, model: ActorCritic, n_steps: int, device: str
) -> tuple[list[Transition], Tensor, list[float]]:
    """Act n_steps times: the transitions, V () of what comes next, returns of finished episodes."""
    transitions, episode_returns = [], []
    # The next call goes on with the episode that this one leaves unfinished.
    obs, so_far = getattr(env, "unfinished", None) or (env.reset()[0], 0.0)
    for _ in range(n_steps):
        seen = torch.as_tensor(obs, dtype=torch.float32, device=device)  # (obs_dim,)
        dist, value = model(seen)
        action = dist.sample()
        log_prob = per_action(dist, dist.log_prob(action))
        obs, reward, terminated, truncated, _ = env.step(action.cpu().numpy())
        cut_value, so_far = 0.0, so_far + float(reward)
        if truncated and not terminated:
            # A time limit is no termination, as in the book's listing: V says what was to come.
            last = torch.as_tensor(obs, dtype=torch.float32, device=device)
            cut_value = float(model(last)[1])
        done = terminated or truncated
        step = Transition(seen, action, log_prob, value, float(reward), done, cut_value)
        transitions.append(step)
        if done:
            episode_returns.append(so_far)
            obs, so_far = env.reset()[0], 0.0
    env.unfinished = obs, so_far
    next_value = model(torch.as_tensor(obs, dtype=torch.float32, device=device))[1]
    return transitions, next_value, episode_returns


def transitions_to_batch(
    transitions: list[Transition],
    next_value: Tensor | float,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
) -> Batch:
    """The T transitions of a rollout as a batch of B = T."""
    tensors = zip(*(step[:4] for step in transitions), strict=True)
    observations, actions, log_probs, values = map(torch.stack, tensors)
    rewards, dones, cut_values = values.new_tensor([step[4:] for step in transitions]).T
    rewards = rewards + gamma * cut_values  # r_t + gamma V(s_{t+1}), where done drops the latter
    advantages, returns = compute_gae(rewards, values, next_value, dones, gamma, gae_lambda)
    return Batch(observations, actions, log_probs, advantages, returns)


def train(env: Any, model: ActorCritic, total_steps: int, s: Settings) -> Iterator[Info]:
    """Act, judge, improve; after each iteration yield what was measured."""
    optimizer = torch.optim.Adam(model.parameters(), lr=s.learning_rate, eps=1e-5)
    recent: list[float] = []
    for iteration in range(1, math.ceil(total_steps / s.n_steps) + 1):
        transitions, next_value, finished = collect_rollout(env, model, s.n_steps, "cpu")
        batch = transitions_to_batch(transitions, next_value, s.gamma, s.gae_lambda)
        infos = []
        for _ in range(s.n_epochs):
            for rows in torch.randperm(s.n_steps).split(s.batch_size):
                part = Batch(*(column[rows] for column in batch))
                coefs = (s.clip_range, s.value_coef, s.entropy_coef)
                infos.append(ppo_update(model, optimizer, part, *coefs))
        recent = (recent + finished)[-20:]
        means = {key: float(np.mean([info[key] for info in infos])) for key in infos[0]}
        counts = {"iteration": iteration, "steps": iteration * s.n_steps, "episodes": len(recent)}
        yield means | counts | {"return": float(np.mean(recent)) if recent else math.nan}


# --8<-- [end:ppo_training_loop]


Rows = list[tuple[str, Tensor | float, Tensor | float, float]]  # name, measured, expected, bound


def judge(claim: str, rows: Rows) -> bool:
    """Print how far each measurement is from what is expected, at most, then the verdict."""
    passed = True
    for name, measured, expected, bound in rows:
        error = float(torch.as_tensor(measured - expected).detach().abs().max())
        shown = "" if isinstance(measured, Tensor) else f"{measured:.4g}, "
        print(f"{name}: {shown}off by {error:.2g} (bound: {bound:g})")
        passed = passed and error <= bound
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def check_network(gae_lambda: float) -> Rows:
    """Actor-critic network: shapes, size, log-probability of independent components."""
    model, deviations = ActorCritic(16, 4), torch.tensor([0.3, 1.0, 1.5, 3.0])
    model.log_std = nn.Parameter(deviations.log())
    dist, value = model(torch.randn(1, 16))
    print(f"mean {tuple(dist.mean.shape)}, value {tuple(value.shape)} (bound: (1, 4), (1,))")
    action = dist.sample()
    density = (-0.5 * ((action - dist.mean) / deviations) ** 2).exp() / deviations
    expected = (density / math.sqrt(2 * math.pi)).prod(-1).log()
    return [
        ("shapes are right", (dist.mean.shape, value.shape) == ((1, 4), (1,)), 1, 0),
        ("parameters", sum(weights.numel() for weights in model.parameters()), 5577, 0),
        ("log-probability", per_action(dist, dist.log_prob(action)), expected, 1e-5),
    ]


def discounted(terms: Tensor, dones: Tensor, decay: float) -> Tensor:
    """From each t to the end of its episode the sum of decay^(k - t) terms_k: (T,) -> (T,)."""
    episode, t = dones.cumsum(0) - dones, torch.arange(len(terms))
    counts = (episode[:, None] == episode) & (t[:, None] <= t)  # (T, T): whether k counts for t
    return (counts * decay ** (t - t[:, None]).clamp(min=0)) @ terms


def check_gae(gae_lambda: float) -> Rows:
    """GAE: the sums written out, across two rollouts, time limits and both limits of lambda."""
    env, replay = (gym.make("CartPole-v1", max_episode_steps=20) for _ in range(2))
    seed, model = int(torch.randint(2**31, ())), ActorCritic(4, 2, discrete=True)
    nn.init.constant_(model.value_head.bias, 10.0)
    env.reset(seed=seed)
    replay.reset(seed=seed)
    transitions = collect_rollout(env, model, 100, "cpu")[0]
    more, next_value, _ = collect_rollout(env, model, 100, "cpu")
    obs, strayed, columns = replay.reset()[0], 0, []
    for step in transitions + more:
        strayed += not np.array_equal(step.observation, obs)
        obs, reward, failed, cut, _ = replay.step(step.action.numpy())
        after = 0.0 if failed else model(torch.tensor(obs))[1].item()
        columns.append((reward, step.value, after, failed or cut))
        obs = replay.reset()[0] if failed or cut else obs
    rewards, values, after, dones = torch.tensor(columns).T
    deltas, last = rewards + 0.99 * after - values, dones.clone()
    last[-1] = 1.0  # only where an episode or the rollout stops is V needed, if lambda is 1
    monte_carlo = discounted(rewards + 0.99 * after * last, dones, 0.99) - values
    sums = discounted(deltas, dones, 0.99 * gae_lambda)
    rows: Rows = [("observations that stray from a replay", strayed, 0, 0)]
    for lam, expected in ((0.0, deltas), (gae_lambda, sums), (1.0, monte_carlo)):
        batch = transitions_to_batch(transitions + more, next_value, 0.99, lam)
        print(f"lambda {lam:g}: the advantages' standard deviation is {batch.advantages.std():.3f}")
        rows.append((f"advantages, lambda {lam:g}", batch.advantages, expected, 1e-4))
        rows.append((f"returns, lambda {lam:g}", batch.returns, expected + values, 1e-4))
    return rows


def check_ppo_loss(gae_lambda: float) -> Rows:
    """PPO loss: an unchanged policy has ratio 1, clipped actions have no gradient."""
    dist, actions = Normal(torch.randn(64, 4), torch.ones(64, 4)), torch.randn(64, 4)
    same = compute_ppo_loss(dist, dist.log_prob(actions).sum(-1), actions, torch.randn(64))[1]
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.15, 0.9])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    objectives = torch.tensor([1.2, -1.5, 0.5, -0.8, 1.15, -0.9])
    slopes = torch.tensor([0.0, 1.5, -0.5, 0.0, -1.15, 0.9])  # of -objective, by log pi
    mean, actions = torch.zeros(6, 1, requires_grad=True), torch.ones(6, 1)
    dist = Normal(mean, 1.0)  # at action 1, d(log pi) / d(mean) is 1
    old = dist.log_prob(actions).sum(-1).detach() - ratios.log()
    loss, info = compute_ppo_loss(dist, old, actions, advantages)
    return [
        ("unchanged: ratio_mean", same["ratio_mean"], 1.0, 1e-6),
        ("unchanged: clip_fraction", same["clip_fraction"], 0.0, 0),
        ("unchanged: approx_kl", same["approx_kl"], 0.0, 1e-6),
        ("six cases: loss", loss, -objectives.mean(), 1e-6),
        ("six cases: gradient", torch.autograd.grad(loss, mean)[0][:, 0], slopes / 6, 1e-6),
        ("six cases: clip_fraction", info["clip_fraction"], 4 / 6, 1e-6),
        ("six cases: approx_kl", info["approx_kl"], (ratios - 1 - ratios.log()).mean(), 1e-6),
    ]


def check_value_loss(gae_lambda: float) -> Rows:
    """Value loss: half the variance for values near zero, whose gradient is the error."""
    values, returns = (0.01 * torch.randn(4096)).requires_grad_(), torch.randn(4096)
    loss, info = compute_value_loss(values, returns)
    gradient = torch.autograd.grad(loss, values)[0]
    right = compute_value_loss(returns, returns)[1]
    return [
        ("near zero: value_loss", info["value_loss"], 0.5, 0.05),
        ("near zero: explained_variance", info["explained_variance"], 0.0, 0.05),
        ("near zero: gradient", gradient, (values - returns) / 4096, 1e-7),
        ("right: explained_variance", right["explained_variance"], 1.0, 1e-6),
    ]


def check_update(gae_lambda: float) -> Rows:
    """PPO update: ten of them lower both losses and leave the policy near where it was."""
    model, obs = ActorCritic(16, 4), torch.randn(256, 16)
    dist = model(obs)[0]
    actions = dist.sample()
    old = dist.log_prob(actions).sum(-1).detach()
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    batch = Batch(obs, actions, old, advantages=actions[:, 0], returns=obs[:, 0])
    infos = [ppo_update(model, optimizer, batch) for _ in range(10)]
    return [
        ("value_loss, last to first", infos[9]["value_loss"] / infos[0]["value_loss"], 0.5, 0.499),
        ("policy_loss, last", infos[9]["policy_loss"], -0.5, 0.499),
        ("approx_kl", infos[9]["approx_kl"], 0.025, 0.0249),
    ]


def verify(gae_lambda: float) -> list[bool]:
    """Judge the five parts; what each of them claims is its docstring."""
    print("PPO From Scratch -- Verification")
    checks = [check_network, check_gae, check_ppo_loss, check_value_loss, check_update]
    return [judge(str(check.__doc__).rstrip("."), check(gae_lambda)) for check in checks]


def update_rows(twin: Any, ours: Any, infos: list[Info]) -> Rows:
    """What the updates of Stable-Baselines3's PPO and ours must have in common."""
    loss, log = float(np.mean([info["policy_loss"] for info in infos])), twin.logger.name_to_value
    to_vector = nn.utils.parameters_to_vector
    weights, others = to_vector(ours.parameters()), to_vector(twin.policy.parameters())
    return [
        ("clipped loss", loss, log["train/policy_gradient_loss"], 1e-6),
        ("loss of the last update", infos[-1]["total_loss"], log["train/loss"], 1e-5),
        (f"weights after {len(infos)} updates", weights, others, 1e-6),
    ]


def compare_sb3(s: Settings) -> list[bool]:
    """One batch through Stable-Baselines3's buffer and PPO.train(), and through this file."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger

    print("PPO From Scratch -- SB3 Comparison")
    blank: Any = gym.Env()  # only asked for its spaces
    blank.observation_space = gym.spaces.Box(-np.inf, np.inf, (16,))
    blank.action_space = gym.spaces.Box(-1.0, 1.0, (4,))
    counts = (s.learning_rate, s.n_steps, s.n_steps, s.n_epochs, s.gamma, s.gae_lambda)
    # Its value loss lacks the 1/2, so its coefficient is half of ours.
    coefs: dict[str, Any] = {"ent_coef": s.entropy_coef, "vf_coef": s.value_coef / 2}
    twin: Any = PPO("MlpPolicy", blank, *counts, clip_range=s.clip_range, device="cpu", **coefs)
    twin.set_logger(Logger(None, []))
    ours, buffer = copy.deepcopy(twin.policy), twin.rollout_buffer
    ours.forward = lambda x: (ours.get_distribution(x).distribution, ours.predict_values(x)[:, 0])
    obs, rewards, dones = torch.randn(s.n_steps, 16), torch.randn(s.n_steps), torch.rand(s.n_steps)
    dones, next_value = dones < 0.05, torch.randn(())
    with torch.no_grad():
        dist, values = ours(obs)
    actions = dist.sample()
    # Noise makes it another policy's: ratios differ from 1, some of them are clipped.
    old = dist.log_prob(actions).sum(-1) + 0.2 * torch.randn(s.n_steps)
    columns = (obs, actions, rewards, torch.cat([torch.ones(1), dones[:-1]]))
    for step in zip(*(column.numpy() for column in columns), values, old, strict=True):
        buffer.add(*step)
    buffer.compute_returns_and_advantage(next_value, dones[-1:].numpy())
    gae = compute_gae(rewards, values, next_value, dones, s.gamma, s.gae_lambda)
    print(f"gamma={s.gamma}, lambda={s.gae_lambda}, {int(dones.sum())} episode ends inside")
    rows: Rows = [("Max advantage difference", gae[0], torch.tensor(buffer.advantages[:, 0]), 1e-6)]
    rows.append(("Max return difference", gae[1], torch.tensor(buffer.returns[:, 0]), 1e-6))
    same_gae = judge("Our GAE matches SB3 RolloutBuffer", rows)
    twin.train()
    batch, chosen = Batch(obs, actions, old, *gae), (s.clip_range, s.value_coef, s.entropy_coef)
    infos = [ppo_update(ours, ours.optimizer, batch, *chosen) for _ in range(s.n_epochs)]
    rows = update_rows(twin, ours, infos)
    return [same_gae, judge("Our loss and update match SB3 PPO.train()", rows)]


TASKS = {  # learned when the mean return of 20 episodes is at least the first number
    # Returns near 100 make the value loss near 1000: in the backbone that both losses share, its
    # gradient would drown the policy's.
    "CartPole-v1": (195.0, Settings(value_coef=0.02)),
    "FetchReachDense-v4": (-1.5, Settings(gamma=0.95)),
}


def make_env(env_id: str) -> Any:
    """CartPole-v1, obs (4,), or Fetch with its observation and desired_goal in one: (13,)."""
    if env_id == "CartPole-v1":
        return gym.make(env_id)
    os.environ["MUJOCO_GL"] = "disable"  # nothing is drawn; read while mujoco is imported
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    env: Any = gym.wrappers.FilterObservation(gym.make(env_id), ["observation", "desired_goal"])
    # Centimetres count here, a metre off the origin: in units of their spread they are seen.
    return gym.wrappers.NormalizeObservation(gym.wrappers.FlattenObservation(env))


def fresh_mean(env: Any, model: ActorCritic) -> float:
    """Mean return of 20 episodes of this very policy; those of a rollout are of older ones."""
    returns: list[float] = []
    env.unfinished = None
    while len(returns) < 20:
        returns += collect_rollout(env, model, 500, "cpu")[2]
    env.unfinished = None
    return float(np.mean(returns[:20]))


def learn(env_id: str, seed: int, total_steps: int, s: Settings) -> dict[str, Any]:
    """Train until rollouts and then fresh episodes reach the target; print a table."""
    torch.manual_seed(seed)
    target, start, env = TASKS[env_id][0], time.perf_counter(), make_env(env_id)
    env.reset(seed=seed)
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    act_dim = gym.spaces.flatdim(env.action_space)
    model = ActorCritic(env.observation_space.shape[0], act_dim, discrete=discrete)
    print(f"{env_id}, seed {seed}\niteration    steps   return  value loss      KL")
    found: dict[str, Any] = {"seed": seed, "steps_to_target": None, "curve": []}
    for row in train(env, model, total_steps, s):
        line = "{iteration:9.0f} {steps:8.0f} {return:8.1f} {value_loss:11.3g} {approx_kl:7.4f}"
        print(line.format(**row), flush=True)
        found["curve"].append(None if math.isnan(row["return"]) else round(row["return"], 2))
        last = row["steps"] >= total_steps
        if last or (row["episodes"] == 20 and row["return"] >= target):
            found["final_mean"] = round(fresh_mean(env, model), 2)
            if found["final_mean"] >= target:
                found["steps_to_target"] = int(row["steps"])
                break
    print(f"mean return of 20 fresh episodes: {found['final_mean']} (bound: {target:g} or more)")
    found["seconds"] = round(time.perf_counter() - start, 1)
    print(f"[{'FAIL' if found['steps_to_target'] is None else 'PASS'}] {env_id}, seed {seed}")
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """The learning curves of a table found by demo: each seed's thin, their median bold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes, curves = figure.subplots(), [np.array(row["curve"], float) for row in found["rows"]]
    steps = found["settings"]["n_steps"] * np.arange(1, 1 + max(map(len, curves)))
    for curve in curves:
        axes.plot(steps[: len(curve)], curve, color="0.65", lw=0.8)
    kept = [np.pad(curve, (0, len(steps) - len(curve)), "edge") for curve in curves]
    label = f"median of {len(curves)} seeds (thin; one that has learned keeps its last value)"
    axes.plot(steps, np.median(kept, axis=0), color="0", lw=2.5, label=label)
    axes.axhline(found["target"], color="0", lw=1, ls="--", label=f"target {found['target']:g}")
    axes.set(xlabel="environment steps", ylabel="mean return of the last 20 episodes")
    axes.set_title(f"PPO from scratch on {found['env_id']}")
    axes.legend()
    figure.savefig(path, format="png", dpi=200)


def demo(args: argparse.Namespace, s: Settings, argv: list[str]) -> list[bool]:
    """Learn with each seed in turn; draw the curves and, if asked to, store the table."""
    print("PPO From Scratch -- Demo")
    fetch = "Fetch" in args.env
    out = args.out or Path("figures", f"ppo_demo_curve{'_fetch' if fetch else ''}.png")
    for path in filter(None, (out, args.json)):
        path.parent.mkdir(parents=True, exist_ok=True)  # fails before the work is done
    rows = [learn(args.env, seed, args.steps, s) for seed in args.seed]
    command = " ".join(["python scripts/labs/ppo_from_scratch.py", *argv])
    found = {"schema": "lab-seeds/1", "command": command, "env_id": args.env, "rows": rows}
    found |= {"target": TASKS[args.env][0], "total_steps": args.steps, "settings": s._asdict()}
    names = ["gymnasium", "numpy", "torch", *(["gymnasium-robotics", "mujoco"] * fetch)]
    found["versions"] = {name: version(name) for name in names}
    draw(found, out)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {' and '.join(str(path) for path in (out, args.json) if path)}")
    return [row["steps_to_target"] is not None for row in rows]


def parse_seeds(text: str) -> list[int]:
    """The seeds of "7", "0,1,2" or "0-9"."""
    first, dash, last = text.partition("-")
    return [*range(int(first), int(last) + 1)] if dash else [int(seed) for seed in text.split(",")]


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--compare-sb3", action="store_true", help="compare with Stable-Baselines3")
    mode.add_argument("--demo", action="store_true", help="learn a task, draw the curve")
    parser.add_argument("--seed", "--seeds", type=parse_seeds, default=[0], help="7; 0,1,2; 0-9")
    parser.add_argument("--env", choices=TASKS, default="CartPole-v1", help="of the demo")
    parser.add_argument("--steps", type=int, default=50_000, help="of the demo, at most")
    parser.add_argument("--out", type=Path, help="PNG of the demo (default: in figures/)")
    parser.add_argument("--json", type=Path, help="table of the demo's seeds, if wanted")
    for name, default in Settings()._asdict().items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    given = {name: value for name, value in vars(args).items() if name in Settings._fields}
    s = (TASKS[args.env][1] if args.demo else Settings())._replace(**given)
    if not args.seed or min(args.steps, s.n_steps, s.n_epochs, s.batch_size) < 1 or min(s) < 0:
        parser.error("seeds and settings must not be negative, counts of steps and rows not 0")
    torch.set_num_threads(1)  # more of them only wait for each other on networks this small
    torch.manual_seed(args.seed[0])
    if args.verify:
        results, done = verify(s.gae_lambda), "PPO implementation verified"
    elif args.compare_sb3:
        results, done = compare_sb3(s._replace(entropy_coef=0.01)), "PPO matches SB3"
    elif args.demo:
        try:
            results, done = demo(args, s, argv), f"PPO learned {args.env}"
        except OSError as error:
            print(f"error: {error}; choose other files with --out and --json", file=sys.stderr)
            return 2
    else:
        parser.print_help()
        return 2
    failed = results.count(False)
    print(f"[FAILED] {failed} of {len(results)} checks" if failed else f"[ALL PASS] {done}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
