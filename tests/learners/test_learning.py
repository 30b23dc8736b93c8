"""Trainings reach their goal, in bfloat16 too."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from building import PAIRS, VARIANTS, build_lean, build_pair, random_batches, tiny, train_noting
from support import read_strict_json, succeed
from torch import Tensor

from robotics_rl import preflight
from robotics_rl.config import resolve
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.training import train


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_updates_are_nearly_those_of_fp32(variant: str, push: FetchVecEnv) -> None:
    _, full = build_pair(variant, push, 2)
    half = build_lean(variant, push, random_batches(2), bf16=True)
    half.policy.load_state_dict(full.policy.state_dict())
    start = copy.deepcopy(full.policy.state_dict())
    expected, found = (train_noting(model, 2) for model in (full, half))
    assert found["critic_loss"] == pytest.approx(expected["critic_loss"], rel=0.05)
    assert found["critic_loss"] != expected["critic_loss"]
    assert found["actor_loss"] == pytest.approx(expected["actor_loss"], rel=0.05, abs=0.05)
    moved, apart = (
        torch.cat([(half.policy.state_dict()[n] - other[n]).reshape(-1) for n in start]).norm()
        for other in (start, full.policy.state_dict())
    )
    assert 0 < apart < 0.5 * moved
    assert all(part.dtype == torch.float32 for part in half.policy.state_dict().values())


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_bf16_trains_and_says_so(
    algo: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses: list[Tensor] = []
    kind = PAIRS[algo][1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "note", lambda self, name, value: losses.append(value.detach()))
        patch.setattr(preflight, "multiplies_bf16", lambda device: algo == "td3")
        train(tiny(algo, bf16=True, total_steps=140))
    assert ("has no units for bf16" in capsys.readouterr().out) == (algo != "td3")
    assert len(losses) >= 20
    assert torch.stack([loss.reshape(()) for loss in losses]).isfinite().all()
    document = read_strict_json(Path(f"checkpoints/{algo}_her_FetchPush-v4_seed0.meta.json"))
    assert document["hyperparameters"]["bf16"] is True


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_sac_learns_to_reach(bf16: bool, workdir: Path) -> None:
    n_steps = 9_600 if bf16 else 11_200  # processors without units for bf16 take long to emulate it
    given = {"total_steps": n_steps, "device": "cpu", "track": "none", "progress": False}
    settings = resolve("sac", "FetchReach-v4", {**given, "bf16": bf16}, her=True)
    assert (settings.run.engine, settings.run.recipe) == ("fast", "fast")
    train(settings)
    checkpoint = "checkpoints/sac_her_FetchReach-v4_seed0.zip"
    succeed("eval.py", "--ckpt", checkpoint, "--n-episodes", "50", "--json-out", "result.json")
    assert read_strict_json(Path("result.json"))["aggregate"]["success_rate"] >= 0.9
