"""Results that are repeated pass, others do not: policies played again, a training done twice."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import check_repro
import numpy as np
import pytest
import torch
from support import PPO_NAME, Trained, rewrite_entries, run_script, succeed, tensors, tree

from robotics_rl.jobs import Job

SCRIPT = "scripts/check_repro.py"
RESULT = Path("results", "ppo_fetchreachdense-v4_seed0_eval.json")


@pytest.fixture
def published(workdir: Path, trained_ppo: Trained) -> Trained:
    """A policy, and what it does in three episodes."""
    trained = trained_ppo.copy_to(workdir)
    checkpoint = trained.checkpoint.relative_to(workdir)
    succeed("eval.py", "--ckpt", str(checkpoint), "--n-episodes", "3")
    return trained


def change(part: str, **values: Any) -> None:
    """Make the published result tell something else."""
    document = json.loads(RESULT.read_text())
    target = document["aggregate"] if part == "aggregate" else document["per_episode"][0]
    for name, value in values.items():
        target[name] += value
    RESULT.write_text(json.dumps(document))


def test_what_is_repeated_passes_and_nothing_is_written(published: Trained) -> None:
    before = tree(published.root)
    out = succeed(SCRIPT).out
    assert f"checkpoints/{PPO_NAME}.zip" in out
    assert "3 of 3" in out
    assert "(+0.0000)" in out
    assert out.splitlines()[-1].startswith("1 of 1 are within success_rate 0.02")
    assert tree(published.root) == before


def test_policies_that_see_are_compared_as_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def replay(success_rate: float) -> check_repro.Replay:
        values = {"return_mean": -20.0, "final_distance_mean": 0.05}
        published, again = ({"success_rate": rate, **values} for rate in (0.9, success_rate))
        return check_repro.Replay(
            {"checkpoint": "x.zip", "aggregate": published}, {"aggregate": again}
        )

    assert not replay(0.85).holds
    monkeypatch.setattr(check_repro.commands, "sees_pictures", lambda _: True)
    assert replay(0.85).holds
    assert not replay(0.65).holds


@pytest.mark.parametrize(
    ("metric", "little", "much"),
    [
        ("success_rate", 0.019, 0.021),
        ("return_mean", 0.99, 1.01),
        ("final_distance_mean", 0.0019, 0.0021),
    ],
)
def test_another_result_fails_beyond_its_tolerance(
    metric: str, little: float, much: float, published: Trained
) -> None:
    change("aggregate", **{metric: -little})
    assert run_script(SCRIPT).code == 0
    change("aggregate", **{metric: 2 * little})
    assert run_script(SCRIPT).code == 0
    change("aggregate", **{metric: much - little})
    outcome = run_script(SCRIPT)
    assert outcome.code == 1
    assert "FAIL" in outcome.out
    assert f"(-{much:{check_repro.FORMS[metric]}})" in outcome.out
    assert "0 of 1 are within" in outcome.out


def test_episodes_that_differ_are_counted(published: Trained) -> None:
    change("per_episode", final_distance=1e-12)
    assert "2 of 3" in succeed(SCRIPT).out


def test_a_checkpoint_that_is_not_the_one_that_was_evaluated_fails(published: Trained) -> None:
    rewrite_entries(published.checkpoint, lambda _, content: content)
    outcome = run_script(SCRIPT)
    assert (outcome.code, "another checkpoint is in its place" in outcome.out) == (1, True)
    published.checkpoint.unlink()
    outcome = run_script(SCRIPT)
    assert (outcome.code, "its checkpoint is missing" in outcome.out) == (1, True)


@pytest.mark.parametrize("aside", ["previous", "sweep"])
def test_what_is_not_published_is_not_played(aside: str, published: Trained) -> None:
    moved = RESULT.parent / aside / RESULT.name
    moved.parent.mkdir()
    RESULT.rename(moved)
    outcome = run_script(SCRIPT)
    assert outcome.code == 2
    assert outcome.err.startswith("error: results holds no evaluations at all; ")


def test_only_what_is_asked_for_is_played(published: Trained) -> None:
    assert "1 of 1" in succeed(SCRIPT, "--only", "ppo_*seed0").out
    outcome = run_script(SCRIPT, "--only", "sac")
    assert outcome.code == 2
    assert "no evaluations of checkpoints like 'sac'" in outcome.err
    assert run_script(SCRIPT, "--only", "ppo", "--retrain").code == 2


def test_a_training_that_is_done_twice_comes_to_the_same(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"algo": "ppo", "env": "FetchReachDense-v4", "n_envs": 2, "net_arch": (16,)}
    tiny |= {"n_steps": 32, "batch_size": 32, "total_steps": 64}
    monkeypatch.setattr(check_repro, "RETRAINED", tiny)
    assert check_repro.main(["--retrain", "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("OK: trained twice, all ")
    assert "--total-steps=64" in out
    assert tree(workdir) == {}


def test_trainings_that_differ_in_a_bit_fail(
    workdir: Path,
    trained_ppo: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def carry_out(jobs: Sequence[Job], *_: Any, **__: Any) -> Iterator[tuple[Job, int]]:
        for job in jobs:
            [place] = [flag for flag in job.commands[0] if flag.startswith("--checkpoints-dir=")]
            folder = Path(place.partition("=")[2])
            shutil.copytree(trained_ppo.checkpoint.parent, folder)
            if job.name == "second":
                change_a_bit(folder / trained_ppo.checkpoint.name)
            yield job, 0

    monkeypatch.setattr(check_repro, "carry_out", carry_out)
    monkeypatch.setattr(check_repro, "RETRAINED", {"algo": "ppo", "env": "FetchReachDense-v4"})
    assert check_repro.main(["--retrain"]) == 1
    assert "FAIL: 1 of " in (out := capsys.readouterr().out)
    assert "tensors differ: policy.pth/value_net.bias (" in out


def change_a_bit(checkpoint: Path) -> None:
    """The next number that there is, in one place."""
    policy = tensors(checkpoint)
    policy["value_net.bias"] = torch.nextafter(policy["value_net.bias"], torch.tensor(np.inf))
    file = io.BytesIO()
    torch.save(policy, file)
    rewrite_entries(checkpoint, lambda name, old: file.getvalue() if name == "policy.pth" else old)


def test_a_training_that_fails_is_told(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def carry_out(jobs: Sequence[Job], *_: Any, **__: Any) -> Iterator[tuple[Job, int]]:
        jobs[0].log.write_text("error: no room\n")
        yield jobs[0], 2

    monkeypatch.setattr(check_repro, "carry_out", carry_out)
    assert check_repro.main(["--retrain"]) == 1
    assert capsys.readouterr().err == "error: no room\nFAIL: the first training\n"
