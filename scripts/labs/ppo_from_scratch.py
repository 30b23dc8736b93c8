"""PPO from scratch (book chapter 3): act, judge the actions, improve the policy in small steps."""

import copy
import os
import time
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections import namedtuple
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MultivariateNormal, Normal

Dist = Distribution  # a Normal or, if discrete, a Categorical
Rows = Iterable[tuple[str, Any, Any, float]]  # name, measured, expected, bound on the difference
# A step: obs (obs_dim,), action (act_dim,) or, if discrete, (1,), log_prob and value (), success or
# None if the task has none, cut_value: V of the last obs if only the time limit ended it, else 0.
Transition = namedtuple("Transition", "obs action log_prob value reward done cut_value success")
Rollout = tuple[list[Transition], Tensor, list[float]]
# What an update learns from: observations and actions of B steps, all else (B,).
Batch = namedtuple("Batch", "observations actions old_log_probs advantages returns")


class Settings(NamedTuple):
    """What the exercises turn; each is a flag. In the order of SB3's PPO, then of ppo_update."""

    learning_rate: Annotated[float, "of Adam"] = 1e-3
    n_steps: Annotated[int, "steps of a rollout"] = 1024
    batch_size: Annotated[int, "steps per gradient step"] = 128
    n_epochs: Annotated[int, "times that a rollout is learned from"] = 10
    gamma: Annotated[float, "discount; FetchReachDense has 0.95"] = 0.99
    gae_lambda: Annotated[float, "0: trust V after one step, 1: what came of it alone"] = 0.95
    clip_range: Annotated[float, "a ratio may leave 1 by this much"] = 0.2
    value_coef: Annotated[float, "weight of the value loss; CartPole has 0.02"] = 0.5
    entropy_coef: Annotated[float, "weight of the entropy in the loss"] = 0.0


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

    def forward(self, obs: Tensor) -> tuple[Dist, Tensor]:
        """obs: (B, obs_dim) -> distribution of (B, act_dim), or (B, 1) if discrete; values (B,)."""
        features = self.backbone(obs)  # (B, hidden_dim)
        output = self.policy_head(features)  # (B, act_dim)
        values = self.value_head(features).squeeze(-1)  # (B, 1) -> (B,)
        if self.log_std is None:
            return Categorical(logits=output.unsqueeze(-2), validate_args=False), values
        return Normal(output, self.log_std.exp().expand_as(output), validate_args=False), values


