"""A SAC policy whose encoder learns from the critic alone (book chapter 9, as in DrQ-v2).

`SAC(DrQv2SACPolicy, env)` for Stable-Baselines3 (SB3). `--verify` checks who trains the encoder,
`--bridge` compares features with SB3's, `--probe` puts SB3's own policies beside ours.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from stable_baselines3 import SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import Actor, MultiInputPolicy, SACPolicy
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import parameters_to_vector as flat

Bound = tuple[float, float]  # the least and the most
Claims = Iterator[tuple[str, float, Bound]]  # what was measured, the value, its bound
Batch = dict[str, Any]

IMAGE, EPISODE, BATCH = (12, 36, 36), 5, 4  # four stacked frames; steps; transitions
NONE, SOME = (0.0, 0.0), (1e-9, math.inf)  # bounds of what must not be there, or must
TAU = 0.005  # SB3's default


# --8<-- [start:critic_encoder_critic]
class CriticEncoderCritic(ContinuousCritic):
    """Two Q-values and the encoder, which the temporal-difference error trains."""

    def forward(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """obs: dict of (B, ...), actions: (B, act_dim) -> per Q-network (B, 1)."""
        # Only actions of the actor's loss carry gradients. It asks which action is worth more in
        # this picture, so that its gradient may go through the actions, not into the encoder.
        learns = torch.is_grad_enabled() and not actions.requires_grad
        with torch.set_grad_enabled(learns):
            features = self.extract_features(obs, self.features_extractor)  # (B, features_dim)
        pairs = torch.cat([features, actions], dim=1)
        return tuple(q_network(pairs) for q_network in self.q_networks)


# --8<-- [end:critic_encoder_critic]
# --8<-- [start:critic_encoder_actor]
class CriticEncoderActor(Actor):
    """A policy that looks through the critic's encoder and leaves it as it is."""

    def extract_features(
        self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor
    ) -> Tensor:
        """obs: dict of (B, ...) -> (B, features_dim), detached."""
        with torch.no_grad():  # detached, and without the memory that a backward pass would need
            return super().extract_features(obs, features_extractor)


# --8<-- [end:critic_encoder_actor]
# --8<-- [start:drqv2_sac_policy]
class DrQv2SACPolicy(MultiInputPolicy):
    """SB3's SACPolicy for dict observations with DrQ-v2's routing of gradients.

    Actor and critic share one encoder. It is in the critic's optimizer and in no other; the target
    critic has a copy of its own, which follows by Polyak averaging. (Yarats et al. 2021)
    """

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """An actor that does not train its encoder."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return CriticEncoderActor(**kwargs).to(self.device)

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> ContinuousCritic:
        """A critic that trains its encoder; without one given, it gets a new one."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return CriticEncoderCritic(**kwargs).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        encoder = self.make_features_extractor()
        self.actor, self.critic = self.make_actor(encoder), self.make_critic(encoder)
        self.critic_target = self.make_critic()
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.set_training_mode(False)

        new: Any = self.optimizer_class  # mypy knows no `lr` of a mere Optimizer
        shared = set(encoder.parameters())  # tensors are equal here if they are the same object
        head = [weight for weight in self.actor.parameters() if weight not in shared]
        self.actor.optimizer = new(head, lr=lr_schedule(1), **self.optimizer_kwargs)
        weights = self.critic.parameters()
        self.critic.optimizer = new(weights, lr=lr_schedule(1), **self.optimizer_kwargs)


# --8<-- [end:drqv2_sac_policy]
class FakePixelPush(gym.Env[dict[str, Any], Any]):
    """A block in a picture, without a simulator: it goes where the action says."""

    def __init__(self) -> None:
        vectors = {"proprioception": 10, "achieved_goal": 3, "desired_goal": 3}
        box: dict[str, Any] = {key: Box(-5.0, 5.0, (n,), np.float32) for key, n in vectors.items()}
        self.observation_space = Dict({"pixels": Box(0, 255, IMAGE, np.uint8), **box})
        self.action_space = Box(-1.0, 1.0, (4,), np.float32)

    def look(self) -> dict[str, Any]:
        """Observations as those of the pixel wrapper, only smaller."""
        pixels = np.full(IMAGE, 60, np.uint8)
        down, right = (16 + 14 * self.block[:2]).astype(int)
        pixels[:, down : down + 4, right : right + 4] = 255
        seen = {"pixels": pixels, "proprioception": np.full(10, self.steps / 5, np.float32)}
        return seen | {"achieved_goal": self.block.copy(), "desired_goal": self.goal}

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Block and goal somewhere."""
        super().reset(seed=seed)
        self.steps = 0
        self.block, self.goal = self.np_random.uniform(-1, 1, (2, 3)).astype(np.float32)
        return self.look(), {}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        """Goals (..., 3) -> rewards (...): 0 where they are near, else -1."""
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.5).astype(np.float32)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move the block; an episode is truncated after five steps."""
        self.block, self.steps = np.clip(self.block + 0.2 * action[:3], -1, 1), self.steps + 1
        reward = float(self.compute_reward(self.block, self.goal, {}))
        return self.look(), reward, False, self.steps == EPISODE, {}


