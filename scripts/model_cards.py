"""A card beside every published checkpoint, from its metadata and its evaluations."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ch02_ppo_dense_reach
import ch03_sac_dense_reach
import ch04_her_sparse_reach_push
import ch09_pixel_push

from robotics_rl import artifacts, commands, config, options, rendering
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings, Run
from robotics_rl.entropy_options import ENTROPY_MODES
from robotics_rl.pixel_options import Lessons, Pixels, were_of_pictures
from robotics_rl.progress import clock
from robotics_rl.reporting import machine, markdown, rate

CARDS: dict[str | None, Card] = {
    card.chapter: card
    for card in (
        ch02_ppo_dense_reach.CARD,
        ch03_sac_dense_reach.CARD,
        ch04_her_sparse_reach_push.CARD,
        ch09_pixel_push.CARD,
    )
}
FLOORS = ("do_nothing", "random")
METRICS = {"return_mean": ".2f", "final_distance_mean": ".4f"}
PACKAGES = ("stable_baselines3", "gymnasium", "gymnasium_robotics", "mujoco")  # to act with
Document = dict[str, Any]
Evaluations = Sequence[tuple[Path, Document]]


def cards() -> Iterator[tuple[Path, str]]:
    """Path and text of the card of every checkpoint that was evaluated."""
    found: dict[Path, list[tuple[Path, Document]]] = {}
    for path, result in artifacts.checkpoint_evaluations(EvalSettings.results_dir):
        found.setdefault(Path(result["checkpoint"]), []).append((path, result))
    for checkpoint, evaluations in found.items():
        is_ours = checkpoint.is_relative_to(Run.checkpoints_dir)
        if not (is_ours and checkpoint.exists() and metadata_path(checkpoint).exists()):
            continue
        metadata = read_json(metadata_path(checkpoint))
        same = [(path, result) for path, result in evaluations if _is_of(result, metadata)]
        if same:
            yield checkpoint.with_suffix(".md"), card(checkpoint, metadata, same)


def _is_of(result: Document, metadata: Document) -> bool:
    return bool(result["checkpoint_sha256"] == metadata["checkpoint_sha256"])


def card(checkpoint: Path, metadata: Document, evaluations: Evaluations) -> str:
    """What a reader must know of a checkpoint."""
    parts = [
        f"# {checkpoint.stem}",
        _what(metadata),
        markdown([["", ""], *_origin(checkpoint, metadata)]),
        "## Result",
        _how_played(evaluations),
        markdown(list(_results(checkpoint, evaluations))),
        "## Use it",
        *_use(checkpoint, metadata),
        "## Settings",
        markdown([["setting", "value", "what it is"], *_settings(metadata)]),
        "## Versions",
        markdown(list(_versions(metadata, evaluations))),
        "Made by `python scripts/report.py` from the JSON documents named here.",
    ]
    return "\n\n".join(parts) + "\n"


def _what(metadata: Document) -> str:
    """The policy in a sentence or three."""
    values, chapter = metadata["hyperparameters"], CARDS.get(metadata["chapter"])
    name = metadata["algo"].upper() + (" with HER" if metadata["her"] else "")
    sees = "the state in numbers"
    if _sees(metadata):
        side, told = values["image_size"], " and ".join(_pixels(metadata).vectors)
        sees = (
            f"the last {values['frame_stack']} pictures of {side} × {side} pixels, camera "
            f"{values['camera']}, and is told {told.replace('_', ' ')}"
        )
    text = (
        f"{name} on {metadata['env_id']}, training seed {metadata['seed']}, engine "
        f"{metadata['engine']}, {_recipe(metadata)}. It sees {sees}; it was trained and "
        "played in simulation alone."
    )
    if teacher := values.get("teacher"):
        text += (
            f" Its actor was not rewarded but taught (DAgger), by `{teacher}`, which is told "
            "where the object is; its critics learned nothing."
        )
    return text if chapter is None else f"{chapter.title}: {text}"


def _recipe(metadata: Document) -> str:
    """The recipe, or that flags said the same as one."""
    if "teacher" in metadata["hyperparameters"]:
        return "settings of `distill`"
    if _sees(metadata) and metadata["recipe"] == "book" and _is_typed_fast(metadata):
        return "typed settings equal to the recipe fast"
    return f"recipe {metadata['recipe']}"


def _is_typed_fast(metadata: Document) -> bool:
    """Whether a policy that sees was trained as chapter 9's recipe `fast` trains one."""
    made = {**metadata, **metadata["hyperparameters"], "recipe": "fast"}
    flags = {name: made[name] for name in ("recipe", "seed", "cuda_graphs")}
    asked = ch09_pixel_push.CARD.settings(flags).identity()
    return all(made.get(name) == value for name, value in asked.items())


