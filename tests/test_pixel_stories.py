"""Chapter 9's side roads on small settings: the probe, the miniature, comparing, drawing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pixel_arms
import pixel_investigation
import pixel_miniature
import pixel_probe
import pytest
from ch09_pixel_push import CARD
from pixel_toy import BLOCK, FRAME_STACK, REACH, SIZE, Floor, PixelPoint, draw, success_rate
from support import ROOT, Trained, read_strict_json, run_script, start, succeed, tree

from robotics_rl.artifacts import RunPaths, write_json

SCRIPT = "scripts/ch09_pixel_push.py"


def drawn_by(*arguments: str) -> str:
    """What the script says, in a process that can draw: this one has MuJoCo loaded without."""
    process = start(SCRIPT, *arguments)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out


def put_other(name: str) -> None:
    """A document and its figure, published of other settings."""
    write_json(Path("results", f"{name}.json"), {"settings": {"published": True}})
    Path("figures").mkdir()
    Path("figures", f"{name}.png").touch()


def assert_kept(name: str) -> None:
    """What was published is still there."""
    [document] = Path("results", "previous").glob(f"{name}_*.json")
    assert read_strict_json(document) == {"settings": {"published": True}}
    assert len([*Path("figures", "previous").glob(f"{name}_*.png")]) == 1


# The toy


def middle_of(frame: Any) -> Any:
    """Centre of mass, in pixels from the middle, x to the right and y up."""
    light = frame[0].astype(float)
    across = np.arange(SIZE) + 0.5 - SIZE / 2
    return np.array([(light * across).sum(), -(light * across[:, None]).sum()]) / light.sum()


@pytest.mark.parametrize("place", [(0, 0), (0.5, -0.25), (-1, 1), (0.013, 0.98)])
def test_the_point_is_drawn_where_it_is(place: tuple[float, float]) -> None:
    frame = draw(np.array(place))
    assert frame.shape == (1, SIZE, SIZE)
    assert middle_of(frame) == pytest.approx(REACH * np.array(place), abs=0.02)
    assert int(frame.sum()) == pytest.approx(255 * BLOCK**2, rel=0.01)


def test_where_the_point_is_stands_in_the_picture_alone() -> None:
    env = PixelPoint()
    seen, _ = env.reset(seed=0)
    assert seen["pixels"].shape == (FRAME_STACK, SIZE, SIZE)
    assert np.array_equal(*seen["pixels"])
    after, *_ = env.step(np.ones(2, np.float32))
    assert np.array_equal(after["pixels"][0], seen["pixels"][1])
    assert not np.array_equal(*after["pixels"])
    told = {name for name in seen if name not in ("pixels", "achieved_goal")}
    assert all(np.array_equal(seen[name], after[name]) for name in told)


class Heading:
    """Goes straight to the goal, knowing all."""

    def predict(self, seen: dict[str, Any], *, deterministic: bool) -> tuple[Any, None]:
        now, before = (
            np.stack([middle_of(one[None]) for one in seen["pixels"][:, i]]) for i in (1, 0)
        )
        speed = now - before
        return np.clip((REACH * seen["desired_goal"] - now) / 4 - speed, -1, 1), None


def test_success_is_for_those_who_see() -> None:
    assert success_rate(Heading(), range(20)) > 0.9
    assert success_rate(Floor(), range(20)) < 0.3
    assert success_rate(Floor(np.random.default_rng(0)), range(20)) < 0.3


# The miniature

TOY = ["--total-steps", "400", "--evaluate-every", "200", "--learning-starts", "200"]
TOY += ["--num-filters", "2", "--batch-size", "8", "--no-progress"]


@pytest.mark.parametrize("arm", pixel_arms.ARMS)
def test_every_arm_trains_the_encoder_that_it_says(arm: str) -> None:
    model = pixel_arms.build(arm, 0, pixel_arms.Toy(num_filters=2, learning_starts=200))
    shared = model.actor.features_extractor is model.critic.features_extractor
    assert shared == (arm != "actor")
    assert (model._augment is not None) == ("drq" in arm)
    flat = type(model.actor.features_extractor.trunk).__name__ == "Sequential"  # type: ignore[union-attr]
    assert flat == arm.endswith("_flatten")
    assert model.actor.features_extractor.vectors == ["desired_goal"]


def test_runs_with_neighbouring_seeds_share_no_goals() -> None:
    toy = pixel_arms.Toy(total_steps=200, num_filters=2)
    goals = []
    for seed in (0, 1):
        model = pixel_arms.build("critic", seed, toy)
        assert model.env is not None
        goals += model.env.reset()["desired_goal"].tolist()  # type: ignore[call-overload, index]
    assert len({tuple(goal) for goal in goals}) == 2 * toy.n_envs


def test_runs_that_are_done_are_not_done_again(workdir: Path) -> None:
    asked = ["miniature", "--arms", "critic,actor", "--seeds", "0", "--parallel", "2", *TOY]
    put_other("ch09_miniature")
    succeed(SCRIPT, *asked)
    assert_kept("ch09_miniature")
    parts = {name: pixel_arms.part_path(name, 0) for name in ("critic", "actor")}
    before = {name: path.read_bytes() for name, path in parts.items()}
    parts["actor"].unlink()
    outcome = succeed(SCRIPT, *asked)
    assert "OK: actor seed 0" in outcome.out
    assert "OK: critic seed 0" not in outcome.out
    assert parts["critic"].read_bytes() == before["critic"]
    again = json.loads(parts["actor"].read_bytes())["rows"]
    for row, first in zip(again, json.loads(before["actor"])["rows"], strict=True):
        assert {**row, "seconds": 0} == {**first, "seconds": 0}, "a seed says it all"
    document = read_strict_json(Path("results", "ch09_miniature.json"))
    assert [one["arm"] for one in document["arms"]] == ["critic", "actor"]
    assert [one["env_steps"] for one in document["runs"][0]["rows"]] == [200, 400]
    assert document["runs"][0]["rows"][-1]["gradient_steps"] == 50
    assert Path("figures", "ch09_miniature.png").exists()
    assert len([*Path("results", "previous").iterdir()]) == 1, "these were of the same settings"


def test_what_became_of_a_run_is_read_from_its_file(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = pixel_arms.part_path("actor", 3)
    job = pixel_miniature._job("actor", 3, pixel_arms.Toy())
    write_json(part, {"rows": [{"success_rate": 0.1}, {"success_rate": 0.25}]})
    job.log.write_text("0.9\nwarning: the last line but one\nand the last\n")
    outcomes = (outcome for outcome in [(job, 0), (job, -9)])
    monkeypatch.setattr(pixel_miniature, "carry_out", lambda *_, **__: outcomes)
    assert not pixel_miniature._carry_out([job, job], 1, show_progress=False)
    told = capsys.readouterr()
    assert told.out == "OK: actor seed 3, success 0.25\n"
    assert told.err.endswith(f"FAIL: actor seed 3 (stopped by signal 9), see {job.log}\n")


def test_runs_with_other_settings_are_others(workdir: Path) -> None:
    toy = pixel_arms.Toy()
    path = pixel_arms.part_path("actor", 1)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"settings": {**vars(toy), "gamma": 0.5}}))
    assert not pixel_arms.is_complete("actor", 1, toy)
    path.write_text(json.dumps({"settings": vars(toy)}))
    assert pixel_arms.is_complete("actor", 1, toy)
    path.write_text("{")
    assert not pixel_arms.is_complete("actor", 1, toy)


# The probe


def test_pictures_differ_in_what_is_to_be_found(workdir: Path) -> None:
    code = "import pixel_probe, numpy as np; from robotics_rl import rendering\n"
    code += "rendering.choose_backend()\n"
    code += "seen = [pixel_probe.take('close', s, 6, 0) for s in (5, 5, 50)]\n"
    code += "np.savez('seen', *(one.frames for one in seen), *(one.places for one in seen))"
    first, again, others, *places = _in_another_process(code)
    assert first.shape == (6, 3, 84, 84)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, others)
    spread = places[0].std(axis=0)
    assert spread[0, :2].min() > 0.02, "blocks"
    assert spread[1].min() > 0.01, "grippers"


def _in_another_process(code: str) -> list[Any]:
    """What it saved."""
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "scripts")))}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **paths}, check=True)
    with np.load("seen.npz") as saved:
        return list(saved.values())


def large_blocks(n: int, seed: int) -> pixel_probe.Pictures:
    """Pictures that need no simulation."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n, 3, 84, 84), dtype=np.uint8)
    corners = rng.integers(0, 68, (n, 2))
    for frame, (down, right) in zip(frames, corners, strict=True):
        frame[:, down : down + 16, right : right + 16] = 255
    places = np.zeros((n, 2, 3))
    places[:, :, :2] = corners[:, None] / 200 - 0.17
    return pixel_probe.Pictures(frames, places)


