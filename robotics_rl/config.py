"""Every setting once: its default, its flag, its help and its check.

Flags, metadata, ``--print-defaults`` and validation are all made from these dataclasses.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from robotics_rl import recipes
from robotics_rl.entropy_options import (
    ENTROPY_MODES,
    EntropyOptions,
    entropy_coefficient,
    require_bounds,
)
from robotics_rl.errors import UsageError
from robotics_rl.options import (
    MAX_SEED,
    file_path,
    fill,
    flag_of,
    folder_name,
    layer_sizes,
    not_negative,
    number_of_episodes,
    one_of,
    option,
    option_names,
    option_rows,
    parse_seeds,
    positive,
    positive_or_minus_one,
    rate,
    revised,
    seed_number,
    switch,
)
from robotics_rl.pixel_options import Lessons, Pixels


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What every algorithm has."""

    learning_rate: float = option(3e-4, "step size of Adam", positive)
    gamma: float = option(0.99, "discount factor", rate)
    batch_size: int = option(256, "samples per gradient step", positive)
    net_arch: tuple[int, ...] = option(
        (64, 64), "hidden layer sizes of actor and critic", layer_sizes
    )


@dataclass(frozen=True, kw_only=True)
class PPO(Hyperparameters):
    """Proximal policy optimization (Schulman et al. 2017), the book's settings."""

    n_steps: int = option(1024, "steps per environment and rollout", positive)
    n_epochs: int = option(10, "passes over each rollout", positive)
    clip_range: float = option(0.2, "how far the policy ratio may move from 1", positive)
    gae_lambda: float = option(0.95, "bias-variance trade-off of the advantages", rate)
    ent_coef: float = option(0.0, "weight of the entropy bonus", not_negative)


@dataclass(frozen=True, kw_only=True)
class OffPolicy(Hyperparameters):
    """What the algorithms with a replay buffer share."""

    net_arch: tuple[int, ...] = revised(Hyperparameters, "net_arch", (256, 256))
    buffer_size: int = option(1_000_000, "transitions that the replay buffer holds", positive)
    learning_starts: int = option(10_000, "environment steps before learning", not_negative)
    tau: float = option(0.005, "share by which the target networks move", rate)
    train_freq: int = option(1, "vector steps between two trainings", positive)
    gradient_steps: int = option(
        1, "gradient steps per training (-1: one per step collected)", positive_or_minus_one
    )


@dataclass(frozen=True, kw_only=True)
class SAC(OffPolicy):
    """Soft actor-critic (Haarnoja et al. 2018), the book's settings."""

    ent_coef: float | str = option(
        "auto",
        "entropy coefficient α: a number, or auto, auto-floor, schedule or adaptive",
        entropy_coefficient,
    )


@dataclass(frozen=True, kw_only=True)
class TD3(OffPolicy):
    """Twin delayed DDPG (Fujimoto et al. 2018) with the exploration noise of the paper."""

    learning_rate: float = revised(Hyperparameters, "learning_rate", 1e-3)
    action_noise: float = option(
        0.1, "standard deviation of the exploration noise on actions in [-1, 1]", not_negative
    )


@dataclass(frozen=True, kw_only=True)
class DDPG(TD3):
    """Deep deterministic policy gradient (Lillicrap et al. 2016), with TD3's exploration noise."""


@dataclass(frozen=True, kw_only=True)
class HER:
    """Hindsight experience replay (Andrychowicz et al. 2017)."""

    n_sampled_goal: int = option(
        4, "relabelled goals per real one", positive, "--her-n-sampled-goal"
    )
    goal_selection_strategy: str = option(
        "future",
        "where relabelled goals come from: future, final or episode",
        one_of("future", "final", "episode"),
        "--her-goal-selection-strategy",
    )


@dataclass(frozen=True, kw_only=True)
class SelectiveHER(HER):
    """HER as the engine ``fast`` has it, which can leave out goals that teach nothing."""

    trivial_goal_keep: float = option(
        1.0, "share kept of relabelled goals that are achieved already (1: textbook HER)", rate
    )


