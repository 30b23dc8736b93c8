"""DDPG + HER from scratch (book chapter 5): learn to reach goals from little but failures."""

import argparse
import copy
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]  # by name: an observation, or an episode of them
Rows = Iterator[tuple[str, Any, Any, float]]  # what, measured, expected, how far off it may be
Result = namedtuple("Result", "agent, curves, seconds")  # what train returns


@dataclass(frozen=True)
class DDPGConfig:
    """How the networks learn."""

    gamma: Annotated[float, "discount; the worst value is -1 / (1 - gamma) = -50"] = 0.98
    tau: Annotated[float, "share of the networks that enters their targets per update"] = 0.02
    actor_lr: Annotated[float, "step size of Adam for the actor"] = 1e-3
    critic_lr: Annotated[float, "step size of Adam for the critic"] = 1e-3
    hidden_dim: Annotated[int, "units in each of the two hidden layers"] = 64
    action_l2: Annotated[float, "price of large actions, keeps tanh out of saturation"] = 0.1


@dataclass(frozen=True)
class HERConfig:
    """What is replayed."""

    k: Annotated[int, "hindsight goals per original one; 0 switches hindsight off"] = 4
    strategy: Annotated[str, "where new goals come from: future, final or episode"] = "future"
    capacity: Annotated[int, "episodes kept; then the oldest gives way"] = 1000


@dataclass(frozen=True)
class TrainConfig:
    """How long, and how to explore."""

    seed: Annotated[int, "of networks, goals, exploration and replay"] = 0
    episodes: Annotated[int, "training episodes of 50 steps"] = 150
    updates_per_episode: Annotated[int, "gradient steps after each episode"] = 40
    batch_size: Annotated[int, "transitions per gradient step"] = 128
    noise_std: Annotated[float, "standard deviation of the noise on actions"] = 0.5
    eval_every: Annotated[int, "training episodes between two evaluations"] = 20
    ddpg: DDPGConfig = DDPGConfig()
    her: HERConfig = HERConfig()


# --8<-- [start:point_reach_env]
@dataclass(eq=False)
class PointReachGoalEnv(gym.Env[Arrays, np.ndarray]):
    """A point mass in a walled square: observation (4,) its place and velocity, goals (2,)."""

    max_steps: int = 50
    dt: float = 0.05
    goal_range: float = 1.0
    max_speed: float = 1.0
    distance_threshold: float = 0.05
    action_scale: float = 10.0
    seed: int | None = None

    def __post_init__(self) -> None:
        high = np.repeat([self.goal_range, self.max_speed], 2)
        state, square = (gym.spaces.Box(-each, each, dtype=np.float64) for each in (high, high[:2]))
        goals = {"achieved_goal": square, "desired_goal": square}
        self.observation_space: Any = gym.spaces.Dict({"observation": state, **goals})
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,))
        super().reset(seed=self.seed)  # resets that name no seed go on from this one

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Arrays, Any]:
        """Start at rest in the middle, with a goal from anywhere in the square."""
        super().reset(seed=seed)
        self.position, self.velocity, self.steps = np.zeros(2), np.zeros(2), 0
        self.goal = self.np_random.uniform(-self.goal_range, self.goal_range, 2)
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[Arrays, float, bool, bool, Any]:
        """Accelerate by action (2,), clipped to ±1, for a time of dt."""
        velocity = self.velocity + np.clip(action, -1.0, 1.0) * self.action_scale * self.dt
        velocity /= max(1.0, np.hypot(*velocity) / self.max_speed)
        moved = self.position + velocity * self.dt
        self.position = np.clip(moved, -self.goal_range, self.goal_range)
        self.velocity = np.where(moved == self.position, velocity, 0.0)  # walls do not bounce
        self.steps += 1
        goals = self.position, self.goal
        reward = float(self.compute_reward(*goals, {}))
        over = self.compute_terminated(*goals, {}), self.compute_truncated(*goals, {})
        return self.observe(), reward, *over, {"is_success": reward == 0.0}

    def observe(self) -> Arrays:
        """What is seen, as copies."""
        goals = {"achieved_goal": self.position.copy(), "desired_goal": self.goal.copy()}
        return {"observation": np.concatenate([self.position, self.velocity]), **goals}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """0 at the goal, -1 elsewhere, (...,) for goals of shape (..., 2)."""
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return (distance <= self.distance_threshold) - 1.0

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Never: having reached the goal, it has to stay there."""
        return False

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Whether the time is up, which is no property of the state."""
        return self.steps >= self.max_steps


