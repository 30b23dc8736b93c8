"""SAC from scratch (book chapter 4): learn from every step ever made, and be paid for variety.

`--verify` checks the parts one by one, `--compare-sb3` holds them against Stable-Baselines3's own
distribution and update, `--demo` learns to swing up Pendulum-v1.
"""

# mypy: disable-error-code="no-untyped-call"
# (PyTorch leaves backward() and others without types.)

from __future__ import annotations

import argparse
import copy
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from torch.nn.utils import parameters_to_vector as flat
from torch.nn.utils import vector_to_parameters as fill

Info = dict[str, float]
Batch = dict[str, Tensor]
Dims = tuple[int, ...]
Claims = Iterator[tuple[str, Any, Any, float]]  # name, measured, expected, bound on the difference

LOG_STD_MIN, LOG_STD_MAX = -20, 2
LEARNING_RATE, BATCH_SIZE = 3e-4, 256
WARMUP = 1000  # steps of random actions before the first update
SOLVED, RECENT = -200.0, 10  # the mean return to exceed, and of how many episodes
JUDGED = 12_000  # by this step a demo is to get there; a shorter one is not judged
CALLS = ("next", "actor", "temperature")  # of the policy, in the order of an update
DIFFERENCES = """Same weights, batch and noise of each call. By design SB3 differs from us:
- its critic loss is half the sum, 1/2 (q1 + q2): halved here, and Adam's epsilon doubled to match;
- its temperature loss is log alpha times a number, ours alpha times it: our gradient / alpha;
- its log-probabilities in that loss are those before the policy step: both kinds are compared;
- it adds epsilon = 1e-6 within the logarithm of the tanh correction: once as it is, once with 0."""


# --8<-- [start:replay_buffer]
class ReplayBuffer:
    """The last `capacity` steps; once it is full, a new step takes the place of the oldest."""

    def __init__(self, obs_dim: int, act_dim: int, capacity: int = 100_000) -> None:
        self.capacity, self.size, self.ptr = capacity, 0, 0
        self.columns: Batch = {
            "obs": torch.zeros(capacity, obs_dim),
            "actions": torch.zeros(capacity, act_dim),
            "rewards": torch.zeros(capacity),
            "next_obs": torch.zeros(capacity, obs_dim),
            "dones": torch.zeros(capacity),
        }

    def add(self, obs: Any, action: Any, reward: float, next_obs: Any, done: bool) -> None:
        """Store one step; obs, next_obs: (obs_dim,), action: (act_dim,), done: nothing follows."""
        step = (obs, action, reward, next_obs, done)
        for column, value in zip(self.columns.values(), step, strict=True):
            column[self.ptr] = torch.as_tensor(value)
        self.ptr = (self.ptr + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size: int, device: torch.device | str = "cpu") -> Batch:
        """B steps, drawn uniformly: obs, next_obs (B, obs_dim), actions (B, act_dim), rest (B,)."""
        rows = torch.randint(self.size, (batch_size,))
        return {name: column[rows].to(device) for name, column in self.columns.items()}


# --8<-- [end:replay_buffer]


class MLP(nn.Sequential):
    """Linear layers with a ReLU between two of them: (B, input_dim) -> (B, output_dim)."""

    def __init__(self, input_dim: int, output_dim: int, hidden_dims: Dims = (256, 256)) -> None:
        dims = (input_dim, *hidden_dims)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(dims):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(dims[-1], output_dim))


# --8<-- [start:twin_q_network]
class TwinQNetwork(nn.Module):
    """Two opinions on what an action is worth. Their errors differ, so the lower one is safer."""

    def __init__(self, obs_dim: int, act_dim: int, hidden_dims: Dims = (256, 256)) -> None:
        super().__init__()
        self.q1 = MLP(obs_dim + act_dim, 1, hidden_dims)
        self.q2 = MLP(obs_dim + act_dim, 1, hidden_dims)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """obs: (B, obs_dim), actions: (B, act_dim) -> q1: (B,), q2: (B,)."""
        pairs = torch.cat([obs, actions], dim=-1)  # (B, obs_dim + act_dim)
        return self.q1(pairs).squeeze(-1), self.q2(pairs).squeeze(-1)


# --8<-- [end:twin_q_network]