def make_model(kind: type[SACPolicy], seed: int, **policy_kwargs: Any) -> SAC:
    """SB3's SAC on the fake environment, with the manipulation encoder."""
    from manipulation_encoder import ManipulationExtractor

    small = {"features_extractor_class": ManipulationExtractor, "net_arch": [32, 32]}
    settings = {"learning_starts": EPISODE, "batch_size": BATCH, "buffer_size": 64}
    kwargs: Any = settings | {"policy_kwargs": small | policy_kwargs, "seed": seed, "tau": TAU}
    return SAC(kind, FakePixelPush(), learning_rate=1e-3, device="cpu", **kwargs)


def encoder_of(network: Any) -> nn.Module:
    """The encoder that an actor or a critic looks through."""
    encoder = network.features_extractor
    assert isinstance(encoder, nn.Module)
    return encoder


def held(optimizer: torch.optim.Optimizer, network: nn.Module) -> int:
    """How many of the network's parameters the optimizer moves."""
    moved = {weight for group in optimizer.param_groups for weight in group["params"]}
    return sum(weight in moved for weight in network.parameters())


def observations(space: Any, n: int) -> dict[str, Any]:
    """Noise from an observation space, as arrays (n, ...)."""
    samples = [space.sample() for _ in range(n)]
    return {key: np.stack([sample[key] for sample in samples]) for key in space}


def random_batch(policy: SACPolicy) -> Batch:
    """Made-up transitions: obs, next_obs as dicts of tensors, actions (B, act_dim)."""
    assert policy.action_space.shape is not None
    space, actions = policy.observation_space, torch.rand(BATCH, *policy.action_space.shape)
    obs, next_obs = (policy.obs_to_tensor(observations(space, BATCH))[0] for _ in range(2))
    return {"obs": obs, "next_obs": next_obs, "actions": (2 * actions - 1).to(policy.device)}


# --8<-- [start:verify_gradient_flow]
def sac_losses(policy: SACPolicy, batch: Batch, alpha: float = 0.2) -> Iterator[Tensor]:
    """The critic's loss, then the actor's, as SB3's SAC has them; reward -1, gamma 0.95."""
    with torch.no_grad():
        next_actions, log_prob = policy.actor.action_log_prob(batch["next_obs"])
        next_q = torch.cat(policy.critic_target(batch["next_obs"], next_actions), 1).amin(1)
        target = (-1 + 0.95 * (next_q - alpha * log_prob)).unsqueeze(1)  # (B, 1)
    values = policy.critic(batch["obs"], batch["actions"])  # two of them, each (B, 1)
    yield 0.5 * torch.stack([mse_loss(q, target) for q in values]).sum()
    actions, log_prob = policy.actor.action_log_prob(batch["obs"])
    yield (alpha * log_prob - torch.cat(policy.critic(batch["obs"], actions), 1).amin(1)).mean()


def verify_gradient_flow(policy: SACPolicy | None = None, seed: int = 0) -> dict[str, float]:
    """L2 norms of the gradients by critic and actor in the encoder that the actor looks through.

    Give it the policy of an SB3 model, `model.policy`. Without one, it takes a new DrQv2SACPolicy.
    """
    torch.manual_seed(seed)
    if policy is None:
        env: Any = FakePixelPush()
        policy = DrQv2SACPolicy(env.observation_space, env.action_space, lambda progress: 1e-3)
    policy.observation_space.seed(seed)
    losses, norms = sac_losses(policy, random_batch(policy)), {}
    for name, loss in zip(("critic", "actor"), losses, strict=True):
        policy.zero_grad()
        loss.backward()
        weights = encoder_of(policy.actor).parameters()
        norms[name] = math.hypot(*(w.grad.norm().item() for w in weights if w.grad is not None))
    policy.zero_grad()
    return norms


