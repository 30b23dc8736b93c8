"""SAC from scratch (book chapter 4): learn from every step ever made, and be paid for variety."""

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple
from unittest.mock import Mock, patch

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from torch.nn.utils import parameters_to_vector as flat

Batch = dict[str, Tensor]
Loss = tuple[Tensor, dict[str, float]]  # a scalar to descend, and values worth a look
Dims = tuple[int, ...]
Learner = tuple[Any, Any, Any, Any, Any, Any, Any]  # the first seven arguments of sac_update
Claims = Iterator[tuple[str, Any, Any, float]]  # name, measured, expected, bound on the difference

LOG_STD_MIN, LOG_STD_MAX = -20, 2
LEARNING_RATE, BATCH_SIZE, WARMUP = 3e-4, 256, 1000  # warm-up: steps of random actions
NOISE = "torch.distributions.normal._standard_normal"  # where SB3's policy gets its own
SOLVED, RECENT, SOLVED_BY = -200.0, 10, 15_000  # return to exceed, mean of episodes, by this step
DIFFERENCES = """Same weights, batch and noise of each call. By design SB3 differs from us:
- its critic loss is half the sum, 1/2 (q1 + q2): halved here, and Adam's epsilon doubled to match;
- its temperature loss is log alpha times a number, ours alpha times it: our gradient / alpha;
- its log-probabilities there are early, of before the policy step, ours late: both are compared;
- it adds epsilon = 1e-6 within the logarithm of the tanh correction: once as it is, once with 0."""


# --8<-- [start:replay_buffer]
class ReplayBuffer:
    """The last `capacity` steps; once it is full, a new step takes the place of the oldest."""

    def __init__(self, obs_dim: int, act_dim: int, capacity: int = 100_000) -> None:
        self.capacity, self.size, self.ptr = capacity, 0, 0
        shapes = {"obs": (obs_dim,), "actions": (act_dim,), "rewards": ()}
        shapes |= {"next_obs": (obs_dim,), "dones": ()}
        self.columns = {name: torch.zeros(capacity, *shape) for name, shape in shapes.items()}

    def add(self, obs: Any, action: Any, reward: float, next_obs: Any, done: bool) -> None:
        """Store one step; obs, next_obs: (obs_dim,), action: (act_dim,), done: nothing follows."""
        for name, value in zip(self.columns, (obs, action, reward, next_obs, done), strict=True):
            self.columns[name][self.ptr] = torch.as_tensor(value)
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
        dims = zip((input_dim, *hidden_dims), (*hidden_dims, output_dim), strict=True)
        layers = [layer for dim in dims for layer in (nn.Linear(*dim), nn.ReLU())]
        super().__init__(*layers[:-1])  # an output may be negative


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
        self.trunk = MLP(obs_dim, hidden_dims[-1], hidden_dims[:-1])
        self.mean, self.log_std = (nn.Linear(hidden_dims[-1], act_dim) for _ in range(2))
        self.noise: Batch = {}  # by the name of a call, for checks; other calls draw theirs

    def forward(self, obs: Tensor, call: str = "act") -> tuple[Tensor, Tensor]:
        """obs: (B, obs_dim) -> actions: (B, act_dim) in [-1, 1], log_probs: (B,)."""
        hidden = torch.relu(self.trunk(obs))
        mean, log_std = self.mean(hidden), self.log_std(hidden).clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = self.noise[call] if call in self.noise else torch.randn_like(mean)
        x = mean + log_std.exp() * noise  # x ~ N(mean, std): gradients reach mean and std
        # log pi(a|s) = sum_i log N(x_i) - log(1 - tanh(x_i)^2), finite also where tanh rounds to 1
        log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - x - softplus(-2 * x))
        return torch.tanh(x), (log_normal - log_slope).sum(-1)