# --8<-- [start:gaussian_policy]
class GaussianPolicy(nn.Module):
    """A normal distribution in every state, squashed into (-1, 1) by tanh."""

    def __init__(self, obs_dim: int, act_dim: int, hidden_dims: Dims = (256, 256)) -> None:
        super().__init__()
        self.net = MLP(obs_dim, 2 * act_dim, hidden_dims)
        # The noise of a call. A check puts its own here, chosen by the name of the call.
        self.noise: Callable[[Tensor, str], Tensor] = lambda like, call: torch.randn_like(like)

    def mean_and_log_std(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """obs: (B, obs_dim) -> mean, log_std: (B, act_dim) before the tanh."""
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def forward(self, obs: Tensor, call: str = "act") -> tuple[Tensor, Tensor]:
        """obs: (B, obs_dim) -> actions: (B, act_dim) in [-1, 1], log_probs: (B,)."""
        mean, log_std = self.mean_and_log_std(obs)
        noise = self.noise(mean, call)
        x = mean + log_std.exp() * noise  # x ~ N(mean, std): gradients reach mean and std
        # log N(x) = sum_i -1/2 noise_i^2 - log std_i - 1/2 log 2 pi
        log_prob = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        # log pi(a|s) = log N(x) - sum_i log(1 - tanh(x_i)^2). Written as below, the logarithm stays
        # finite where tanh(x) is rounded to 1.
        log_prob = log_prob - (2 * (math.log(2) - x - softplus(-2 * x))).sum(-1)
        return torch.tanh(x), log_prob


# --8<-- [end:gaussian_policy]


# --8<-- [start:twin_q_loss]
def compute_q_loss(
    q_network: TwinQNetwork,
    target_q_network: TwinQNetwork,
    policy: GaussianPolicy,
    batch: Batch,
    gamma: float = 0.99,
    alpha: float = 0.2,
) -> tuple[Tensor, Info]:
    """Both critics against one target, a scalar; batch as ReplayBuffer.sample returns it."""
    with torch.no_grad():  # the target is a number to reach, not something to learn from
        next_actions, next_log_probs = policy(batch["next_obs"], "next")
        target_q1, target_q2 = target_q_network(batch["next_obs"], next_actions)  # (B,), (B,)
        target_q = torch.min(target_q1, target_q2)
        # V(s') = min Q'(s', a') - alpha log pi(a'|s'): variety counts as if it were reward
        next_value = target_q - alpha * next_log_probs
        # y = r + gamma (1 - d) V(s')
        target = batch["rewards"] + gamma * (1.0 - batch["dones"]) * next_value
    q1, q2 = q_network(batch["obs"], batch["actions"])
    q1_loss, q2_loss = mse_loss(q1, target), mse_loss(q2, target)
    loss = q1_loss + q2_loss  # L = E[(Q1 - y)^2] + E[(Q2 - y)^2]
    found = {"q1_loss": q1_loss, "q2_loss": q2_loss, "q1_mean": q1.mean(), "q2_mean": q2.mean()}
    found["target_q_mean"] = target.mean()
    return loss, {name: value.item() for name, value in found.items()}


# --8<-- [end:twin_q_loss]


# --8<-- [start:actor_loss]
def compute_actor_loss(
    policy: GaussianPolicy, q_network: TwinQNetwork, obs: Tensor, alpha: float = 0.2
) -> tuple[Tensor, Info]:
    """How far the policy is from valuable and varied actions in obs (B, obs_dim), a scalar."""
    actions, log_probs = policy(obs, "actor")
    q1, q2 = q_network(obs, actions)  # the gradient goes through the critics into the actions
    # L = E[alpha log pi(a|s) - min Q(s, a)]
    loss = (alpha * log_probs - torch.min(q1, q2)).mean()
    mean = log_probs.mean().item()
    return loss, {"actor_loss": loss.item(), "entropy": -mean, "log_prob_mean": mean}


# --8<-- [end:actor_loss]


# --8<-- [start:temperature_loss]
def compute_temperature_loss(
    log_alpha: Tensor, log_probs: Tensor, target_entropy: float
) -> tuple[Tensor, Info]:
    """Raises alpha while the entropy, -log_probs (B,) on average, is below its target."""
    alpha = log_alpha.exp()  # positive, whatever log_alpha is
    # L = -alpha E[log pi(a|s) + target]; the policy is not to be changed by it, hence detach
    loss = -alpha * (log_probs.detach() + target_entropy).mean()
    return loss, {"alpha_loss": loss.item(), "alpha": alpha.item()}


# --8<-- [end:temperature_loss]


# --8<-- [start:sac_update]
def sac_update(
    policy: GaussianPolicy,
    q_network: TwinQNetwork,
    target_q_network: TwinQNetwork,
    log_alpha: Tensor,
    policy_optimizer: torch.optim.Optimizer,
    q_optimizer: torch.optim.Optimizer,
    alpha_optimizer: torch.optim.Optimizer,
    batch: Batch,
    target_entropy: float,
    gamma: float = 0.99,
    tau: float = 0.005,
) -> Info:
    """One gradient step of the critics, of the policy and of alpha; the target critics follow."""
    alpha = log_alpha.exp().item()

    q_loss, q_info = compute_q_loss(q_network, target_q_network, policy, batch, gamma, alpha)
    q_optimizer.zero_grad()  # also drops what the last actor loss left in the critics
    q_loss.backward()
    q_optimizer.step()

    actor_loss, actor_info = compute_actor_loss(policy, q_network, batch["obs"], alpha)
    policy_optimizer.zero_grad()
    actor_loss.backward()
    policy_optimizer.step()

    with torch.no_grad():
        _, log_probs = policy(batch["obs"], "temperature")
    alpha_loss, alpha_info = compute_temperature_loss(log_alpha, log_probs, target_entropy)
    alpha_optimizer.zero_grad()
    alpha_loss.backward()
    alpha_optimizer.step()

    with torch.no_grad():  # theta' <- (1 - tau) theta' + tau theta
        followers = zip(target_q_network.parameters(), q_network.parameters(), strict=True)
        for slow, fast in followers:
            slow.lerp_(fast, tau)
    return q_info | actor_info | alpha_info


# --8<-- [end:sac_update]


def make_learner(obs_dim: int, act_dim: int, alpha: float = 1.0, dtype: Any = None) -> Any:
    """The first seven arguments of sac_update; target critics start as a copy of the critics."""
    policy = GaussianPolicy(obs_dim, act_dim).to(dtype)
    critics = TwinQNetwork(obs_dim, act_dim).to(dtype)
    log_alpha = torch.tensor(math.log(alpha), dtype=dtype, requires_grad=True)
    learner = SimpleNamespace(policy=policy, q_network=critics, log_alpha=log_alpha)
    learner.target_q_network = copy.deepcopy(critics)
    trained = {"policy": policy.parameters(), "q": critics.parameters(), "alpha": [log_alpha]}
    for name, weights in trained.items():
        setattr(learner, f"{name}_optimizer", torch.optim.Adam(weights, LEARNING_RATE, fused=True))
    return learner


def take_step(env: Any, obs: Any, action: Any, buffer: ReplayBuffer) -> tuple[Any, float, bool]:
    """Do and store action (act_dim,), in [-1, 1]: next_obs (obs_dim,), reward, episode over."""
    low, high = env.action_space.low, env.action_space.high  # -2 and 2 in Pendulum
    next_obs, reward, terminated, truncated, _ = env.step(low + (action + 1.0) / 2 * (high - low))
    # A time limit ends the episode, not the task: after `truncated` something would have followed.
    buffer.add(obs, action, reward, next_obs, terminated)
    return next_obs, float(reward), terminated or truncated


def train(args: Any, seed: int) -> Iterator[Info]:
    """Step, store, update; after each episode yield how things are. args: the flags of --demo."""
    torch.manual_seed(seed)
    rng, env = np.random.default_rng(seed), gym.make("Pendulum-v1")
    learner, buffer = make_learner(3, 1, args.fixed_alpha or 1.0), ReplayBuffer(3, 1)
    if args.fixed_alpha:  # exercise 3
        learner.alpha_optimizer.param_groups[0]["lr"] = 0.0
    if args.single_q:  # exercise 2: both opinions of the target critics are the first one's
        learner.target_q_network.register_forward_hook(lambda net, inputs, q: (q[0], q[0]))
    (obs, _), returns, so_far, gaps = env.reset(seed=seed), [], 0.0, []
    for step in range(1, args.steps + 1):
        action = rng.uniform(-1.0, 1.0, 1).astype(np.float32)
        if step > WARMUP:
            with torch.no_grad():
                action = learner.policy(torch.as_tensor(obs))[0].numpy()
        obs, reward, over = take_step(env, obs, action, buffer)
        so_far += reward
        if step >= WARMUP:
            batch = buffer.sample(BATCH_SIZE)
            info = sac_update(**vars(learner), batch=batch, target_entropy=args.target_entropy)
            gaps.append(abs(info["q1_mean"] - info["q2_mean"]))
        if over:
            returns.append(so_far)
            alpha, gap = learner.log_alpha.exp().item(), float(np.mean(gaps or [math.nan]))
            mean = float(np.mean(returns[-RECENT:]))
            yield {"steps": step, "return": mean, "alpha": alpha, "gap": gap}
            (obs, _), so_far, gaps = env.reset(), 0.0, []
    env.close()


def random_batch(dtype: Any = None) -> Batch:
    """64 made-up steps, obs_dim 10 and act_dim 4; every fourth is the last one of its episode."""
    obs, next_obs = torch.randn(2, 64, 10, dtype=dtype)
    actions, rewards = torch.rand(64, 4, dtype=dtype) * 2 - 1, torch.randn(64, dtype=dtype)
    batch = {"obs": obs, "actions": actions, "rewards": rewards, "next_obs": next_obs}
    return batch | {"dones": (torch.arange(64) % 4 == 0).to(rewards.dtype)}


def check_buffer() -> Claims:
    """Replay buffer: whole steps, and only the oldest are forgotten."""
    buffer = ReplayBuffer(10, 4, capacity=100)
    for i in range(130):
        buffer.add(np.full(10, i), np.full(4, -i), i, np.full(10, i + 1), i % 2 == 1)
    yield "size and ptr after 130 steps", [buffer.size, buffer.ptr], [100, 30], 0
    batch = buffer.sample(2000)
    number = batch["rewards"]  # (B,), the others follow from it
    yield "oldest step", int(number.min()), 30, 0
    yield "obs (B, 10)", batch["obs"], number[:, None].expand(-1, 10), 0
    yield "actions (B, 4)", batch["actions"], -number[:, None].expand(-1, 4), 0
    yield "next_obs (B, 10)", batch["next_obs"], number[:, None].expand(-1, 10) + 1, 0
    yield "dones (B,)", batch["dones"], number % 2, 0


def check_networks() -> Claims:
    """Networks: twin critics, and a squashed Gaussian whose log-probabilities are a density's."""
    obs = torch.randn(64, 10, dtype=torch.float64)
    q1, q2 = TwinQNetwork(10, 4).double()(obs, obs[:, :4])
    yield "mean of q1", q1.mean(), 0, 0.5
    yield "mean of q2", q2.mean(), 0, 0.5
    yield "shapes, (B,)", [*q1.shape, *q2.shape], [64, 64], 0
    yield "the critics differ", bool((q1 != q2).all()), True, 0
    policy, noise = GaussianPolicy(10, 4).double(), torch.randn_like(obs[:, :4])
    policy.noise = lambda like, call: noise
    (mean, log_std), (actions, log_probs) = policy.mean_and_log_std(obs), policy(obs)
    x, h = mean + log_std.exp() * noise, 1e-5
    slope = (torch.tanh(x + h) - torch.tanh(x - h)) / (2 * h)  # p(a) = N(x) / |da/dx|
    expected = (torch.distributions.Normal(mean, log_std.exp()).log_prob(x) - slope.log()).sum(-1)
    yield "actions are tanh(x)", actions, torch.tanh(x), 1e-12
    yield "log-probabilities, da/dx measured", log_probs, expected, 1e-6
    policy = GaussianPolicy(1, 1)
    policy.noise = lambda like, call: torch.linspace(-8.0, 8.0, 4001)[:, None]
    actions, log_probs = policy(torch.zeros(4001, 1))
    yield "integral of the density", torch.trapezoid(log_probs.exp(), actions[:, 0]), 1, 1e-3
    policy.noise = lambda like, call: torch.tensor([[1e3]])
    finite = math.isfinite(policy(torch.zeros(1, 1))[1].item())
    yield "finite where tanh(x) is rounded to 1", finite, True, 0


def answering(*answers: Tensor) -> Any:
    """In place of a network: whatever it is asked, it gives these answers."""
    return lambda *questions: answers


def check_losses() -> Claims:
    """Losses: as computed by hand, (1 - d) and min and entropy included."""
    twins = answering(torch.tensor([5.0, 9.0, 3.0]), torch.tensor([3.0, 4.0, 6.0]))
    critics = answering(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 2.0, 3.0]))
    policy = answering(torch.zeros(3, 1), torch.tensor([-0.5, 2.0, 1.0]))
    batch = dict.fromkeys(("obs", "actions", "next_obs"), torch.zeros(3, 1))
    batch |= {"rewards": torch.tensor([1.0, 2.0, 0.5]), "dones": torch.tensor([0.0, 1.0, 0.0])}
    loss, info = compute_q_loss(critics, twins, policy, batch, gamma=0.9, alpha=0.2)
    # y = 1 + 0.9 (3 + 0.2 * 0.5), 2 as nothing follows, 0.5 + 0.9 (3 - 0.2 * 1)
    yield "mean Bellman target", info["target_q_mean"], (3.79 + 2 + 3.02) / 3, 1e-6
    yield "q1 loss", info["q1_loss"], (2.79**2 + 1 + 2.02**2) / 3, 1e-5
    yield "q2 loss", info["q2_loss"], (3.79**2 + 0 + 0.02**2) / 3, 1e-5
    yield "sum of both", loss, (2.79**2 + 1 + 2.02**2 + 3.79**2 + 0 + 0.02**2) / 3, 1e-5
    loss, _ = compute_actor_loss(policy, twins, batch["obs"], alpha=0.2)
    yield "actor loss", loss, ((-0.1 - 3) + (0.4 - 4) + (0.2 - 3)) / 3, 1e-6
    log_alpha = torch.tensor(math.log(0.5), requires_grad=True)
    log_probs = torch.tensor([-1.0, -3.0], requires_grad=True)
    loss, _ = compute_temperature_loss(log_alpha, log_probs, target_entropy=-1.0)
    loss.backward()
    yield "temperature loss", loss, 0.5 * 3, 1e-6
    yield "its gradient by log alpha", log_alpha.grad, 0.5 * 3, 1e-6
    yield "its gradient by the log-probabilities", log_probs.grad is None, True, 0


