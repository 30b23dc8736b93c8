"""Videos: filmed is what is evaluated, everything is in the picture, and files are sound."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import drawn
import imageio_ffmpeg
import numpy as np
import pytest
import video_tables
from PIL import Image
from support import ROOT, Trained, read_strict_json, run_script, start, succeed, tree

from robotics_rl import artifacts, filming, video
from robotics_rl.envs.renderer import FOR_PEOPLE
from robotics_rl.errors import UsageError

SCRIPT = "scripts/generate_demo_videos.py"
COMMITTED = subprocess.run(  # a reader's own videos beside them are no fault
    ["git", "-C", str(ROOT), "ls-files", "videos"], capture_output=True, text=True, check=True
).stdout.split()
PUBLISHED = [ROOT / name for name in COMMITTED if name.endswith(".json")]
HER, NO_HER, REACH, PIXELS = (
    str(ROOT / "checkpoints" / f"{name}.zip")
    for name in (
        "sac_her_FetchPush-v4_seed0",
        "sac_FetchPush-v4_seed0",
        "ppo_FetchReachDense-v4_seed0",
        "step4/ch09_manip_criticEnc_FetchPush-v4_seed0",
    )
)
pytestmark = pytest.mark.usefixtures("drawing")


# Filmed is what is evaluated


class Film(NamedTuple):
    """A folder in which something was filmed, and what was said of it."""

    root: Path
    out: str


@pytest.fixture(scope="module")
def push(drawing: None, tmp_path_factory: pytest.TempPathFactory) -> Film:
    """SAC without and with HER side by side, two episodes each."""
    flags = ["--episode-seeds", "11,3", "--overlay", "--gif", "--out", "videos/push"]
    return _filmed(tmp_path_factory.mktemp("push"), "--ckpt", NO_HER, "--ckpt", HER, *flags)


@pytest.fixture(scope="module")
def seeing(drawing: None, tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A policy that sees pictures of its own."""
    flags = ["--episode-seeds", "1", "--out", "seeing.mp4", "--device", "cpu"]
    return _filmed(tmp_path_factory.mktemp("seeing"), "--ckpt", PIXELS, *flags)


def _filmed(folder: Path, *arguments: str) -> Film:
    with contextlib.chdir(folder):
        process = start(SCRIPT, *arguments)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return Film(folder, out)


@pytest.mark.parametrize(
    ("name", "index", "checkpoint", "seeds"),
    [
        ("push", 0, NO_HER, "11,3"),
        ("push", 1, HER, "11,3"),
        ("seeing", 0, PIXELS, "1"),
    ],
)
def test_filmed_episodes_are_those_that_are_evaluated(
    name: str,
    index: int,
    checkpoint: str,
    seeds: str,
    workdir: Path,
    request: pytest.FixtureRequest,
) -> None:
    [path] = request.getfixturevalue(name).root.rglob("*.json")
    filmed = read_strict_json(path)["evaluations"][index]
    arguments = ["--ckpt", checkpoint, "--seeds", seeds, "--device", "cpu"]
    succeed("eval.py", *arguments, "--json-out", "e.json")
    evaluated = read_strict_json(Path("e.json"))
    assert filmed["per_episode"] == evaluated["per_episode"], "bit by bit"
    assert filmed["checkpoint_sha256"] == artifacts.sha256_of(Path(checkpoint))


def test_a_video_has_every_moment_of_every_episode(push: Film) -> None:
    frames, said = _decoded(push.root / "videos" / "push.mp4")
    assert len(frames) == 2 * (51 + filming.HOLD)
    assert frames[0].shape == (480 + 2 * 32, 2 * 480 + filming.GAP, 3)
    assert min(frame.std() for frame in frames) > 20, "none is black"
    assert "Video: h264" in said
    assert "yuv420p" in said
    assert " 25 fps" in said


def test_compared_policies_start_alike_and_go_their_own_ways(push: Film) -> None:
    frames, _ = _decoded(push.root / "videos" / "push.mp4")
    halves = [frame[64:].astype(float) for frame in (frames[0], frames[45])]
    (start_differs, later_differs) = (
        np.abs(half[:, :480] - half[:, -480:]).mean() for half in halves
    )
    assert start_differs < 1.0
    assert later_differs > 5.0


def test_it_is_said_what_came_of_the_episodes_and_what_was_written(push: Film) -> None:
    assert "sac_FetchPush-v4_seed0: 0 of 2 episodes end in success (reset seeds 11, 3)" in push.out
    assert "sac_her_FetchPush-v4_seed0: 2 of 2 episodes" in push.out
    for ending in ("mp4", "gif", "json"):
        assert f"OK: wrote videos/push.{ending}" in push.out
        assert (push.root / "videos" / f"push.{ending}").exists()
    assert {path.name for path in push.root.iterdir()} == {"videos"}


def test_without_an_overlay_one_policys_picture_fills_the_frame(seeing: Film) -> None:
    assert {path.name for path in seeing.root.iterdir()} == {"seeing.mp4", "seeing.json"}
    frames, _ = _decoded(seeing.root / "seeing.mp4")
    assert frames[0].shape == (480, 480, 3)