# --8<-- [end:gaussian_policy]
# --8<-- [start:twin_q_loss]
def compute_q_loss(
    q_network: TwinQNetwork,
    target_q_network: TwinQNetwork,
    policy: GaussianPolicy,
    batch: Batch,
    gamma: float = 0.99,
    alpha: float = 0.2,
) -> Loss:
    """Both critics against one target, a scalar; batch as ReplayBuffer.sample returns it."""
    with torch.no_grad():  # the target is a number to reach, not something to learn from
        next_actions, log_probs = policy(batch["next_obs"], "next")
        target_q1, target_q2 = target_q_network(batch["next_obs"], next_actions)  # (B,), (B,)
        target_q = torch.min(target_q1, target_q2)
        # y = r + gamma (1 - d) (min Q'(s', a') - alpha log pi(a'|s')): variety counts as reward
        target = batch["rewards"] + gamma * (1.0 - batch["dones"]) * (target_q - alpha * log_probs)
    q1, q2 = q_network(batch["obs"], batch["actions"])
    losses = {"q1_loss": mse_loss(q1, target), "q2_loss": mse_loss(q2, target)}
    loss = losses["q1_loss"] + losses["q2_loss"]  # L = E[(Q1 - y)^2] + E[(Q2 - y)^2]
    means = {"q1_mean": q1.mean(), "q2_mean": q2.mean(), "target_q_mean": target.mean()}
    return loss, {name: value.item() for name, value in (losses | means).items()}


# --8<-- [end:twin_q_loss]
# --8<-- [start:actor_loss]
def compute_actor_loss(
    policy: GaussianPolicy, q_network: TwinQNetwork, obs: Tensor, alpha: float = 0.2
) -> Loss:
    """How far the policy is from valuable and varied actions in obs (B, obs_dim), a scalar."""
    actions, log_probs = policy(obs, "actor")
    q1, q2 = q_network(obs, actions)  # the gradient goes through the critics into the actions
    loss = (alpha * log_probs - torch.min(q1, q2)).mean()  # L = E[alpha log pi(a|s) - min Q(s, a)]
    mean = log_probs.mean().item()
    return loss, {"actor_loss": loss.item(), "entropy": -mean, "log_prob_mean": mean}


# --8<-- [end:actor_loss]
# --8<-- [start:temperature_loss]
def compute_temperature_loss(log_alpha: Tensor, log_probs: Tensor, target_entropy: float) -> Loss:
    """Raises alpha, not the policy, while the entropy -log_probs (B,) is below its target."""
    alpha = log_alpha.exp()  # positive, whatever log_alpha is
    loss = -alpha * (log_probs.detach() + target_entropy).mean()  # L = -alpha E[log pi + target]
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
) -> dict[str, float]:
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

    _, log_probs = policy(batch["obs"], "temperature")
    alpha_loss, alpha_info = compute_temperature_loss(log_alpha, log_probs, target_entropy)
    alpha_optimizer.zero_grad()
    alpha_loss.backward()
    alpha_optimizer.step()

    for slow, fast in zip(target_q_network.parameters(), q_network.parameters(), strict=True):
        slow.data.lerp_(fast.data, tau)  # theta' <- (1 - tau) theta' + tau theta
    return q_info | actor_info | alpha_info


# --8<-- [end:sac_update]
class Settings(NamedTuple):
    """What can be turned in `learn`; the flags of --demo are made from it."""

    steps: Annotated[int, "at least 200, an episode; 50,000 take 12 to 20 minutes"] = 50_000
    target_entropy: Annotated[float, "what alpha keeps the entropy at (exercise 5)"] = -1.0
    fixed_alpha: Annotated[float | None, "this alpha, learned no more (exercise 3)"] = None
    single_q: Annotated[bool, "believe one critic, not the lower of two (exercise 2)"] = False


def make_learner(obs_dim: int, act_dim: int, alpha: float = 1.0) -> Learner:
    """Networks, alpha and optimizers at the start; the target critics are a copy of the critics."""
    policy, q_network = GaussianPolicy(obs_dim, act_dim), TwinQNetwork(obs_dim, act_dim)
    log_alpha = torch.tensor(math.log(alpha), requires_grad=True)
    weights = (policy.parameters(), q_network.parameters(), [log_alpha])
    adams = [torch.optim.Adam(part, LEARNING_RATE, fused=True) for part in weights]
    return policy, q_network, copy.deepcopy(q_network), log_alpha, adams[0], adams[1], adams[2]