def check_gradients() -> Claims:
    """Gradients: none into the target critics, from critics into policy, from actor into alpha."""
    us, reached = make_learner(10, 4), dict[str, list[str]]()
    weights = {"alpha": [us.log_alpha], "critics": [*us.q_network.parameters()]}
    weights |= {"policy": [*us.policy.parameters()], "target": [*us.target_q_network.parameters()]}

    def look(step: str) -> None:
        found = {
            name: [w.grad.any() for w in ws if w.grad is not None] for name, ws in weights.items()
        }
        reached[step] = [name for name, nonzero in found.items() if any(nonzero)]

    us.q_optimizer.register_step_pre_hook(lambda *_: look("critic step"))
    us.policy_optimizer.register_step_pre_hook(lambda *_: look("policy step"))
    us.alpha_optimizer.register_step_pre_hook(lambda *_: look("alpha step"))
    sac_update(**vars(us), batch=random_batch(), target_entropy=-4.0)
    so_far: list[str] = []
    for (step, found), new in zip(reached.items(), ("critics", "policy", "alpha"), strict=True):
        so_far = sorted([*so_far, new])
        yield f"{step}: gradients in {found}", found == so_far, True, 0


def check_updates() -> Claims:
    """Updates: 20 of them, all finite, alpha falls to its target, target critics follow by tau."""
    us, finite, gaps, errors = make_learner(10, 4), True, [], []
    us.target_q_network = TwinQNetwork(10, 4)  # far away, so that its way can be measured
    for _ in range(20):
        before = flat(us.target_q_network.parameters())
        info = sac_update(**vars(us), batch=random_batch(), target_entropy=-4.0)
        after, new = flat(us.target_q_network.parameters()), flat(us.q_network.parameters())
        errors.append((after - (0.995 * before + 0.005 * new)).abs().max().item())
        gaps.append(abs(info["q1_mean"] - info["q2_mean"]))
        finite = finite and all(math.isfinite(value) for value in info.values())
    yield "all values finite", finite, True, 0
    yield "alpha, from 1", us.log_alpha.exp(), math.exp(-20 * LEARNING_RATE), 5e-4
    yield "target critics at 0.995 old + 0.005 new", max(errors), 0, 1e-6
    yield "|q1_mean - q2_mean|, largest", max(gaps), 0, 0.5  # exercise 4


