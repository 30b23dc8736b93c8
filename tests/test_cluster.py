"""Trainings on a Ray cluster: one that a lost worker had begun goes on elsewhere."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from unittest import mock

import ch04_sweep
import psutil
import pytest
from support import read_strict_json, run_script, succeed
from test_sweep import RAW, REACH, SCRIPT, TINY

from robotics_rl import cluster
from robotics_rl.artifacts import RunPaths

NOT_INSTALLED = "Ray is not installed; install it with: bash docker/dev.sh pip install"


def test_without_ray_one_line_says_how_to_get_it(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = run_script(SCRIPT, "run", "--env", "FetchReach-v4", *TINY, "--ray", "auto")
    assert outcome.code == 2
    assert NOT_INSTALLED in outcome.err
    assert not list(workdir.rglob("*.zip"))


@pytest.mark.parametrize(("usable", "asked"), [(1, 1), (2, 2), (16, 2)])
def test_a_training_asks_for_no_more_cores_than_there_are(
    usable: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = mock.Mock(**{"remote.side_effect": InterruptedError("it was asked")})
    monkeypatch.setattr(cluster, "_connect", lambda _: ray)
    monkeypatch.setattr(cluster, "usable_cores", lambda: usable)
    with pytest.raises(InterruptedError):
        next(cluster.carry_out([mock.Mock()], "local"))
    assert ray.remote.call_args.kwargs["num_cpus"] == asked


@pytest.mark.slow
def test_a_sweep_on_a_cluster_outlives_a_lost_worker(workdir: Path) -> None:
    pytest.importorskip("ray", reason="needs requirements-sweep.txt")
    Path("grid.json").write_text(json.dumps({"gamma": [0.9, 0.95], "n_sampled_goal": [2, 4]}))
    flags = [*REACH, "--seeds", "3", *TINY, "--total-steps", "8000", "--checkpoint-freq", "1000"]
    given = vars(ch04_sweep._parser().parse_args(["run", *flags]))
    del given["command"]
    trial = ch04_sweep._trials(given)[1]
    killer = Thread(target=_kill_the_worker_of, args=(trial,), daemon=True)
    killer.start()
    assert succeed(SCRIPT, "run", *flags, "--ray", "local").out.count("success ") == 4
    killer.join()
    assert [run["error"] for run in read_strict_json(RAW)["runs"]] == [None] * 4
    assert "\nresuming at " in trial.experiment.job().log.read_text()
    assert "4 done" in succeed(SCRIPT, "status", *flags).out
    assert "4 of 4 runs are done" in succeed(SCRIPT, "run", *flags, "--ray", "local").out


def _kill_the_worker_of(trial: ch04_sweep.Trial) -> None:
    """Once the training has saved its state."""
    resume = RunPaths.of(trial.experiment.settings).resume
    while not list(resume.glob("*state*")):
        time.sleep(0.1)
    [training] = [one for one in psutil.process_iter() if _trains(one, trial.name)]
    training.parent().kill()


def _trains(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return "train.py" in command and name in command
    return False