def take_step(env: Any, obs: Any, action: Any, buffer: ReplayBuffer) -> tuple[Any, float, bool]:
    """Do and store action (act_dim,), in [-1, 1]; returns next_obs (obs_dim,), reward, over."""
    next_obs, reward, terminated, truncated, _ = env.step(action * env.action_space.high)  # to ±2
    buffer.add(obs, action, reward, next_obs, terminated)  # a time limit does not end the task
    return next_obs, float(reward), terminated or truncated


def learn(seed: int, settings: Settings) -> dict[str, Any]:
    """Swing up Pendulum-v1; print, and return as `curve`, how things are after each episode."""
    torch.set_num_threads(1)  # more of them only wait for each other on networks this small
    torch.manual_seed(seed)
    env, buffer, start = gym.make("Pendulum-v1"), ReplayBuffer(3, 1), time.perf_counter()
    us = make_learner(3, 1, settings.fixed_alpha or 1.0)
    policy, _, target_q_network, log_alpha, *_, alpha_optimizer = us
    alpha_optimizer.param_groups[0]["lr"] = 0.0 if settings.fixed_alpha else LEARNING_RATE
    if settings.single_q:  # both opinions of the target critics are the first one's
        target_q_network.register_forward_hook(lambda net, inputs, q: (q[0], q[0]))
    (obs, _), curve, returns, infos = env.reset(seed=seed), [], [0.0], []
    for step in range(1, settings.steps + 1):
        action = policy(torch.as_tensor(obs))[0] if step > WARMUP else 2.0 * torch.rand(1) - 1.0
        obs, reward, over = take_step(env, obs, action.detach().numpy(), buffer)
        returns[-1] += reward
        if step >= WARMUP:
            infos.append(sac_update(*us, buffer.sample(BATCH_SIZE), settings.target_entropy))
        if over:
            q1, q2 = ([i[q] for i in infos] or [0.0] for q in ("q1_mean", "q2_mean"))
            row = {"steps": step, "return": fmean(returns[-RECENT:])}
            gap = fmean(map(lambda a, b: abs(a - b), q1, q2))
            row |= {"alpha": log_alpha.exp().item(), "q1_mean": fmean(q1), "gap": gap}
            curve.append(row)
            if step % 1000 == 0:
                print(*(f"{name} {value:8.5g}" for name, value in row.items()), flush=True)
            (obs, _), infos, returns = env.reset(), [], [*returns, 0.0]
    solved = next((row["steps"] for row in curve if row["return"] > SOLVED), None)
    found = {"seed": seed, "steps_to_solved": solved, "final_return": row["return"]}
    found |= {"final_alpha": row["alpha"], "seconds": round(time.perf_counter() - start, 1)}
    return found | {"curve": curve}


def check_parts() -> Claims:
    """Parts: whole steps in the buffer, twin critics, log-probabilities that are a density's."""
    buffer, env = ReplayBuffer(1, 1, capacity=100), Mock(**{"action_space.high": 2.0})
    for i in range(130):
        env.step.return_value = (i + 1, 2 * i, i % 2 == 0, i % 3 == 0, {})
        _, _, over = take_step(env, i, -i, buffer)
    obs, *rest = (column.flatten() for column in buffer.sample(2000).values())
    found = [env.step.call_args.args[0], over, buffer.size, buffer.ptr, obs.min().item()]
    yield "last action sent, episode over; size, ptr, oldest", found, [-258, True, 100, 30, 30], 0
    expected = torch.stack([-obs, 2 * obs, obs + 1, (obs % 2 == 0).to(obs)])
    yield "actions, rewards, next_obs, dones of the same steps", torch.stack(rest), expected, 0
    obs, noise, h = torch.randn(64, 10), torch.randn(64, 4), 1e-5
    q1, q2 = TwinQNetwork(10, 4)(obs, noise.tanh())
    yield "shapes (B,), equal values", [*q1.shape, *q2.shape, (q1 == q2).sum()], [64, 64, 0], 0
    yield "means of q1 and q2", torch.stack([q1.mean(), q2.mean()]), 0, 0.5
    policy = GaussianPolicy(10, 4)
    policy.noise = {"-h": noise - h, "+h": noise + h, "0": noise, "far": noise + 1e3}
    below, above, (actions, log_probs), (_, far) = (policy(obs, at) for at in policy.noise)
    slope = (above[0] - below[0]) / (2 * h)  # p(a) = N(noise) / |da/dnoise|
    expected = (torch.distributions.Normal(0.0, 1.0).log_prob(noise) - slope.log()).sum(-1)
    yield "largest |action|", actions.abs().max(), 0, 1
    yield "log-probabilities, da/dnoise measured", log_probs, expected, 1e-6
    yield "finite where tanh(x) is rounded to 1", far.isfinite(), True, 0