def check_step() -> Claims:
    """Steps: actions are scaled to the environment's, a time limit is not a termination."""
    for ends in ((True, False), (False, True), (False, False)):
        env = SimpleNamespace(action_space=gym.spaces.Box(-2.0, 2.0, (1,)))
        env.step = lambda action, ends=ends: (action, 0.0, *ends, {})
        buffer = ReplayBuffer(1, 1, capacity=1)
        sent, _, over = take_step(env, np.zeros(1), np.array([0.75]), buffer)
        stored = buffer.columns["actions"].item()
        yield "action sent, and stored", [float(sent[0]), stored], [1.5, 0.75], 0
        found = [bool(buffer.columns["dones"][0]), over]
        yield f"terminated, truncated {ends}: done, over", found, [ends[0], any(ends)], 0


def compare_log_probs() -> Claims:
    """Our squashed Gaussian log_prob matches SB3."""
    from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution

    policy, obs, noise = GaussianPolicy(10, 4), torch.randn(5000, 10), torch.randn(5000, 4)
    policy.noise = lambda like, call: noise
    (mean, log_std), (actions, ours) = policy.mean_and_log_std(obs), policy(obs)
    sb3 = SquashedDiagGaussianDistribution(4).proba_distribution(mean, log_std)
    theirs = sb3.log_prob(actions, mean + log_std.exp() * noise)
    inside = actions.abs().amax(-1) < 0.99
    yield "log_prob of 5000 actions", ours, theirs, 5e-2
    yield f"log_prob where |a| < 0.99, {inside.sum()} actions", ours[inside], theirs[inside], 3e-4