def _decoded(path: Path) -> tuple[Any, str]:
    """The frames, (n, height, width, 3), and what ffmpeg says of the file."""
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    encoder = imageio_ffmpeg.get_ffmpeg_exe()
    done = subprocess.run([encoder, "-i", path, *raw], capture_output=True, check=True)
    said = done.stderr.decode()
    width, height = map(int, re.search(r"Video: h264.* (\d+)x(\d+)", said).groups())  # type: ignore[union-attr]
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), said


# What is drawn


@pytest.fixture(scope="module")
def pictures(there: Callable[..., Any]) -> dict[str, Any]:
    """Two renderers in one process."""
    seen: dict[str, Any] = there(drawn.side_by_side)
    return seen


@pytest.fixture(scope="module")
def goals(there: Callable[..., Any]) -> dict[str, Any]:
    """By task: pixels of the goal."""
    shown: dict[str, Any] = there(drawn.goals)
    return shown


def test_two_renderers_in_a_process_leave_each_other_alone(pictures: dict[str, Any]) -> None:
    assert pictures["policy_alone"].std() > 20
    assert np.array_equal(pictures["policy_beside"], pictures["policy_alone"])
    assert np.array_equal(pictures["policy_after"], pictures["policy_alone"])
    assert np.array_equal(pictures["people_beside"], pictures["people_alone"])


def test_an_episode_that_goes_otherwise_than_when_played_is_refused(
    pictures: dict[str, Any],
) -> None:
    assert pictures["refused"]


def test_what_drags_the_gripper_is_not_shown_to_people(pictures: dict[str, Any]) -> None:
    differs = (pictures["with_crosshairs"] != pictures["people_alone"]).any(axis=3)
    assert differs[-1].sum() > 50
    assert differs[-1].mean() < 0.1, "and nothing else is left out"


@pytest.mark.parametrize("task", FOR_PEOPLE)
def test_people_see_the_goal_wherever_it_is_and_whatever_stands_before_it(
    task: str, goals: dict[str, Any]
) -> None:
    """And objects: the goal was put where they may be as well."""
    whole_ball = np.median(goals[task])
    assert whole_ball > 60, "pixels, in a picture of 160 a side"
    assert goals[task].min() > whole_ball / 2


# Files


def _frames(n: int, height: int = 64, width: int = 512) -> list[Any]:
    """Every shade of grey beside one that gets lighter, and a few red pixels."""
    frames = np.zeros((n, height, width, 3), dtype=np.uint8)
    frames[:, :, 256:] = np.arange(256)[:, None]
    for index, frame in enumerate(frames):
        frame[:, :256] = 20 * index % 256
        frame[:4, :4] = (255, 0, 0)
    return list(frames)


def test_an_mp4_holds_its_frames(workdir: Path) -> None:
    video.write_mp4(Path("new/x.mp4"), iter(_frames(10)))
    read, _ = _decoded(Path("new/x.mp4"))
    assert read.shape == (10, 64, 512, 3)
    for written, frame in zip(_frames(10), read, strict=True):
        assert abs(float(frame[16:, 16:240].mean()) - float(written[16:, 16:240].mean())) < 4


def test_a_gif_is_half_as_large_and_as_fast_as_the_video(workdir: Path) -> None:
    gif = video.Gif()
    assert len(list(gif.passing(_frames(10)))) == 10
    gif.write(Path("x.gif"))
    with Image.open("x.gif") as read:
        assert (read.size, read.n_frames, read.info["loop"]) == ((256, 32), 5, 0)  # type: ignore[attr-defined]
        for index in range(5):
            read.seek(index)
            assert read.info["duration"] == 80
            red, grey = (read.convert("RGB").getpixel(place) for place in ((0, 0), (100, 20)))
            assert np.allclose(red, (255, 0, 0), atol=16), "a few pixels keep their colour"
            assert np.allclose(grey, 40 * index, atol=16)