def check_losses() -> Claims:
    """Losses: an update as computed by hand, (1 - d) and min and entropy included."""
    obs, rewards, dones = torch.zeros(3, 1), torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0, 1, 0])
    batch = {"obs": obs, "actions": obs, "next_obs": obs, "rewards": rewards, "dones": dones}
    q = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 3.0]], requires_grad=True)
    log_probs = torch.tensor([-0.5, 2.0, 1.0], requires_grad=True)
    log_alpha = torch.tensor(math.log(0.2), requires_grad=True)
    policy, critics = Mock(return_value=(obs, log_probs)), Mock(return_value=q)
    targets = Mock(return_value=torch.tensor([[5.0, 9.0, 3.0], [3.0, 4.0, 6.0]]))
    critics.parameters.return_value = targets.parameters.return_value = []
    info = sac_update(policy, critics, targets, log_alpha, Mock(), Mock(), Mock(), batch, -1.0, 0.9)
    y = torch.tensor([1 + 0.9 * (3 + 0.2 * 0.5), 2, 0.5 + 0.9 * (3 - 0.2 * 1)])  # 3.79, 2, 3.02
    expected = [(2.79**2 + 1 + 2.02**2) / 3, (3.79**2 + 0 + 0.02**2) / 3, 1, 5 / 3, 8.81 / 3]
    expected += [((-0.1 - 0) + (0.4 - 1) + (0.2 - 1)) / 3, -2.5 / 3, 2.5 / 3, 0.1 / 3, 0.2]
    yield from ((name, info[name], aim, 1e-6) for name, aim in zip(info, expected, strict=True))
    yield "gradients by q1, q2", q.grad, (2 * (q - y) - (q == q.amin(0)).float()) / 3, 1e-6
    yield "gradients by log-probabilities, of the actor loss only", log_probs.grad, 0.2 / 3, 1e-6
    yield "gradient by log alpha", log_alpha.grad, 0.1 / 3, 1e-6


def random_batch() -> Batch:
    """64 made-up steps, obs_dim 10 and act_dim 4, all values in [-1, 1]."""
    batch = {name: like.uniform_(-1, 1) for name, like in ReplayBuffer(10, 4, 64).columns.items()}
    return batch | {"dones": (batch["dones"] > 0.5).to(batch["obs"])}


def check_updates() -> Claims:
    """Updates: each loss moves its own part only, alpha falls, target critics follow by tau."""
    us, seen, infos, errors = make_learner(10, 4), [], [], []
    policy, critics, targets, log_alpha, *optimizers = us
    every = [log_alpha, *policy.parameters(), *critics.parameters(), *targets.parameters()]
    for adam in optimizers:
        adam.register_step_pre_hook(lambda *_: seen.append(sum(w.grad is not None for w in every)))
    for _ in range(20):
        expected = 0.995 * flat(targets.parameters())
        infos.append(sac_update(*us, random_batch(), target_entropy=-4.0))
        expected += 0.005 * flat(critics.parameters())
        errors.append((flat(targets.parameters()) - expected).abs().max().item())
    yield "gradients: 12 in critics, then 8 in policy, then alpha", seen[:3], [12, 20, 21], 0
    yield "alpha, from 1", log_alpha.exp(), math.exp(-20 * LEARNING_RATE), 5e-4
    yield "target critics at 0.995 old + 0.005 new", max(errors), 0, 1e-9
    values = torch.tensor([[*info.values()] for info in infos])  # (20, 10), exercise 4 plots them
    yield "values that are not finite", values.isfinite().logical_not().sum(), 0, 0
    yield "|q1_mean - q2_mean|, largest", (values[:, 2] - values[:, 3]).abs().max(), 0, 0.5


