"""Figures: every sub-command of the book's list, from small inputs; what they show is so."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import capture_proposal_figures as capture
import figures_curves
import figures_ideas
import figures_networks
import figures_scenes
import lab_seeds
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image
from support import ROOT, Trained, in_another_process, run_script, start, succeed, tree

from robotics_rl import artifacts, plotting, rendering
from robotics_rl.curves import COLUMNS, read_run
from robotics_rl.envs import make_env
from robotics_rl.envs.renderer import CAMERAS
from robotics_rl.errors import UsageError
from robotics_rl.factorial import analyze
from robotics_rl.schemas import Journey, JourneyRun

SCRIPT = "scripts/capture_proposal_figures.py"
# Sub-command → its files, from the inputs below. The book's list of commands, in its order.
FILES = {
    "env-setup": ["env_setup_fetchpush-v4.png"],
    "reward-diagram": ["reward_diagram_distance.png", "reward_diagram_network.png"],
    "ppo-clipping": ["ppo_clipping.png"],
    "ppo-demo-curve": ["ppo_demo_curve_seeds.png"],
    "sac-demo-curve": ["sac_demo_curve_seeds.png"],
    "sac-architecture": [],
    "entropy-coefficient": ["entropy_coefficient.png", "ch04_journey.png"],
    "learning-curves": [
        "learning_curves_fetchpush-v4.png",
        "learning_curves_fetchreachdense-v4.png",
    ],
    "her-relabeling": ["her_relabeling.png"],
    "her-amplification": ["her_amplification.png"],
    "sweep-heatmap": ["sweep_fetchpush-v4_heatmap.png", "mine/sweep_fetchreach-v4_heatmap.png"],
    "sweep-marginals": [
        "sweep_fetchpush-v4_marginals.png",
        "mine/sweep_fetchreach-v4_marginals.png",
    ],
    "pixel-view": ["ch09_pixel_view.png"],
    "encoder-progression": ["ch09_encoder_progression.png"],
    "pixel-investigation": ["ch09_pixel_investigation.png"],
    "pixel-phases": ["ch09_pixel_phases.png"],
}


def put_curve(folder: str, seed: int, **columns: list[float]) -> None:
    """A curve with a row every 1,000 steps."""
    path = Path(folder, f"seed{seed}", "curves.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = len(next(iter(columns.values())))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for i in range(n_rows):
            row = {name: values[i] for name, values in columns.items()}
            writer.writerow({"env_steps": 1000 * (i + 1), **row})


def put_runs(folder: str, n_seeds: int = 2) -> None:
    for seed in range(n_seeds):
        success = [0.1, 0.2 + 0.4 * seed, 1.0]
        others = {"ep_rew_mean": [-50.0, -40.0, -9.0], "ent_coef": [1.0, 0.5, 0.1]}
        put_curve(folder, seed, success_rate=success, **others)


def put_sweep(folder: str, env_id: str) -> None:
    runs = [
        {"parameters": {"gamma": gamma, "k": k}, "seed": seed, "success_rate": rate}
        for (gamma, k, rate) in ((0.9, 4, 1.0), (0.9, 8, 0.2), (0.99, 4, 0.5))
        for seed in (0, 1)
    ]
    found = analyze(env_id, 500, runs, {"gamma": (0.9, 0.99), "k": (4, 8)})
    name = f"sweep_{env_id.lower()}_analysis.json"
    artifacts.write_json(Path(folder, "sweep", name), found)


def put_journey() -> None:
    put_runs("runs/journey/arm1/sac_her/FetchPush-v4", 1)
    curve = "runs/journey/arm1/sac_her/FetchPush-v4/seed0/curves.csv"
    run = JourneyRun(arm="α", seed=0, success_rate=1.0, success_at={}, ent_coef_lowest=0.1,
                     ent_coef_last=0.1, curve=curve)  # fmt: skip
    story = Journey(env_id="FetchPush-v4", total_steps=3000, arms={"α": {}}, runs=[run],
                    created_at="", command=[], git={}, versions={})  # fmt: skip
    artifacts.write_json(Path("results/ch04_journey.json"), story)


def put_demo(name: str, curve: list[Any]) -> None:
    rows = [{"seed": seed, "curve": curve, "learned": seed == 0} for seed in (0, 1)]
    artifacts.write_json(Path(f"results/labs/{name}.json"), {"title": name, "rows": rows})


def put_inputs() -> None:
    for folder in ("runs/ppo/FetchReachDense-v4", "runs/sac/FetchReachDense-v4"):
        put_runs(folder)
    put_runs("runs/sac_her/FetchPush-v4")
    put_runs("runs/a/ch09_nature/FetchPush-v4")
    put_journey()
    put_sweep("results", "FetchPush-v4")
    put_sweep("results/mine", "FetchReach-v4")
    put_demo("ppo_cartpole", [None, 20.0, 200.0])
    put_demo(
        "sac_pendulum_demo", [{"steps": 200 * i, "return": -i, "alpha": 1 / i} for i in (1, 2)]
    )
    (Path("results") / "do_nothing_fetchpush-v4_eval.json").write_text(
        json.dumps({"aggregate": {"success_rate": 0.05}})
    )


class Drawn:
    """A folder in which `all` has run, and what it said."""

    def __init__(self, folder: Path, said: str) -> None:
        self.folder, self.said = folder, said
        self.skipped = [line for line in said.splitlines() if line.startswith("skipped ")]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, trained_ppo: Trained) -> Drawn:
    folder = tmp_path_factory.mktemp("everything")
    trained_ppo.copy_to(folder)
    with contextlib.chdir(folder):
        put_inputs()
        process = start(SCRIPT, "all", "--envs", "FetchPush-v4", "--out-dir", "made")
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return Drawn(folder / "made", out)


# The commands


def test_the_commands_are_those_of_the_book() -> None:
    assert list(capture.FIGURES) == list(FILES)


@pytest.mark.parametrize("command", FILES)
def test_every_command_writes_its_figures(command: str, everything: Drawn) -> None:
    for name in FILES[command]:
        path = everything.folder / name
        assert f"OK: wrote made/{name}" in everything.said
        with Image.open(path) as picture:
            assert min(picture.info["dpi"]) > 149
            assert min(picture.size) > 400
        assert path.stat().st_size < 160_000


def test_nothing_else_is_written(everything: Drawn) -> None:
    made = {str(p.relative_to(everything.folder)) for p in everything.folder.rglob("*.png")}
    assert made == set(itertools.chain.from_iterable(FILES.values()))


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("sac_architecture.png", "scripts/ch03_sac_dense_reach.py all --seed 0"),
        ("the PPO lab on FetchReachDense-v4", "scripts/lab_seeds.py ppo_dense_reach"),
        ("learning curves of FetchReach-v4", "env-all --env FetchReach-v4 --seeds 0,1,2"),
        ("pixels, step 4 (with DrQ)", "ch09_pixel_push.py train --critic-encoder --seed 0"),
    ],
)
def test_what_is_skipped_is_told_with_its_command(
    what: str, command: str, everything: Drawn
) -> None:
    [line] = [line for line in everything.skipped if line.startswith(f"skipped {what}: ")]
    assert "bash docker/dev.sh python scripts/" in line
    assert command in line


def test_only_what_is_missing_is_skipped(everything: Drawn) -> None:
    assert len(everything.skipped) == 3 + 4, everything.skipped


def test_without_opengl_all_else_is_drawn(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> str:
        raise UsageError("no rendering backend works")

    monkeypatch.setattr(rendering, "choose_backend", none)
    few = {name: capture.FIGURES[name] for name in ("env-setup", "ppo-clipping")}
    monkeypatch.setattr(capture, "FIGURES", few)
    assert capture.main(["all"]) == 0
    assert [path.name for path in Path("figures").iterdir()] == ["ppo_clipping.png"]
    assert "skipped env-setup: no rendering backend works" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all-of-them"], "invalid choice: 'all-of-them'"),
        (["env-setup", "--envs", "FetchPsh-v4"], "unknown environment 'FetchPsh-v4'; did you mean"),
        (["env-setup", "--envs", "CartPole-v1"], "unknown environment 'CartPole-v1'"),
        (
            ["learning-curves", "--runs", "nowhere"],
            "there is no training in nowhere; name a folder",
        ),
        (["entropy-coefficient", "--runs", "bad"], "bad/seed0/curves.csv is no learning curve"),
        (["learning-curves"], "env-all --env FetchPush-v4 --seeds 0,1,2"),
        (["sac-demo-curve"], "there is nothing to draw it from; the SAC lab: bash docker/dev.sh"),
        (["sweep-heatmap"], "the sweep on FetchPush-v4: bash docker/dev.sh"),
        (["ppo-clipping", "--out-dir", "file"], "cannot write to file"),
    ],
)
def test_bad_input_is_one_line(
    workdir: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "choose_backend", lambda: "none")
    Path("file").touch()
    Path("bad/seed0").mkdir(parents=True)
    Path("bad/seed0/curves.csv").write_text("env_steps,ent_coef\n1000,high\n")
    before = tree(workdir)
    outcome = run_script(SCRIPT, *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert tree(workdir) == before


# What figures show


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
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


def test_a_point_is_where_mujoco_draws_it(workdir: Path) -> None:
    code = """