@dataclass(frozen=True, kw_only=True)
class Fast:
    """What only the engine ``fast`` can do, for algorithms with a replay buffer."""

    normalize_observations: bool = option(
        False, "scale inputs to mean 0 and deviation 1; folded into the weights when saved"
    )
    random_action_prob: float = option(
        0.0, "probability of a uniformly random action while collecting", rate
    )
    deterministic_engine: bool = option(
        False, "step and learn in turns, for debugging (side by side is repeatable as well)"
    )
    bf16: bool = option(False, "multiply matrices in bfloat16; faster on some machines")


@dataclass(frozen=True, kw_only=True)
class FastSAC(Fast):
    """What only SAC on the engine ``fast`` can do."""

    policy_delay: int = option(
        1, "critic steps per step of the policy (TD3's delay, Fujimoto et al. 2018)", positive
    )


ALGORITHMS: dict[str, type[Hyperparameters]] = {"ppo": PPO, "sac": SAC, "td3": TD3, "ddpg": DDPG}
ENGINE_NAMES = ("fast", "sb3")


def engine_for(env_id: str) -> str:
    """The engine that serves an environment best."""
    return (
        "fast"
        if re.fullmatch(r"Fetch(Reach|Push|PickAndPlace|Slide)(Dense)?-v4", env_id)
        else "sb3"
    )


def fast_part(algo: str) -> type[Fast] | None:
    """The settings that an algorithm has on the engine ``fast`` alone."""
    if algo == "sac":
        return FastSAC
    return Fast if issubclass(ALGORITHMS[algo], OffPolicy) else None


def entropy_part(algo: str, values: Mapping[str, Any]) -> type[EntropyOptions] | None:
    """The settings of how SAC's α changes; None where it is a number."""
    return ENTROPY_MODES.get(values.get("ent_coef", SAC.ent_coef)) if algo == "sac" else None


def parts_of(algo: str) -> tuple[type, ...]:
    """The settings that an algorithm may have, on some engine and in some mode."""
    fast = fast_part(algo)
    modes = ENTROPY_MODES.values() if algo == "sac" else ()
    return (ALGORITHMS[algo], *((fast,) if fast else ()), *modes)


