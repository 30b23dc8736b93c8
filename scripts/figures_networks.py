"""Diagrams of networks; every size is read from an environment and from a trained policy."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ch01_env_anatomy import OBSERVATION_PARTS
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from robotics_rl import plotting
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.checkpoints import Loaded, load_policy
from robotics_rl.envs import make_env
from robotics_rl.errors import UsageError
from robotics_rl.learners.networks import LOG_STD_MAX, LOG_STD_MIN

Point = tuple[float, float]
TEXT = 8.0  # points
LINE = 0.145  # inches, from one line of text to the next
WEIGHTS = "0.9"  # shade of what has weights


@dataclass(frozen=True)
class Box:
    """A box with text, in inches from the lower left corner of a diagram."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, up: float) -> Point:
        """A point of it, in shares of its width and height."""
        return self.x + across * self.width, self.y + up * self.height

    @property
    def top(self) -> float:
        """Its upper edge."""
        return self.y + self.height

    def draw(self, axes: Axes, title: str, lines: Sequence[str] = (), face: str = "white") -> None:
        """Draw it, the title bold above the lines."""
        shape = FancyBboxPatch(
            (self.x, self.y),
            self.width,
            self.height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=face,
            edgecolor="black",
            linewidth=0.9,
        )
        axes.add_patch(shape)
        middle, top = self.at(0.5, 0.5)[0], self.at(0.5, 0.5)[1] + LINE * len(lines) / 2
        for number, text in enumerate((title, *lines)):
            weight = "bold" if number == 0 else "normal"
            axes.text(middle, top - number * LINE, text, fontsize=TEXT, weight=weight,
                      ha="center", va="center")  # fmt: skip


def arrow(axes: Axes, *points: Point) -> None:
    """An arrow through some points."""
    axes.plot(*zip(*points[:-1], strict=True), color="black", linewidth=0.9)
    look = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=look)


@contextmanager
def diagram(path: Path, width: float, height: float, caption: str) -> Iterator[Axes]:
    """Axes whose units are inches, without anything but what is drawn."""
    with plotting.figure(path, width, height + 0.5, caption) as figure:
        axes = figure.add_subplot(xlim=(0, width), ylim=(0, height), aspect="equal")
        axes.set_axis_off()
        yield axes


def load(checkpoint: Path) -> tuple[Any, Loaded]:
    """The environment that a policy was trained in, closed, and the policy."""
    with closing(make_env(read_json(metadata_path(checkpoint))["env_id"])) as env:
        return env, load_policy(checkpoint, env.observation_space, env.action_space)


def layers(*modules: nn.Module) -> list[str]:
    """Linear layers as they follow each other, each with its activation."""
    lines: list[str] = []
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, nn.Linear):
            lines.append(f"Linear {part.in_features} → {part.out_features}")
        elif not list(part.children()):
            lines[-1] += f", {type(part).__name__}"
    return lines