def _sees(metadata: Document) -> bool:
    return were_of_pictures(metadata["hyperparameters"])


def _origin(checkpoint: Path, metadata: Document) -> Iterator[list[str]]:
    training, git = metadata["training"], metadata["git"]
    yield ["made by", f"`{shlex.join(metadata['command'])}`"]
    yield ["learned from", f"{metadata['steps_done']:,} environment steps{_whose(metadata)}"]
    yield [
        "gradient steps",
        f"{metadata['gradient_steps']:,}, {metadata['update_to_data']:.3g} per environment step",
    ]
    yield [
        "time",
        f"{clock(training['wall_seconds'])}, {training['steps_per_second']:,.0f} environment "
        f"steps per second on {machine(metadata)}",
    ]
    if drawn_by := metadata.get("drawn_by"):
        yield ["pictures drawn with", f"`MUJOCO_GL={drawn_by}`"]
    if precision := metadata.get("encoder_precision"):
        yield ["encoder computed in", precision]
    if (final := training["final_success_rate"]) is not None:
        yield ["success at the end of training", f"{final:.2f} of its last episodes, with noise"]
    state = {None: "", False: "", True: ", with changes"}[git["dirty"]]
    yield ["made at", f"{metadata['created_at']}, commit `{git['commit']}`{state}"]
    yield ["SHA-256", f"`{metadata['checkpoint_sha256']}`"]
    yield ["metadata", _link(metadata_path(checkpoint), checkpoint)]


def _whose(metadata: Document) -> str:
    """Who acted in a training."""
    values = metadata["hyperparameters"]
    if "teacher" not in values:
        return " of its own"
    return f", in the first {values['learning_starts']:,} of which its teacher acted"


def _how_played(evaluations: Evaluations) -> str:
    """Which episodes; success and its interval are defined here."""
    seeds = evaluations[0][1]["seeds"]
    return (
        f"{len(seeds)} episodes, reset seeds {min(seeds)} to {max(seeds)}, which training never "
        "uses. Success is judged at the last step of an episode; brackets hold 95 % intervals "
        "(Wilson) over episodes. Doing nothing and acting at random are floors."
    )


def _results(checkpoint: Path, evaluations: Evaluations) -> Iterator[list[str]]:
    """This policy, then the floors on the same episodes."""
    yield ["policy", "success", "of what did not start solved", "return", "distance (m)"]
    for path, result in evaluations:
        how = "" if result["deterministic"] else ", with noise"
        yield [f"[this one{how}]({_relative(path, checkpoint)})", *_metrics(result)]
    _, played = evaluations[0]
    for floor in FLOORS:
        name = artifacts.evaluation_name(floor, played["env_id"], None)
        path = artifacts.evaluation_path(EvalSettings.results_dir, None, None, name)
        title = floor.replace("_", " ")
        if path.exists() and read_json(path)["seeds"] == played["seeds"]:
            yield [f"[{title}]({_relative(path, checkpoint)})", *_metrics(read_json(path))]
        else:
            command = f"python eval.py --baseline {floor.replace('_', '-')}"
            command = f"`{command} --env {played['env_id']}`"
            yield [title, f"not measured on these episodes: {command}", "", "", ""]


def _metrics(result: Document) -> Iterator[str]:
    mean = result["aggregate"]
    for name in ("success_rate", "success_rate_unsolved_start"):
        yield rate(mean, name) if mean[f"{name}_ci95"] else "not defined here"
    for name, form in METRICS.items():
        yield "not defined here" if mean[name] is None else f"{mean[name]:{form}}"


