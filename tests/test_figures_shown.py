"""What figures show is so: places, bands, targets, sizes and captions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import drawn
import figures_curves
import figures_ideas
import figures_networks
import figures_scenes
import lab_seeds
import numpy as np
import pytest
from figure_inputs import put_curve, put_demo, put_floor, put_runs, put_sweep
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image
from support import ROOT, Trained, succeed

from robotics_rl import plotting
from robotics_rl.curves import read_run
from robotics_rl.envs import make_env
from robotics_rl.envs.renderer import CAMERAS, FOR_PEOPLE
from robotics_rl.errors import UsageError

SCRIPT = "scripts/capture_proposal_figures.py"


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *to: Any, **how: Any) -> None:
        figures.append(figure)
        save(figure, *to, **how)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def caption_of(figure: Figure) -> str:
    label = figure._supxlabel  # type: ignore[attr-defined]
    return " ".join(label.get_text().split())


def test_the_middle_of_the_camera_is_the_middle_of_the_picture() -> None:
    camera = CAMERAS["close"]
    places = np.array(camera.lookat) + np.array([[0, 0, 0], [0, 0, 0.1], [0.1, 0, 0]])
    middle, above, beside = camera.project(places, 100, 45.0)
    assert middle == pytest.approx([50, 50])
    assert above[0] == pytest.approx(50)
    assert above[1] < 45, "pixels are counted from the top"
    assert beside[0] > 55, "the camera looks along (-0.7, 0.7), so x grows to the right"


def test_a_point_is_where_mujoco_draws_it(there: Callable[..., Any]) -> None:
    found = there(drawn.projections)
    assert len(found) == 9
    assert np.abs(found[:, :2] - found[:, 2:]).max() < 1.0, found


def scene(pixels: Any) -> list[Annotation]:
    """Labels of made-up places at these pixels."""
    names = ("gripper", "object", "goal")[: len(pixels)]
    figure = Figure(figsize=(6.0, 4.5), layout="constrained")
    axes = figure.add_subplot(anchor="W")
    axes.imshow(np.zeros((2, 2, 3)), extent=(0, figures_scenes.SIZE, figures_scenes.SIZE, 0))
    figures_scenes.label(axes, {name: np.ones(3) for name in names}, np.array(pixels, float))
    figure.draw_without_rendering()
    return labels_of(figure)


def labels_of(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPushDense-v4", "FetchSlide-v4"])
def test_labels_name_what_was_observed(
    env_id: str, workdir: Path, saved: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_scenes, "_draw", lambda *_: np.zeros((3, 2, 2), np.uint8))
    figures_scenes.env_setup(env_id, 3, Path("scene.png"))
    with closing(make_env(env_id)) as env:
        seen, _ = env.reset(seed=3)
        fovy = env.unwrapped.model.vis.global_.fovy  # type: ignore[attr-defined]
    places = {"gripper": seen["observation"][:3], "goal": seen["desired_goal"]}
    if "Reach" not in env_id:
        places["object"] = seen["achieved_goal"]
    labels = {text.get_text().splitlines()[0]: text for text in labels_of(saved[0])}
    assert labels.keys() == places.keys()
    saved[0].draw_without_rendering()  # as large as on the screen
    camera = FOR_PEOPLE[re.findall("Reach|Push|Slide", env_id)[0]]
    for name, place in places.items():
        [pixel] = camera.project(place[None], figures_scenes.SIZE, fovy)
        assert labels[name].xy == pytest.approx(pixel)
        assert labels[name].get_text().endswith("({:.2f}, {:.2f}, {:.2f}) m".format(*place))
        box = Text.get_window_extent(labels[name])
        assert saved[0].bbox.x1 > box.x1
        assert saved[0].bbox.containsy(box.y0)
    away = 100 * np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"])
    assert f"is {away:.1f} cm from the goal" in caption_of(saved[0])


def crosses(first: Any, second: Any) -> bool:
    """Whether two line segments, ((x, y), (x, y)) each, cross."""

    def side(a: Any, b: Any, c: Any) -> float:
        return float(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    (a, b), (c, d) = first, second
    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def scattered() -> Iterator[Any]:
    rng = np.random.default_rng(0)
    yield [[500, 500], [510, 501], [490, 499]]
    for n in (2, 3, 3, 3, 3, 3, 3):
        yield rng.uniform(0, figures_scenes.SIZE, (n, 2))


@pytest.mark.parametrize("pixels", list(scattered()))
def test_labels_are_apart_and_lines_do_not_cross(pixels: Any) -> None:
    labels = scene(pixels)
    boxes = [Text.get_window_extent(text) for text in labels]  # without its line
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    lines = [(text.xy, text.xyann) for text in labels]
    assert [tuple(text.xy) for text in labels] == [tuple(map(float, pixel)) for pixel in pixels]
    assert not any(crosses(one, other) for one, other in itertools.combinations(lines, 2))


def test_a_band_holds_every_seed() -> None:
    axes = Figure().add_subplot()
    curves = [([0, 10, 20], [0, 1, 1]), ([5, 15, 30], [1, 0, 3]), ([0, 30], [2, 2])]
    plotting.draw_over_seeds(axes, curves, 0, "mean")
    steps, means = axes.lines[0].get_data()
    assert list(steps) == [5, 10, 15, 20], "where every seed has a value"
    assert means == pytest.approx([3.5 / 3, 3.5 / 3, 1, 4 / 3])
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (0.0, 2.0)


def test_learning_curves_show_the_book_s_targets(workdir: Path, saved: list[Figure]) -> None:
    put_runs("runs/sac_her/FetchPush-v4")
    put_runs("runs/mine/sac/FetchPush-v4", 1)
    put_runs("runs/ppo/FetchReachDense-v4", 1)
    put_runs("runs/mine/sac_her/FetchPush-v4", 1)
    put_floor()
    succeed(SCRIPT, "learning-curves", "--runs", "runs")
    push, dense = saved[::-1] if "Dense" in caption_of(saved[0]) else saved
    success, returns = push.axes
    assert {line.get_label() for line in success.lines} == {
        "SAC + HER", "SAC + HER (mine)", "SAC (mine)", "book's target, SAC + HER", "doing nothing",
    }  # fmt: skip
    heights = {line.get_label(): line.get_ydata()[-1] for line in success.lines}
    assert heights["book's target, SAC + HER"] == 0.9
    assert heights["doing nothing"] == 0.05
    assert [line.get_linestyle() for line in returns.lines].count("--") == 1
    assert returns.lines[-1].get_ydata()[0] == -20
    told = caption_of(push)
    assert "SAC + HER: seeds 0, 1, runs/sac_her/FetchPush-v4" in told
    assert "SAC (mine): seeds 0, runs/mine/sac/FetchPush-v4" in told
    assert "bands: from the lowest to the highest seed" in told
    assert {line.get_label() for line in dense.axes[0].lines} == {"PPO", "book's target, PPO"}
    assert "One training seed." in caption_of(dense)


def test_learning_curves_show_the_recipe_without_hindsight_beside_both(
    workdir: Path, saved: list[Figure]
) -> None:
    for folder in ("sac_her", "sac", "recipe/sac"):
        put_runs(f"runs/{folder}/FetchPush-v4", 1)
    succeed(SCRIPT, "learning-curves")
    labels = {line.get_label() for line in saved[0].axes[0].lines}
    assert labels >= {"SAC + HER", "SAC", "SAC, recipe's settings"}


def test_where_the_book_asks_nothing_its_own_result_is_drawn(
    workdir: Path, saved: list[Figure]
) -> None:
    put_runs("runs/sac_her/FetchReach-v4")
    succeed(SCRIPT, "learning-curves", "--runs", "runs")
    heights = [
        {line.get_label(): line.get_ydata()[-1] for line in axes.lines} for axes in saved[0].axes
    ]
    assert [lines["book's result, SAC + HER"] for lines in heights] == [1.0, -1.68]
    told = caption_of(saved[0])
    assert "Dashed: the evaluation of the book's policy after 1,000,000 steps." in told
    assert "card asks" not in told


def test_a_run_without_a_table_is_read_from_its_events(tmp_path: Path) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    with SummaryWriter(str(tmp_path)) as events:
        for step, value in ((1000, 0.25), (2000, 0.5)):
            events.add_scalar("rollout/success_rate", value, step)
        events.add_scalar("train/ent_coef", 0.125, 2000)
    rows = read_run(tmp_path)
    assert [row["env_steps"] for row in rows] == [1000, 2000]
    assert [row["success_rate"] for row in rows] == [0.25, 0.5]
    assert [row["ent_coef"] for row in rows] == [None, 0.125]
    put_curve(str(tmp_path.parent / "table"), 0, success_rate=[1.0])
    assert read_run(tmp_path.parent / "table/seed0")[0]["success_rate"] == 1.0


def test_what_was_moved_aside_is_no_seed(workdir: Path) -> None:
    put_runs("runs/sac/FetchPush-v4", 1)
    aside = Path("runs/sac/FetchPush-v4/previous/seed0_2026")
    aside.parent.mkdir()
    Path("runs/sac/FetchPush-v4/seed0").rename(aside)
    assert list(figures_curves.runs_under(Path("runs"))) == []


def test_clipping_is_the_formula() -> None:
    lab = lab_seeds.load_lab("ppo_from_scratch")
    for ratio, advantage, aim in ((1.5, 1, 1.2), (0.5, 1, 0.5), (1.5, -1, -1.5), (0.5, -1, -0.8)):
        found = figures_ideas.surrogate(lab, ratio, advantage, 0.2)
        assert found == pytest.approx(aim, rel=1e-6)


def test_relabelled_rows_are_those_of_the_environment(workdir: Path, saved: list[Figure]) -> None:
    figures_ideas.her_relabeling(Path("her.png"))
    cells = texts(saved[0])
    distances = [float(cell.removesuffix(" cm")) for cell in cells if cell.endswith(" cm")]
    rewards = [cell for cell in cells if cell in ("0", "-1")]
    assert len(rewards) == len(distances) == 1 + figures_ideas.N_GOALS
    assert rewards == ["0" if distance <= 5.0 else "-1" for distance in distances]
    assert rewards[0] == "-1", "it failed"
    assert "0" in rewards
    assert "0 of its 50 steps succeed" in caption_of(saved[0])


def test_sizes_in_diagrams_are_those_of_the_policy(
    trained_ppo: Trained, workdir: Path, saved: list[Figure]
) -> None:
    figures_networks.observation_to_network(trained_ppo.checkpoint, Path("net.png"))
    cells = texts(saved[0])
    assert cells.count("Linear 16 → 16, Tanh") == 2, "it was trained with --net-arch 16"
    assert {"Linear 16 → 4", "Linear 16 → 1", "observation (10)", "6–15", "action (4)"} <= set(
        cells
    )


def test_the_architecture_of_sac_is_that_of_the_published_policy(
    workdir: Path, saved: list[Figure]
) -> None:
    Path("checkpoints").symlink_to(ROOT / "checkpoints")
    succeed(SCRIPT, "sac-architecture")
    cells = set(texts(saved[0]))
    assert {
        "Linear 20 → 256, ReLU",
        "Linear 256 → 4: μ",
        "γ = 0.99",
        "s, s′ (16), a (4), r",
    } <= cells
    assert "−log α · (log π(ã|s) + H), H = -4" in cells


def test_a_policy_of_fixed_entropy_has_no_such_diagram(workdir: Path) -> None:
    with pytest.raises(UsageError, match="is fixed; train with --ent-coef auto"):
        checkpoint = ROOT / "checkpoints/sac_her_FetchPush-v4_seed0.zip"
        figures_networks.sac_architecture(checkpoint, Path("sac.png"))


def test_demos_end_where_they_learned(workdir: Path, saved: list[Figure]) -> None:
    put_demo("ppo_cartpole", [None, 20.0, 200.0])
    outcome = succeed(SCRIPT, "ppo-demo-curve")
    assert "skipped the PPO lab on FetchReachDense-v4" in outcome.out
    [axes] = saved[0].axes
    ends = [line for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(map(float, line.get_xydata()[0])) for line in ends] == [(3072.0, 200.0)]
    assert "results/labs/ppo_cartpole.json: seeds 0, 1" in caption_of(saved[0])


def test_alpha_stands_beside_the_book_s(workdir: Path, saved: list[Figure]) -> None:
    put_runs("runs/sac/FetchReachDense-v4")
    succeed(SCRIPT, "entropy-coefficient")
    [book] = [line for line in saved[0].axes[0].lines if line.get_label() == "book, seed 0"]
    assert book.get_xydata().tolist() == [[30_000, 0.47], [1_000_000, 0.0004]]


def test_a_sweep_is_drawn_as_when_it_was_analyzed(workdir: Path, saved: list[Figure]) -> None:
    put_sweep("results", "FetchPush-v4")
    succeed(SCRIPT, "sweep-heatmap")
    assert {text.splitlines()[0] for text in texts(saved[0])} == {"1.00", "0.20", "0.50"}
    told = caption_of(saved[0])
    assert "Seeds 0, 1. From results/sweep/sweep_fetchpush-v4_analysis.json." in told


def test_a_small_palette_changes_nothing_that_is_seen(tmp_path: Path) -> None:
    path, axes = tmp_path / "x.png", (figure := Figure()).add_subplot()
    for number in range(6):
        axes.plot([number, 1], **plotting.line_style(number))
    figure.savefig(path)
    before, size = np.asarray(Image.open(path).convert("RGB")).astype(int), path.stat().st_size
    plotting.shrink(path)
    assert np.abs(np.asarray(Image.open(path).convert("RGB")) - before).max() <= 8
    assert path.stat().st_size < 0.7 * size