def recipe_for(algo: str, env_id: str, engine: str, *, her: bool) -> str:
    """The recipe that serves a training best."""
    tuned = engine == "fast" and algo == "sac" and her and "Dense" not in env_id
    return "fast" if tuned else "book"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how long to train."""

    seed: int = option(0, "seed of weights, environments and noise", seed_number)
    total_steps: int = option(1_000_000, "environment steps, summed over environments", positive)
    n_envs: int = option(8, "environments stepped side by side", positive)
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    engine: str = option(
        "fast",
        "what steps and learns: fast, or sb3 (which serves what fast does not)",
        one_of(*ENGINE_NAMES),
    )
    recipe: str = option(
        "fast",
        "set of hyper-parameters: fast (sparse Fetch with SAC and HER), or book",
        one_of(*recipes.RECIPES),
    )
    out: str | None = option(
        None, "checkpoint path (default: checkpoints/RUN_ENV_seedK.zip)", file_path
    )
    checkpoints_dir: str = option("checkpoints", "where checkpoints go")
    log_dir: str = option("runs", "where curves go")
    run_tag: str | None = option(
        None, "sub-folder of every root for this run's artifacts", folder_name
    )
    monitor_keywords: tuple[str, ...] = option(
        ("is_success",), "entries of info at an episode's end to log, separated by commas"
    )
    track: str = option("tb", "TensorBoard (tb) or curves.csv alone (none)", one_of("tb", "none"))
    checkpoint_freq: int = option(
        50_000, "environment steps between two saved training states (0: never)", not_negative
    )
    resume: bool = option(False, "go on with the unfinished run that was stopped here")
    progress: bool = option(True, "show progress")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training, every value resolved."""

    algo: str
    env_id: str
    hyperparameters: Hyperparameters
    her: HER | None = None
    fast: Fast | None = None
    entropy: EntropyOptions | None = None
    pixels: Pixels | None = None
    lessons: Lessons | None = None
    run: Run = field(default_factory=Run)
    chapter: str | None = None
    name: str | None = None  # RUN of every path, where a chapter has its own

    @property
    def run_name(self) -> str:
        """``sac``, ``sac_her`` …: the RUN of every path."""
        return self.name or (f"{self.algo}_her" if self.her else self.algo)

    @property
    def rollout_steps(self) -> int:
        """Environment steps between two trainings; a run takes whole rollouts."""
        values = self.hyperparameters
        per_env = values.n_steps if isinstance(values, PPO) else getattr(values, "train_freq", 1)
        return self.run.n_envs * int(per_env)

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same experiment; keys as in the metadata."""
        return {
            "algo": self.algo,
            "env_id": self.env_id,
            "seed": self.run.seed,
            "her": self.her is not None,
            "total_steps": self.run.total_steps,
            "engine": self.run.engine,
            "recipe": self.run.recipe,
            **self.flat_hyperparameters(),
        }

    def flat_hyperparameters(self) -> dict[str, Any]:
        """Everything that shapes the result, as recorded in the metadata."""
        flat: dict[str, Any] = {"n_envs": self.run.n_envs}
        parts = (self.hyperparameters, self.her, self.fast, self.entropy, self.pixels, self.lessons)
        for part in parts:
            if part is not None:
                flat |= dataclasses.asdict(part)
        flat.pop("buffer_file", None)  # where, not what
        flat["net_arch"] = list(flat["net_arch"])
        return flat


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """One evaluation."""

    ckpt: str | None = option(None, "checkpoint to evaluate")
    baseline: str | None = option(
        None, "floor to evaluate instead: do-nothing or random", one_of("do-nothing", "random")
    )
    env: str | None = option(None, "environment id (default: the one trained on)")
    algo: str = option("auto", "algorithm of a checkpoint without metadata")
    engine: str = option(
        "fast",
        "how episodes of a Fetch policy are played: fast (side by side) or sb3 (one by one)",
        one_of(*ENGINE_NAMES),
    )
    n_episodes: int = option(100, "episodes", number_of_episodes)
    seed: int = option(0, "reset seed of the first episode; the next ones follow", seed_number)
    seeds: str | None = option(None, "reset seeds instead, such as 0,1,2 or 0-99")
    deterministic: bool = option(True, "act without exploration noise")
    json_out: str | None = option(None, "result path (default: results/RUN_env_seedK_eval.json)")
    results_dir: str = option("results", "where results go")
    run_tag: str | None = option(
        None, "sub-folder of the results (default: the run's own)", folder_name
    )
    video: bool = option(False, "record episodes as MP4")
    video_out: str | None = option(None, "video path (default: videos/RUN_ENV_seedK.mp4)")
    n_video_episodes: int = option(1, "episodes in the video", positive)
    device: str = option("auto", "auto, cpu, cuda or cuda:N; small networks act fastest on the cpu")
    trust_pickle: bool = option(False, "run the code inside a checkpoint that has no metadata")
    progress: bool = option(True, "show progress")

    def episode_seeds(self, given: Mapping[str, Any]) -> list[int]:
        """One reset seed per episode.

        Raises:
            UsageError: fewer seeds than episodes asked for, or no seeds at all.
        """
        if self.seeds is None:
            seeds = list(range(self.seed, self.seed + self.n_episodes))
        else:
            seeds = parse_seeds(self.seeds)
        if max(seeds) > MAX_SEED:
            raise UsageError(f"reset seed {max(seeds)} is too large; the largest is {MAX_SEED}")
        n_episodes = self.n_episodes if "n_episodes" in given else len(seeds)
        if len(seeds) < n_episodes:
            raise UsageError(f"--seeds names {len(seeds)} of {n_episodes} episodes; name more")
        return seeds[:n_episodes]


def resolve(
    algo: str,
    env_id: str,
    given: Mapping[str, Any],
    *,
    her: bool = False,
    chapter: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> TrainSettings:
    """Fill what was not ``given`` from the recipe, then from the defaults, and check every value.

    Args:
        algo: key of ``ALGORITHMS``.
        env_id: Gymnasium id.
        given: values by field name, of any of the dataclasses here.
        her: relabel goals in hindsight.
        chapter: the chapter script that asks, e.g. ``ch02``.
        defaults: a chapter's own, in place of those of the dataclasses.

    Raises:
        UsageError: an unknown algorithm, a flag of another algorithm, or a value out of bounds.
    """
    if algo not in ALGORITHMS:
        raise UsageError(f"unknown --algo {algo!r}; choose one of: {', '.join(ALGORITHMS)}")
    if her and not issubclass(ALGORITHMS[algo], OffPolicy):
        raise UsageError(f"--her needs a replay buffer and {algo} has none; use --algo sac")
    engine, recipe = _engine_and_recipe(algo, env_id, given, her=her)
    assert (defaults or {}).keys() <= {row.name for row in option_rows(*parts_of(algo), Run)}
    fast = fast_part(algo) if engine == "fast" else None
    hindsight = (SelectiveHER if fast else HER) if her else None
    if "target_entropy" in given:
        given = {"ent_coef": "auto", **given}  # only α that is learned aims at it
    values: dict[str, Any] = {}
    for _, layer in recipes.layers(env_id, recipe, given, defaults or {}, her=her):
        values |= layer
    values |= {"engine": engine, "recipe": recipe}
    entropy = entropy_part(algo, values)
    parts = [part for part in (ALGORITHMS[algo], Run, hindsight, fast, entropy) if part]
    _require_known(given, {row.name for row in option_rows(*parts)}, algo, her)
    settings = TrainSettings(
        algo=algo,
        env_id=env_id,
        hyperparameters=fill(ALGORITHMS[algo], values),
        her=fill(hindsight, values) if hindsight else None,
        fast=fill(fast, values) if fast else None,
        entropy=fill(entropy, values) if entropy else None,
        run=fill(Run, values),
        chapter=chapter,
    )
    require_bounds(settings.entropy)
    return settings


def _engine_and_recipe(
    algo: str, env_id: str, given: Mapping[str, Any], *, her: bool
) -> tuple[str, str]:
    """Those that were given, or else those that serve best."""
    engine = _chosen("engine", ENGINE_NAMES, given) or engine_for(env_id)
    if engine == "fast" and engine_for(env_id) != "fast":
        raise UsageError(f"--engine fast steps Fetch tasks, not {env_id}; use --engine sb3")
    best_recipe = recipe_for(algo, env_id, engine, her=her)
    recipe = _chosen("recipe", recipes.RECIPES, given) or best_recipe
    if recipe == "fast" and best_recipe != "fast":
        raise UsageError(
            "--recipe fast is made for sparse Fetch tasks with --algo sac --her and "
            "--engine fast; use --recipe book"
        )
    return engine, recipe


def _require_known(given: Mapping[str, Any], known: Collection[str], algo: str, her: bool) -> None:
    """Refuse flags that nothing here would heed."""
    for name, value in given.items():
        if name in known:
            continue
        if value is False:
            off = switch(name, on=False)
            raise UsageError(f"{off} has no effect here, where it is off anyway; leave it out")
        raise UsageError(f"{flag_of(name)} has no effect here; it needs {_needs(name, algo, her)}")


def _chosen(name: str, choices: Iterable[str], given: Mapping[str, Any]) -> str | None:
    """A word that was given, checked, as everything else depends on it."""
    value = given.get(name)
    problem = one_of(*choices)(value) if value is not None else None
    if problem:
        raise UsageError(f"{flag_of(name)} is {value}; it {problem}")
    return value


def _needs(name: str, algo: str, her: bool) -> str:
    """What a setting without effect would need."""
    if name in option_names(SelectiveHER) and not her:
        return "--her"
    if name in option_names(Fast) | option_names(SelectiveHER):
        return "--engine fast, which serves Fetch tasks with --algo sac, td3 or ddpg"
    if name in option_names(FastSAC):
        return "--engine fast, which serves Fetch tasks, with --algo sac"
    modes = [mode for mode, part in ENTROPY_MODES.items() if name in option_names(part)]
    if modes:
        return f"--ent-coef {' or '.join(modes)}" + ("" if algo == "sac" else ", and --algo sac")
    owners = [one for one, part in ALGORITHMS.items() if name in option_names(part)]
    return f"--algo {' or '.join(owners)}"
