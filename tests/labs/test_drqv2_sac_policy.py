"""The DrQ-v2 policy lab: what it prints, who trains what in it, and that its checks can fail."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import pytest
import torch
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module
from stable_baselines3 import SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.sac.policies import MultiInputPolicy, SACPolicy

LAB = LABS / "drqv2_sac_policy.py"
REGIONS = {
    "critic_encoder_critic": "class CriticEncoderCritic",
    "critic_encoder_actor": "class CriticEncoderActor",
    "drqv2_sac_policy": "class DrQv2SACPolicy",
    "verify_gradient_flow": "def sac_losses",
}
MODES = {
    "--verify": ["check_membership", "check_gradients", "check_training", "check_saving"],
    "--bridge": ["bridge"],
    "--probe": ["probe"],
}
NOISE = "torch.distributions.normal._standard_normal"  # where SB3's policy gets its own

GATE = "learns = torch.is_grad_enabled() and not actions.requires_grad"
DETACHED = "with torch.no_grad():  # detached"
FEATURES = "return super().extract_features(obs, features_extractor)"
NETWORKS = "self.make_actor(encoder), self.make_critic(encoder)"
TARGET = "self.critic_target = self.make_critic()"
HEAD = "if weight not in shared]"
TRAINED = "weights = self.critic.parameters()"

NO_DETACH = Fault("no detach", DETACHED, "if True:  # detached")
IN_ACTOR = Fault("encoder in the actor's optimizer", f" {HEAD}", "]")
NOT_IN_CRITIC = Fault(
    "encoder in no optimizer",
    TRAINED,
    "weights = [w for w in self.critic.parameters() if w not in shared]",
)
TWO = Fault("two encoders", NETWORKS, NETWORKS.replace("actor(encoder)", "actor()"))
SHARED_TARGET = Fault("shared target encoder", TARGET, TARGET.replace("()", "(encoder)"))
DEAF = Fault("the critic does not train its encoder", GATE, "learns = False")
FAULTS = {
    "check_membership": [
        IN_ACTOR,
        NOT_IN_CRITIC,
        TWO,
        SHARED_TARGET,
        Fault("another encoder for the critic", NETWORKS, NETWORKS.replace("c(encoder)", "c()")),
        Fault(
            "target starts elsewhere",
            "self.critic_target.load_state_dict(self.critic.state_dict())",
            "pass",
        ),
        Fault("actor's head not trained", HEAD, f"{HEAD[:-1]}][:2]"),
    ],
    "check_gradients": [
        NO_DETACH,
        DEAF,
        Fault("actor's loss through the critic", GATE, "learns = torch.is_grad_enabled()"),
        Fault("targets keep a graph", GATE, "learns = not actions.requires_grad"),
        Fault("SB3's critic", "return CriticEncoderCritic(", "return ContinuousCritic("),
        Fault("SB3's actor", "return CriticEncoderActor(", "return Actor("),
    ],
    "check_training": [
        NOT_IN_CRITIC,
        DEAF,
        SHARED_TARGET,
        Fault("no gradient step", '"learning_starts": EPISODE', '"learning_starts": 50'),
        Fault("target as fast as the critic", '"tau": TAU', '"tau": 1.0'),
    ],
    "check_saving": [
        IN_ACTOR,
        TWO,
        Fault(
            "another model saved", "model.save(file)", "make_model(DrQv2SACPolicy, 9).save(file)"
        ),
        Fault("nothing learnt", "model.learn(EPISODE + 3)\n    model.save", "model.save"),
    ],
    "bridge": [
        Fault("pixels from 0 to 255", 'tensors["pixels"] /= 255.0', 'tensors["pixels"] /= 1.0'),
        Fault("other features for the actor", FEATURES, f"{FEATURES} * 1.01"),
        Fault("weights of another encoder", "encoder.load_state_dict(weights)", "pass"),
        Fault("black pictures", 'tensors["pixels"] /= 255.0', 'tensors["pixels"] *= 0.0'),
    ],
    "probe": [NO_DETACH, IN_ACTOR, NOT_IN_CRITIC, DEAF],
}


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


def run_only(lab: ModuleType, check: str) -> tuple[Outcome, int]:
    """Run the mode of a check with its other checks emptied; also how many checks it has."""
    flag = next(flag for flag, checks in MODES.items() if check in checks)
    for other in {*MODES[flag]} - {check}:
        setattr(lab, other, lambda seed: iter(()))
    return run_module(lab, flag), len(MODES[flag])


def last_line(outcome: Outcome) -> str:
    return outcome.output.splitlines()[-1]


# What it prints


@pytest.mark.parametrize(
    ("flag", "heading"),
    [("--verify", "Verification"), ("--bridge", "Bridging Proof"), ("--probe", "Probe")],
)
def test_each_mode_passes(lab: ModuleType, flag: str, heading: str) -> None:
    outcome = run_module(lab, flag)
    assert outcome.output.startswith(f"DrQ-v2 SAC Policy -- {heading}\n")
    assert last_line(outcome) == "[ALL PASS] DrQ-v2 SAC policy verified"
    assert outcome.output.count("[PASS] ") == len(MODES[flag])
    assert outcome.exit_code == 0


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    first, again, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "0", "3"))
    assert first.output == again.output
    assert first.output != other.output
    assert other.exit_code == 0


def test_the_probe_shows_whose_optimizer_holds_the_encoder(lab: ModuleType) -> None:
    output = run_module(lab, "--probe").output
    held = re.findall(r"(.+): of (\d+) in the (\w+)'s optimizer: (\d+) ", output)
    counts = {(name, who): (int(count), int(of)) for name, of, who, count in held}
    for sb3 in ("SB3's MultiInputPolicy", "with share_features_extractor"):
        (in_actor, n), (in_critic, _) = counts[sb3, "actor"], counts[sb3, "critic"]
        assert in_actor == n > in_critic == 0
    (in_actor, n), (in_critic, _) = (counts["DrQv2SACPolicy", who] for who in ("actor", "critic"))
    assert in_critic == n > in_actor == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--probe" in outcome.output


@pytest.mark.parametrize(
    "arguments", [("--verify", "--seed", "-1"), ("--probe", "--seed", "a"), ("--probe", "--bridge")]
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


# Who trains what


def test_the_critic_sends_far_more_gradient_into_the_encoder(lab: ModuleType) -> None:
    norms = lab.verify_gradient_flow()  # exercise 5 of the book
    assert norms["critic"] > 1e-6
    assert norms["actor"] == 0
    assert norms == lab.verify_gradient_flow()
    assert norms != lab.verify_gradient_flow(seed=1)


def test_exercise_5_works_from_the_root_of_the_repository() -> None:
    lines = "from scripts.labs.drqv2_sac_policy import verify_gradient_flow as flow; print(flow())"
    root = LABS.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=root, capture_output=True, text=True, check=True
    )
    assert re.match(r"{'critic': [\d.e-]+, 'actor': 0.0}", done.stdout)


@pytest.mark.parametrize("kind", [MultiInputPolicy, None], ids=["SB3's", "ours"])
def test_the_losses_are_those_of_sb3(lab: ModuleType, kind: type[SACPolicy] | None) -> None:
    model = lab.make_model(kind or lab.DrQv2SACPolicy, 0)
    model.ent_coef_optimizer, model.ent_coef_tensor, model.gamma = None, torch.tensor(0.2), 0.95
    model.learn(1)  # makes the logger
    batch = lab.random_batch(model.policy)
    actions, minus_one = batch["actions"], -torch.ones(lab.BATCH, 1)
    samples = DictReplayBufferSamples(
        batch["obs"], actions, batch["next_obs"], 0 * minus_one, minus_one
    )
    noise = torch.full((lab.BATCH, 4), 0.5)
    with (
        patch(NOISE, return_value=noise),
        patch.object(model.replay_buffer, "sample", return_value=samples),
        patch.object(model.critic.optimizer, "step"),
    ):
        ours = [loss.item() for loss in lab.sac_losses(model.policy, batch)]
        model.train(1, lab.BATCH)
    logged = model.logger.name_to_value
    theirs = [logged["train/critic_loss"], logged["train/actor_loss"]]
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_it_takes_any_dict_encoder_and_a_hindsight_buffer_with_shifts(lab: ModuleType) -> None:
    with loaded_lab(LABS / "image_augmentation.py") as augmentation:
        model = SAC(
            lab.DrQv2SACPolicy,  # SB3's CombinedExtractor, as no other is named
            lab.FakePixelPush(),
            replay_buffer_class=augmentation.HerDrQDictReplayBuffer,
            replay_buffer_kwargs={"n_sampled_goal": 4},
            learning_starts=6,
            buffer_size=64,
            batch_size=8,
            device="cpu",
            seed=0,
        )
        before = [weight.clone() for weight in model.actor.features_extractor.parameters()]
        model.learn(8)
    after = model.actor.features_extractor.parameters()
    assert model._n_updates == 2
    assert all(not torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_training_goes_on_after_loading(lab: ModuleType) -> None:
    model, file = lab.make_model(lab.DrQv2SACPolicy, 0), io.BytesIO()
    model.learn(8)
    model.save(file)
    loaded = SAC.load(file, env=lab.FakePixelPush(), device="cpu")
    assert isinstance(loaded.policy, lab.DrQv2SACPolicy)
    saved, restored = (m.critic.optimizer.state_dict()["state"] for m in (model, loaded))
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[k]["exp_avg"], restored[k]["exp_avg"]) for k in saved)
    encoder = loaded.actor.features_extractor
    before = [weight.clone() for weight in encoder.parameters()]
    loaded.learn(8)
    assert any(not torch.equal(*pair) for pair in zip(before, encoder.parameters(), strict=True))


@pytest.mark.parametrize("n_critics", [1, 3])
def test_it_takes_another_number_of_critics(lab: ModuleType, n_critics: int) -> None:
    model = lab.make_model(lab.DrQv2SACPolicy, 0, n_critics=n_critics)
    model.learn(7)
    assert model._n_updates == 2
    assert math.isfinite(lab.verify_gradient_flow(model.policy)["critic"])


def test_the_fake_environment_is_a_sound_one(lab: ModuleType) -> None:
    env: gym.Env[Any, Any] = lab.FakePixelPush()
    check_env(env)
    obs, _ = env.reset(seed=0)
    moved, *_ = env.step(env.action_space.high)
    assert (obs["pixels"] != moved["pixels"]).any()
    assert obs["desired_goal"].tolist() == moved["desired_goal"].tolist()


# How it is written


def test_each_region_holds_what_it_is_named_after() -> None:
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, LAB.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(text.startswith(REGIONS[name]) for name, text, _ in found)


# That its checks can fail


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        pytest.param(check, fault, id=f"{check}: {fault.name}")
        for check, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_a_check_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        outcome, checks = run_only(lab, check)
    assert outcome.exit_code == 1
    assert last_line(outcome) == f"[FAILED] 1 of {checks} checks"