def learners(epsilon: float) -> tuple[Learner, Any, Batch]:
    """Ours and SB3's SAC with the same weights and alpha, and the one batch that SB3 will see."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    box = gym.spaces.Box  # nothing else is asked of the environment
    env = Mock(gym.Env, observation_space=box(-9, 9, (10,)), action_space=box(-1, 1, (4,)))
    sb3: Any = SAC("MlpPolicy", env, LEARNING_RATE, 1, device="cpu", ent_coef="auto_0.3")
    sb3.set_logger(Mock())
    sb3.actor.action_dist.epsilon = epsilon
    sb3.policy.critic_target = sb3.critic_target = sb3.policy.make_critic()  # unlike the critics
    us, batch = make_learner(10, 4, alpha=0.3), random_batch()
    obs, actions, rewards, next_obs, dones = (column.view(64, -1) for column in batch.values())
    samples = ReplayBufferSamples(obs, actions, next_obs, dones, rewards)
    sb3.replay_buffer.sample = Mock(return_value=samples)
    for network in sb3.policy.children():
        network.extract_features = lambda obs, extractor: obs  # its own would make float32 of it
    for our, their in zip(nn.ModuleList(us[:3]).parameters(), sb3.policy.parameters(), strict=True):
        our.data.copy_(their)
        our.grad = torch.ones_like(our)  # a leftover, for zero_grad to remove
    return us, sb3, batch


def compare_log_probs() -> Claims:
    """Our squashed Gaussian log_prob matches SB3."""
    (policy, *_), sb3, _ = learners(epsilon=1e-6)
    obs, policy.noise["act"] = torch.randn(5000, 10), torch.randn(5000, 4)
    actions, ours = policy(obs)
    with patch(NOISE, return_value=policy.noise["act"]):
        theirs = sb3.actor.action_log_prob(obs)[1]
    inside = actions.abs().amax(-1) < 0.99
    yield "log_prob of 5000 actions", ours, theirs, 5e-2
    yield f"log_prob where |a| < 0.99, {inside.sum()} actions", ours[inside], theirs[inside], 3e-4


def compare_update() -> Claims:
    """One sac_update matches one SAC.train() of SB3."""
    print(DIFFERENCES)
    for epsilon, bound in ((1e-6, 1e-3), (0.0, 1e-5)):
        us, sb3, batch = learners(epsilon)
        policy, _, _, log_alpha, _, q_optimizer, _ = us
        q_optimizer.param_groups[0]["eps"] *= 2
        policy.noise = {call: torch.randn(64, 4) for call in ("actor", "next", "temperature")}
        with patch(NOISE, side_effect=policy.noise.values()):  # in the order of SB3's calls
            sb3.train(gradient_steps=1, batch_size=64)
            late = sb3.actor.action_log_prob(batch["obs"])[1]
        compute_temperature_loss(log_alpha, policy(batch["obs"], "actor")[1], -4.0)[0].backward()
        yield "alpha's early gradient", log_alpha.grad / 0.3, sb3.log_ent_coef.grad, bound
        info = sac_update(*us, batch, target_entropy=-4.0)
        yield "alpha's late gradient", log_alpha.grad / 0.3, 4.0 - late.mean(), bound
        logged = dict(call.args[:2] for call in sb3.logger.record.call_args_list)
        q_loss = (info["q1_loss"] + info["q2_loss"]) / 2
        yield f"critic loss, epsilon {epsilon:g}", q_loss, logged["train/critic_loss"], bound
        yield "actor loss", info["actor_loss"], logged["train/actor_loss"], bound
        for ours, (name, theirs) in zip(us, sb3.policy.named_children(), strict=False):
            yield f"weights of {name}", flat(ours.parameters()), flat(theirs.parameters()), bound


def run(heading: str, checks: list[Callable[..., Claims]], seed: int, *inputs: Any) -> int:
    """Print what each check measured, the bound it was held to and its verdict; the exit code."""
    print(f"SAC From Scratch -- {heading}")
    failed, done = 0, {"Verification": "implementation verified", "SB3 Comparison": "matches SB3"}
    for check in checks:
        torch.manual_seed(seed)
        passed = True
        for name, measured, expected, bound in check(*inputs):
            found, wanted = (torch.as_tensor(v).detach().double() for v in (measured, expected))
            fits = found.shape == wanted.shape or wanted.numel() == 1  # no broadcasting by mistake
            error = (found - wanted).abs().max().item() if fits else math.inf
            values = " ".join(f"{value:.5g}" for value in found.flatten()[:5].tolist())
            print(f"{name}: {values}, off by {error:.1e} (bound: {bound:g})")
            passed = passed and error <= bound
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        failed += not passed
    good = f"[PASS] All checks passed.\n[ALL PASS] SAC {done.get(heading, 'learned the task')}"
    print(f"[FAILED] {failed} of {len(checks)} checks" if failed else good)
    return min(failed, 1)


def demo(seed: int, settings: Settings, path: Path) -> Claims:
    """Pendulum swung up."""
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    found, figure = learn(seed, settings), Figure(figsize=(8, 10), layout="constrained")
    for panel, name in zip(figure.subplots(4), ("return", "alpha", "q1_mean", "gap"), strict=True):
        panel.plot(*([row[key] for row in found["curve"]] for key in ("steps", name)))
        panel.set(xlabel="environment steps", ylabel=name)
    figure.axes[0].axhline(SOLVED, color="0.3", ls="--")
    figure.suptitle(f"Pendulum-v1, seed {seed}: return of {RECENT} episodes, alpha, Q1, |Q1 - Q2|")
    figure.savefig(path, format="png", dpi=150)
    print(f"wrote {path}")
    yield f"step with a return above {SOLVED:g}", found["steps_to_solved"] or math.inf, 0, SOLVED_BY
    yield "return at the end", found["final_return"], 0, 215 if settings.steps > 2e4 else 3255


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--compare-sb3", action="store_true", help="compare with Stable-Baselines3")
    mode.add_argument("--demo", action="store_true", help="learn Pendulum-v1 and draw the curve")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("figures/sac_demo_curve.png"), help="PNG")
    settings = parser.add_argument_group("settings of --demo", "exercises 2, 3 and 5 turn them")
    for name, default in Settings._field_defaults.items():
        kind: Any = {"action": "store_true"} if default is False else {"type": type(default or 0.0)}
        told = Settings.__annotations__[name].__metadata__[0]
        settings.add_argument(f"--{name.replace('_', '-')}", default=default, help=told, **kind)
    args = parser.parse_args(argv)
    bounds = (0 <= args.seed < 2**32, args.steps >= 200, math.isfinite(args.target_entropy))
    if not (all(bounds) and (args.fixed_alpha is None or 0 < args.fixed_alpha < math.inf)):
        parser.error("--seed must be 0 or more, --steps 200 or more, --fixed-alpha above 0, no inf")
    torch.set_default_dtype(torch.float32 if args.demo else torch.float64)  # exact in checks
    if args.verify:
        return run("Verification", [check_parts, check_losses, check_updates], args.seed)
    if args.compare_sb3:
        return run("SB3 Comparison", [compare_log_probs, compare_update], args.seed)
    if not args.demo:
        parser.print_help()
        return 2
    try:
        chosen = Settings(*(getattr(args, name) for name in Settings._fields))
        return run("Demo", [demo], args.seed, args.seed, chosen, args.out)
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")


if __name__ == "__main__":
    raise SystemExit(main())
