"""Book chapter 9: FetchPush from pictures, and what was wrong before it was learned.

The robot feels itself; where the block is must be seen. Step by step the encoder is made fit for
small things, trained by the critics, and shown pictures that are shifted a little.
"""

import argparse
import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import book_figures
import pixel_distill
import pixel_investigation
import pixel_miniature
import pixel_probe
from pixel_policies import make_vision, require_possible

from robotics_rl import artifacts, chapters, cli, commands, options, rendering
from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import SAC, FastSAC, Run, SelectiveHER, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.options import one_of, option
from robotics_rl.pixel_options import Pixels

SCRIPT, PUSH = "scripts/ch09_pixel_push.py", "FetchPush-v4"
NOT_HERE = ("engine", "recipe", "bf16")  # there is no choice, or another one
# The book's step 4 with what made FetchPush fast in chapter 5. The position of the block is told to
# no network: all that is known of it must be seen.
FAST: dict[str, Any] = {
    "critic_encoder": True,
    "policy_inputs": "no-achieved",
    "camera": "close",
    "precision": "fp32",  # what it was published with
    "total_steps": 244_000,
    "n_envs": 28,
    "gradient_steps": 6,
    "net_arch": (256, 256),
    "learning_rate": 1e-3,
    "tau": 0.01,
    "policy_delay": 2,
    "random_action_prob": 0.3,
    "learning_starts": 5_000,
    "normalize_observations": True,
    "trivial_goal_keep": 0.05,
    "buffer_size": 400_000,
}
# Of what shows that everything works, in minutes and without a GPU: the book's step 4, smaller.
SMALL: dict[str, Any] = {
    "critic_encoder": True,
    "policy_inputs": "no-achieved",
    "camera": "close",
    "num_filters": 16,
    "batch_size": 32,
    "learning_rate": 5e-4,
    "normalize_observations": True,  # goals differ by centimetres
    "buffer_size": 5_000,
    "learning_starts": 400,
}
DEMO_STEPS, DEMO_ROWS = 6_000, 9
ENLARGED = 6  # pixels of a picture for people, per pixel of a frame
LEARNED = 0.5  # of the first critic loss, what the last one must be below


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the chapter's policies."""

    full_state: bool = option(False, "the control: 25 numbers instead of pictures")
    recipe: str = option(
        "book",
        "settings: book, or fast (step 4, far fewer steps; made for a GPU)",
        one_of("book", "fast"),
    )