from robotics_rl import rendering
rendering.choose_backend()
import numpy as np
from robotics_rl.envs import make_env
from robotics_rl.envs import make_env
from robotics_rl.envs.renderer import CAMERAS, Camera, FrameRenderer
env = make_env("FetchPush-v4", width=480, height=480)
env.reset(seed=0)
model, data = env.unwrapped.model, env.unwrapped.data
model.geom_matid[:], model.geom_rgba[:, 3] = -1, 0.0  # nothing hides the goal, and of
model.site_rgba[np.arange(model.nsite) != model.site("target0").id, 3] = 0.0  # red there is no more
fovy, found = float(model.vis.global_.fovy), []
for camera in (*CAMERAS.values(), Camera(1.3, 200.0, -60.0, (1.2, 0.8, 0.5))):
    renderer = FrameRenderer(model, 480, camera, show_goal=True)
    for goal in np.array([[1.45, 0.9, 0.46], [1.5, 0.6, 0.5], [1.2, 0.95, 0.44]]):
        red, green, blue = renderer.draw(data, goal).astype(int)
        rows, columns = np.nonzero((red > 90) & (green < 60) & (blue < 60))
        seen = columns.mean() + 0.5, rows.mean() + 0.5
        found.append([*seen, *camera.project(goal[None], 480, fovy)[0]])
    renderer.close()
