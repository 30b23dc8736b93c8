"""Figures: every sub-command of the book's list, from small inputs; what is missing is named."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import capture_proposal_figures as capture
import pytest
from figure_inputs import put_inputs
from PIL import Image
from support import Trained, run_script, start, tree

from robotics_rl import rendering
from robotics_rl.errors import UsageError

SCRIPT = "scripts/capture_proposal_figures.py"
# Sub-command → its files, from small inputs. The book's list of commands, in its order.
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


class Drawn:
    """A folder in which `all` has run, and what it said."""

    def __init__(self, folder: Path, said: str) -> None:
        self.folder, self.said = folder, said
        self.skipped = [line for line in said.splitlines() if line.startswith("skipped ")]


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory, trained_ppo: Trained, drawing: None
) -> Drawn:
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
        ("pixels, step 4 (with DrQ)", "ch09_pixel_push.py train --critic-encoder --no-hide-goal"),
    ],
)
def test_what_is_skipped_is_told_with_its_command(
    what: str, command: str, everything: Drawn
) -> None:
    [line] = [line for line in everything.skipped if line.startswith(f"skipped {what}: ")]
    assert "bash docker/dev.sh python scripts/" in line
    assert command in line


def test_only_what_is_missing_is_skipped(everything: Drawn) -> None:
    steps = 5  # of the book, from pictures; a curve of settings that nobody knows is none of them
    assert len(everything.skipped) == 3 + steps, everything.skipped


def test_what_fails_does_not_keep_all_else_from_being_drawn(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> str:
        raise UsageError("no rendering backend works")

    monkeypatch.setattr(rendering, "choose_backend", none)
    few = {name: capture.FIGURES[name] for name in ("env-setup", "sac-demo-curve", "ppo-clipping")}
    monkeypatch.setattr(capture, "FIGURES", few)
    damaged = Path("results/labs/sac_pendulum_demo.json")
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    assert capture.main(["all"]) == 0
    assert [path.name for path in Path("figures").iterdir()] == ["ppo_clipping.png"]
    said = capsys.readouterr().out
    assert "skipped env-setup: no rendering backend works" in said
    assert f"skipped sac-demo-curve: {damaged} is not a readable JSON document" in said


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