def test_ctrl_c_stops_what_a_probe_is_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Future[Any]] = []

    def interrupted(futures: dict[Future[Any], Any]) -> Iterator[Future[Any]]:
        begun.extend(futures)
        raise KeyboardInterrupt

    monkeypatch.setattr(pixel_probe, "as_completed", interrupted)
    plan = pixel_probe.Plan(n_updates=1_000, batch_size=16, num_filters=8)
    pictures = large_blocks(16, seed=0)
    with pytest.raises(KeyboardInterrupt):
        next(pixel_probe.learn_all(plan, (0, 1), pictures, pictures))
    assert len(begun) == 2 * len(pixel_probe.ENCODERS)
    assert all(one.cancelled() or isinstance(one.exception(), CancelledError) for one in begun)


@pytest.mark.parametrize("encoder", pixel_probe.ENCODERS)
def test_a_large_block_is_found(encoder: str) -> None:
    seen, unseen = large_blocks(64, seed=0), large_blocks(16, seed=1)
    plan = pixel_probe.Plan(n_updates=120, batch_size=16, num_filters=8)
    network = pixel_probe.build(encoder, 0, plan)
    error = pixel_probe.learn(network, 0, plan, seen, unseen, Event())
    assert (error < 0.7 * pixel_probe.unguided_error(seen, unseen)).all()


