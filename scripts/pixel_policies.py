"""The pixel policies of chapter 9, made of the labs' classes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robotics_rl.errors import UsageError
from robotics_rl.pixel_options import Pixels

if TYPE_CHECKING:
    from robotics_rl.learners.pixels import Vision

sys.path.append(str(Path(__file__).resolve().parent / "labs"))
NATURE_SIZE = 84  # pixels a side, for which its last layer is made


def make_vision(pixels: Pixels) -> "Vision":
    """What a policy sees with, for settings that are decided."""
    from drqv2_sac_policy import DrQv2SACPolicy
    from image_augmentation import RandomShiftAug
    from stable_baselines3.sac.policies import MultiInputPolicy

    from robotics_rl.learners.pixels import Vision

    return Vision(
        policy=DrQv2SACPolicy if pixels.critic_encoder else MultiInputPolicy,
        policy_kwargs=_extractor(pixels),
        augment=RandomShiftAug() if pixels.drq else None,
    )


def _extractor(pixels: Pixels) -> dict[str, Any]:
    """Class and arguments of what looks at an observation."""
    kwargs: dict[str, Any] = {"vectors": pixels.vectors}
    if pixels.encoder == "nature":
        from nature_extractor import NatureExtractor

        return {"features_extractor_class": NatureExtractor, "features_extractor_kwargs": kwargs}
    from manipulation_encoder import ManipulationExtractor

    kwargs |= {"spatial_softmax": pixels.spatial_softmax, "num_filters": pixels.num_filters}
    return {"features_extractor_class": ManipulationExtractor, "features_extractor_kwargs": kwargs}


def require_possible(pixels: Pixels) -> None:
    """Refuse what no encoder can do.

    Raises:
        UsageError: the flag to change.
    """
    if pixels.encoder == "nature" and pixels.image_size != NATURE_SIZE:
        raise UsageError(
            f"the nature encoder sees {NATURE_SIZE} pixels a side, not {pixels.image_size}; "
            "use --encoder manipulation"
        )