def _use(checkpoint: Path, metadata: Document) -> Iterator[str]:
    sees = commands.sees_pictures(str(checkpoint))
    script = f"{ch09_pixel_push.SCRIPT} eval" if sees else "eval.py"
    packages = (f"{name.replace('_', '-')}=={metadata['versions'][name]}" for name in PACKAGES)
    yield "With this project, which executes no code from the file:"
    yield f"```bash\nbash docker/dev.sh python {script} --ckpt {checkpoint}\n```"
    yield (
        "Without it, in any Python that has the versions below "
        f"(`pip install {' '.join(packages)}`). Loading runs what is pickled in the file."
    )
    if sees:
        yield (
            "The file names classes of two labs, so these must be found: files of `scripts/labs`, "
            "which need nothing else of this project. And the policy must be shown such pictures "
            "as it was trained on. On a machine without a screen, set `MUJOCO_GL=egl` first."
        )
    code = _pixel_code if sees else _code
    yield f"```python\n{code(checkpoint, metadata)}{_EPISODE}```"


_EPISODE = """\
observation, _ = env.reset(seed=0)
done = False
while not done:
    action, _ = policy.predict(observation, deterministic=True)
    observation, reward, terminated, truncated, info = env.step(action)
    done = terminated or truncated
print(info)
"""


def _code(checkpoint: Path, metadata: Document) -> str:
    """Python that loads a policy and makes its environment."""
    algorithm = metadata["algo"].upper()
    return f"""\
import gymnasium as gym
import gymnasium_robotics
from stable_baselines3 import {algorithm}

gym.register_envs(gymnasium_robotics)
env = gym.make("{metadata["env_id"]}")

path = "{checkpoint}"
policy = {algorithm}.load(path, device="cpu")
"""


def _pixel_code(checkpoint: Path, metadata: Document) -> str:
    """The same for a policy that sees: its camera, its pictures, and no marker at the goal."""
    rendering.render_nothing()
    from robotics_rl.envs.renderer import CAMERAS, LARGE

    pixels, camera = _pixels(metadata), CAMERAS[metadata["hyperparameters"]["camera"]]
    side = pixels.image_size if pixels.native_render else LARGE
    hide = '\nscene.site("target0").rgba[3] = 0' if pixels.hide_goal_marker else ""
    return f"""\
import sys

import gymnasium as gym
import gymnasium_robotics
import numpy as np
from stable_baselines3 import {metadata["algo"].upper()}

sys.path.append("scripts/labs")
from pixel_wrapper import PixelObservationWrapper

gym.register_envs(gymnasium_robotics)
camera = {{
    "distance": {camera.distance},
    "azimuth": {camera.azimuth},
    "elevation": {camera.elevation},
    "lookat": np.array({list(camera.lookat)}),
}}
drawn = {{"render_mode": "rgb_array", "width": {side}, "height": {side}}}
env = gym.make("{metadata["env_id"]}", default_camera_config=camera, **drawn)
scene = env.unwrapped.model
scene.vis.quality.offsamples = {pixels.msaa}{hide}
size = ({pixels.image_size}, {pixels.image_size})
env = PixelObservationWrapper(env, image_size=size, frame_stack={pixels.frame_stack})

path = "{checkpoint}"
policy = {metadata["algo"].upper()}.load(path, device="cpu")
"""


def _pixels(metadata: Document) -> Pixels:
    pixels: Pixels = options.fill(Pixels, metadata["hyperparameters"])
    return pixels


def _settings(metadata: Document) -> Iterator[list[str]]:
    algorithm = config.parts_of(metadata["algo"])
    parts = (*algorithm, config.SelectiveHER, *ENTROPY_MODES.values(), Run, Pixels, Lessons)
    known = {row.name: row.metadata["help"] for row in options.option_rows(*parts)}
    for name, value in sorted(metadata["hyperparameters"].items()):
        shown = tuple(value) if isinstance(value, list) else value
        yield [f"`{name}`", options.as_typed(shown), known.get(name, "")]


def _versions(metadata: Document, evaluations: Evaluations) -> Iterator[list[str]]:
    """What it was trained with, and what it was played with."""
    _, played = evaluations[0]
    yield ["package", "trained", "played"]
    for name in sorted(metadata["versions"].keys() | played["versions"].keys()):
        yield [name, *(_version(one["versions"], name) for one in (metadata, played))]


def _version(versions: Mapping[str, str | None], name: str) -> str:
    return versions.get(name) or "none"


def _link(path: Path, checkpoint: Path) -> str:
    return f"[{path.name}]({_relative(path, checkpoint)})"


def _relative(path: Path, checkpoint: Path) -> str:
    """As it is linked to from the card."""
    return Path(os.path.relpath(path, checkpoint.parent)).as_posix()
