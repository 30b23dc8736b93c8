"""Recipes: named sets of hyper-parameters, and the order in which values win."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# A recipe is a named set of hyper-parameters that replaces algorithm defaults. Those of `config`
# are the book's, so its recipe replaces what it sets for HER alone; `fast` solves sparse Fetch
# tasks soonest.
RECIPES: dict[str, Mapping[str, Any]] = {
    "fast": {
        "n_envs": 16,
        "learning_rate": 1e-3,
        "gamma": 0.95,
        "tau": 0.01,
        "ent_coef": 0.05,
        "net_arch": (128, 128),
        "learning_starts": 5_000,
        "gradient_steps": 3,
        "policy_delay": 2,
        "trivial_goal_keep": 0.05,
        "normalize_observations": True,
        "random_action_prob": 0.3,
    },
    "book": {},
}
BOOK_HER: Mapping[str, Any] = {"gamma": 0.95, "learning_starts": 1_000}  # the book's chapter 5
# What `fast` changes on one task.
FAST_ON: dict[str, Mapping[str, Any]] = {
    # Solved within 5,000 steps: to wait as long before learning would double its time.
    "FetchReach-v4": {"learning_starts": 1_000},
    # A grasp has to hold, and a policy with less entropy holds it.
    "FetchPickAndPlace-v4": {"ent_coef": 0.01},
}


def layers(
    env_id: str, recipe: str, given: Mapping[str, Any], defaults: Mapping[str, Any], *, her: bool
) -> list[tuple[str, Mapping[str, Any]]]:
    """Where values may come from, besides the dataclasses; later ones win."""
    book = recipe == "book"
    return [
        ("chapter", defaults),
        (f"recipe {recipe}", RECIPES[recipe]),
        ("recipe book with HER", BOOK_HER if book and her else {}),
        (f"recipe fast on {env_id}", {} if book else FAST_ON.get(env_id, {})),
        ("flag", given),
    ]


def origins(
    names: Iterable[str], sources: Sequence[tuple[str, Mapping[str, Any]]]
) -> dict[str, str]:
    """Setting → where its value comes from, e.g. ``recipe fast``.

    Args:
        names: of the settings.
        sources: where values may come from, as ``layers`` lists them.
    """
    found = dict.fromkeys(names, "default")
    for origin, layer in sources:
        found |= {name: origin for name in layer if name in found}
    return found