def sb3_model(epsilon: float) -> Any:
    """SB3's SAC for 10 observed and 4 chosen numbers, alpha 0.3, in float64."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    env: Any = gym.Env()  # its spaces are all that is asked for
    env.observation_space = gym.spaces.Box(-np.inf, np.inf, (10,))
    env.action_space = gym.spaces.Box(-1.0, 1.0, (4,))
    keywords: Any = {"learning_rate": LEARNING_RATE, "ent_coef": "auto_0.3", "target_entropy": -4.0}
    model: Any = SAC("MlpPolicy", env, buffer_size=1, device="cpu", **keywords)
    model.policy.double()
    for network in (model.actor, model.critic, model.critic_target):
        network.extract_features = lambda obs, extractor: obs  # its own would make float32 of it
    model.log_ent_coef.data = model.log_ent_coef.data.double()
    for weight in model.critic_target.parameters():
        weight.data += 0.05 * torch.randn_like(weight)  # not the critics', as after some training
    model.actor.action_dist.epsilon = epsilon
    model.set_logger(Logger(None, []))
    return model


def sb3_weights(model: Any) -> list[Tensor]:
    """Weights of actor, critics and target critics, each (n,), in our order."""
    *hidden, mean, mean_bias, std, std_bias = model.actor.parameters()  # two heads, ours are one
    actor = [*hidden, torch.cat([mean, std]), torch.cat([mean_bias, std_bias])]
    networks = (actor, model.critic.parameters(), model.critic_target.parameters())
    return [flat(weights).detach() for weights in networks]


def sb3_train(model: Any, batch: Batch, noises: Batch) -> None:
    """SB3's own train() on the batch, its policy using the noise of the same name."""
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    dist, ask = model.actor.action_dist, model.actor.action_log_prob

    def named(obs: Tensor, call: str = "") -> Any:
        noise = noises[call or ("next" if obs is batch["next_obs"] else "actor")]

        def sample() -> Tensor:
            dist.gaussian_actions = dist.distribution.mean + dist.distribution.stddev * noise
            return torch.tanh(dist.gaussian_actions)

        dist.sample = sample
        return ask(obs)

    model.actor.action_log_prob = named
    columns = [batch[name] for name in ("obs", "actions", "next_obs")]
    columns += [batch[name][:, None] for name in ("dones", "rewards")]
    model.replay_buffer.sample = lambda *_, **__: ReplayBufferSamples(*columns)
    model.train(gradient_steps=1, batch_size=64)


