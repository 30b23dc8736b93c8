"""What each sub-command of `capture_proposal_figures.py` draws, and what it needs for that."""

# Rooms that draw are imported when they are asked for: they load MuJoCo, whose OpenGL backend must
# have been chosen by then.

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ch02_ppo_dense_reach as ch02
import ch03_sac_dense_reach as ch03
import ch04_her_sparse_reach_push as ch04
import ch04_sweep
import lab_seeds
import pixel_investigation as pixels
from ch09_pixel_push import CARD as CH09
from chapter5_tables import CONTROL_TAG

from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings, Run
from robotics_rl.errors import UsageError
from robotics_rl.schemas import SweepAnalysis

if TYPE_CHECKING:
    from figures_curves import Runs

DEV = "bash docker/dev.sh python"
RESULTS, RUNS = Path(EvalSettings.results_dir), Path(Run.log_dir)
PPO_DEMOS = {"CartPole-v1": "ppo_cartpole", "FetchReachDense-v4": "ppo_dense_reach"}
SAC_DEMO = "sac_pendulum_demo"
RUN_NAMES = ("ppo", "sac_her", "sac")  # of learning curves, in this order
SEED = 0  # of resets
ENVS = ("FetchReachDense-v4", "FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4")


@dataclass(frozen=True)
class Asked:
    """The flags."""

    out_dir: str = "figures"
    envs: Sequence[str] = ENVS
    runs: Sequence[str] = ()  # none: the published ones


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn."""

    name: str  # of its file, in the folder of figures
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Missing:
    """A figure, or a part of one, that cannot be drawn yet."""

    what: str
    remedy: str  # the command that makes its input

    def __str__(self) -> str:
        """As it is told."""
        return f"{self.what}: {self.remedy}"


Plan = Iterator[Picture | Missing]


def env_setup(asked: Asked) -> Plan:
    """A task after reset, with everything in it named."""
    import figures_scenes

    from robotics_rl.envs import fetch_ids, require_id

    for env_id in asked.envs:
        require_id(env_id, fetch_ids())
    for env_id in asked.envs:
        draw = partial(figures_scenes.env_setup, env_id, SEED)
        yield Picture(f"env_setup_{env_id.lower()}.png", draw)


def reward_diagram(_: Asked) -> Plan:
    """From observations to actions, and what is rewarded."""
    import figures_ideas
    import figures_networks

    yield Picture("reward_diagram_distance.png", figures_ideas.reward_distance)
    yield _of_policy(
        "reward_diagram_network.png", ch02.CARD, figures_networks.observation_to_network
    )


def sac_architecture(_: Asked) -> Plan:
    """What SAC learns, and from what."""
    import figures_networks

    yield _of_policy("sac_architecture.png", ch03.CARD, figures_networks.sac_architecture)


def _of_policy(name: str, card: Card, draw: Callable[[Path, Path], None]) -> Picture | Missing:
    """The figure of a chapter's own policy."""
    checkpoint = RunPaths.of(card.settings({})).checkpoint
    if checkpoint.exists():
        return Picture(name, partial(draw, checkpoint))
    return Missing(name, f"{DEV} {card.script} {card.fast_path}")


def ppo_clipping(_: Asked) -> Plan:
    """What PPO maximises."""
    import figures_ideas

    yield Picture("ppo_clipping.png", figures_ideas.ppo_clipping)


def ppo_demo_curve(_: Asked) -> Plan:
    """The PPO lab over seeds."""
    import figures_curves

    sources = {env_id: _demo(name) for env_id, name in PPO_DEMOS.items()}
    found = {env_id: path for env_id, path in sources.items() if path.exists()}
    if found:
        yield Picture("ppo_demo_curve_seeds.png", partial(figures_curves.ppo_demo, found))
    for env_id in sources.keys() - found.keys():
        yield _missing_demo(f"the PPO lab on {env_id}", PPO_DEMOS[env_id])


def sac_demo_curve(_: Asked) -> Plan:
    """The SAC lab over seeds."""
    import figures_curves

    if _demo(SAC_DEMO).exists():
        draw = partial(figures_curves.sac_demo, _demo(SAC_DEMO))
        yield Picture("sac_demo_curve_seeds.png", draw)
    else:
        yield _missing_demo("the SAC lab", SAC_DEMO)


def _demo(name: str) -> Path:
    return lab_seeds.FOLDER / f"{name}.json"


def _missing_demo(what: str, name: str) -> Missing:
    return Missing(what, f"{DEV} scripts/lab_seeds.py {name}")