np.savez("seen", np.array(found))
"""
    [found] = in_another_process(code)
    assert np.abs(found[:, :2] - found[:, 2:]).max() < 1.0, found


def scene(pixels: Any) -> list[Annotation]:
    """Labels of made-up places at these pixels."""
    names = ("gripper", "object", "goal")[: len(pixels)]
    figure = Figure(figsize=(6.0, 4.5), layout="constrained")
    axes = figure.add_subplot(anchor="W")
    axes.imshow(np.zeros((2, 2, 3)), extent=(0, figures_scenes.SIZE, figures_scenes.SIZE, 0))
    figures_scenes.label(axes, {name: np.ones(3) for name in names}, np.array(pixels, float))
    figure.canvas.draw()
    return labels_of(figure)


def labels_of(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPushDense-v4", "FetchSlide-v4"])
def test_labels_name_what_was_observed(
    env_id: str, workdir: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_scenes, "_draw", lambda *_: np.zeros((3, 2, 2), np.uint8))
    figures_scenes.env_setup(env_id, 3, Path("scene.png"))
    with closing(make_env(env_id)) as env:
        seen, _ = env.reset(seed=3)
        fovy = env.unwrapped.model.vis.global_.fovy  # type: ignore[attr-defined]
    places = {"gripper": seen["observation"][:3], "goal": seen["desired_goal"]}
    if "Reach" not in env_id:
        places["object"] = seen["achieved_goal"]
    labels = {text.get_text().splitlines()[0]: text for text in labels_of(drawn[0])}
    assert labels.keys() == places.keys()
    drawn[0].draw_without_rendering()  # as large as on the screen
    camera = figures_scenes.camera_at(places)
    for name, place in places.items():
        [pixel] = camera.project(place[None], figures_scenes.SIZE, fovy)
        assert labels[name].xy == pytest.approx(pixel)
        assert labels[name].get_text().endswith("({:.2f}, {:.2f}, {:.2f}) m".format(*place))
        box = Text.get_window_extent(labels[name])
        assert drawn[0].bbox.x1 > box.x1
        assert drawn[0].bbox.containsy(box.y0)
    away = 100 * np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"])
    assert f"is {away:.1f} cm from the goal" in caption_of(drawn[0])


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


def test_everything_named_is_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        spread = rng.uniform(0.05, 0.5)
        places = {name: rng.uniform(-spread, spread, 3) for name in "abc"}
        camera = figures_scenes.camera_at(places)
        pixels = camera.project(np.array(list(places.values())), figures_scenes.SIZE, 45.0)
        assert (pixels > 0.05 * figures_scenes.SIZE).all()
        assert (pixels < 0.95 * figures_scenes.SIZE).all()


def test_a_band_holds_every_seed() -> None:
    axes = Figure().add_subplot()
    curves = [([0, 10, 20], [0, 1, 1]), ([5, 15, 30], [1, 0, 3]), ([0, 30], [2, 2])]
    plotting.over_seeds(axes, curves, 0, "mean")
    steps, means = axes.lines[0].get_data()
    assert list(steps) == [5, 10, 15, 20], "where every seed has a value"
    assert means == pytest.approx([3.5 / 3, 3.5 / 3, 1, 4 / 3])
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (0.0, 2.0)


def test_learning_curves_show_the_book_s_targets(workdir: Path, drawn: list[Figure]) -> None:
    put_runs("runs/sac_her/FetchPush-v4")
    put_runs("runs/mine/sac/FetchPush-v4", 1)
    put_runs("runs/ppo/FetchReachDense-v4", 1)
    Path("results").mkdir()
    floor = {"aggregate": {"success_rate": 0.05}}
    Path("results/do_nothing_fetchpush-v4_eval.json").write_text(json.dumps(floor))
    succeed(SCRIPT, "learning-curves", "--runs", "runs")
    push, dense = drawn[::-1] if "Dense" in caption_of(drawn[0]) else drawn
    success, returns = push.axes
    assert {line.get_label() for line in success.lines} == {
        "SAC + HER", "SAC (mine)", "book's target, SAC + HER", "doing nothing",
    }  # fmt: skip
    heights = {line.get_label(): line.get_ydata()[-1] for line in success.lines}
    assert heights["book's target, SAC + HER"] == 0.9
    assert heights["doing nothing"] == 0.05
    assert [line.get_linestyle() for line in returns.lines].count("--") == 1
    assert returns.lines[-1].get_ydata()[0] == -20
    told = caption_of(push)
    assert "SAC + HER: seeds 0, 1, runs/sac_her/FetchPush-v4" in told
    assert "SAC (mine): seeds 0, runs/mine/sac/FetchPush-v4" in told
    assert {line.get_label() for line in dense.axes[0].lines} == {"PPO", "book's target, PPO"}


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


def test_relabelled_rows_are_those_of_the_environment(workdir: Path, drawn: list[Figure]) -> None:
    figures_ideas.her_relabeling(Path("her.png"))
    cells = texts(drawn[0])
    distances = [float(cell.removesuffix(" cm")) for cell in cells if cell.endswith(" cm")]
    rewards = [cell for cell in cells if cell in ("0", "-1")]
    assert len(rewards) == len(distances) == 1 + figures_ideas.N_GOALS
    assert rewards == ["0" if distance <= 5.0 else "-1" for distance in distances]
    assert rewards[0] == "-1", "it failed"
    assert "0" in rewards
    assert "0 of its 50 steps succeed" in caption_of(drawn[0])


def test_sizes_in_diagrams_are_those_of_the_policy(
    trained_ppo: Trained, workdir: Path, drawn: list[Figure]
) -> None:
    figures_networks.observation_to_network(trained_ppo.checkpoint, Path("net.png"))
    cells = texts(drawn[0])
    assert cells.count("Linear 16 → 16, Tanh") == 2, "it was trained with --net-arch 16"
    assert {"Linear 16 → 4", "Linear 16 → 1", "observation (10)", "6–15", "action (4)"} <= set(
        cells
    )


def test_the_architecture_of_sac_is_that_of_the_published_policy(
    workdir: Path, drawn: list[Figure]
) -> None:
    Path("checkpoints").symlink_to(ROOT / "checkpoints")
    succeed(SCRIPT, "sac-architecture")
    cells = set(texts(drawn[0]))
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


def test_demos_end_where_they_learned(workdir: Path, drawn: list[Figure]) -> None:
    put_demo("ppo_cartpole", [None, 20.0, 200.0])
    outcome = succeed(SCRIPT, "ppo-demo-curve")
    assert "skipped the PPO lab on FetchReachDense-v4" in outcome.out
    [axes] = drawn[0].axes
    ends = [line for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(map(float, line.get_xydata()[0])) for line in ends] == [(3072.0, 200.0)]
    assert "results/labs/ppo_cartpole.json: seeds 0, 1" in caption_of(drawn[0])


def test_alpha_stands_beside_the_book_s(workdir: Path, drawn: list[Figure]) -> None:
    put_runs("runs/sac/FetchReachDense-v4")
    succeed(SCRIPT, "entropy-coefficient")
    [book] = [line for line in drawn[0].axes[0].lines if line.get_label() == "book, seed 0"]
    assert book.get_xydata().tolist() == [[30_000, 0.47], [1_000_000, 0.0004]]


def test_a_sweep_is_drawn_as_when_it_was_analyzed(workdir: Path, drawn: list[Figure]) -> None:
    put_sweep("results", "FetchPush-v4")
    succeed(SCRIPT, "sweep-heatmap")
    assert {text.splitlines()[0] for text in texts(drawn[0])} == {"1.00", "0.20", "0.50"}
    told = caption_of(drawn[0])
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
