"""Every JSON document the project writes, as a typed dataclass."""

from dataclasses import dataclass
from typing import Any, ClassVar

CONFIRMED = range(1_000, 1_100)  # reset seeds that chose nothing, to judge the chosen by


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the training went."""

    wall_seconds: float
    steps_per_second: float
    final_success_rate: float | None  # last logged rollout value


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Beside every checkpoint: what made it, so that it can be judged, repeated and rebuilt."""

    schema: ClassVar[str] = "meta/1"
    algo: str
    env_id: str
    seed: int
    total_steps: int  # asked for
    steps_done: int
    her: bool
    hyperparameters: dict[str, Any]
    engine: str
    recipe: str
    chapter: str | None
    run_tag: str | None
    env_steps: int
    gradient_steps: int
    update_to_data: float
    device: str
    device_name: str
    created_at: str  # UTC, ISO 8601
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]
    platform: str
    cpu_cores: int | None
    training: Training
    checkpoint_sha256: str
    run_name: str | None = None  # where a chapter has its own
    drawn_by: str | None = None  # MuJoCo's OpenGL backend, where pictures were learned from
    encoder_precision: str | None = None  # what ``auto`` became on that machine: fp32 or bf16


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One evaluated episode; distances in metres."""

    seed: int
    return_: float  # undiscounted sum of rewards
    length: int
    success: bool | None  # info["is_success"] at the last step
    success_any_step: bool | None
    started_solved: bool | None
    final_distance: float | None  # ‖achieved − desired‖₂ at the last step
    time_to_success: int | None  # first step (from 1) that succeeds; None if none does
    action_smoothness: float  # Σ‖aₜ − aₜ₋₁‖² over the episode
    action_max_abs: float


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Means over episodes (standard deviations with ddof 0); intervals are Wilson's at 95 %."""

    success_rate: float | None
    success_rate_ci95: tuple[float, float] | None
    success_any_step_rate: float | None
    n_started_solved: int | None
    success_rate_unsolved_start: float | None
    success_rate_unsolved_start_ci95: tuple[float, float] | None
    return_mean: float
    return_std: float
    final_distance_mean: float | None
    final_distance_std: float | None
    ep_len_mean: float
    ep_len_std: float
    time_to_success_mean: float | None  # over the episodes that succeed at some step
    action_smoothness_mean: float
    action_max_abs_mean: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A policy, or a baseline, over a fixed list of episodes."""

    schema: ClassVar[str] = "eval/1"
    algo: str
    env_id: str
    checkpoint: str | None
    checkpoint_sha256: str | None
    n_episodes: int
    seeds: list[int]  # one reset seed per episode
    deterministic: bool
    engine: str  # fast: episodes side by side, sb3: one by one
    device: str
    created_at: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]
    training_seed: int | None
    wall_seconds: float
    steps_per_second: float
    aggregate: Aggregate
    per_episode: list[Episode]


@dataclass(frozen=True, kw_only=True)
class Video:
    """What a video shows: episodes that were evaluated as ever, and drawn again."""

    schema: ClassVar[str] = "video/1"
    files: list[str]
    grid: tuple[int, int]  # rows and columns of episodes that are seen at once
    evaluations: list[Evaluation]  # of each policy


@dataclass(frozen=True, kw_only=True)
class ChapterRun:
    """How long a chapter's `all` took, where it trains nothing that is published."""

    schema: ClassVar[str] = "run/1"
    chapter: str
    command: list[str]
    created_at: str
    seconds: dict[str, float]  # by sub-command
    wall_seconds: float
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """One metric over training seeds.

    ``mean ± t_half_width`` is Student's 95 % interval over seeds. ``iqm`` with its interval is the
    interquartile mean over all episodes, with a bootstrap over the episodes of each seed: how
    exactly these seeds were measured, not what others would come to. Intervals need three seeds.
    """

    values: dict[str, float]  # by training seed
    mean: float
    t_half_width: float | None
    iqm: float | None
    iqm_bootstrap_ci95: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Groups of trained policies over the same evaluation episodes."""

    schema: ClassVar[str] = "comparison/1"
    env_id: str
    created_at: str
    seeds: list[int]
    n_episodes: int
    groups: dict[str, dict[str, SeedSpread]]  # name → metric → spread
    trainings: dict[str, dict[str, Any] | None]  # name → settings, recipe and steps of its seeds
    deltas: dict[str, float]  # metric → mean of the second of two groups above that of the first
    verdict: str | None  # on the difference in success between two groups
    baselines: dict[str, dict[str, float | None]]  # baseline → metric → value
    sources: list[str]  # evaluation files
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class HindsightAblation:
    """HER with several numbers of relabelled goals per real one."""

    schema: ClassVar[str] = "hindsight-ablation/1"
    env_id: str
    seed: int
    created_at: str
    aggregates: dict[str, dict[str, Any]]  # number of goals → ``Aggregate``
    sources: list[str]  # evaluation files
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class JourneyRun:
    """One training on the way to a recipe: how it went, and how its policy did in the end."""

    arm: str
    seed: int
    success_rate: float  # evaluated
    success_at: dict[str, float | None]  # environment steps → in training
    ent_coef_lowest: float
    ent_coef_last: float
    curve: str  # file
    evaluation: str  # file


@dataclass(frozen=True, kw_only=True)
class Journey:
    """Arms that differ in entropy and hindsight goals, over seeds."""

    schema: ClassVar[str] = "journey/1"
    env_id: str
    total_steps: int
    arms: dict[str, dict[str, Any]]  # name → flags that differ from the recipe
    runs: list[JourneyRun]
    created_at: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One training of a sweep and how its policy did."""

    env_id: str
    parameters: dict[str, Any]  # the factors' levels
    seed: int
    identity: dict[str, Any]  # every setting of the training
    success_rate: float | None  # None where it failed
    return_mean: float | None
    wall_seconds: float | None  # of training
    checkpoint: str
    checkpoint_sha256: str | None
    error: str | None  # what a run that failed twice said at last
    created_at: str
    git: dict[str, Any]
    device_name: str | None
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class SweepRuns:
    """Every run of a sweep so far."""

    schema: ClassVar[str] = "sweep/1"
    runs: list[dict[str, Any]]  # each a ``SweepRun``