class PixelCard(Card):
    """An experiment card whose settings are of policies that see."""

    def settings(self, given: Mapping[str, Any]) -> TrainSettings:
        """The chapter's training with the flags given on the command line."""
        shown = options.option_names(Pixels)
        recipe = given.get("recipe", Choice.recipe)
        asked = {**self.training, **(FAST if recipe == "fast" else {}), **given}
        seen = {name: value for name, value in asked.items() if name in shown}
        full_state = asked.get("full_state", False)
        rest = {k: v for k, v in asked.items() if k not in shown and k != "full_state"}
        settings = cli.training_settings(
            {**rest, "recipe": recipe},
            chapter=self.chapter,
            algo=self.algo,
            env=self.env_id,
            her=True,
        )
        if full_state:
            if in_vain := shown & given.keys():
                flags = ", ".join(sorted(map(options.flag_of, in_vain)))
                raise UsageError(f"--full-state sees no pictures; leave out {flags}")
            return dataclasses.replace(settings, name=f"{self.chapter}_fullState")
        pixels: Pixels = options.fill(Pixels, seen)
        pixels = pixels.decided()
        require_possible(pixels)
        return dataclasses.replace(settings, pixels=pixels, name=pixels.run_name)

    def owns(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this metadata is of the chapter."""
        name = metadata.get("run_name") or ""
        return super().owns(metadata) and name.startswith(f"{self.chapter}_")

    def evaluation_path(self, settings: TrainSettings, results_dir: str) -> Path:
        """Where this training's evaluation goes."""
        name = f"{settings.run_name}_{settings.env_id}_seed{settings.run.seed}_eval.json"
        return Path(results_dir, settings.run.run_tag or "", name)


CARD = PixelCard(
    chapter="ch09",
    title="FetchPush from pictures (book chapter 9)",
    script=SCRIPT,
    algo="sac",
    env_id=PUSH,
    training={
        "total_steps": 8_000_000,
        "n_envs": 4,
        "buffer_size": 200_000,
        "learning_starts": 1_000,
        "learning_rate": 1e-4,
        "gamma": 0.95,
        "ent_coef": 0.05,
        "checkpoint_freq": 500_000,
    },
    criteria=(Criterion("success_rate", ">=", 0.90),),
    book="; ".join(book_figures.RESULTS[f"pixels_{step}"].text for step in ("2", "4", "control")),
    book_fast_path=book_figures.PIXELS_FAST_PATH,
    fast_verb="train",
    fast_flags={"recipe": "fast", "cuda_graphs": True, "seed": 0},
    published_as="step4",
)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    match given.pop("command"):
        case "card":
            print(CARD.text())
            return 0
        case "train":
            commands.train(CARD.settings(given), make_vision)
            return 0
        case "demo":
            return demo(given)
        case "render-frame":
            return render_frame(given)
        case "smoke-test":
            return smoke_test(given)
        case "distill":
            return pixel_distill.distill(CARD, make_vision, given)
        case "probe":
            return pixel_probe.probe(given)
        case "miniature":
            return pixel_miniature.miniature(given)
        case "compare":
            return pixel_investigation.compare(CARD, given)
        case "plot-investigation":
            return pixel_investigation.plot_investigation(CARD, given)
    return evaluate(given)


def evaluate(given: Mapping[str, Any]) -> int:
    """Evaluate a checkpoint and hold it against the criteria."""
    chapters.require_one_name(given, options.option_names(Pixels) | {"full_state"})
    training, evaluation = chapters.split(given)
    if "ckpt" not in evaluation:
        settings = CARD.settings(training)
        evaluation["ckpt"] = str(RunPaths.of(settings).checkpoint)
        _require_made_with(settings, training.keys() & options.option_names(Pixels))
    chapters.require_same_chapter(CARD, evaluation["ckpt"])
    judged, seeds = cli.eval_settings(evaluation)
    result = commands.evaluate(judged, seeds, chapter=CARD.chapter, make_vision=make_vision)
    return 0 if chapters.report(CARD.criteria, vars(result.aggregate)) else 1


def _require_made_with(settings: TrainSettings, names: Collection[str]) -> None:
    """Runs are named after some of their settings alone.

    Raises:
        UsageError: the checkpoint of this name was made with another value of one of ``names``.
    """
    paths, asked = RunPaths.of(settings), settings.flat_hyperparameters()
    made = artifacts.read_json(paths.metadata) if paths.metadata.exists() else {}
    used = made.get("hyperparameters", asked)
    for name in sorted(names):
        if used.get(name) != asked[name]:
            told = options.as_flags({name: used.get(name)}, " ")[0]
            raise UsageError(f"{paths.checkpoint} was made with {told}; say so, or use --ckpt")


def demo(given: Mapping[str, Any]) -> int:
    """Learn for some minutes, and show that critics and encoder do."""
    settings = CARD.settings({**SMALL, "total_steps": DEMO_STEPS, **given})
    rendering.choose_backend()
    from robotics_rl.devices import resolve_device
    from robotics_rl.learners import pixels
    from robotics_rl.training import build

    device = resolve_device(settings.run.device)
    model: Any = build(settings, device, engine=pixels.engine(make_vision))
    losses: list[float] = []
    norms: list[float] = []
    first, *_ = model.critic.features_extractor.parameters()
    first.register_hook(lambda gradient: norms.append(gradient.norm().item()))
    # Not `take_losses`, which tells of the last training alone.
    note = model.note
    model.note = lambda name, value: (
        losses.append(value.item()) if name == "critic_loss" else note(name, value)
    )
    print(
        f"{'steps':>6} {'updates':>8} {'critic loss':>12} {'encoder gradient':>17} {'seconds':>8}"
    )
    rows, started = [], time.monotonic()
    begin = settings.hyperparameters.learning_starts  # type: ignore[attr-defined]
    for row in range(1, DEMO_ROWS + 1):
        until = begin + row * (DEMO_STEPS - begin) // DEMO_ROWS
        model.learn(until - model.num_timesteps, reset_num_timesteps=row == 1, log_interval=10**9)
        rows.append((sum(losses) / len(losses), sum(norms) / len(norms)))
        seconds = time.monotonic() - started
        loss, norm = rows[-1]
        print(f"{until:>6} {model._n_updates:>8} {loss:>12.4f} {norm:>17.5f} {seconds:>8.0f}")
        losses.clear()
        norms.clear()
    model.env.close()
    return 0 if _verdicts(rows) else 1


def _verdicts(rows: Sequence[tuple[float, float]]) -> bool:
    """Whether the critic loss fell and the encoder was trained all the time."""
    (first, _), (last, _) = rows[0], rows[-1]
    verdicts = {
        f"critic loss fell from {first:.4f} to {last:.4f} (must be below half)": last
        < LEARNED * first,
        "the encoder had a gradient in every row": all(norm > 0 for _, norm in rows),
    }
    for text, holds in verdicts.items():
        print(f"  {'PASS' if holds else 'FAIL'}  {text}")
    return all(verdicts.values())


def render_frame(given: Mapping[str, Any]) -> int:
    """Write what a policy sees after a reset, larger than it sees it."""
    settings = CARD.settings({name: given[name] for name in given if name != "frame_out"})
    assert settings.pixels is not None
    default = f"figures/ch09_frame_{settings.pixels.camera}.png"
    path = Path(given.get("frame_out", default))
    artifacts.require_file(path)
    rendering.choose_backend()
    from PIL import Image

    from robotics_rl.envs.pixels import PixelBatch
    from robotics_rl.learners.pixels import view

    batch = PixelBatch(settings.env_id, 1, view(settings.pixels))
    frame = batch.reset(0, settings.run.seed)["pixels"]
    batch.close()
    print(f"frame {frame.shape} {frame.dtype}, {frame.min()} to {frame.max()}, camera ", end="")
    print(settings.pixels.camera)
    shown = frame.transpose(1, 2, 0).repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    with artifacts.atomic_write(path) as temporary:
        Image.fromarray(shown).save(temporary, format="png")
    print(f"OK: wrote {path}")
    return 0


def smoke_test(given: Mapping[str, Any]) -> int:
    """Train for a moment, save, load, evaluate: everything runs, nothing is learned."""
    tiny = {**SMALL, "num_filters": 4, "n_envs": 2, "total_steps": 600}
    tiny["run_tag"] = pixel_investigation.SMOKE_TEST
    settings = CARD.settings({**tiny, **given})
    metadata = commands.train(settings, make_vision)
    evaluation = {
        "ckpt": str(RunPaths.of(settings).checkpoint),
        "n_episodes": 2,
        "progress": settings.run.progress,
    }
    commands.evaluate(*cli.eval_settings(evaluation), CARD.chapter, make_vision)
    passed = metadata.gradient_steps > 0
    print(f"{metadata.gradient_steps} gradient steps")
    print("[PASS] Smoke test completed successfully" if passed else "[FAIL] nothing was learned")
    return 0 if passed else 1


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    commands_of = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, flags: str = "") -> cli.Parser:
        return chapters.add_command(commands_of, SCRIPT, name, text, flags)

    train = add("train", "train one policy", "--critic-encoder --camera close --seed 0")
    _add_settings(train)
    evaluation = add("eval", "evaluate a checkpoint", "--critic-encoder --seed 0")
    chapters.add_checkpoint_options(evaluation)
    cli.add_options(evaluation, Choice, Pixels, without=_NOT_OF_POLICIES)
    shown = add("demo", "learn for some minutes, and show that it does", "--seed 0")
    cli.add_options(shown, Run, only=("seed", "device"))
    frame = add("render-frame", "write what a policy sees", "--camera close --seed 0")
    cli.add_options(frame, Run, only=("seed",))
    cli.add_options(frame, Pixels, only=_VIEW)
    frame.add_argument("--out", dest="frame_out", default=argparse.SUPPRESS, help="PNG")
    smoke = add("smoke-test", "train, save, load and evaluate in a moment")
    cli.add_options(smoke, Run, only=("seed", "device", "progress", *_ROOTS))
    for flags, *command in (
        (pixel_distill.add_flags, "distill", "a policy that is told teaches one that sees"),
        (pixel_probe.add_flags, "probe", "can encoders tell where the block is?"),
        (pixel_miniature.add_flags, "miniature", "the investigation on a toy"),
        (pixel_investigation.add_compare_flags, "compare", "means and intervals over seeds"),
        (pixel_investigation.add_plot_flags, "plot-investigation", "draw figures 9.1 to 9.4"),
    ):
        flags(add(*command))
    add("card", "print the experiment card")
    return top


_ROOTS = ("checkpoints_dir", "log_dir", "run_tag")
_VIEW = ("image_size", "native_render", "camera", "msaa", "hide_goal_marker")
_NOT_OF_POLICIES = ("recipe", "cuda_graphs", "buffer_file")  # but of how they were trained


def _add_settings(parser: cli.Parser) -> None:
    training = dict(CARD.training)
    cli.add_options(parser.add_argument_group("what it sees"), Choice, Pixels, turned_on=FAST)
    cli.add_options(
        parser.add_argument_group("how it learns"),
        *(SAC, SelectiveHER, FastSAC, Run),
        defaults=training,
        without=NOT_HERE,
    )


if __name__ == "__main__":
    cli.run(main)