def test_the_probe_tells_every_camera_encoder_and_seed(workdir: Path) -> None:
    tiny = ["--n-frames", "8", "--n-held-out", "4", "--n-updates", "2", "--batch-size", "2"]
    tiny += ["--num-filters", "2", "--seeds", "0,1", "--no-progress"]
    put_other("ch09_probe")
    said = drawn_by("probe", *tiny)
    assert_kept("ch09_probe")
    document = read_strict_json(Path("results", "ch09_probe.json"))
    assert document["schema"] == "probe/1"
    names = {(row["camera"], row["encoder"], row["place"]) for row in document["rows"]}
    assert len(names) == len(document["rows"]) == 2 * 3 * 2
    assert all(list(row["off_by_mm"]) == ["0", "1"] for row in document["rows"])
    assert document["unguided_mm"].keys() == {"block", "gripper"}
    assert "close    ManipulationCNN, spatial softmax" in said
    assert Path("figures", "ch09_probe.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["probe", "--cameras", "far"], "--cameras far is none; choose among default, close"),
        (["probe", "--encoders", "resnet"], "--encoders resnet is none; choose among nature"),
        (["probe", "--n-frames", "0"], "--n-frames is 0; it must be a number above 0"),
        (["miniature", "--arms", "nobody"], "there is no arm 'nobody'; choose among --arms actor"),
        (["miniature", "--seeds", "x"], "cannot read seeds 'x'"),
        (["compare", "--steps", "3"], "the book has no step '3'; choose among control, 0"),
        (["compare"], "nothing was evaluated yet in results; train, then eval"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str, workdir: Path) -> None:
    outcome = run_script(SCRIPT, *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert tree(workdir) == {}


# The investigation


def test_every_step_has_the_name_that_the_book_gives_it() -> None:
    names = {step: CARD.settings(dict(f)).run_name for step, f in pixel_investigation.STEPS.items()}
    assert names == {
        "control": "ch09_fullState",
        "0": "ch09_nature",
        "1": "ch09_manip_noDrQ",
        "2": "ch09_manip_noDrQ_criticEnc",
        "4": "ch09_manip_criticEnc",
    }


def test_steps_of_the_book_are_compared_however_long_they_were(
    workdir: Path, trained_sac_her: Trained
) -> None:
    succeed("eval.py", "--baseline", "random", "--env", "FetchPush-v4", "--seeds", "0-1")
    result = read_strict_json(Path("results/random_fetchpush-v4_eval.json"))
    made = read_strict_json(trained_sac_her.metadata)
    for name, steps in (("ch09_nature", 2_000_000), ("ch09_manip_noDrQ_criticEnc", 5_000_000)):
        stem = f"{name}_FetchPush-v4_seed0"
        write_json(Path(f"checkpoints/{stem}.meta.json"), {**made, "total_steps": steps})
        played = {**result, "checkpoint": f"checkpoints/{stem}.zip"}
        write_json(Path(f"results/{stem}_eval.json"), played)
    said = succeed(SCRIPT, "compare", "--seeds", "0").out
    assert "ch09_nature: 2,000,000 steps" in said
    assert "ch09_manip_noDrQ_criticEnc: 5,000,000 steps" in said


def put_curve(folder: Path, n_rows: int) -> None:
    folder.mkdir(parents=True)
    rows = [f"{1000 * (i + 1)},{i},1.0,0.1,-45,0.2,0.05,0.3,,\n" for i in range(n_rows)]
    header = "env_steps,gradient_steps,wall_seconds,success_rate,ep_rew_mean,goal_moved_rate,"
    (folder / "curves.csv").write_text(
        f"{header}ent_coef,critic_loss,actor_loss,q\n{''.join(rows)}"
    )


def test_trainings_are_found_whatever_their_tag(workdir: Path) -> None:
    put_curve(Path("runs/ch09_nature/FetchPush-v4/seed1"), 2)
    put_curve(Path("runs/a/b/ch09_manip_noDrQ_criticEnc/FetchPush-v4/seed0"), 3)
    put_curve(Path("runs/ch09_nature/FetchPush-v4/previous/seed1_x"), 9)
    put_curve(Path("runs/sac_her/FetchPush-v4/seed0"), 9)
    put_curve(Path("runs/smoke-test/ch09_nature/FetchPush-v4/seed0"), 9)
    found = list(pixel_investigation.curves_of(CARD))
    assert [(one.step, one.tag, one.seed) for one in found] == [("0", "", "1"), ("2", "a/b", "0")]
    assert found[0].points("critic_loss") == ([1000, 2000], [0.3, 0.3])
    assert found[0].points("actor_loss") == ([], [])


def put_metadata(step: str, **changes: Any) -> None:
    """Of a training as in the book, but for the changes."""
    flags = {**pixel_investigation.STEPS[step], **pixel_investigation.LENGTHS[step]}
    settings = CARD.settings(flags)
    used = {**settings.flat_hyperparameters(), **changes}
    steps = used.pop("total_steps", settings.run.total_steps)
    made = {"steps_done": steps, "hyperparameters": used}
    write_json(RunPaths.of(settings).metadata, made)


@pytest.mark.parametrize(
    ("changes", "is_missing"),
    [
        ({}, False),
        ({"cuda_graphs": True}, False),
        ({"total_steps": 400}, True),
        ({"hide_goal_marker": True}, True),
        ({"precision": "bf16"}, True),
        ({"buffer_size": 200_000}, True),
        (None, True),
    ],
)
def test_only_a_training_as_in_the_book_is_a_step(
    changes: dict[str, Any] | None, is_missing: bool, workdir: Path
) -> None:
    put_curve(Path("runs/ch09_manip_criticEnc/FetchPush-v4/seed0"), 2)
    if changes is not None:
        put_metadata("4", **changes)
    found = list(pixel_investigation.curves_of(CARD))
    assert len(found) == 1
    missing = pixel_investigation.missing_trainings(CARD, found)
    assert ("step 4 (with DrQ)" in missing) == is_missing


def test_tags_are_told_where_they_tell_curves_apart() -> None:
    one, other = (
        pixel_investigation.Curve(step, tag, "0", [], False)
        for step, tag in (("0", "mine"), ("4", "yours"))
    )
    assert pixel_investigation.titles([one, one]) == ["like step 0 (NatureCNN), seed 0"] * 2
    assert pixel_investigation.titles([one, other]) == [
        "like step 0 (NatureCNN), mine, seed 0",
        "like step 4 (with DrQ), yours, seed 0",
    ]


def test_only_what_the_book_trained_is_called_a_step_of_it() -> None:
    curve = pixel_investigation.Curve("0", "", "0", [], True)
    assert pixel_investigation.titles([curve]) == ["step 0 (NatureCNN), seed 0"]


def test_what_there_is_is_drawn_and_what_is_missing_named(workdir: Path) -> None:
    put_curve(Path("runs/ch09_nature/FetchPush-v4/seed0"), 2)
    put_metadata("0")
    said = drawn_by("plot-investigation")
    assert {path.name for path in Path("figures").iterdir()} == {
        f"ch09_{name}.png" for name in pixel_investigation.FIGURES
    }
    assert "step 0 (" not in said
    assert "step 4 (with DrQ): bash docker/dev.sh python scripts/ch09_pixel_push.py" in said
    assert "train --critic-encoder --no-hide-goal-marker --precision fp32" in said
    assert "--total-steps 1500000 --buffer-size 500000 --n-sampled-goal 8 --seed 0" in said


def test_without_a_training_its_figures_are_not_drawn(workdir: Path) -> None:
    drawn_by("plot-investigation")
    drawn = {path.name for path in Path("figures").iterdir()}
    assert drawn == {"ch09_pixel_view.png", "ch09_encoder_progression.png"}