@dataclass(frozen=True, kw_only=True)
class SweepSetting:
    """One combination of levels over training seeds."""

    parameters: dict[str, Any]
    seeds: list[int]
    mean: float  # success rate
    sd: float | None  # over seeds, ddof 1; None: there is one
    lowest: float
    highest: float
    t_half_width: float | None  # Student's 95 % interval over seeds
    bootstrap_ci95: tuple[float, float] | None  # of the mean over seeds


@dataclass(frozen=True, kw_only=True)
class FactorLevel:
    """The mean over runs with one level of one factor; with the seeds that every setting has."""

    factor: str
    level: Any
    n_runs: int
    mean: float


@dataclass(frozen=True, kw_only=True)
class FactorPair:
    """The mean over runs with one level of each of two factors, likewise."""

    factors: tuple[str, ...]
    levels: tuple[Any, ...]
    n_runs: int
    mean: float


@dataclass(frozen=True, kw_only=True)
class SweepAnalysis:
    """What a full factorial sweep says of success."""

    schema: ClassVar[str] = "sweep-analysis/1"
    env_id: str
    n_runs: int
    total_steps: int  # of each
    factors: dict[str, list[Any]]
    ranking: list[SweepSetting]  # best first
    marginal_means: list[FactorLevel]
    interactions: list[FactorPair]
    source: str  # the file of the runs
    created_at: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]
    # The best of many is partly lucky on the episodes it was chosen on: these are others. None
    # where its checkpoints are not at hand.
    best_on_other_episodes: SweepSetting | None = None


@dataclass(frozen=True, kw_only=True)
class BoxDescription:
    """A box of numbers: observations or actions."""

    shape: list[int]
    dtype: str
    low: list[float | str]  # per component; "-inf" where there is no bound, as JSON has no infinity
    high: list[float | str]  # likewise, "inf"


@dataclass(frozen=True, kw_only=True)
class ObservationPart:
    """What some neighbouring components of ``observation`` mean."""

    first: int
    last: int  # inclusive
    meaning: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Speeds measured side by side in one run; the ratios are what counts."""

    schema: ClassVar[str] = "benchmark/1"
    name: str
    created_at: str
    command: list[str]
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]
    unit: str
    rounds: int
    rows: dict[str, list[float]]  # what was measured → its value in every round
    medians: dict[str, float]
    ratios: dict[str, float]  # of medians


@dataclass(frozen=True, kw_only=True)
class Examination:
    """One look at a policy while it is trained, on fixed episodes."""

    env_steps: int
    gradient_steps: int
    train_seconds: float  # examinations left out
    success_rate: float
    success_rate_ci95: tuple[float, float]
    goal_moved_rate: float | None  # share of recent training episodes whose achieved goal moved


@dataclass(frozen=True, kw_only=True)
class SolvingRun:
    """One training until its task was solved or given up."""

    name: str  # what distinguishes it, e.g. "fast" or "no normalisation"
    algo: str
    env_id: str
    seed: int
    engine: str
    recipe: str
    hyperparameters: dict[str, Any]
    target: float  # success rate to reach in two successive examinations
    total_steps: int  # where it is given up
    solved_env_steps: int | None  # at the first of the two; None if given up
    solved_seconds: float | None
    examinations: list[Examination]
    confirmed_success_rate: float  # of the last policy, on the episodes CONFIRMED
    confirmed_success_rate_ci95: tuple[float, float]
    created_at: str
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class SolvingRuns:
    """Trainings timed until their task was solved."""

    schema: ClassVar[str] = "solving/1"
    name: str
    timed: bool  # False: runs shared the machine, so their seconds mean nothing
    runs: list[dict[str, Any]]  # each a ``SolvingRun``


@dataclass(frozen=True, kw_only=True)
class TrivialGoals:
    """What hindsight goals of early Push episodes consist of, by the lab ``trivial_goals.py``."""

    schema: ClassVar[str] = "trivial-goals/1"
    env_id: str
    seed: int
    n_episodes: int
    k: int  # relabelled goals per step
    threshold_m: float  # metres within which a goal is achieved
    moved_share: float  # of episodes whose block moved
    rows: list[dict[str, float]]  # by share p of trivial goals that is kept
    command: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LabSeeds:
    """What the demo of a lab came to with each of several seeds."""

    schema: ClassVar[str] = "lab-seeds/1"
    lab: str
    title: str
    target: str  # what a seed must reach
    n_learned: int
    rows: list[dict[str, Any]]  # per seed: what the lab measured, and whether it ``learned``
    created_at: str
    command: list[str]
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class EnvDescription:
    """What ``ch01_env_anatomy.py describe`` finds."""

    schema: ClassVar[str] = "env/1"
    env_id: str
    created_at: str
    observation_space: dict[str, BoxDescription]
    action_space: BoxDescription
    reward_type: str  # dense or sparse
    distance_threshold: float  # metres
    max_episode_steps: int
    control_frequency_hz: float
    observation_index_map: list[ObservationPart]
    versions: dict[str, str | None]
