"""Files: whole or not there, named as promised, never lost."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from robotics_rl import artifacts
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import resolve
from robotics_rl.errors import UsageError


def paths(**given) -> RunPaths:
    return RunPaths.of(resolve("sac", "FetchPush-v4", given, her=True))


def test_artifacts_are_named_as_the_contract_says():
    found = paths(seed=3)
    assert found.checkpoint == Path("checkpoints/sac_her_FetchPush-v4_seed3.zip")
    assert found.metadata == Path("checkpoints/sac_her_FetchPush-v4_seed3.meta.json")
    assert found.resume == Path("checkpoints/sac_her_FetchPush-v4_seed3.resume")
    assert found.curves == Path("runs/sac_her/FetchPush-v4/seed3/curves.csv")


def test_a_run_tag_is_a_folder_below_each_root():
    found = paths(run_tag="fastpath", checkpoints_dir="c", log_dir="l")
    assert found.checkpoint == Path("c/fastpath/sac_her_FetchPush-v4_seed0.zip")
    assert found.logs == Path("l/fastpath/sac_her/FetchPush-v4/seed0")


def test_out_names_the_checkpoint_with_or_without_its_ending():
    assert paths(out="a/b").checkpoint == paths(out="a/b.zip").checkpoint == Path("a/b.zip")


def test_evaluations_are_named_as_the_contract_says():
    name = artifacts.evaluation_name("sac_her", "FetchPush-v4", 0)
    path = artifacts.evaluation_path("results", None, "ch04", name)
    assert path == Path("results/ch04_sac_her_fetchpush-v4_seed0_eval.json")
    floor = artifacts.evaluation_name("do_nothing", "FetchPush-v4", None)
    path = artifacts.evaluation_path("results", "book", None, floor)
    assert path == Path("results/book/do_nothing_fetchpush-v4_eval.json")


@dataclass
class Document:
    return_: float
    values: tuple[float, ...]


def test_json_is_sorted_indented_and_never_holds_nan(tmp_path):
    path = tmp_path / "x.json"
    document = {"b": Document(np.float32(0.5), (math.nan, math.inf)), "a": np.arange(2)}
    artifacts.write_json(path, document)
    text = path.read_text()
    assert text.endswith("}\n")
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text) == {"a": [0, 1], "b": {"return": 0.5, "values": [None, None]}}


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), artifacts.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with (
        pytest.raises(UsageError, match="No space left"),
        artifacts.atomic_write(path) as temporary,
        Path("/dev/full").open("w") as full,
    ):
        temporary.write_text("half")
        full.write("x" * 100_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_lock_dies_with_its_process(tmp_path):
    folder = tmp_path / "run"
    held = (
        "import sys, time; from pathlib import Path; from robotics_rl.artifacts import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(folder)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another training"), artifacts.run_lock(folder):
            pass
        other.kill()
    with artifacts.run_lock(folder):
        pass
    assert list(tmp_path.iterdir()) == [], "an empty folder was left behind"


def test_moving_aside_never_overwrites(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "a.meta.json").write_text(content)
        artifacts.move_aside(tmp_path / "a.meta.json", tmp_path / "previous", "t")
    kept = sorted(path.read_text() for path in (tmp_path / "previous").iterdir())
    assert kept == ["first", "second"]


def test_figures_of_another_document_go_where_it_goes(tmp_path, capsys):
    path, figure = tmp_path / "results" / "x.json", tmp_path / "figures" / "x.png"
    document = {"settings": {"sizes": (1, 2)}, "created_at": "2026-01-02T03:04:05+00:00"}
    artifacts.write_json(path, document)
    figure.parent.mkdir()
    figure.write_text("drawn")
    artifacts.keep_other(path, "run", artifacts.has_same(document, "settings"), figure)
    assert path.exists()
    assert figure.exists()
    other = artifacts.has_same({"settings": {"sizes": (3,)}}, "settings")
    artifacts.keep_other(path, "run", other, figure)
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("x_*")) == [
        "figures/previous/x_20260102T030405Z.png",
        "results/previous/x_20260102T030405Z.json",
    ]
    assert capsys.readouterr().out.startswith("x.json was of another run: it went to ")


@pytest.mark.parametrize(
    ("document", "figure"),
    [
        ("results/ch04_journey.json", "figures/ch04_journey.png"),
        ("results/mine/ch04_journey.json", "figures/mine/ch04_journey.png"),
        ("elsewhere/ch04_journey.json", "elsewhere/ch04_journey.png"),
    ],
)
def test_a_figure_takes_the_place_of_no_other_document_s(document, figure):
    assert artifacts.figure_path(Path(document)) == Path(figure)
