"""Learning from pixels: who trains an encoder, what networks are told, and what a step computes."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from building import are_equal
from gymnasium.spaces import Box, Dict
from pixel_policies import make_vision
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from robotics_rl.learners import pixels
from robotics_rl.learners.pixel_sac import PixelSAC
from robotics_rl.pixel_options import Pixels
from robotics_rl.replay.device_frames import DeviceFrames
from robotics_rl.replay.frames import FrameBatch, FrameReplay, FrameStore
from robotics_rl.replay.hindsight import Hindsight
from robotics_rl.replay.memory_plan import FrameShape

BATCH_SIZE, SIZE, GAMMA, ALPHA, TAU = 16, 36, 0.95, 0.2, 0.05
SHAPE = FrameShape(1, 5, (3, SIZE, SIZE), 4, proprioception=10, goal=3, action=4)
# Its own settings:
LEARNER = ("normalize_observations", "device", "policy_delay", "cuda_graphs", "bf16")
VECTORS = ("proprioception", "achieved_goal", "desired_goal")
STEP_2 = {"critic_encoder": True, "drq": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "step 1": {"encoder": "manipulation"},
    "step 2": STEP_2,
    "step 4": {"critic_encoder": True},
    "flattened": {**STEP_2, "spatial_softmax": False},
}


def build(seed: int = 0, **settings: Any) -> Any:
    """A small model with settings of ``Pixels``, all its weights different."""
    more = {name: settings.pop(name) for name in LEARNER if name in settings}
    vision = make_vision(Pixels(num_filters=4, **settings).decided())
    from drqv2_sac_policy import FakePixelPush

    torch.manual_seed(seed)
    model = PixelSAC(
        policy=vision.policy,
        env=DummyVecEnv([FakePixelPush]),
        policy_kwargs={"net_arch": [16, 16], **vision.policy_kwargs},
        replay=SimpleNamespace(store=SimpleNamespace(shape=SHAPE)),  # type: ignore[arg-type]
        augment=vision.augment,
        learning_rate=1e-3,
        gamma=GAMMA,
        tau=TAU,
        ent_coef=ALPHA,
        **{"batch_size": BATCH_SIZE, "device": "cpu", **more},
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # targets apart from what they follow, so that taking one shows
        for part in model.policy.parameters():
            part += 0.05 * torch.randn(part.shape, generator=generator).to(part.device)
    return model


def random_batch(seed: int = 0, n: int = BATCH_SIZE) -> FrameBatch:
    rng = np.random.default_rng(seed)

    def normal(size: int) -> Any:
        return rng.standard_normal((n, size), dtype=np.float32)

    return FrameBatch(
        windows=rng.integers(0, 256, (n, 15, SIZE, SIZE), dtype=np.uint8),
        channels=3,
        proprioception=normal(10),
        next_proprioception=normal(10),
        achieved_goals=normal(3),
        next_achieved_goals=normal(3),
        desired_goals=normal(3),
        actions=rng.uniform(-1, 1, (n, 4)).astype(np.float32),
        rewards=-rng.integers(0, 2, n).astype(np.float32),
    )


def step(model: Any, batch: FrameBatch, seed: int = 3) -> dict[str, float]:
    """One update of ours; what it notes."""
    noted: dict[str, float] = {}
    model.note = lambda name, value: noted.update({name: float(value.detach())})
    torch.manual_seed(seed)
    model.update(model.see(model.views(batch)))
    return noted


# A step in plain words


def plain_step(model: Any, batch: FrameBatch, seed: int = 3) -> dict[str, float]:
    """The same update of a copy of the policy, written out, with optimizers that know no tricks."""
    policy = model.policy
    actor, critic, target = policy.actor, policy.critic, policy.critic_target
    shared = actor.features_extractor is critic.features_extractor
    torch.manual_seed(seed)
    now, after = (torch.from_numpy(np.array(p)) for p in (batch.pixels, batch.next_pixels))
    if model._augment:
        now, after = model._augment(now), model._augment(after)
    seen = [now, batch.proprioception, batch.achieved_goals, batch.desired_goals]
    later = [after, batch.next_proprioception, batch.next_achieved_goals, batch.desired_goals]
    obs, next_obs = (
        dict(zip(("pixels", *VECTORS), map(torch.as_tensor, part), strict=True))
        for part in (seen, later)
    )
    actions, rewards = torch.from_numpy(batch.actions), torch.from_numpy(batch.rewards)

    def act(features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = actor.latent_pi(features)
        log_std = actor.log_std(hidden).clamp(-20, 2)
        pair: tuple[Tensor, Tensor] = actor.action_dist.log_prob_from_params(
            actor.mu(hidden), log_std
        )
        return pair

    def values(network: Any, features: Tensor, taken: Tensor) -> list[Tensor]:
        return [q(torch.cat([features, taken], 1)).squeeze(1) for q in network.q_networks]

    critic_sees = critic.features_extractor(obs)
    actor_sees = critic_sees.detach() if shared else actor.features_extractor(obs)
    chosen, log_prob = act(actor_sees)
    with torch.no_grad():
        next_actions, next_log_prob = act(actor.features_extractor(next_obs))
        best = torch.minimum(*values(target, target.features_extractor(next_obs), next_actions))
        wanted = rewards + GAMMA * (best - ALPHA * next_log_prob)
    critic_loss = 0.5 * sum(mse_loss(q, wanted) for q in values(critic, critic_sees, actions))
    descend(critic_loss, critic.parameters())
    gained = torch.minimum(*values(critic, critic_sees.detach(), chosen))
    actor_loss = (ALPHA * log_prob - gained).mean()
    heads = {*actor.parameters()} - ({*critic.parameters()} if shared else set())
    descend(actor_loss, heads)
    polyak_update(critic.parameters(), target.parameters(), TAU)
    return {"critic_loss": critic_loss.item(), "actor_loss": actor_loss.item()}  # type: ignore[union-attr]


def descend(loss: Any, parameters: Any) -> None:
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, 1e-3)
    optimizer.zero_grad()
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    for part, gradient in zip(parameters, gradients, strict=True):
        part.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_the_one_written_out_plainly(variant: str) -> None:
    ours, plain = (build(**VARIANTS[variant]) for _ in range(2))
    before = copy.deepcopy(ours.policy.state_dict())
    noted, expected = step(ours, random_batch()), plain_step(plain, random_batch())
    for name, value in expected.items():
        assert noted[name] == pytest.approx(value, rel=1e-5, abs=1e-5)
    found = ours.policy.state_dict()
    for name, value in plain.policy.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
        if name.rpartition(".")[2] not in ("x", "y"):  # the grids of a spatial softmax
            assert not torch.equal(value, before[name]), f"{name} was to learn"


def test_noise_matters_to_the_comparison() -> None:
    ours, plain = (build(**STEP_2) for _ in range(2))
    step(ours, random_batch(), seed=4)
    plain_step(plain, random_batch())
    found = ours.policy.state_dict()
    pairs = plain.policy.state_dict().items()
    assert max(float((found[name] - value).abs().max()) for name, value in pairs) > 1e-4


# Who trains the encoder


def moved(model: Any, frozen: str) -> dict[str, bool]:
    """Which parts a step moves while the optimizer of actor or critics does nothing."""
    policy = model.policy
    parts: dict[str, nn.Module] = {
        "actor's encoder": policy.actor.features_extractor,
        "critics' encoder": policy.critic.features_extractor,
        "targets' encoder": policy.critic_target.features_extractor,
        "actor": policy.actor.latent_pi,
        "critics": policy.critic.qf0,
    }
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    with mock.patch.object(getattr(policy, frozen).optimizer, "step"):
        step(model, random_batch())
    return {name: not are_equal(before[name], part.state_dict()) for name, part in parts.items()}


def test_only_the_critics_train_a_shared_encoder() -> None:
    without_critic = moved(build(**STEP_2), "critic")
    assert without_critic.pop("targets' encoder"), "it follows what it was apart from"
    assert without_critic == {
        "actor's encoder": False,
        "critics' encoder": False,
        "actor": True,
        "critics": False,
    }
    assert moved(build(**STEP_2), "actor") == {
        "actor's encoder": True,
        "critics' encoder": True,
        "targets' encoder": True,
        "actor": False,
        "critics": True,
    }


def test_an_actor_with_an_encoder_of_its_own_trains_that_one() -> None:
    found = moved(build(encoder="manipulation"), "critic")
    assert found["actor's encoder"]
    assert not found["critics' encoder"]


def test_each_encoder_looks_once_at_what_it_needs() -> None:
    model = build(**STEP_2)
    looks: list[str] = []
    for name in ("critic", "critic_target"):
        extractor = getattr(model.policy, name).features_extractor
        extractor.register_forward_hook(lambda *_, name=name: looks.append(name))
    step(model, random_batch())
    assert sorted(looks) == ["critic", "critic", "critic_target"]  # before and after the step


def test_the_target_encoder_follows_by_tau() -> None:
    model = build(**STEP_2)
    target = model.critic_target.features_extractor.cnn.maps[0].weight
    before = target.detach().clone()
    step(model, random_batch())
    now = model.critic.features_extractor.cnn.maps[0].weight
    torch.testing.assert_close(target, torch.lerp(before, now, TAU), rtol=0, atol=1e-6)


# What networks are told


def outputs(model: Any, batch: FrameBatch) -> list[Tensor]:
    """All that networks say of a batch."""
    with torch.no_grad():
        seen = model.seen(model.views(batch))
        mean = model.actor.mu(model.actor.latent_pi(seen.inputs))
        return [mean, *model.values(seen), seen.next_inputs, seen.target_inputs]


@pytest.mark.parametrize("variant", ["step 1", "step 4", "flattened"])
@pytest.mark.parametrize("told", ["all", "no-achieved"])
def test_where_the_object_is_changes_an_output_only_where_it_may(variant: str, told: str) -> None:
    model, batch = build(**VARIANTS[variant], policy_inputs=told), random_batch()
    elsewhere = FrameBatch(
        **{
            **vars(batch),
            "achieved_goals": batch.achieved_goals + 1,
            "next_achieved_goals": batch.next_achieved_goals - 1,
        }
    )
    pairs = zip(outputs(model, batch), outputs(model, elsewhere), strict=True)
    same = [torch.equal(one, other) for one, other in pairs]
    assert same == [told == "no-achieved"] * len(same)
    observation = model.env.reset()
    other = {**observation, "achieved_goal": observation["achieved_goal"] + 1}
    chosen = [model.policy.predict(seen, deterministic=True)[0] for seen in (observation, other)]
    assert np.array_equal(*chosen) == (told == "no-achieved")


@pytest.mark.parametrize("told", ["all", "no-achieved"])
def test_the_book_s_first_encoder_is_told_where_the_object_is_only_if_it_may(told: str) -> None:
    vision = make_vision(Pixels(encoder="nature", policy_inputs=told).decided())
    vectors = {name: Box(-1, 1, (size,)) for name, size in zip(VECTORS, (10, 3, 3), strict=True)}
    space = Dict({"pixels": Box(0, 255, (12, 84, 84), np.uint8), **vectors}, seed=0)
    torch.manual_seed(0)
    policy: Any = vision.policy(
        space, Box(-1, 1, (4,)), lambda _: 0.0, net_arch=[16], **vision.policy_kwargs
    )
    observation = space.sample()

    def says(offset: float) -> list[Tensor]:
        moved = {**observation, "achieved_goal": observation["achieved_goal"] + offset}
        seen, _ = policy.obs_to_tensor(moved)
        return [policy.actor(seen, deterministic=True), *policy.critic(seen, torch.zeros(1, 4))]

    with torch.no_grad():
        same = [torch.equal(*pair) for pair in zip(says(0.0), says(1.0), strict=True)]
    assert same == [told == "no-achieved"] * 3


def test_a_shift_is_the_same_for_a_stack_and_none_for_goals() -> None:
    model, batch = build(critic_encoder=True), random_batch()
    batch.windows[:] = batch.windows[:, :1]  # all frames alike
    shown: list[dict[str, Tensor]] = []
    model.critic.features_extractor.register_forward_pre_hook(
        lambda _, arguments: shown.append(arguments[0])
    )
    model.seen(model.views(batch), model._augment)
    now, after = shown
    for seen in (now, after):
        pixels = seen["pixels"]
        assert torch.equal(pixels, pixels[:, :1].expand_as(pixels)), "frames of a stack part"
        assert not torch.equal(pixels, torch.from_numpy(batch.windows[:, :12]))
    assert not torch.equal(now["pixels"], after["pixels"]), "stacks are shifted apart"
    assert torch.equal(now["desired_goal"], torch.from_numpy(batch.desired_goals))
    assert torch.equal(after["achieved_goal"], torch.from_numpy(batch.next_achieved_goals))


def test_without_drq_pictures_stay_as_they_are() -> None:
    assert build(**STEP_2)._augment is None


# Vectors that are scaled


def test_scaled_vectors_are_folded_into_the_policy() -> None:
    model = build(**STEP_2, policy_inputs="no-achieved", normalize_observations=True)
    rng = np.random.default_rng(0)
    model.normalizer.update((3 + 0.2 * rng.standard_normal((100, 16))).astype(np.float32))
    plain = copy.deepcopy(model.policy)
    model.fold_into(plain)
    observation = model.env.reset()
    with torch.no_grad():
        features = model.look(observation)
        expected = torch.tanh(model.actor.mu(model.actor.latent_pi(features))).numpy()
    np.testing.assert_allclose(
        plain.predict(observation, deterministic=True)[0], expected, atol=1e-4
    )
    raw, _ = model.policy.predict(observation, deterministic=True)
    assert np.abs(raw - expected).max() > 1e-3, "scaling was to matter"


# Precision


@pytest.mark.parametrize("has_units", [False, True])
def test_networks_learn_in_bfloat16_where_there_are_units_for_it(
    has_units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "multiplies_bf16", lambda _: has_units)
    precisions = ("auto", "fp32", "bf16")
    decided = [pixels.computes_bf16(Pixels(precision=one), "cpu") for one in precisions]
    assert decided == [has_units, False, True]


def test_what_encoders_say_in_bfloat16_keeps_its_digits() -> None:
    model, batch = build(**STEP_2, bf16=True), random_batch()
    views = model.views(batch)
    exact, rounded = model.seen(views), model.see(views)
    assert rounded.critic_inputs.dtype == torch.float32
    places = slice(0, 2 * 4)  # x and y of four channels, then vectors
    off = (rounded.critic_inputs - exact.critic_inputs).abs()
    assert 0 < off[:, places].max() < 2e-3
    assert not off[:, places.stop :].any()
    rounds: list[bool] = []  # what follows the encoders
    model.update = lambda _: rounds.append(torch.is_autocast_enabled("cpu"))
    model.step(views)
    assert rounds == [False]


# Frames on a device


def test_frames_drawn_on_a_device_are_those_of_the_store() -> None:
    rng = np.random.default_rng(0)

    def shown() -> dict[str, Any]:
        pixels = rng.integers(0, 256, (1, 12, SIZE, SIZE), dtype=np.uint8)
        vectors = {"proprioception": 10, "achieved_goal": 3, "desired_goal": 3}
        return {"pixels": pixels, **{n: rng.standard_normal((1, k)) for n, k in vectors.items()}}

    replays = []
    for _ in range(2):
        drawing = (lambda a, b, _: -np.ones(len(a)), 0.05, np.random.default_rng(1), Hindsight())
        replays.append(FrameReplay(FrameStore(40, SHAPE), *drawing))
    followed, plain = replays
    DeviceFrames(followed, torch.device("cpu"))
    now = shown()
    for number in range(60):  # more than the store keeps
        after, actions, done = shown(), rng.uniform(-1, 1, (1, 4)), np.array([number % 5 == 4])
        for replay in replays:
            replay.store.add(now, actions, -np.ones(1), done, after)
        now = shown() if done[0] else after
    batches = [replay.sample(200) for replay in (followed, plain)]
    assert isinstance(batches[0].windows, Tensor)
    assert np.array_equal(batches[0].windows.numpy(), batches[1].windows)
    assert np.array_equal(batches[0].actions, batches[1].actions)