def compare_update() -> Claims:
    """One sac_update matches one SAC.train() of SB3."""
    print(DIFFERENCES)
    for epsilon, bound in ((1e-6, 1e-3), (0.0, 1e-5)):
        batch, model = random_batch(torch.float64), sb3_model(epsilon)
        noises = {call: torch.randn(64, 4, dtype=torch.float64) for call in CALLS}
        us = make_learner(10, 4, 0.3, torch.float64)
        networks = (us.policy, us.q_network, us.target_q_network)
        for network, theirs in zip(networks, sb3_weights(model), strict=True):
            fill(theirs, network.parameters())
            for weight in network.parameters():
                weight.grad = torch.ones_like(weight)  # a leftover, for zero_grad to remove
        us.policy.noise = lambda like, call, noises=noises: noises[call]
        us.q_optimizer.param_groups[0]["eps"] *= 2
        early = us.policy(batch["obs"], "actor")[1]
        compute_temperature_loss(us.log_alpha, early, -4.0)[0].backward()
        early_gradient = us.log_alpha.grad / 0.3
        sb3_train(model, batch, noises)
        info = sac_update(**vars(us), batch=batch, target_entropy=-4.0)
        late = model.actor.action_log_prob(batch["obs"], "temperature")[1]
        q_loss, logged = (info["q1_loss"] + info["q2_loss"]) / 2, model.logger.name_to_value
        yield f"epsilon {epsilon:g}: critic loss", q_loss, logged["train/critic_loss"], bound
        yield "actor loss", info["actor_loss"], logged["train/actor_loss"], bound
        early_theirs, late_theirs = model.log_ent_coef.grad, -(late - 4.0).mean()
        yield "alpha's gradient, before the policy step", early_gradient, early_theirs, bound
        yield "alpha's gradient, after it", us.log_alpha.grad / 0.3, late_theirs, bound
        names = ("policy", "critics", "target critics")
        for name, network, theirs in zip(names, networks, sb3_weights(model), strict=True):
            yield f"new weights of the {name}", flat(network.parameters()), theirs, bound