gym.registry.pop("PointReach-v0", None)  # this module may be loaded twice; the last one counts
gym.register("PointReach-v0", f"{__name__}:PointReachGoalEnv")
# --8<-- [end:point_reach_env]


# --8<-- [start:replay_buffer]
class HindsightReplayBuffer:
    """Whole episodes of equal length, whose goals are replaced when a batch is drawn."""

    def __init__(self, config: HERConfig, compute_reward_fn: Callable[..., Any]) -> None:
        self.config, self.compute_reward_fn = config, compute_reward_fn
        self.parts, self.added = Arrays(), 0  # (capacity, T + 1, ...) each; episodes so far

    def add(self, episode: Arrays) -> None:
        """Keep an episode, in place of the oldest one if the buffer is full."""
        for key, part in episode.items():
            room = np.empty((self.config.capacity, *part.shape))  # for the first of them
            self.parts.setdefault(key, room)[self.added % self.config.capacity] = part
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator) -> list[Tensor]:
        """Draw states, next states (B, obs_dim + 2), actions (B, act_dim), rewards, dones (B,)."""
        parts, horizon, k = self.parts, self.parts["reward"].shape[1] - 1, self.config.k
        kept = min(self.added, self.config.capacity)
        episode, step = rng.integers([[kept], [horizon]], size=(2, batch_size))
        relabel = rng.random(batch_size) < k / (k + 1)
        # What a step of the same episode achieved: for future, this step or a later one.
        first = {"future": step, "final": horizon - 1, "episode": 0}[self.config.strategy]
        outcome = rng.integers(first, horizon, size=batch_size)
        hindsight = parts["achieved_goal"][episode, outcome + 1]  # (B, 2)
        goal = np.where(relabel[:, None], hindsight, parts["desired_goal"][episode, step])
        reward = self.compute_reward_fn(parts["achieved_goal"][episode, step + 1], goal, {})
        arrays = [np.hstack([parts["observation"][episode, t], goal]) for t in (step, step + 1)]
        arrays += [parts["action"][episode, step + 1], reward, parts["done"][episode, step + 1]]
        return [torch.as_tensor(array, dtype=torch.float32) for array in arrays]