def n_parameters(*modules: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(weights.numel() for module in modules for weights in module.parameters())


def observation_to_network(checkpoint: Path, path: Path) -> None:
    """From the dictionary of observations to actions and values, in PPO on FetchReach."""
    env, loaded = load(checkpoint)
    policy: Any = loaded.policy
    sizes = {
        name: env.observation_space[name].shape[0]
        for name in policy.features_extractor.extractors  # in the order in which it joins them
    }
    mlp, width = policy.mlp_extractor, sum(sizes.values())
    caption = (
        f"{env.spec.id} and the policy of {checkpoint.as_posix()}: {n_parameters(policy):,} "
        "learned numbers. The value network serves training alone. Shaded: what has weights."
    )
    with diagram(path, 8.4, 3.5, caption) as axes:
        _draw_observation(axes, sizes)
        axes.text(3.97, 0.0, f"one vector: {width}", fontsize=TEXT, ha="center")
        low, high = env.action_space.low[0], env.action_space.high[0]
        moves = ["dx, dy, dz, fingers:", "a normal distribution,", f"cut to [{low:g}, {high:g}]"]
        for y, name, lines, output, told in (
            (2.2, "policy", layers(mlp.policy_net, policy.action_net), "action", moves),
            (0.7, "value", layers(mlp.value_net, policy.value_net), "value", ["return to come"]),
        ):
            network, result = Box(4.95, y, 1.75, 0.95), Box(7.0, y + 0.1, 1.35, 0.75)
            network.draw(axes, f"{name} network", lines, face=WEIGHTS)
            result.draw(axes, f"{output} ({lines[-1].split()[-1]})", told)
            arrow(axes, (4.45, network.at(0, 0.5)[1]), network.at(0, 0.5))
            arrow(axes, network.at(1, 0.5), result.at(0, 0.5))


def _draw_observation(axes: Axes, sizes: dict[str, int]) -> None:
    """The parts of an observation, and where they are in the vector that networks see."""
    parts = OBSERVATION_PARTS[sizes["observation"]]
    inner = {
        "observation": [f"{p.first}–{p.last}  {p.meaning} ({p.unit})" for p in parts],
        "achieved_goal": ["where the gripper is (m)"],
        "desired_goal": ["where it should be (m)"],
    }
    first, top, unit = 0, 3.47, 3.3 / sum(sizes.values())
    for name, size in sizes.items():
        joined = Box(3.5, top - unit * (first + size), 0.95, unit * size)
        joined.draw(axes, f"{first}–{first + size - 1}")
        given = Box(0.05, joined.y + 0.04, 2.85, joined.height - 0.08)
        given.draw(axes, f"{name} ({size})", inner[name])
        arrow(axes, given.at(1, 0.5), joined.at(0, 0.5))
        first += size


SAC = {
    "memory": Box(0.05, 1.7, 1.6, 1.2),
    "critics": Box(2.4, 3.35, 2.2, 1.2),
    "actor": Box(2.4, 1.65, 2.2, 1.3),
    "targets": Box(2.4, 0.2, 2.2, 1.0),
    "critic loss": Box(5.4, 3.6, 2.85, 0.7),
    "actor loss": Box(5.4, 2.45, 2.85, 0.7),
    "alpha loss": Box(5.4, 1.5, 2.85, 0.65),
    "target": Box(5.4, 0.3, 2.85, 0.8),
}


def sac_architecture(checkpoint: Path, path: Path) -> None:
    """What SAC learns, from what, and which loss teaches which part."""
    env, loaded = load(checkpoint)
    policy: Any = loaded.policy
    assert loaded.metadata is not None
    assert len(policy.critic.q_networks) == 2, "Q₁ and Q₂ are drawn"
    if "target_entropy_resolved" not in loaded.metadata.hyperparameters:
        raise UsageError(f"α of {checkpoint} is fixed; train with --ent-coef auto, which learns it")
    caption = (
        f"The policy of {checkpoint.as_posix()} ({env.spec.id}): {n_parameters(policy.actor):,} "
        f"learned numbers in the actor, {n_parameters(policy.critic):,} in the critics. s holds "
        "observation, achieved and desired goal. Fetch episodes end by their time limit alone, so "
        "the value of s′ always counts. Shaded: what has weights."
    )
    with diagram(path, 8.6, 4.6, caption) as axes:
        _draw_sac(axes, policy, loaded.metadata.hyperparameters)
        _draw_flow(axes)


def _draw_sac(axes: Axes, policy: Any, settings: Mapping[str, Any]) -> None:
    """The boxes; losses as Stable-Baselines3 has them."""
    actor, [mean], [spread] = policy.actor, layers(policy.actor.mu), layers(policy.actor.log_std)
    n_actions, entropy = mean.split()[-1], settings["target_entropy_resolved"]
    memory = [
        f"last {settings['buffer_size']:,} steps;",
        f"batches of {settings['batch_size']}:",
        f"s, s′ ({actor.features_dim}), a ({n_actions}), r",
    ]
    heads = [f"{mean}: μ", f"{spread}: log σ in [{LOG_STD_MIN:g}, {LOG_STD_MAX:g}]"]
    sample = "ã = tanh(μ + σ · noise)"
    follow = ["layers as in the critics", f"θ′ ← θ′ + τ (θ − θ′), τ = {settings['tau']:g}"]
    wanted = ["y = r + γ (minᵢ Qᵢ′(s′, ã′) − α log π(ã′|s′))", f"γ = {settings['gamma']:g}"]
    each = layers(policy.critic.q_networks[0])
    SAC["memory"].draw(axes, "replay buffer", memory)
    SAC["critics"].draw(axes, "critics Q₁ and Q₂, each", each, WEIGHTS)
    SAC["actor"].draw(axes, "actor π", [*layers(actor.latent_pi), *heads, sample], WEIGHTS)
    SAC["targets"].draw(axes, "target critics Q₁′ and Q₂′", follow, WEIGHTS)
    SAC["critic loss"].draw(axes, "critic loss teaches Q₁ and Q₂", ["½ Σᵢ (Qᵢ(s, a) − y)²"])
    SAC["actor loss"].draw(axes, "actor loss teaches π", ["α log π(ã|s) − minᵢ Qᵢ(s, ã)"])
    heat = f"−log α · (log π(ã|s) + H), H = {entropy:g}"
    SAC["alpha loss"].draw(axes, "temperature loss teaches α", [heat])
    SAC["target"].draw(axes, "target", wanted)


def _draw_flow(axes: Axes) -> None:
    """What goes from box to box."""
    memory, critics, actor, targets, critic_loss, actor_loss, alpha_loss, target = SAC.values()
    arrow(axes, (1.2, memory.top), (1.2, critics.at(0, 0.5)[1]), critics.at(0, 0.5))
    arrow(axes, memory.at(1, 0.5), actor.at(0, 0.5))
    arrow(axes, (1.2, memory.y), (1.2, targets.at(0, 0.5)[1]), targets.at(0, 0.5))
    arrow(axes, (0.5, memory.y), (0.5, 0.06), (6.8, 0.06), (6.8, target.y))
    arrow(axes, actor.at(0.5, 1), critics.at(0.5, 0))
    arrow(axes, actor.at(0.5, 0), targets.at(0.5, 1))
    arrow(axes, actor.at(0.75, 0), (4.05, 1.35), (5.8, 1.35), (5.8, target.top))
    arrow(axes, actor.at(1, 0.75), actor_loss.at(0, 0.25))
    arrow(axes, actor.at(1, 0.135), alpha_loss.at(0, 0.5))
    arrow(axes, critics.at(1, 0.5), critic_loss.at(0, 0.5))
    arrow(axes, critics.at(1, 0.1), (4.9, 3.47), (4.9, 2.98), actor_loss.at(0, 0.757))
    arrow(axes, targets.at(1, 0.5), target.at(0, 0.5))
    arrow(axes, target.at(1, 0.5), (8.45, 0.7), (8.45, 3.95), critic_loss.at(1, 0.5))
    arrow(axes, alpha_loss.at(0.5, 1), actor_loss.at(0.5, 0))
    arrow(axes, alpha_loss.at(0.5, 0), target.at(0.5, 1))
    for x, y, words in (
        (2.0, 4.05, "s, a"),
        (2.02, 2.4, "s, s′"),
        (2.0, 0.8, "s′"),
        (0.6, 0.9, "r"),
        (3.7, 3.14, "s, ã"),
        (3.62, 1.43, "ã′"),
        (4.95, 1.44, "log π(ã′|s′)"),
        (5.0, 2.52, "log π(ã|s)"),
        (5.0, 1.92, "log π(ã|s)"),
        (5.0, 4.05, "Qᵢ(s, a)"),
        (5.2, 3.3, "Qᵢ(s, ã)"),
        (5.0, 0.8, "Qᵢ′(s′, ã′)"),
        (8.53, 2.3, "y"),
        (6.95, 2.3, "α"),
        (6.95, 1.3, "α"),
    ):
        axes.text(x, y, words, fontsize=TEXT, ha="center", va="center")
