"""Chapter 9's short cut: a policy that is told where the block is teaches one that must see it.

Reinforcement learning from pictures takes days on a laptop. What it would arrive at does not: by
DAgger (Ross et al. 2011) the student learns what the teacher does, in states of its own making.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robotics_rl import artifacts, chapters, cli, commands, options, plotting, rendering, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import SAC, EvalSettings, Run, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.pixel_options import Lessons, Pixels
from robotics_rl.pixel_schemas import Distillation, Taught
from robotics_rl.provenance import command_line, git_state, usable_cores, utc_now
from robotics_rl.schemas import Evaluation, Metadata
from robotics_rl.versions import gather_versions

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy

    from robotics_rl.learners.pixels import MakeVision

NAME = "ch09_distill"
GOAL = 0.8  # success rate
CRITERIA = (Criterion("success_rate", ">=", GOAL),)
# Inputs are honest and pictures close; sizes such that two cores are done within 90 minutes.
DEFAULTS: dict[str, Any] = {
    "encoder": "manipulation",
    "policy_inputs": "no-achieved",
    "camera": "close",
    "num_filters": 16,
    "frame_stack": 2,
    "total_steps": 100_000,
    "n_envs": 8,
    "gradient_steps": 4,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "learning_starts": 4_000,
    "buffer_size": 100_000,
    "normalize_observations": True,
    "checkpoint_freq": 10_000,
    "ent_coef": 0.0,
}
# Flags, by the settings that they are of.
FLAGS: dict[type, str] = {
    Pixels: "camera image_size msaa num_filters spatial_softmax frame_stack drq buffer_file",
    SAC: "learning_rate batch_size net_arch buffer_size learning_starts gradient_steps",
    Run: "seed total_steps n_envs device checkpoints_dir log_dir run_tag track checkpoint_freq "
    "resume progress",
    Lessons: "teacher place_weight",
}


def add_flags(parser: cli.Parser) -> None:
    """The flags of `distill`."""
    for part, names in FLAGS.items():
        cli.add_options(parser, part, only=names.split(), defaults=DEFAULTS)
    evaluation = {"n_episodes": "n_eval_episodes", "results_dir": "results_dir"}
    cli.add_options(parser, EvalSettings, renamed=evaluation)


def distill(card: Card, make_vision: "MakeVision", given: Mapping[str, Any]) -> int:
    """Teach, evaluate, and set what came of it beside the teacher; 0 if the student is good."""
    training, evaluation = chapters.split(given)
    settings = settings_of(card, training)
    rendering.choose_backend()
    teacher = load_teacher(settings)
    teach(settings, teacher, make_vision)
    asked = {"ckpt": str(RunPaths.of(settings).checkpoint), "progress": settings.run.progress}
    asked |= _only(evaluation, "n_episodes", "results_dir")
    result = commands.evaluate(*cli.eval_settings(asked), make_vision=make_vision)
    folder = Path(evaluation.get("results_dir", EvalSettings.results_dir))
    report(settings, result, teacher, folder / (settings.run.run_tag or "") / f"{NAME}.json")
    return 0 if chapters.report(CRITERIA, vars(result.aggregate)) else 1


def settings_of(card: Card, given: Mapping[str, Any]) -> TrainSettings:
    """The training that flags ask for.

    Raises:
        UsageError: a value is out of bounds, or there is no such teacher.
    """
    lessons: Lessons = options.fill(Lessons, given)
    path = artifacts.checkpoint_path(Path(lessons.teacher))
    if not path.exists():
        raise UsageError(f"there is no teacher {path}; name a checkpoint with --teacher")
    lessons = dataclasses.replace(lessons, teacher_sha256=artifacts.sha256_of(path))
    flags = {name: given[name] for name in given.keys() - options.option_names(Lessons)}
    asked = {**DEFAULTS, "drq": False, **flags}
    settings = card.settings(asked)
    pixels = settings.pixels
    assert pixels is not None
    name = f"{NAME}_{pixels.camera}"
    settings = dataclasses.replace(settings, her=None, lessons=lessons, name=name)
    # On disk, so that a resumed run finds what was drawn and what the teacher said of it.
    kept = pixels.buffer_file or str(_replay(settings))
    return dataclasses.replace(settings, pixels=dataclasses.replace(pixels, buffer_file=kept))


def load_teacher(settings: TrainSettings) -> "BasePolicy":
    """The policy that is told all.

    Raises:
        UsageError: it is of another task, or must see itself.
    """
    from robotics_rl import checkpoints, envs

    assert settings.lessons is not None
    path = artifacts.checkpoint_path(Path(settings.lessons.teacher))
    metadata = checkpoints.inspect(path)
    assert metadata is not None
    if metadata.env_id != settings.env_id:
        raise UsageError(f"{path} is of {metadata.env_id}, not {settings.env_id}; name another")
    if commands.sees_pictures(str(path)):
        raise UsageError(f"{path} sees pictures and is told nothing; name a state policy")
    env = envs.make_env(settings.env_id)
    loaded = checkpoints.load_policy(path, env.observation_space, env.action_space)
    env.close()
    return loaded.policy


def teach(settings: TrainSettings, teacher: "BasePolicy", make_vision: "MakeVision") -> "Metadata":
    """Train the student to its end, from where an earlier run was if it is resumed."""
    from robotics_rl import training
    from robotics_rl.learners import pixels
    from robotics_rl.learners.imitation import Student

    assert settings.lessons is not None
    learner = partial(Student, teacher=teacher, place_weight=settings.lessons.place_weight)
    engine = pixels.engine(make_vision, learner)
    # Critics, which it tells of, learn nothing here.
    engine = dataclasses.replace(engine, diagnose=lambda _: None)
    metadata = training.train(settings, engine=engine)
    replay = _replay(settings)
    for leftover in (replay, replay.with_name(replay.name + ".lock")):
        leftover.unlink(missing_ok=True)
    if replay.parent.exists():
        replay.parent.rmdir()
    return metadata


def _replay(settings: TrainSettings) -> Path:
    return RunPaths.of(settings).resume / "replay.bin"


def _only(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def report(settings: TrainSettings, result: Evaluation, teacher: "BasePolicy", path: Path) -> None:
    """Put a student beside those there were, into the document and the figure."""
    figure = artifacts.figure_path(path)
    document = Distillation(
        env_id=settings.env_id,
        goal=GOAL,
        students=beside_others(_taught(settings, result, teacher), path, figure),
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )
    artifacts.write_json(path, document)
    print(reporting.aligned(rows(document.students)))
    print(f"OK: wrote {path}")
    draw(document, path, figure)


def beside_others(mine: dict[str, Any], path: Path, figure: Path) -> list[dict[str, Any]]:
    """The students of a document, with ``mine`` in its place.

    Where one of its name was taught or played otherwise, the document goes to ``previous/``.
    """
    is_same = artifacts.has_same(mine, "settings", "n_episodes")

    def has_room(old: Mapping[str, Any]) -> bool:
        return "students" in old and all(
            is_same(one) for one in old["students"] if _name(one) == _name(mine)
        )

    artifacts.keep_other(path, "student", has_room, figure)
    others = artifacts.read_json(path)["students"] if path.exists() else []
    return sorted([*(one for one in others if _name(one) != _name(mine)), mine], key=_name)


def _name(student: Mapping[str, Any]) -> tuple[str, int]:
    """What tells students apart."""
    return student["run_name"], student["seed"]


def _taught(settings: TrainSettings, result: Evaluation, teacher: "BasePolicy") -> dict[str, Any]:
    """What the document says of a student."""
    from robotics_rl import curves
    from robotics_rl.episodes import side_by_side
    from robotics_rl.playing import aggregate

    paths = RunPaths.of(settings)
    made, rows = artifacts.read_json(paths.metadata), curves.read_curves(paths.curves)
    shown = result.aggregate
    played = list(side_by_side(teacher, settings.env_id, result.seeds, usable_cores()))
    values: Any = settings.hyperparameters
    assert settings.pixels is not None
    assert settings.lessons is not None
    return dataclasses.asdict(
        Taught(
            run_name=settings.run_name,
            seed=settings.run.seed,
            camera=settings.pixels.camera,
            settings={
                **settings.flat_hyperparameters(),
                "total_steps": settings.run.total_steps,
            },
            frames=made["env_steps"],
            gradient_steps=made["gradient_steps"],
            minutes=round(made["training"]["wall_seconds"] / 60, 1),
            device_name=made["device_name"],
            cpu_cores=made["cpu_cores"],
            checkpoint_sha256=made["checkpoint_sha256"],
            n_episodes=result.n_episodes,
            success_rate=shown.success_rate,
            success_rate_ci95=shown.success_rate_ci95,
            success_rate_unsolved_start=shown.success_rate_unsolved_start,
            teacher=settings.lessons.teacher,
            teacher_success_rate=aggregate(played).success_rate,
            curve=[
                {
                    "frames": row["env_steps"],
                    "minutes": round((row["wall_seconds"] or 0) / 60, 2),
                    "success_rate": row["success_rate"],
                }
                for row in rows
                if (row["env_steps"] or 0) > values.learning_starts
                and row["success_rate"] is not None
            ],
        )
    )


def rows(students: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Students and what it took to teach them, below a header."""
    made = [["camera", "seed", "pictures", "gradient steps", "minutes", f"{GOAL:g} in training",
             "success", "of what did not start solved", "teacher's"]]  # fmt: skip
    for one in students:
        made.append(
            [
                one["camera"],
                str(one["seed"]),
                f"{one['frames']:,}",
                f"{one['gradient_steps']:,}",
                f"{one['minutes']:.0f} on {reporting.cores(one)}",
                _when(one),
                reporting.rate(one),
                f"{one['success_rate_unsolved_start']:.2f}",
                f"{one['teacher_success_rate']:.2f}",
            ]
        )
    return made