# --8<-- [end:verify_gradient_flow]
def check_membership(seed: int) -> Claims:
    """One encoder, in the critic's optimizer only; the target critic has a copy of its own."""
    policy: Any = make_model(DrQv2SACPolicy, seed).policy
    actor, critic, target = policy.actor, policy.critic, policy.critic_target
    encoder, copied = encoder_of(actor), encoder_of(target)
    n, rest, every = (len([*net.parameters()]) for net in (encoder, actor, critic))
    yield "same encoder object in actor and critic", encoder is encoder_of(critic), (1, 1)
    yield "encoder parameters in the actor's optimizer", held(actor.optimizer, encoder), NONE
    yield f"in the critic's, of {n}", held(critic.optimizer, encoder), (n, n)
    yield "other parameters in the actor's", held(actor.optimizer, actor), (rest - n, rest - n)
    yield "all of the critic in the critic's", held(critic.optimizer, critic), (every, every)
    shared = sum(weight in {*copied.parameters()} for weight in critic.parameters())
    yield "parameters that the target critic shares", shared, NONE
    apart = (flat(target.parameters()) - flat(critic.parameters())).abs().max().item()
    yield "largest difference of target and critic at the start", apart, NONE


def check_gradients(seed: int) -> Claims:
    """Gradients: the critic's loss reaches every encoder parameter, the actor's reaches none."""
    policy: Any = make_model(DrQv2SACPolicy, seed).policy
    norms, batch = verify_gradient_flow(policy, seed), random_batch(policy)
    yield "encoder gradient, L2 norm, from the critic's loss", norms["critic"], SOME
    yield "from the actor's loss", norms["actor"], NONE
    parts = {"encoder": encoder_of(policy.actor), "heads of the actor": policy.actor.mu}
    counts = []
    for loss in sac_losses(policy, batch):
        policy.zero_grad()
        loss.backward()
        counts.append(
            {k: sum(w.grad is not None for w in p.parameters()) for k, p in parts.items()}
        )
    n = len([*encoder_of(policy.actor).parameters()])
    yield f"of {n}, those with a gradient from the critic's loss", counts[0]["encoder"], (n, n)
    yield "from the actor's", counts[1]["encoder"], NONE
    yield "heads with one from the actor's, of 2", counts[1]["heads of the actor"], (2, 2)
    graphs: list[bool] = []  # SB3's own critic builds one for the target, only to throw it away
    target = encoder_of(policy.critic_target)
    target.register_forward_hook(lambda *call: graphs.append(call[2].requires_grad))
    with torch.no_grad():
        policy.critic_target(batch["obs"], batch["actions"])
    yield "target features that keep a graph", graphs[0], NONE


def movements(model: SAC, frozen: Any) -> dict[str, float]:
    """How far one real update moves each part while one optimizer is frozen."""
    policy: Any = model.policy
    parts = {"encoder": encoder_of(policy.critic), "actor": policy.actor.latent_pi}
    parts |= {"target encoder": encoder_of(policy.critic_target)}
    before = {name: flat(part.parameters()).detach().clone() for name, part in parts.items()}
    with patch.object(frozen, "step"):
        model.train(gradient_steps=1, batch_size=BATCH)
    after = {name: flat(part.parameters()).detach() for name, part in parts.items()}
    followed = torch.lerp(before["target encoder"], after["encoder"], TAU)
    off = {"off tau": (after["target encoder"] - followed).abs().max().item()}
    return off | {name: (after[name] - before[name]).abs().max().item() for name in parts}


def check_training(seed: int) -> Claims:
    """Training by SB3: the encoder moves, through the critic only, and its copy follows by tau."""
    model = make_model(DrQv2SACPolicy, seed)
    start = flat(encoder_of(model.critic).parameters()).detach().clone()
    model.learn(EPISODE + 3)
    moved = (flat(encoder_of(model.critic).parameters()) - start).abs().max().item()
    yield "gradient steps", model._n_updates, (3, 3)
    yield "largest change of an encoder weight", moved, SOME
    found = movements(model, model.critic.optimizer)
    yield "critic frozen: change of the encoder", found["encoder"], NONE
    yield "critic frozen: change of the actor", found["actor"], SOME
    found = movements(model, model.actor.optimizer)
    yield "actor frozen: change of the encoder", found["encoder"], SOME
    yield "actor frozen: change of the actor", found["actor"], NONE
    yield "change of the target encoder", found["target encoder"], SOME
    yield f"off 0.995 old + {TAU} new by", found["off tau"], (0, 1e-7)