def test_a_video_that_cannot_be_encoded_is_an_error_and_no_file(workdir: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write x\.mp4: ffmpeg says: .*; choose another"):
        video.write_mp4(Path("x.mp4"), _frames(400, height=33))
    assert tree(workdir) == {}


def test_a_drawing_that_fails_leaves_no_file(workdir: Path) -> None:
    def fails() -> Any:
        yield from _frames(2)
        raise RuntimeError("an empty picture")

    with pytest.raises(RuntimeError, match="an empty picture"):
        video.write_mp4(Path("x.mp4"), fails())
    assert tree(workdir) == {}


def test_a_missing_encoder_is_told_before_anything_is_played(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    _assert_refused(["--ckpt", REACH, "--out", "x"], "there is no ffmpeg .*; run: pip install")


# What cannot be filmed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ckpt", "absent.zip"], "checkpoint absent.zip does not exist; train it first"),
        (["--ckpt", HER, REACH], r"is of FetchReachDense-v4 and .* of FetchPush-v4; film each"),
        (["--ckpt", HER, HER], "a checkpoint is named twice; name each of them once"),
        (["--ckpt", HER, "--grid", "2by2"], "--grid is '2by2'; write it as ROWSxCOLUMNS"),
        (["--ckpt", HER, "--grid", "0x2"], "--grid is '0x2'; write it as ROWSxCOLUMNS"),
        (["--ckpt", HER, "--grid", "1x7"], "1x7 pictures are too many; 6 a side are the most"),
        (["--ckpt", HER, NO_HER, "--grid", "1x4"], "a grid of 1x4 has .* use --grid 1x2"),
        (["--ckpt", HER, "--grid", "2x2", "--n-episodes", "6"], "6 episodes do not fill a grid"),
        (["--ckpt", HER, "--n-episodes", "0"], "--n-episodes is 0; it must lie between 1 and"),
        (["--ckpt", HER, "--episode-seeds", "a"], "cannot read seeds 'a'; write them as"),
        (
            ["--ckpt", HER, "--episode-seeds", "1,2", "--n-episodes", "3"],
            "--episode-seeds names 2 of 3 episodes; name more",
        ),
        (["--ckpt", HER, "--device", "toaster"], "toaster.*;"),
        (["--ckpt", HER, "--env", "FetchReach-v4"], "was trained for other spaces .*; give the"),
    ],
)
def test_what_cannot_be_filmed_is_refused(workdir: Path, arguments: list[str], says: str) -> None:
    _assert_refused([*arguments, "--out", "videos/x"], says)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file/x", "cannot write to file: .*; choose another folder"),
        ("folder/", "--out is 'folder/'; it must name a file"),
        ("taken", "taken.gif is a folder; name a file in it"),
        ("/proc/x", "cannot write to /proc: .*; choose another folder"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_played(workdir: Path, out: str, says: str) -> None:
    Path("file").touch()
    Path("taken.gif").mkdir()
    _assert_refused(["--ckpt", HER, "--gif", "--out", out], says)


def test_only_fetch_tasks_are_filmed(workdir: Path) -> None:
    flags = ["--n-steps", "8", "--batch-size", "8", "--n-envs", "1", "--total-steps", "8"]
    succeed("train.py", "--algo", "ppo", "--env", "Pendulum-v1", *flags, "--out", "swing")
    _assert_refused(["--ckpt", "swing", "--out", "x"], "plays Pendulum-v1, .*; use: python eval")


def test_a_checkpoint_of_a_stranger_is_not_unpickled(workdir: Path, trained_ppo: Trained) -> None:
    trained = trained_ppo.copy_to(workdir)
    trained.metadata.unlink()
    _assert_refused(
        ["--ckpt", str(trained.checkpoint), "--out", "x"], "if you trust its author, add --trust"
    )


def _assert_refused(arguments: list[str], says: str) -> None:
    before = tree(Path())
    outcome = run_script(SCRIPT, *arguments, "--no-progress")
    assert outcome.code == 2, outcome
    [line] = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(says, line), line
    assert outcome.out == ""
    assert tree(Path()) == before


# What is published


def test_something_is_published() -> None:
    assert len(PUBLISHED) >= 5


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_video_shows_a_published_checkpoint_and_is_small(path: Path) -> None:
    document = read_strict_json(path)
    for name in document["files"]:
        assert (ROOT / name).stat().st_size <= 1_500_000, name
    for evaluation in document["evaluations"]:
        checkpoint = ROOT / evaluation["checkpoint"]
        if not checkpoint.name.startswith(video_tables.SWEEP):  # those are not published
            assert artifacts.sha256_of(checkpoint) == evaluation["checkpoint_sha256"]
        assert evaluation["git"]["dirty"] is False
        assert evaluation["command"][1] == SCRIPT


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_videos_show_what_published_results_say(path: Path) -> None:
    """Where the same device played; elsewhere the last bits differ, and contacts make that grow."""
    told: dict[tuple[str, str], dict[int, Any]] = {}
    for one in map(read_strict_json, (ROOT / "results").rglob("*_eval.json")):
        rows = told.setdefault((one["checkpoint_sha256"], one["device"]), {})
        rows |= {row["seed"]: row for row in one["per_episode"]}  # some are evaluated twice
    for filmed in read_strict_json(path)["evaluations"]:
        rows = told.get((filmed["checkpoint_sha256"], "cpu"), {})
        shown = [episode for episode in filmed["per_episode"] if episode["seed"] in rows]
        assert filmed["device"] == "cpu"
        is_apart = any(part in filmed["checkpoint"] for part in ("ch09", "sweep_"))
        assert len(shown) == len(filmed["seeds"]) or is_apart, "on a GPU, or not published"
        for episode in shown:
            row = rows[episode["seed"]]
            assert episode["success"] == row["success"]
            assert episode["final_distance"] == pytest.approx(row["final_distance"], abs=1e-3)


def test_every_published_video_has_its_document() -> None:
    told = {name for path in PUBLISHED for name in read_strict_json(path)["files"]}
    assert {name for name in COMMITTED if name.endswith((".mp4", ".gif"))} == told
