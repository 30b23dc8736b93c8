"""The settings of policies that see pictures."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robotics_rl.options import file_path, not_negative, one_of, option, positive


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a policy sees, and how it looks at it; the book's settings."""

    encoder: str = option(
        "auto",
        "what looks at pictures: nature, manipulation, or auto "
        "(manipulation with --critic-encoder, else nature)",
        one_of("auto", "nature", "manipulation"),
    )
    critic_encoder: bool = option(
        False, "one encoder for actor and critics, trained by the critics alone"
    )
    drq: bool | None = option(
        None, "learn from pictures that are shifted a little (default: with --critic-encoder)"
    )
    spatial_softmax: bool = option(True, "say where things are; else flatten the maps")
    proprio: bool | None = option(
        None, "let networks feel the robot (default: with the manipulation encoder)"
    )
    policy_inputs: str = option(
        "all",
        "what networks are told: all, or no-achieved (where the object is must be seen)",
        one_of("all", "no-achieved"),
    )
    num_filters: int = option(32, "channels of the manipulation encoder's maps", positive)
    frame_stack: int = option(4, "newest pictures that are seen at once", positive)
    image_size: int = option(84, "pixels a side", positive)
    native_render: bool = option(True, "draw at this size; else large, and make it smaller")
    camera: str = option("default", "where from: default, or close", one_of("default", "close"))
    msaa: int = option(0, "samples per pixel against jagged edges: 0 or 4", one_of(0, 4))
    hide_goal_marker: bool = option(True, "leave the goal out of pictures; hindsight changes it")
    precision: str = option(
        "auto",
        "of encoders while they learn: fp32, bf16, or auto (bf16 where there are units for it)",
        one_of("auto", "fp32", "bf16"),
    )
    cuda_graphs: bool = option(False, "record gradient steps and replay them; needs an NVIDIA GPU")
    buffer_file: str | None = option(
        None, "keep the replay in this file, which a resumed run finds again", file_path
    )

    def decided(self) -> "Pixels":
        """The same with every choice made that was left open."""
        encoder = self.encoder
        if encoder == "auto":
            encoder = "manipulation" if self.critic_encoder else "nature"
        return dataclasses.replace(
            self,
            encoder=encoder,
            drq=self.critic_encoder if self.drq is None else self.drq,
            proprio=encoder == "manipulation" if self.proprio is None else self.proprio,
        )

    @property
    def run_name(self) -> str:
        """The RUN of every path, of settings that are decided."""
        manipulation = self.encoder == "manipulation"
        parts = {
            "_noDrQ": manipulation and not self.drq,
            "_DrQ": self.drq and not manipulation,
            "_criticEnc": self.critic_encoder,
            "_noSS": manipulation and not self.spatial_softmax,
            "_noProprio": manipulation and not self.proprio,
            "_proprio": self.proprio and not manipulation,
        }
        name = "ch09_manip" if manipulation else "ch09_nature"
        return name + "".join(part for part, said in parts.items() if said)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Entries of an observation that networks see beside pictures; of decided settings."""
        shown = {
            "proprioception": self.proprio,
            "achieved_goal": self.policy_inputs == "all",
            "desired_goal": True,
        }
        return tuple(name for name, is_shown in shown.items() if is_shown)


def were_of_pictures(hyperparameters: Mapping[str, Any]) -> bool:
    """Whether a policy with these hyper-parameters was trained on pictures."""
    return "policy_inputs" in hyperparameters


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How a policy that sees is taught by one that knows."""

    teacher: str = option(
        "checkpoints/fastpath/sac_her_FetchPush-v4_seed0.zip",
        "checkpoint of a policy that is told where the object is",
        file_path,
    )
    place_weight: float = option(
        1.0,
        "weight of telling where the object is, beside doing what the teacher would",
        not_negative,
    )
    teacher_sha256: str = option("", "of the teacher's file")