# --8<-- [end:actor_critic_network]
# --8<-- [start:gae_computation]
def compute_gae(
    rewards: Tensor,  # (T,)
    values: Tensor,  # (T,)
    next_value: Tensor | float,  # V after the last step
    dones: Tensor,  # (T,), 1 where an episode ended
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Advantages (T,) and returns (T,) of T steps in a row, computed from the last to the first."""
    advantages, next_advantage = torch.zeros_like(values), torch.zeros(())
    for t in reversed(range(len(rewards))):
        going_on = 1.0 - float(dones[t])
        # delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
        delta = rewards[t] + gamma * next_value * going_on - values[t]
        # A_t = delta_t + gamma lambda A_{t+1}
        next_advantage = delta + gamma * gae_lambda * going_on * next_advantage
        advantages[t], next_value = next_advantage, values[t]
    return advantages, advantages + values  # R_t = A_t + V(s_t)


# --8<-- [end:gae_computation]
# --8<-- [start:ppo_loss]
def compute_ppo_loss(
    dist: Dist, old_log_probs: Tensor, actions: Tensor, advantages: Tensor, clip_range: float = 0.2
) -> tuple[Tensor, dict[str, float]]:
    """The clipped loss, a scalar, of today's policy dist; old_log_probs, advantages: (B,)."""
    log_ratio = dist.log_prob(actions).sum(-1) - old_log_probs
    ratio = log_ratio.exp()  # r = pi(a|s) / pi_old(a|s)
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    # L = -E[min(r A, clip(r, 1 - eps, 1 + eps) A)]
    loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    kl = (ratio - 1.0 - log_ratio).mean()  # of pi_old from pi, >= 0
    info = {"policy_loss": loss, "approx_kl": kl, "ratio_mean": ratio.mean()}
    info["clip_fraction"] = ((ratio - 1.0).abs() > clip_range).float().mean()
    return loss, {name: value.item() for name, value in info.items()}


# --8<-- [end:ppo_loss]
# --8<-- [start:value_loss]
def compute_value_loss(values: Tensor, returns: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Half the mean squared error of values (B,) as predictions of returns (B,), a scalar."""
    errors = values - returns
    loss = 0.5 * errors.pow(2).mean()  # L = 1/2 E[(V(s) - R)^2]
    # 1: every difference between returns is foreseen, 0: none, as if V were a constant.
    explained = 1.0 - errors.var() / returns.var().clamp(min=1e-8)
    return loss, {"value_loss": loss.item(), "explained_variance": explained.item()}


# --8<-- [end:value_loss]
# --8<-- [start:ppo_update]
def ppo_update(
    model: ActorCritic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    clip_range: float = 0.2,
    value_coef: float = 0.5,
    entropy_coef: float = 0.0,
    max_grad_norm: float = 0.5,
) -> dict[str, float]:
    """One gradient step on the batch."""
    obs, actions, old_log_probs, advantages, returns = batch
    dist, values = model(obs)
    # Mean 0, spread 1: the step does not depend on the unit in which rewards are counted.
    if len(advantages) > 1:  # one alone has no spread
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    policy_loss, info = compute_ppo_loss(dist, old_log_probs, actions, advantages, clip_range)
    value_loss, value_info = compute_value_loss(values, returns)
    entropy = dist.entropy().sum(-1).mean()
    # L = L_policy + c_value L_value - c_entropy H
    loss = policy_loss + value_coef * value_loss - entropy_coef * entropy
    optimizer.zero_grad()
    loss.backward()
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    totals = {"entropy": entropy, "total_loss": loss, "grad_norm": grad_norm}
    return info | value_info | {name: total.item() for name, total in totals.items()}


# --8<-- [end:ppo_update]
# --8<-- [start:ppo_training_loop]
@torch.no_grad()
def collect_rollout(env: Any, model: ActorCritic, n_steps: int, device: str) -> Rollout:
    """Act n_steps times: the transitions, V () of what comes next, returns of finished episodes."""
    transitions, episode_returns = [], []
    # The next call goes on with the episode that this one leaves unfinished, at the env itself.
    obs, so_far = getattr(env, "unfinished", None) or (env.reset()[0], 0.0)
    for _ in range(n_steps):
        seen = torch.as_tensor(obs, dtype=torch.float32, device=device)  # (obs_dim,)
        dist, value = model(seen)
        action = dist.sample()
        chosen = action.cpu().numpy().reshape(env.action_space.shape)
        obs, reward, terminated, truncated, info = env.step(chosen)
        done, so_far = terminated or truncated, so_far + float(reward)
        # The book's listing takes a time limit for a termination; V says what was still to come.
        cut_value = float(model(seen.new_tensor(obs))[1]) if truncated and not terminated else 0.0
        told = (reward, done, cut_value, info.get("is_success"))
        transitions.append(Transition(seen, action, dist.log_prob(action).sum(-1), value, *told))
        if done:
            episode_returns.append(so_far)
            obs, so_far = env.reset()[0], 0.0
    env.unfinished = obs, so_far
    return transitions, model(seen.new_tensor(obs))[1], episode_returns


def transitions_to_batch(
    transitions: list[Transition], next_value: Tensor, gamma: float = 0.99, gae_lambda: float = 0.95
) -> Batch:
    """The T transitions of a rollout as a batch of B = T."""
    columns = list(zip(*transitions, strict=True))
    observations, actions, log_probs, values = map(torch.stack, columns[:4])
    rewards, dones, cut_values = values.new_tensor(columns[4:7])
    rewards = rewards + gamma * cut_values  # r_t + gamma V(s_{t+1}), where done drops the latter
    advantages, returns = compute_gae(rewards, values, next_value, dones, gamma, gae_lambda)
    return Batch(observations, actions, log_probs, advantages, returns)


TASKS = {  # learned when the mean return of 20 episodes is at least the first number
    # Returns near 100 make the value loss near 1000, whose gradient would drown the policy's.
    "CartPole-v1": (195.0, Settings(value_coef=0.02)),
    "FetchReachDense-v4": (-1.5, Settings(gamma=0.95)),
}


def make_env(env_id: str) -> Any:
    """CartPole-v1, obs (4,), or Fetch with its observation and desired_goal in one: (13,)."""
    if env_id == "CartPole-v1":
        return gym.make(env_id)
    os.environ["MUJOCO_GL"] = "disable"  # nothing is drawn; read while mujoco is imported
    env: Any = gym.make(f"gymnasium_robotics:{env_id}")
    env = gym.wrappers.FilterObservation(env, ["observation", "desired_goal"])
    # Centimetres count here, a metre off the origin: in units of their spread they are seen.
    return gym.wrappers.NormalizeObservation(gym.wrappers.FlattenObservation(env))


def evaluate(env: Any, model: ActorCritic, n_episodes: int = 20) -> list[tuple[float, Any]]:
    """(return, success) of fresh episodes, which leave the scale of observations as it is."""
    env.set_wrapper_attr("update_running_mean", False, force=False)
    env.unfinished, found = None, list[tuple[float, Any]]()
    while len(found) < n_episodes:
        transitions, _, returns = collect_rollout(env, model, 500, "cpu")
        found += zip(returns, [step.success for step in transitions if step.done], strict=True)
    env.set_wrapper_attr("update_running_mean", True, force=False)
    return found[:n_episodes]


def learn(env_id: str, seed: int, total_steps: int, settings: Settings) -> dict[str, Any]:
    """Act, judge, improve until rollouts, then fresh episodes reach the target; print a table."""
    torch.set_num_threads(1)  # more of them only wait for each other on networks this small
    torch.manual_seed(seed)
    target, start, env, recent = TASKS[env_id][0], time.perf_counter(), make_env(env_id), []
    env.reset(seed=seed)
    act_dim, discrete = gym.spaces.flatdim(env.action_space), env.action_space.shape == ()
    model = ActorCritic(env.observation_space.shape[0], act_dim, discrete=discrete)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, eps=1e-5)
    found: dict[str, Any] = {"seed": seed, "steps_to_target": None, "curve": []}
    print(f"{env_id}, seed {seed}\niteration    steps   return  value loss      KL")
    for steps in range(settings.n_steps, total_steps + 1, settings.n_steps):
        transitions, next_value, finished = collect_rollout(env, model, settings.n_steps, "cpu")
        batch = transitions_to_batch(transitions, next_value, settings.gamma, settings.gae_lambda)
        infos = []
        for _ in range(settings.n_epochs):
            for rows in torch.randperm(settings.n_steps).split(settings.batch_size):
                part = Batch(*(column[rows] for column in batch))
                infos.append(ppo_update(model, optimizer, part, *settings[6:]))  # the last three
        loss, kl = (np.mean([i[key] for i in infos]) for key in ("value_loss", "approx_kl"))
        recent += finished
        mean = float(np.mean(recent[-20:] or [np.nan]))
        found["curve"].append(round(mean, 2) if recent else None)
        print(f"{len(found['curve']):9} {steps:8} {mean:8.1f} {loss:11.3g} {kl:7.4f}", flush=True)
        if steps + settings.n_steps > total_steps or (len(recent) >= 20 and mean >= target):
            returns, successes = zip(*evaluate(env, model), strict=True)  # of this policy alone
            found["final_mean"] = float(np.mean(returns))
            found |= {} if None in successes else {"final_success": float(np.mean(successes))}
            if found["final_mean"] >= target:
                found["steps_to_target"] = steps
                break
    return found | {"seconds": round(time.perf_counter() - start, 1)}


# --8<-- [end:ppo_training_loop]
def judge(claim: str, rows: Rows) -> bool:
    """Print how far each measurement is from what is expected, at most, then the verdict."""
    passed = True
    for name, measured, expected, bound in rows:
        error = float(torch.as_tensor(measured - expected).detach().abs().max())
        shown = f"off by {error:.2g}" if isinstance(measured, Tensor) else f"{measured:.4g}"
        aim = f"{bound:g}" if isinstance(measured, Tensor) else f"{expected:.4g} ± {bound:g}"
        print(f"{name}: {shown} (bound: {aim})")
        passed = passed and error <= bound
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def check_network(settings: Settings) -> Rows:
    """Actor-critic network: shapes, size, log-probability of independent components."""
    model, deviations = ActorCritic(16, 4), torch.tensor([0.3, 1.0, 1.5, 3.0])
    model.log_std = nn.Parameter(deviations.log())
    (dist, value), action = model(torch.randn(1, 16)), torch.randn(1, 4)
    yield "shapes are right", (dist.mean.shape, value.shape) == ((1, 4), (1,)), 1, 0
    yield "parameters", sum(weights.numel() for weights in model.parameters()), 5577, 0
    expected = MultivariateNormal(dist.mean, torch.diag(deviations**2)).log_prob(action)
    yield "log-probability", dist.log_prob(action).sum(-1), expected, 1e-5


def check_gae(settings: Settings) -> Rows:
    """GAE: the sums written out, across two rollouts, time limits and both limits of lambda."""
    env = gym.make("CartPole-v1", max_episode_steps=20)
    env.reset(seed=int(torch.randint(2**31, ())))
    replay, model = copy.deepcopy(env), ActorCritic(4, 2, discrete=True)
    nn.init.constant_(model.value_head.bias, 10.0)
    (first, *_), (more, next_value, _) = (collect_rollout(env, model, 100, "cpu") for _ in range(2))
    obs, strayed, columns = replay.reset()[0], 0, []
    for step in first + more:
        strayed += not np.array_equal(step.obs, obs)
        obs, reward, failed, cut, _ = replay.step(step.action.item())
        after = 0.0 if failed else model(torch.tensor(obs))[1].item()
        columns.append((reward, step.value, after, failed or cut))
        obs = replay.reset()[0] if failed or cut else obs
    yield "observations that stray from a replay", strayed, 0, 0
    rewards, values, after, dones = torch.tensor(columns).T
    t, episode = torch.arange(len(dones)), dones.cumsum(0) - dones
    # (T, T): whether step k is in the episode of step t and not before t; how much later it is.
    counts, ahead = (episode[:, None] == episode).triu(), (t - t[:, None]).clamp(min=0)
    deltas = rewards + 0.99 * after - values
    sums = (counts * (0.99 * settings.gae_lambda) ** ahead) @ deltas
    dones[-1] = 1.0  # if lambda is 1, V is needed only where an episode or the rollout stops
    monte_carlo = (counts * 0.99**ahead) @ (rewards + 0.99 * after * dones) - values
    for lam, expected in ((0.0, deltas), (settings.gae_lambda, sums), (1.0, monte_carlo)):
        *_, found, returns = transitions_to_batch(first + more, next_value, 0.99, lam)
        yield f"advantages (spread {found.std():.3f}), lambda {lam:g}", found, expected, 1e-4
        yield f"returns, lambda {lam:g}", returns, expected + values, 1e-4


def check_ppo_loss(settings: Settings) -> Rows:
    """PPO loss: an unchanged policy has ratio 1, clipped actions have no gradient."""
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.15, 0.9])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    objectives = torch.tensor([1.2, -1.5, 0.5, -0.8, 1.15, -0.9])
    slopes = torch.tensor([0.0, 1.5, -0.5, 0.0, -1.15, 0.9])  # of -objective, by log pi
    mean, actions = torch.zeros(6, 4, requires_grad=True), torch.ones(6, 4)
    dist = Normal(mean, 1.0)  # at action 1, d(log pi) / d(mean) is 1
    old = dist.log_prob(actions).sum(-1).detach()
    same = compute_ppo_loss(dist, old, actions, advantages)[1]
    for name, aim in {"ratio_mean": 1.0, "clip_fraction": 0.0, "approx_kl": 0.0}.items():
        yield f"unchanged: {name}", same[name], aim, 1e-6
    loss, info = compute_ppo_loss(dist, old - ratios.log(), actions, advantages)
    yield "six cases: loss", loss, -objectives.mean(), 1e-6
    yield "six cases: gradient", torch.autograd.grad(loss, mean)[0][:, 0], slopes / 6, 1e-6
    yield "six cases: clip_fraction", info["clip_fraction"], 4 / 6, 1e-6
    yield "six cases: approx_kl", info["approx_kl"], (ratios - 1 - ratios.log()).mean(), 1e-6


def check_value_loss(settings: Settings) -> Rows:
    """Value loss: half the variance for values near zero, whose gradient is the error."""
    values, returns = (0.01 * torch.randn(4096)).requires_grad_(), torch.randn(4096)
    loss, info = compute_value_loss(values, returns)
    gradient = torch.autograd.grad(loss, values)[0]
    right = compute_value_loss(returns, returns)[1]
    yield "near zero: value_loss", info["value_loss"], 0.5, 0.05
    yield "near zero: explained_variance", info["explained_variance"], 0.0, 0.05
    yield "near zero: gradient", gradient, (values - returns) / 4096, 1e-7
    yield "right: explained_variance", right["explained_variance"], 1.0, 1e-6


def check_update(settings: Settings) -> Rows:
    """PPO update: ten of them lower both losses and leave the policy near where it was."""
    model, obs, actions = ActorCritic(16, 4), torch.randn(256, 16), torch.randn(256, 4)
    old = model(obs)[0].log_prob(actions).sum(-1).detach()
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    batch = Batch(obs, actions, old, advantages=actions[:, 0], returns=obs[:, 0])
    first, *_, last = [ppo_update(model, optimizer, batch) for _ in range(10)]
    yield "value_loss, last to first", last["value_loss"] / first["value_loss"], 0.5, 0.499
    yield "policy_loss, last", last["policy_loss"], -0.5, 0.499
    yield "approx_kl", last["approx_kl"], 0.025, 0.0249


def verify(args: Namespace, settings: Settings) -> Iterator[tuple[str, Rows]]:
    """Check the five parts one by one."""
    print("PPO From Scratch -- Verification")
    for check in (check_network, check_gae, check_ppo_loss, check_value_loss, check_update):
        yield str(check.__doc__).rstrip("."), check(settings)


def compare_sb3(args: Namespace, settings: Settings) -> Iterator[tuple[str, Rows]]:
    """Send a batch through Stable-Baselines3's buffer and PPO.train(), and through this file."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger

    print("PPO From Scratch -- SB3 Comparison")
    n, gamma, lam, clip = settings.n_steps, settings.gamma, settings.gae_lambda, settings.clip_range
    # Its value loss lacks the 1/2, so its coefficient is half of ours.
    coefs: dict[str, Any] = {"ent_coef": 0.01, "vf_coef": settings.value_coef / 2, "device": "cpu"}
    env = make_env("FetchReachDense-v4")  # only asked for its spaces
    twin: Any = PPO("MlpPolicy", env, *settings._replace(batch_size=n)[:7], **coefs)
    twin.set_logger(Logger(None, []))
    ours, buffer, log = copy.deepcopy(twin.policy), twin.rollout_buffer, twin.logger.name_to_value
    ours.forward = lambda x: (ours.get_distribution(x).distribution, ours.predict_values(x)[:, 0])
    obs, actions, next_value = torch.randn(n, 13), torch.randn(n, 4), torch.randn(())
    rewards, values, dones = torch.rand(n), torch.randn(n), (torch.rand(n) < 0.05).float()
    # Noise makes it another policy's: ratios differ from 1, some of them are clipped.
    old = ours(obs)[0].log_prob(actions).sum(-1).detach() + 0.2 * torch.randn(n)
    arrays = (column.numpy() for column in (obs, actions, rewards, dones.roll(1)))
    for step in zip(*arrays, values, old, strict=True):
        buffer.add(*step)
    buffer.compute_returns_and_advantage(next_value, dones[-1:].numpy())
    gae = compute_gae(rewards, values, next_value, dones, gamma, lam)
    print(f"gamma={gamma}, lambda={lam}, {dones.sum():.0f} episode ends inside")
    rows: Rows = [
        ("Max advantage difference", gae[0], torch.tensor(buffer.advantages[:, 0]), 1e-6),
        ("Max return difference", gae[1], torch.tensor(buffer.returns[:, 0]), 1e-6),
    ]
    yield "Our GAE matches SB3 RolloutBuffer", rows
    twin.train()
    given = (ours, ours.optimizer, Batch(obs, actions, old, *gae), clip, settings.value_coef, 0.01)
    infos = [ppo_update(*given) for _ in range(settings.n_epochs)]
    loss = np.mean([info["policy_loss"] for info in infos])
    weights, others = (nn.utils.parameters_to_vector(p.parameters()) for p in (ours, twin.policy))
    rows = [
        ("clipped loss", loss, log["train/policy_gradient_loss"], 1e-6),
        ("loss of the last update", infos[-1]["total_loss"], log["train/loss"], 1e-5),
        (f"weights after {len(infos)} updates", weights, others, 1e-6),
    ]
    yield "Our loss and update match SB3 PPO.train()", rows


def demo(args: Namespace, settings: Settings) -> Iterator[tuple[str, Rows]]:
    """Learn a task with one seed, draw the curve."""
    from matplotlib.figure import Figure

    print("PPO From Scratch -- Demo")
    out = args.out or Path("figures", f"ppo_demo_curve{'_fetch' * ('Fetch' in args.env)}.png")
    out.parent.mkdir(parents=True, exist_ok=True)  # fails before the work is done
    found, target = learn(args.env, args.seed, args.steps, settings), TASKS[args.env][0]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="environment steps", ylabel="mean return of 20 episodes")
    axes.set_title(f"PPO from scratch on {args.env}, seed {args.seed} (dashed: the target)")
    steps = settings.n_steps * np.arange(1, len(found["curve"]) + 1)
    axes.plot(steps, np.array(found["curve"], float), color="0")
    axes.axhline(target, color="0", ls="--")
    figure.savefig(out, format="png", dpi=200)
    print(f"wrote {out}; 20 episodes:", *(f"{k} {found[k]:.4g}" for k in found if "final" in k))
    missing = max(target - found["final_mean"], 0.0)
    yield f"{args.env}, seed {args.seed}", [(f"return short of {target:g} by", missing, 0.0, 0)]


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = ArgumentParser(usage=SUPPRESS, description=__doc__, argument_default=SUPPRESS)
    mode = parser.add_mutually_exclusive_group()
    for flag, run in (("--verify", verify), ("--compare-sb3", compare_sb3), ("--demo", demo)):
        mode.add_argument(flag, dest="run", action="store_const", const=run, help=run.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--env", choices=TASKS, default="CartPole-v1", help="the demo's task")
    parser.add_argument("--steps", type=int, default=50_000, help="of the demo, at most")
    parser.add_argument("--out", type=Path, default=None, help="PNG of the demo (in figures/)")
    for name, standard in Settings()._asdict().items():
        told = f"{Settings.__annotations__[name].__metadata__[0]} (default: {standard})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(standard), help=told)
    args = parser.parse_args(argv)
    if "run" not in args:
        parser.print_help()
        return 2
    given = {name: value for name, value in vars(args).items() if name in Settings._fields}
    settings = (TASKS[args.env][1] if args.run is demo else Settings())._replace(**given)
    sound = (*settings[1:4], min(settings) >= 0, sum(settings) < 1e9, max(settings[4:6]) <= 1)
    if not (all(sound) and 0 <= args.seed < 2**32 and args.steps >= settings.n_steps):
        parser.error("no number below 0, no count 0, no discount above 1, --steps from n_steps on")
    torch.manual_seed(args.seed)
    try:
        results = [judge(*claim) for claim in args.run(args, settings)]
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")
    n, failed = len(results), results.count(False)
    done = {verify: "implementation verified", compare_sb3: "matches SB3", demo: "learned the task"}
    print(f"[FAILED] {failed} of {n} checks" if failed else f"[ALL PASS] PPO {done[args.run]}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