def entropy_coefficient(asked: Asked) -> Plan:
    """α over environment steps, and the story of α on FetchPush."""
    import figures_curves

    from robotics_rl import journey

    published = RunPaths.of(ch03.CARD.settings({})).logs.parent
    if found := _trainings(asked, [published]):
        draw = partial(figures_curves.entropy_coefficient, found)
        yield Picture("entropy_coefficient.png", draw)
    else:
        yield Missing("entropy_coefficient.png", f"{DEV} {ch03.CARD.script} {ch03.CARD.fast_path}")
    if asked.runs:
        return
    document = RESULTS / f"{ch04.CHAPTER}_journey.json"
    name = document.with_suffix(".png").name
    if document.exists():
        yield Picture(name, partial(journey.draw, figures_curves.read_journey(document)))
    else:
        yield Missing(name, f"{DEV} {ch04.SCRIPT} journey --seeds 0,1,2")


def _trainings(asked: Asked, published: Sequence[Path]) -> "list[Runs]":
    """Those that were named, or the published ones that are there."""
    import figures_curves

    found: dict[Path, Runs] = {}
    for folder in map(Path, asked.runs) if asked.runs else published:
        own = {one.folder: one for one in figures_curves.runs_under(folder)}
        if asked.runs and not own:
            raise UsageError(
                f"there is no training in {folder}; name a folder such as runs/sac_her"
            )
        found |= own
    return list(found.values())


def learning_curves(asked: Asked) -> Plan:
    """Success and return over seeds, a figure per task."""
    import figures_curves

    control = RUNS / CONTROL_TAG  # all of the recipe but HER
    found = _trainings(asked, [*(RUNS / name for name in RUN_NAMES), control])
    sources = {card.env_id: f"{card.script} {card.fast_path}" for card in (ch02.CARD, ch03.CARD)}
    for env_id in (ch04.REACH, ch04.PUSH):
        sources[env_id] = f"{ch04.SCRIPT} env-all --env {env_id} --seeds 0,1,2"
    for env_id in dict.fromkeys(one.env_id for one in found):
        own = [one for one in found if one.env_id == env_id]
        draw = partial(figures_curves.learning_curves, own)
        yield Picture(f"learning_curves_{env_id.lower()}.png", draw)
    for env_id, command in sources.items():
        if not asked.runs and all(one.env_id != env_id for one in found):
            yield Missing(f"learning curves of {env_id}", f"{DEV} {command}")


def her_relabeling(_: Asked) -> Plan:
    """A step told again with other goals."""
    import figures_ideas

    yield Picture("her_relabeling.png", figures_ideas.her_relabeling)


def her_amplification(_: Asked) -> Plan:
    """How many transitions HER makes of an episode."""
    import figures_ideas

    yield Picture("her_amplification.png", figures_ideas.her_amplification)


def sweep_heatmap(_: Asked) -> Plan:
    """Success of every setting of a sweep."""
    from robotics_rl import sweep_figures

    return _of_sweeps("heatmap", sweep_figures.heatmap)


def sweep_marginals(_: Asked) -> Plan:
    """Success by the levels of each factor of a sweep."""
    from robotics_rl import sweep_figures

    return _of_sweeps("marginals", sweep_figures.marginal_means)


def _of_sweeps(kind: str, draw: Callable[[SweepAnalysis, Path, Path], None]) -> Plan:
    from robotics_rl.sweep_figures import read_analysis

    there = set()
    for source in sorted(RESULTS.rglob("sweep/sweep_*_analysis.json")):
        analysis = read_analysis(source)
        there.add(analysis.env_id)
        tag = source.parent.parent.relative_to(RESULTS)
        name = Path(tag, f"sweep_{analysis.env_id.lower()}_{kind}.png")
        yield Picture(str(name), partial(draw, analysis, source))
    if ch04_sweep.PUSH not in there:
        run, analyze = (f"{DEV} {ch04_sweep.SCRIPT} {verb}" for verb in ("run", "analyze"))
        yield Missing(f"the sweep on {ch04_sweep.PUSH}", f"{run}, then {analyze}")


def pixel_view(_: Asked) -> Plan:
    """What people and policies see."""
    draw = partial(pixels.draw_view, CH09.env_id, SEED)
    yield Picture(pixels.file_name("pixel_view"), draw)


def encoder_progression(_: Asked) -> Plan:
    """What encoders make of a small block."""
    yield Picture(pixels.file_name("encoder_progression"), pixels.draw_encoders)


def pixel_investigation(_: Asked) -> Plan:
    """Every training from pixels there is."""
    found = list(pixels.curves_of(CH09))
    if found:
        draw = partial(pixels.draw_success, CH09.env_id, found)
        yield Picture(pixels.file_name("pixel_investigation"), draw)
    for step, command in pixels.missing_trainings(CH09, found).items():
        yield Missing(f"pixels, {step}", command)


def pixel_phases(_: Asked) -> Plan:
    """How one training from pixels went."""
    found = list(pixels.curves_of(CH09))
    if found:
        draw = partial(pixels.draw_phases, pixels.longest(found))
        yield Picture(pixels.file_name("pixel_phases"), draw)
    else:
        for step, command in pixels.missing_trainings(CH09, found).items():
            yield Missing(f"pixels, {step}", command)
