"""The JSON documents of chapter 9's side roads, as typed dataclasses like those of ``schemas``."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A student that sees, and the teacher that was told, on the same episodes."""

    run_name: str
    seed: int
    camera: str
    settings: dict[str, Any]  # of its training, the number of steps included
    frames: int  # that it saw while it learned
    gradient_steps: int
    minutes: float  # of training, drawing included
    device_name: str
    cpu_cores: int | None
    checkpoint_sha256: str
    n_episodes: int
    success_rate: float | None
    success_rate_ci95: tuple[float, float] | None
    success_rate_unsolved_start: float | None
    teacher: str  # checkpoint
    teacher_success_rate: float | None
    curve: list[dict[str, float | None]]  # frames, minutes, success of the last 100 episodes


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Policies that see, taught by one that is told where the object is (DAgger)."""

    schema: ClassVar[str] = "distillation/1"
    env_id: str
    goal: float  # success rate that a student is to reach
    students: list[dict[str, Any]]  # each a ``Taught``
    created_at: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class MiniatureRun:
    """One run of the investigation in small."""

    schema: ClassVar[str] = "miniature-run/1"
    arm: str
    seed: int
    settings: dict[str, Any]
    rows: list[dict[str, float | None]]  # steps, seconds, success and critic loss
    seconds: float  # of training and drawing; evaluations are left out
    created_at: str
    command: list[str]
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class MiniatureArm:
    """One way to train an encoder, over seeds."""

    arm: str
    title: str
    settings: dict[str, Any]  # in which it differs from the first
    success_rates: dict[str, float]  # by seed
    mean: float
    t_half_width: float | None  # Student's 95 % interval over seeds
    steps_to_learn: dict[str, int | None]  # by seed; None where it did not learn
    minutes: float  # of all its runs


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """Chapter 9's investigation in small: encoders trained in several ways on a toy."""

    schema: ClassVar[str] = "miniature/1"
    settings: dict[str, Any]  # of every run
    arms: list[MiniatureArm]
    floors: dict[str, float]  # success of doing nothing and of acting at random
    runs: list[dict[str, Any]]  # each a ``MiniatureRun``
    created_at: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """How far off an encoder is on pictures that it never saw."""

    camera: str
    encoder: str
    place: str  # what it looks for
    off_by_mm: dict[str, float]  # by seed
    mean_mm: float
    t_half_width_mm: float | None  # Student's 95 % interval over seeds


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Whether encoders can tell where block and gripper are, from single pictures."""

    schema: ClassVar[str] = "probe/1"
    env_id: str
    settings: dict[str, Any]
    rows: list[ProbeRow]
    unguided_mm: dict[str, float]  # off by, of who always tells the mean
    created_at: str
    command: list[str]
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int | None
    versions: dict[str, str | None]