def check_saving(seed: int) -> Claims:
    """Saved and loaded: the same actions, the same routing."""
    model, file = make_model(DrQv2SACPolicy, seed), io.BytesIO()
    model.learn(EPISODE + 3)
    model.save(file)
    loaded = SAC.load(file, device="cpu")
    model.observation_space.seed(seed)
    obs = observations(model.observation_space, 8)
    others = (loaded, make_model(DrQv2SACPolicy, seed))
    here, there, untrained = (m.predict(obs, deterministic=True)[0] for m in (model, *others))
    yield "largest difference of actions after loading", np.abs(here - there).max(), (0, 1e-5)
    yield "to those of an untrained policy", np.abs(here - untrained).max(), (1e-4, 2)
    encoder = encoder_of(loaded.actor)
    yield "same encoder object in actor and critic", encoder is encoder_of(loaded.critic), (1, 1)
    inside = held(loaded.actor.optimizer, encoder)
    yield "encoder parameters in the actor's optimizer", inside, NONE


def bridge(seed: int) -> Claims:
    """Our extractor's features are those that SB3's policies compute."""
    model, sb3 = (make_model(kind, seed) for kind in (DrQv2SACPolicy, MultiInputPolicy))
    weights = encoder_of(model.critic).state_dict()
    extractor: Any = type(encoder_of(model.critic))(model.observation_space)
    for encoder in (extractor, encoder_of(sb3.actor)):
        encoder.load_state_dict(weights)
    model.observation_space.seed(seed)
    obs = observations(model.observation_space, 8)
    tensors = {key: torch.as_tensor(value).float() for key, value in obs.items()}
    tensors["pixels"] /= 255.0
    with torch.no_grad():
        ours, black = extractor(tensors), extractor(tensors | {"pixels": 0 * tensors["pixels"]})
        theirs = model.policy.obs_to_tensor(obs)[0]
        networks: dict[str, Any] = {"our actor's": model.actor, "our critic's": model.critic}
        networks |= {"our target critic's": model.critic_target, "SB3's own actor's": sb3.actor}
        for name, network in networks.items():
            features = network.extract_features(theirs, network.features_extractor)
            yield f"max_diff, {name}", (ours - features).abs().max().item(), (0, 1e-6)
        actions = torch.tanh(model.actor.mu(model.actor.latent_pi(ours))).numpy()
    chosen, _ = model.predict(obs, deterministic=True)
    yield "max_diff, actions from our features", np.abs(actions - chosen).max(), (0, 1e-6)
    yield "features, pixels included", ours.shape[1], (80, 80)
    yield "difference that black pictures make", (ours - black).abs().max().item(), (1e-4, 2)


def probe(seed: int) -> Claims:
    """The encoder that actions are chosen with: SB3 trains it by the actor, we by the critic."""
    print("SB3's default critic has a second encoder, which no action is ever chosen with.")
    sharing = {"share_features_extractor": True}
    policies: list[tuple[str, type[SACPolicy], dict[str, Any]]] = [
        ("SB3's MultiInputPolicy", MultiInputPolicy, {}),
        ("with share_features_extractor", MultiInputPolicy, sharing),
        ("DrQv2SACPolicy", DrQv2SACPolicy, {}),
    ]
    for name, kind, kwargs in policies:
        model = make_model(kind, seed, **kwargs)
        encoder, norms = encoder_of(model.actor), verify_gradient_flow(model.policy, seed)
        n = len([*encoder.parameters()])
        held_bounds, norm_bounds = ((n, n), NONE), (SOME, NONE)  # of the one who trains, and not
        for who in ("actor", "critic"):
            other = (who == "critic") != (kind is DrQv2SACPolicy)
            inside = held(getattr(model, who).optimizer, encoder)
            yield f"{name}: of {n} in the {who}'s optimizer", inside, held_bounds[other]
            yield f"{name}: gradient by the {who}'s loss", norms[who], norm_bounds[other]


def run(heading: str, checks: Sequence[Callable[[int], Claims]], seed: int) -> int:
    """Print what each check measured, the bound it was held to and its verdict; the exit code."""
    print(f"DrQ-v2 SAC Policy -- {heading}")
    failed = 0
    for check in checks:
        passed = True
        for name, value, (least, most) in check(seed):
            bound = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            print(f"{name}: {value:.4g} (bound: {bound})")
            passed = passed and bool(least <= value <= most)
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        failed += not passed
    good = "[ALL PASS] DrQ-v2 SAC policy verified"
    print(f"[FAILED] {failed} of {len(checks)} checks" if failed else good)
    return min(failed, 1)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check who trains the encoder")
    mode.add_argument("--bridge", action="store_true", help="compare features with SB3's")
    mode.add_argument("--probe", action="store_true", help="put SB3's policies beside ours")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if args.verify:
        checks = (check_membership, check_gradients, check_training, check_saving)
        return run("Verification", checks, args.seed)
    if args.bridge:
        return run("Bridging Proof", [bridge], args.seed)
    if args.probe:
        return run("Probe", [probe], args.seed)
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