VERIFY = [check_buffer, check_networks, check_losses, check_gradients, check_updates, check_step]
COMPARE = [compare_log_probs, compare_update]


def run(heading: str, checks: list[Callable[[], Claims]], seed: int) -> list[bool]:
    """Print what each check measured and the bound it was held to, then its verdict."""
    print(f"SAC From Scratch -- {heading}")
    verdicts = []
    for check in checks:
        torch.manual_seed(seed)
        passed = True
        for name, measured, expected, bound in check():
            pair = (torch.as_tensor(value, dtype=torch.float64) for value in (measured, expected))
            found, wanted = (value.detach() for value in pair)
            fits = found.shape == wanted.shape or wanted.numel() == 1  # no broadcasting by mistake
            error = (found - wanted).abs().max().item() if fits else math.inf
            if bound == 0 and found.numel() <= 2:
                print(f"{name}: {measured} (bound: {expected})")
            else:
                value = f"{found.item():.6g}, " if found.numel() == 1 else ""
                print(f"{name}: {value}off by {error:.1e} (bound: {bound:g})")
            passed = passed and error <= bound
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        verdicts.append(passed)
    return verdicts


def draw(curves: dict[int, list[Info]], path: Path) -> None:
    """Return, alpha and |q1 - q2| of each seed over the steps, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for seed, curve in curves.items():
        for panel, name in zip(panels, ("return", "alpha", "gap"), strict=True):
            steps = [row["steps"] for row in curve]
            panel.plot(steps, [row[name] for row in curve], label=f"seed {seed}")
    panels[0].axhline(SOLVED, color="0.3", ls="--", label=f"goal: {SOLVED:g}")
    panels[0].set(title="SAC on Pendulum-v1", ylabel=f"return, mean of {RECENT} episodes")
    panels[1].set(ylabel="temperature α", ylim=(0, None))
    panels[2].set(ylabel="|mean Q1 − mean Q2|", xlabel="environment steps", ylim=(0, None))
    panels[0].legend(ncols=2)
    figure.savefig(path, format="png", dpi=150)


def write_table(rows: list[Any], args: Any, command: str) -> None:
    """What the seeds came to, as JSON, in place of an older table."""
    versions = {name: version(name) for name in ("gymnasium", "numpy", "torch")}
    found = {"schema": "lab-seeds/1", "lab": "sac_from_scratch", "steps": args.steps, "rows": rows}
    found |= {"command": command, "versions": versions}
    temporary = args.json.with_name(f"{args.json.name}.tmp")
    temporary.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(args.json)


def demo(args: Any, command: str) -> list[bool]:
    """Learn with each seed, one after the other; print, store and draw how it went."""
    for path in filter(None, (args.out, args.json)):
        path.parent.mkdir(parents=True, exist_ok=True)
    curves: dict[int, list[Info]] = {}
    rows, verdicts, every = [], [], 5 if args.steps <= 20_000 else 25
    for seed in args.seeds:
        print(f"Pendulum-v1, seed {seed}\n   steps   return    alpha  |q1-q2|")
        start, solved, curves[seed] = time.thread_time(), None, []
        for now in train(args, seed):
            curves[seed].append(now)
            if solved is None and now["return"] > SOLVED:
                solved = now["steps"]
            if len(curves[seed]) % every == 0 or now["steps"] + 200 > args.steps:
                line = "{steps:8d} {return:8.1f} {alpha:8.3f} {gap:8.3f}"
                print(line.format(**now), "(solved)" * (now["return"] > SOLVED), flush=True)
        found = {"seed": seed, "steps_to_solved": solved, "final_return": now["return"]}
        found |= {"final_alpha": now["alpha"], "seconds": round(time.thread_time() - start, 1)}
        rows.append(found)  # seconds: waiting for other programs does not count
        print(f"return above {SOLVED:g} at step {solved} (bound: {JUDGED})")
        if args.steps >= JUDGED:
            verdicts.append(solved is not None and solved <= JUDGED)
            print(f"[{'PASS' if verdicts[-1] else 'FAIL'}] Pendulum swung up, seed {seed}")
        if args.json:
            write_table(rows, args, command)
        draw(curves, args.out)
    print(f"wrote {args.out}")
    return verdicts


def seeds(text: str) -> list[int]:
    """Seeds as typed: one (3), several (0,2) or a range (0-4)."""
    first, _, last = text.partition("-")
    found = [*range(int(first), int(last) + 1)] if last else [int(one) for one in text.split(",")]
    if not found:
        raise ValueError(text)
    return found


def conclude(verdicts: list[bool], praise: str) -> int:
    """Print the last line and return the exit code."""
    if not verdicts:
        print(f"not judged: fewer than {JUDGED} steps")
    elif all(verdicts):
        print(praise)
    else:
        print(f"[FAILED] {verdicts.count(False)} of {len(verdicts)} checks")
    return 0 if all(verdicts) else 1


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--compare-sb3", action="store_true", help="compare with Stable-Baselines3")
    mode.add_argument("--demo", action="store_true", help="learn Pendulum-v1 and draw the curve")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--seeds", type=seeds, help="of --demo, one after the other, like 0-4")
    parser.add_argument("--steps", type=int, default=50_000, help="of --demo, 200 or more")
    parser.add_argument("--target-entropy", type=float, default=-1.0, help="of --demo, exercise 5")
    parser.add_argument("--fixed-alpha", type=float, help="of --demo, exercise 3, e.g. 0.2")
    parser.add_argument("--single-q", action="store_true", help="of --demo, exercise 2")
    parser.add_argument("--out", type=Path, default=Path("figures/sac_demo_curve.png"), help="PNG")
    parser.add_argument("--json", type=Path, help="table of the seeds of --demo")
    args = parser.parse_args(argv)
    args.seeds = args.seeds or [args.seed]
    if min(args.seeds) < 0:
        parser.error(f"seed {min(args.seeds)} is negative; give 0 or more")
    if args.steps < 200 or (args.fixed_alpha is not None and args.fixed_alpha <= 0):
        parser.error("--steps must be 200 (an episode) or more, --fixed-alpha above 0")
    if not (args.verify or args.compare_sb3 or args.demo):
        parser.print_help()
        return 2
    if args.verify:
        praise = "[PASS] All checks passed.\n[ALL PASS] SAC implementation verified"
        return conclude(run("Verification", VERIFY, args.seed), praise)
    if args.compare_sb3:
        return conclude(run("SB3 Comparison", COMPARE, args.seed), "[ALL PASS] SB3 agrees")
    try:
        command = shlex.join(["python", "scripts/labs/sac_from_scratch.py", *argv])
        return conclude(demo(args, command), "[ALL PASS] Every seed learned")
    except OSError as error:
        print(f"error: {error}; choose other files with --out and --json", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