def _when(student: Mapping[str, Any]) -> str:
    """When the last 100 episodes of the training were good enough for the first time."""
    for row in student["curve"]:
        if row["success_rate"] >= GOAL:
            return f"{row['frames']:,.0f} pictures, {row['minutes']:.0f} min"
    return "never"


def draw(document: Distillation, source: Path, path: Path) -> None:
    """Success against pictures seen and against minutes."""
    axes_of = {"frames": "pictures", "minutes": "minutes, training and drawing"}
    caption = f"Training episodes, which the student acts in. From {source.as_posix()}."
    with plotting.figure(path, 7.0, 3.2, caption) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (name, label) in zip(panels, axes_of.items(), strict=True):
            for number, one in enumerate(document.students):
                seen = [row[name] for row in one["curve"]]
                rates = [row["success_rate"] for row in one["curve"]]
                title = f"camera {one['camera']}, seed {one['seed']}"
                panel.plot(seen, rates, label=title, **plotting.line_style(number))
                panel.axhline(one["teacher_success_rate"], color="0.6", linewidth=0.8)
            panel.axhline(GOAL, color="0.6", **plotting.TARGET)
            panel.set(ylim=(0, 1.02))
            plotting.steps_axis(panel, label)
        panels[0].set_ylabel("success, last 100 training episodes")
        panels[1].legend(loc="lower right")
        figure.suptitle(f"{document.env_id}: students that see (grey: teachers; dashed: goal)")