# --8<-- [end:replay_buffer]
# --8<-- [start:ddpg_agent]
def mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Two hidden layers with ReLU."""
    first, second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden_dim, output_dim))


class Actor(nn.Sequential):
    """Actions (B, action_dim) within ±1 for observations and goals (B, state_dim)."""

    def __init__(self, state_dim: int, action_dim: int, hidden_dim: int) -> None:
        super().__init__(mlp(state_dim, hidden_dim, action_dim), nn.Tanh())


class Critic(nn.Sequential):
    """Q (B,) of (B, state_dim + action_dim): minus the discounted steps not spent at the goal."""

    def __init__(self, state_dim: int, action_dim: int, hidden_dim: int) -> None:
        super().__init__(mlp(state_dim + action_dim, hidden_dim, 1), nn.Flatten(0))


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move target, by tau of the way, to online: target <- (1 - tau) target + tau online."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast, tau)


class DDPGAgent:
    """An actor, a critic, slow copies of both, and their update."""

    def __init__(self, state_dim: int, action_dim: int, config: DDPGConfig, device: str = "cpu"):
        self.config, self.device = config, device
        sizes = state_dim, action_dim, config.hidden_dim
        self.networks = nn.ModuleList([Actor(*sizes), Critic(*sizes)]).to(device)
        self.targets = copy.deepcopy(self.networks)
        self.actor, self.critic = self.networks
        self.target_actor, self.target_critic = self.targets
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), config.actor_lr)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), config.critic_lr)

    def act(self, state: Any, rng: np.random.Generator, noise_std: float = 0.0) -> Any:
        """state: (..., state_dim) -> actions (..., action_dim), with noise, within ±1."""
        state = torch.as_tensor(state, dtype=torch.float32, device=self.device)
        action = self.actor(state).detach().cpu().numpy()
        return np.clip(rng.normal(action, noise_std) if noise_std else action, -1.0, 1.0)

    def update(self, batch: list[Tensor]) -> dict[str, float]:
        """One gradient step each for critic and actor, then the targets follow."""
        state, after, action, reward, done = (part.to(self.device) for part in batch)
        with torch.no_grad():  # r + gamma (1 - done) Q'(s', mu'(s')), within what can occur
            next_q = self.target_critic(torch.hstack([after, self.target_actor(after)]))
            target = reward + self.config.gamma * (1.0 - done) * next_q
        q = self.critic(torch.hstack([state, action]))
        loss = nn.functional.mse_loss(q, target.clamp(-1.0 / (1.0 - self.config.gamma), 0.0))
        self.critic_optimizer.zero_grad()  # also clears what the actor's last loss left there
        loss.backward()
        self.critic_optimizer.step()
        action = self.actor(state)
        price = self.config.action_l2 * action.square().mean()
        actor_loss = price - self.critic(torch.hstack([state, action])).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        soft_update(self.targets, self.networks, self.config.tau)
        losses = {"critic_loss": loss.item(), "actor_loss": actor_loss.item()}
        return {**losses, "q_mean": q.mean().item()}


# --8<-- [end:ddpg_agent]
# --8<-- [start:training_loop]
def play(env: Any, policy: Callable[[Arrays], Any], seed: int | None = None) -> Arrays:
    """Play an episode; row t + 1 of each part is what step t did and what came of it."""
    (obs, _), over = env.reset(seed=seed), False
    rows = [{**obs, "action": np.zeros(env.action_space.shape), "reward": 0.0, "done": False}]
    while not over:
        obs, reward, terminated, truncated, _ = env.step(action := policy(obs))
        rows.append({**obs, "action": action, "reward": reward, "done": terminated})
        over = terminated or truncated  # the time limit does not count as done
    return {key: np.array([row[key] for row in rows], float) for key in rows[0]}


def evaluate(env: Any, policy: Callable[[Arrays], Any]) -> float:
    """Share of 50 episodes, on seeds that are used for nothing else, that end at their goal."""
    ends = [play(env, policy, seed)["reward"][-1] for seed in range(1_000_000, 1_000_050)]
    return ends.count(0.0) / len(ends)


def train(config: TrainConfig) -> Result:
    """Play, replay, and so on; curves: at, success per evaluation, the others per episode."""
    start, rng = time.perf_counter(), np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    env, agent = PointReachGoalEnv(seed=config.seed), DDPGAgent(6, 2, config.ddpg)
    buffer = HindsightReplayBuffer(config.her, env.compute_reward)
    keys = "observation", "desired_goal"
    act: Any = lambda obs, std=0.0: agent.act(np.hstack([obs[k] for k in keys]), rng, std)  # noqa: E731
    curves: dict[str, list[float]] = {"at": [], "success": []}
    for n in range(1, config.episodes + 1):
        buffer.add(episode := play(env, lambda obs: act(obs, config.noise_std)))
        batches = (buffer.sample(config.batch_size, rng) for _ in range(config.updates_per_episode))
        infos = [agent.update(batch) for batch in batches]
        row = {name: float(np.mean([info[name] for info in infos])) for name in infos[0]}
        for name, value in {"returns": float(episode["reward"].sum()), **row}.items():
            curves.setdefault(name, []).append(value)
        if n % config.eval_every == 0 or n == config.episodes:
            curves["success"].append(evaluate(PointReachGoalEnv(), act))
            curves["at"].append(n)
    return Result(agent, curves, time.perf_counter() - start)


# --8<-- [end:training_loop]
def judge(check: Callable[[argparse.Namespace], Rows], args: argparse.Namespace) -> bool:
    """Print what a check measured (of arrays, where most off), and whether its claim holds."""
    passed = True
    for what, *values, bound in check(args):
        found, aim = (np.asarray(each, float).ravel() for each in values)
        worst = np.abs(found - aim).argmax()
        print(f"  {what}: {found[worst]:.6g} (bound: {aim[worst]:.6g} ± {bound:.3g})")
        passed &= bool(abs(found[worst] - aim[worst]) <= bound)
    print(f"[{'PASS' if passed else 'FAIL'}] {check.__doc__}")
    return passed


def check_environment(args: argparse.Namespace) -> Rows:
    """Environment: a GoalEnv that moves, stops and rewards as by hand."""
    check_env(gym.make("PointReach-v0").unwrapped, skip_render_check=True)
    env, push = PointReachGoalEnv(), np.array([1.0, -0.5])
    env.reset(seed=args.seed)
    steps = [env.step(action) for action in [push] * 2 + [push + 9.0] * 48]
    fast = push / np.sqrt(1.25)  # two steps of 0.05 * 10 * push are faster than 1
    by_hand = [*0.025 * push, *0.5 * push, *0.025 * push + 0.05 * fast, *fast, 1, 1, 0, 0]
    yield "steps 1, 2, 50", [steps[i][0]["observation"] for i in (0, 1, 49)], by_hand, 1e-12
    yield "terminated, truncated", [step[2:4] for step in steps], [(0, 0)] * 49 + [(0, 1)], 0
    edge = np.array([[0.05, 0.0], [np.nextafter(0.05, 1.0), 0.0]])  # 5 cm, and a float64 further
    yield "rewards there", [env.compute_reward(0 * goal, goal, {}) for goal in edge], [0, -1], 0


def check_replay(args: argparse.Namespace) -> Rows:
    """Replay: new goals are from the right times of the same episode, as often as they should."""
    reward_fn, rng = PointReachGoalEnv().compute_reward, np.random.default_rng(args.seed)
    for strategy, k in (("future", 4), ("final", 4), ("episode", 1), ("future", 0)):
        buffer = HindsightReplayBuffer(HERConfig(k, strategy, capacity=40), reward_fn)
        for n in range(43):  # is at 100 n + t at time t and should be at -n; three more than fit
            at = 100.0 * n + np.arange(51.0)[:, None]
            parts = dict.fromkeys(("observation", "achieved_goal", "action", "reward", "done"), at)
            buffer.add({**parts, "desired_goal": 0 * at - n})
        states, afters, _, reward, _ = (part.numpy() for part in buffer.sample(20_000, rng))
        (now, goal), (after, same), t = states.T, afters.T, states[:, 0] % 100
        new, share, drawn = goal > 0, k / (k + 1), len(np.unique(now // 100))
        first = {"future": t + 1, "final": 0 * t + 50, "episode": 0 * t + 1}[strategy]
        rank = (goal - now + t - first + 0.5) / (51 - first)  # of the time among all it could be
        right = np.where(new, abs(rank - 0.5) < 0.5, goal == (t - now) / 100) & (now >= 300)
        right &= (after == now + 1) & (same == goal) & (-reward.ravel() == (goal != after))
        yield f"{strategy}, k = {k}: episodes drawn, all right", right.mean() * drawn, 40, 0
        yield "share of new goals", new.mean(), share, 4 * np.sqrt(share * (1 - share) / 20_000)
        if k:
            yield "mean rank of their times", rank[new].mean(), 0.5, 4 / np.sqrt(12 * new.sum())


def check_update(args: argparse.Namespace) -> Rows:
    """Update: one step of every network as by hand; noise as large as said."""
    torch.manual_seed(args.seed)
    state, after, draws = torch.rand(3, 256, 6) * 2 - 1
    action, reward, done = draws[:, :2], 2 * draws[:, 2] - 1, (draws[:, 3] > 0).float()
    new, other = (DDPGAgent(6, 2, DDPGConfig(gamma=0.5, tau=0.01, action_l2=0.1)) for _ in range(2))
    soft_update(new.targets, other.networks, 1.0)  # not to be mistaken for its own networks
    for part in new.networks.parameters():
        part.grad = torch.ones_like(part)  # what an earlier step may have left there
    old, info = copy.deepcopy(new), new.update([state, after, action, reward, done])
    next_q = old.target_critic(torch.hstack([after, old.target_actor(after)])).detach()
    target = (reward + 0.5 * (1 - done) * next_q).clamp(-2.0, 0.0)  # -1 / (1 - 0.5)
    critic_loss = (old.critic(torch.hstack([state, action])) - target).square().mean()
    best = old.actor(state)
    actor_loss = 0.1 * best.square().mean() - new.critic(torch.hstack([state, best])).mean()
    yield "losses", [*info.values()][:2], [critic_loss.item(), actor_loss.item()], 1e-6
    slopes = torch.autograd.grad(actor_loss + critic_loss, [*old.networks.parameters()])
    parts = [each.parameters() for each in (old.networks, new.networks, old.targets, new.targets)]
    vectors = (nn.utils.parameters_to_vector(each).detach() for each in (slopes, *parts))
    slope, start, online, slow, slower = vectors
    yield "step of the networks", online - start, -0.001 * slope / (slope.abs() + 1e-8), 1e-6
    yield "step of their targets", slower - slow, 0.01 * (online - slow), 1e-6
    yield "gradients of targets", sum(p.grad is not None for p in new.targets.parameters()), 0, 0
    rng, many = np.random.default_rng(args.seed), np.zeros((20_000, 6))
    yield "standard deviation of noise of 0.1", new.act(many, rng, 0.1).std(0), [0.1] * 2, 0.002
    yield "largest action with noise of 9", new.act(many, rng, 9.0).max(), 1, 0


def check_training(args: argparse.Namespace) -> Rows:
    """Training: a termination is done, the time limit is not, and the seed decides all."""
    env: Any = PointReachGoalEnv(max_steps=3)
    yield "done at the time limit", play(env, lambda obs: np.ones(2))["done"], np.zeros(4), 0
    env.compute_terminated = lambda *_: env.steps == 2
    yield "done after a termination", play(env, lambda obs: np.ones(2))["done"], [0, 0, 1], 0
    runs = [train(TrainConfig(args.seed + i, 6, 10, eval_every=3)).curves for i in (0, 0, 1)]
    first, again, other = (np.hstack([*curves.values()]) for curves in runs)
    yield "curves of the same seed", again, first, 0
    yield "another seed has others", (other != first).any(), 1, 0
    yield "evaluated after episodes", runs[0]["at"], [3, 6], 0
    yield "lowest mean Q", min(runs[0]["q_mean"]), -25, 25


def demo(args: argparse.Namespace) -> Rows:
    """Hindsight: episodes that are enough with it are not without it."""
    from matplotlib.figure import Figure
    from plotly.subplots import make_subplots

    args.out.parent.mkdir(parents=True, exist_ok=True)  # fails before the work is done
    figure, lines = Figure(figsize=(7, 12), layout="constrained"), []  # lines of both drawings
    for mode, k, color in (("with HER", 4, "#173f8a"), ("without HER", 0, "#e8901a")):
        run = train(TrainConfig(args.seed, args.episodes, her=HERConfig(k)))
        at, success = run.curves.pop("at"), run.curves["success"]
        print(f"{mode}, seed {args.seed}: success after so many episodes")
        print(*(f"  {n:3}: {share:.2f}" for n, share in zip(at, success, strict=True)), sep="\n")
        for i, (name, y) in enumerate(run.curves.items()):
            x = at if name == "success" else [*range(1, len(y) + 1)]
            lines.append((i, name, mode, color, x, y))
        yield f"success {mode}", success[-1], float(k > 0), 0.1 if k else 0.2
    panels = figure.subplots(5, sharex=True)
    for i, name, mode, color, x, y in lines:
        panels[i].plot(x, y, color=color, label=mode)
        panels[i].set_ylabel(name)
    panels[0].legend(title=f"PointReach, seed {args.seed}")
    panels[4].set_xlabel("training episodes")
    figure.savefig(args.out, format="png", dpi=150)
    page: Any = make_subplots(5, shared_xaxes=True, subplot_titles=[*run.curves])
    for i, name, mode, color, x, y in lines:
        page.add_scatter(x=x, y=y, name=f"{name}, {mode}", line_color=color, row=i + 1, col=1)
    page.write_html(args.out.with_suffix(".html"), include_plotlyjs="cdn")
    print(f"wrote {args.out} and {args.out.with_suffix('.html')}")


def compare_sb3(args: argparse.Namespace) -> Rows:
    """SB3: DDPG + HER solves PointReach too, DQN flips 15 bits, but not without HER."""
    from stable_baselines3 import DDPG, DQN, HerReplayBuffer
    from stable_baselines3.common.envs import BitFlippingEnv
    from stable_baselines3.common.noise import NormalActionNoise

    def success(method: Any, env: Any, steps: int, **options: Any) -> float:
        model = method("MultiInputPolicy", env, DDPGConfig.critic_lr, seed=args.seed, **options)
        model.learn(steps)
        return evaluate(env, lambda obs: model.predict(obs, deterministic=True)[0])

    ours = {"gamma": DDPGConfig.gamma, "batch_size": TrainConfig.batch_size, "device": "cpu"}
    her = {"replay_buffer_class": HerReplayBuffer}  # 4 future goals, its default
    noise = NormalActionNoise(np.zeros(2), np.full(2, TrainConfig.noise_std))
    reach = {**ours, "tau": DDPGConfig.tau, "action_noise": noise, **her}
    flip = {**ours, "train_freq": 1, "target_update_interval": 300, "exploration_fraction": 0.5}
    yield "DDPG + HER", success(DDPG, PointReachGoalEnv(), 50 * args.episodes, **reach), 1, 0.1
    yield "DQN + HER on 15 bits", success(DQN, BitFlippingEnv(15), 6000, **flip, **her), 1, 0.1
    yield "DQN on 15 bits", success(DQN, BitFlippingEnv(15), 6000, **flip), 0, 0.2


def hyperparameters(args: argparse.Namespace) -> NoReturn:
    """Settings: all of them, with their default values and meanings."""
    for config in (TrainConfig, DDPGConfig, HERConfig):
        print(f"{config.__name__}: {config.__doc__}")
        for name, hint in get_type_hints(config, include_extras=True).items():
            for meaning in getattr(hint, "__metadata__", ()):
                print(f"  {name:20} {getattr(config, name)!s:>8}  {meaning}")
    raise SystemExit(0)  # nothing was checked, so there is no verdict


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    modes = {"verify": [check_environment, check_replay, check_update, check_training]}
    modes |= {"demo": [demo], "compare-sb3": [compare_sb3], "hyperparameters": [hyperparameters]}
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    group = parser.add_mutually_exclusive_group()
    for name, checks in modes.items():
        text = " ".join(str(check.__doc__) for check in checks)
        group.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--episodes", type=int, default=TrainConfig.episodes, help="default: 150")
    parser.add_argument("--out", type=Path, default="figures/ddpg_her_demo.png", help="PNG")
    args = parser.parse_args(argv)
    if args.mode is None:
        parser.print_help()
        return 2
    if not 0 <= args.seed < 2**32 or args.episodes < 1:
        parser.error("--seed has to be 0 to 4294967295, --episodes 1 or more")
    torch.set_num_threads(1)  # more of them only get in each other's way with networks this small
    headings = {"verify": "Verification", "compare-sb3": "SB3 Comparison"}
    print(f"DDPG + HER From Scratch -- {headings.get(args.mode, args.mode.title())}")
    try:
        passed = [judge(check, args) for check in modes[args.mode]]
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")
    n, failed = len(passed), passed.count(False)
    done = "implementation verified" if args.mode == "verify" else "does as claimed"
    print(f"[FAILED] {failed} of {n} checks" if failed else f"[ALL PASS] DDPG + HER {done}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
