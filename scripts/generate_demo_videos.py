"""Film trained policies: MP4 and GIF, one episode after the other, or several side by side.

What is filmed is what `eval.py` plays, from the same reset seeds. The goal is the red dot; within
the pale ball around it, it is reached.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_policies import make_vision

from robotics_rl import artifacts, cli, config, options, rendering
from robotics_rl.config import EvalSettings
from robotics_rl.errors import UsageError
from robotics_rl.options import number_of_episodes, option
from robotics_rl.progress import Progress
from robotics_rl.schemas import Video

if TYPE_CHECKING:
    from robotics_rl.evaluation import Player
    from robotics_rl.filming import Grid, Take
    from robotics_rl.schemas import Evaluation

SCRIPT = "scripts/generate_demo_videos.py"
CHECKPOINT = "checkpoints/ppo_FetchReachDense-v4_seed0.zip"
SHARED = ("env", "device", "trust_pickle", "progress")  # flags of evaluation
MOST = 6  # rows and columns that can be taken in


@dataclass(frozen=True, kw_only=True)
class Film:
    """Flags of a video."""

    gif: bool = option(False, "write a GIF as well: half as large, half the frames")
    grid: str | None = option(
        None,
        "episodes that are seen at once, as ROWSxCOLUMNS; several checkpoints have a row or a "
        "column each (default: a column)",
    )
    n_episodes: int = option(
        5, "episodes of each checkpoint (with --grid: as many as it shows)", number_of_episodes
    )
    episode_seeds: str | None = option(
        None, "reset seeds of every checkpoint's episodes, such as 0,1,2 or 0-4 (default: from 0)"
    )
    overlay: bool = option(False, "tell step, distance and success above each picture")


@dataclass(frozen=True)
class Plan:
    """What is to be filmed, and where it goes."""

    checkpoints: list[Path]
    seeds: list[int]
    grid: tuple[int, int]
    outputs: dict[str, Path]  # by their ending
    overlay: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Plan":
        """Check the flags.

        Raises:
            UsageError: they cannot be followed.
        """
        film: Film = options.fill(Film, given)
        checkpoints = [artifacts.existing_checkpoint(Path(path)) for path in given["ckpt"]]
        if len(set(checkpoints)) < len(checkpoints):
            raise UsageError("a checkpoint is named twice; name each of them once")
        grid = _grid(film.grid, len(checkpoints))
        at_once = grid[0] * grid[1] // len(checkpoints)
        seeds = _seeds(film, given, at_once)
        if len(seeds) % at_once:
            raise UsageError(
                f"{len(seeds)} episodes do not fill a grid that shows {at_once} of each checkpoint "
                "at once; choose another --n-episodes or --grid"
            )
        return cls(checkpoints, seeds, grid, _outputs(given["out"], film), film.overlay)

    @property
    def names(self) -> list[str]:
        """What the checkpoints are called in captions: their files, with folders where needed."""
        stems = [path.stem for path in self.checkpoints]
        return [
            stem if stems.count(stem) == 1 else f"{path.parent.name}/{stem}"
            for stem, path in zip(stems, self.checkpoints, strict=True)
        ]


def main(argv: Sequence[str]) -> int:
    """Play, draw and write."""
    given = vars(_parser().parse_args(argv))
    plan = Plan.of(given)
    shared = {name: given[name] for name in SHARED if name in given}
    rendering.choose_backend()
    from robotics_rl import filming, video

    video.require_encoder()
    players = _players(plan, shared)
    played = [_play(player, plan.seeds, shared) for player in players]
    policies = [
        [
            filming.Take(name, episode, tape)
            for episode, tape in zip(result.per_episode, tapes, strict=True)
        ]
        for name, (result, tapes) in zip(plan.names, played, strict=True)
    ]
    grid = filming.Grid(*plan.grid)
    _write(plan, players[0].env_id, grid, grid.arranged(policies), shared)
    results = [result for result, _ in played]
    document = Video(
        files=[path.as_posix() for ending, path in plan.outputs.items() if ending != "json"],
        grid=plan.grid,
        evaluations=results,
    )
    artifacts.write_json(plan.outputs["json"], document)
    for name, result in zip(plan.names, results, strict=True):
        print(f"{name}: {_outcome(result)}")
    for path in plan.outputs.values():
        print(f"OK: wrote {path}")
    return 0


def _players(plan: Plan, shared: Mapping[str, Any]) -> "list[Player]":
    """Every policy, loaded.

    Raises:
        UsageError: one cannot be, or they cannot be filmed together.
    """
    from robotics_rl.evaluation import Player
    from robotics_rl.filming import task_of

    players = [
        Player.of(EvalSettings(ckpt=str(path), **shared), make_vision) for path in plan.checkpoints
    ]
    tasks = []
    for path, player in zip(plan.checkpoints, players, strict=True):
        if config.engine_for(player.env_id) != "fast":
            raise UsageError(
                f"{path} plays {player.env_id}, and this films Fetch tasks; "
                f"use: python eval.py --ckpt {path} --video"
            )
        tasks.append(task_of(player.env_id))
        if tasks[-1] != tasks[0]:
            raise UsageError(
                f"{path} is of {player.env_id} and {plan.checkpoints[0]} of {players[0].env_id}; "
                "film each task on its own"
            )
    return players


def _play(
    player: "Player", seeds: Sequence[int], shared: Mapping[str, Any]
) -> "tuple[Evaluation, list[Any]]":
    """What comes of the episodes, and the actions of each; just what `eval.py` plays."""
    from robotics_rl.playing import play

    tapes: list[Any] = []
    evaluation = play(
        player.side_by_side(seeds, tapes),
        len(seeds),
        player.subject,
        env_id=player.env_id,
        engine="fast",
        device=player.device,
        show_progress=shared.get("progress", True),
    )
    player.env.close()
    return evaluation, tapes


def _write(
    plan: Plan, env_id: str, grid: "Grid", takes: "Sequence[Take]", shared: Mapping[str, Any]
) -> None:
    """Draw the episodes, and write the videos as they are drawn."""
    from robotics_rl import filming, video

    caption = filming.Caption(
        grid.size, name=plan.overlay or len(plan.checkpoints) > 1, figures=plan.overlay
    )
    n_pictures = sum(len(take.actions) + 1 for take in takes)
    gif = video.Gif() if "gif" in plan.outputs else None
    with (
        closing(filming.Projector(env_id, grid.size)) as projector,
        Progress(n_pictures, "pictures", enabled=shared.get("progress", True)) as progress,
    ):
        frames = filming.film(projector, takes, grid, caption, progress.update)
        video.write_mp4(plan.outputs["mp4"], gif.passing(frames) if gif else frames)
    if gif:
        gif.write(plan.outputs["gif"])


def _outcome(result: "Evaluation") -> str:
    n_successes = sum(bool(episode.success) for episode in result.per_episode)
    starts = ", ".join(map(str, result.seeds))
    return f"{n_successes} of {result.n_episodes} episodes end in success (reset seeds {starts})"


def _grid(text: str | None, n_checkpoints: int) -> tuple[int, int]:
    """Rows and columns.

    Raises:
        UsageError: they cannot be read, or are too many, or fit the checkpoints in no way.
    """
    if text is None:
        text = f"1x{n_checkpoints}"
    found = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text)
    if found is None:
        raise UsageError(f"--grid is {text!r}; write it as ROWSxCOLUMNS, such as 2x3")
    rows, columns = int(found[1]), int(found[2])
    if max(rows, columns) > MOST:
        raise UsageError(f"{rows}x{columns} pictures are too many; {MOST} a side are the most")
    if n_checkpoints > 1 and n_checkpoints not in (rows, columns):
        raise UsageError(
            f"a grid of {rows}x{columns} has neither a row nor a column for each of "
            f"{n_checkpoints} checkpoints; use --grid 1x{n_checkpoints}"
        )
    return rows, columns


def _seeds(film: Film, given: Mapping[str, Any], at_once: int) -> list[int]:
    """Reset seeds of every checkpoint's episodes.

    Raises:
        UsageError: fewer are named than episodes asked for, or they cannot be read.
    """
    asked = film.n_episodes if "n_episodes" in given else None
    if film.episode_seeds is None:
        return list(range(asked or (at_once if film.grid else film.n_episodes)))
    seeds = options.parse_seeds(film.episode_seeds)
    if asked and asked > len(seeds):
        raise UsageError(f"--episode-seeds names {len(seeds)} of {asked} episodes; name more")
    return seeds[:asked]


def _outputs(out: str, film: Film) -> dict[str, Path]:
    """Where everything goes, by its ending.

    Raises:
        UsageError: something cannot be written there.
    """
    stem = out.removesuffix(".mp4").removesuffix(".gif")
    if not Path(stem).name or out.endswith("/"):
        raise UsageError(f"--out is {out!r}; it must name a file, such as videos/reach")
    endings = ["mp4", *(["gif"] if film.gif or out.endswith(".gif") else []), "json"]
    outputs = {ending: Path(f"{stem}.{ending}") for ending in endings}
    for path in outputs.values():
        artifacts.require_file(path)
    return outputs


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog=SCRIPT,
        description=__doc__,
        epilog="examples:\n"
        f"  python {SCRIPT} --ckpt {CHECKPOINT} --out videos/ppo --gif --overlay\n"
        f"  python {SCRIPT} --ckpt A.zip B.zip --grid 2x2 --out videos/a_and_b",
    )
    parser.add_argument(
        "--ckpt",
        action="extend",
        nargs="+",
        required=True,
        metavar="PATH",
        help="checkpoints of one task; they play the same episodes",
    )
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="where to write, without .mp4, .gif, .json"
    )
    cli.add_options(parser, Film)
    cli.add_options(parser, EvalSettings, only=SHARED)
    return parser


if __name__ == "__main__":
    cli.run(main)
