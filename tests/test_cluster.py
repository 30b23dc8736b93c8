"""Trainings on a Ray cluster: one that a lost worker had begun goes on elsewhere."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

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


@pytest.mark.slow
def test_a_sweep_runs_on_a_cluster(workdir: Path) -> None:
    pytest.importorskip("ray", reason="needs requirements-sweep.txt")
    Path("grid.json").write_text(json.dumps({"gamma": [0.9, 0.95]}))
    flags = [*REACH, "--seeds", "3", *TINY]
    assert succeed(SCRIPT, "run", *flags, "--ray", "local").out.count("success 0.") == 2
    assert {run["error"] for run in read_strict_json(RAW)["runs"]} == {None}
    assert "2 done" in succeed(SCRIPT, "status", *flags).out


@pytest.mark.slow
def test_what_a_lost_worker_had_begun_goes_on(workdir: Path) -> None:
    pytest.importorskip("ray", reason="needs requirements-sweep.txt")
    given = {"env": "FetchReach-v4", "net_arch": (8,), "batch_size": 8, "total_steps": 30_000}
    given |= {"checkpoint_freq": 2_000, "train_seeds": "0"}
    [trial, *_] = ch04_sweep._trials(given)
    killer = Thread(target=_kill_the_worker_of, args=(trial,))
    killer.start()
    with closing(cluster.carry_out([trial.experiment], "local")) as outcomes:
        [(job, code)] = outcomes
    killer.join()
    log = job.log.read_text()
    assert code == 0, log
    assert "\nresuming at " in log
    assert trial.experiment.is_complete()


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
