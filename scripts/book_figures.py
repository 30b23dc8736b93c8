"""What the book prints of its results, quoted: all that scripts compute with or put in tables."""

from collections.abc import Mapping
from dataclasses import dataclass

Bounds = tuple[tuple[str, str, float], ...]  # metric, relation, number
Range = tuple[float, float]


@dataclass(frozen=True)
class Quote:
    """A result as the book has it."""

    what: str
    setting: str
    figures: str
    cost: str = ""  # time or speed, and of what machine

    @property
    def text(self) -> str:
        """Figures and setting in a line."""
        return f"{self.figures} ({self.setting})"

    @property
    def whole(self) -> str:
        """Figures and cost in a line."""
        return "; ".join(filter(None, (self.figures, self.cost)))


@dataclass(frozen=True)
class Found:
    """What was measured, with its file, and why that is not what the book says."""

    measured: str
    why: str = ""


# What more than one place computes with. Metrics have our names.
RANDOM: Mapping[str, Range] = {
    "success_rate": (0.0, 0.1),
    "return_mean": (-25, -10),
    "ep_len_mean": (50, 50),
    "final_distance_mean": (0.05, 0.15),
}
FAST_PATHS: Mapping[str, Bounds] = {
    "ppo": (
        ("success_rate", ">=", 0.90),
        ("return_mean", ">", -10.0),
        ("final_distance_mean", "<", 0.02),
    ),
    "sac": (
        ("success_rate", ">=", 0.95),
        ("return_mean", ">", -5.0),
        ("final_distance_mean", "<", 0.03),
    ),
    "push": (
        ("success_rate", ">=", 0.90),
        ("return_mean", ">", -20.0),
        ("final_distance_mean", "<", 0.05),
    ),
}
DENSE_REACH: Mapping[str, Mapping[str, str]] = {
    "ppo": {
        "success_rate": "1.00 ± 0.00",
        "return_mean": "-0.40 ± 0.05",
        "final_distance_mean": "0.005 ± 0.001",
        "action_smoothness_mean": "1.40 (seed 0)",
    },
    "sac": {
        "success_rate": "1.00 ± 0.00",
        "return_mean": "-0.93 ± 0.13",
        "final_distance_mean": "0.016 ± 0.003",
        "action_smoothness_mean": "1.68 (seed 0)",
    },
}
ALPHA = {30_000: "0.47", 1_000_000: "0.0004"}  # of SAC on dense Reach, by environment steps
SIGNS = {"approx_kl": "below 0.03", "clip_fraction": "0.1 to 0.3"}  # of PPO that learns well
MILESTONES: Mapping[int, Range] = {  # success of PPO on dense Reach by environment steps
    50_000: (0.05, 0.10),
    100_000: (0.30, 0.50),
    200_000: (0.70, 0.90),
    500_000: (0.95, 1.00),
}
PUSH_MILESTONE = "success of 5 to 40 % after 500k steps"
SPARSE_STEPS = {"FetchReach-v4": 1_000_000, "FetchPush-v4": 2_000_000}
HER_ON_REACH = {"success_rate": "1.00 ± 0.00", "return_mean": "-1.68 ± 0.02"}
SWEEP_STEPS = 2_000_000
SWEEP: Mapping[str, Mapping[float, float]] = {  # mean success by level of each factor
    "gamma": {0.95: 0.915, 0.98: 0.805},
    "ent_coef": {0.05: 0.934, 0.1: 0.909, 0.2: 0.739},
    "n_sampled_goal": {4: 0.854, 8: 0.867},
    "learning_starts": {1000: 0.852, 5000: 0.869},
}
SWEEP_BEST = {"ent_coef": 0.05, "n_sampled_goal": 4, "learning_starts": 1000, "gamma": 0.95}
SWEEP_WORST = {**SWEEP_BEST, "ent_coef": 0.2, "gamma": 0.98}

# What stands in no table of results.
PROOF_OF_LIFE = "about 5 minutes with a GPU, about 10 without"
THRESHOLDS = "about 0 at 0.01 m, 0 to 0.05 at 0.05 m, 0.05 to 0.15 at 0.20 m"
PPO_LAB_ON_REACH = "success of 50 to 80 % at 500k steps"
DDPG_NOTEBOOK = "published notebook: success of 12 % after 150 episodes"
PIXELS_FAST_PATH = "none: 40 h on a GPU"


def of_levels(parameters: Mapping[str, float]) -> str:
    """A setting of the sweep, in the order in which the book names its factors."""
    return ", ".join(f"{name} {parameters[name]}" for name in SWEEP_BEST)


def _bounds(name: str) -> str:
    """The book's criteria of a fast path."""
    words = {
        "success_rate": "success ≥ {:.2f}",
        "return_mean": "return > {:g}",
        "final_distance_mean": "distance < {:g} m",
    }
    return ", ".join(words[metric].format(bound) for metric, _, bound in FAST_PATHS[name])


def _over_seeds(name: str) -> str:
    form = "success {success_rate}, return {return_mean}, distance {final_distance_mean} m"
    return form.format(**DENSE_REACH[name])


def _span(low_high: Range) -> str:
    low, high = low_high
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _levels(factor: str) -> str:
    means = ", ".join(f"{level:g}: {100 * mean:.1f} %" for level, mean in SWEEP[factor].items())
    return f"{factor} {means}"


_SMOOTHNESS = [DENSE_REACH[name]["action_smoothness_mean"].split()[0] for name in ("sac", "ppo")]
RESULTS: Mapping[str, Quote] = {
    "random": Quote(
        "Random policy on FetchReachDense-v4",
        "10 episodes",
        f"success {_span(RANDOM['success_rate'])}, return {_span(RANDOM['return_mean'])}, "
        f"{_span(RANDOM['ep_len_mean'])} steps, final distance "
        f"{_span(RANDOM['final_distance_mean'])} m",
    ),
    "ppo": Quote(
        "PPO on FetchReachDense-v4",
        "3 seeds × 1M steps",
        _over_seeds("ppo"),
        "about 1,300 steps/s on an NVIDIA GB10",
    ),
    "ppo_fast_path": Quote(
        "PPO's fast path", "500k steps", _bounds("ppo"), "5 min on a GPU, 30 on a CPU"
    ),
    "ppo_milestones": Quote(
        "PPO's milestones",
        "success in training",
        ", ".join(
            f"{100 * low:.0f} to {100 * high:.0f} % to {steps:,} steps"
            for steps, (low, high) in MILESTONES.items()
        ),
    ),
    "sac": Quote(
        "SAC on FetchReachDense-v4",
        "3 seeds × 1M steps",
        _over_seeds("sac"),
        "about 594 steps/s",
    ),
    "sac_fast_path": Quote(
        "SAC's fast path", "500k steps", _bounds("sac"), "14 min on a GPU, 60 on a CPU"
    ),
    "sac_beside_ppo": Quote(
        "SAC beside PPO",
        "seed 0",
        f"action smoothness {' beside '.join(_SMOOTHNESS)}; α "
        + ", ".join(f"{alpha} at {steps:,} steps" for steps, alpha in ALPHA.items()),
    ),
    "FetchReach-v4": Quote(
        "Sparse FetchReach-v4",
        "1M steps, 3 seeds",
        "HER {success_rate}, return {return_mean}, 17.0 mm ± 6; ".format(**HER_ON_REACH)
        + "no HER 0.96 ± 0.07, return -2.92 ± 2.04, 19.5 mm ± 8",
    ),
    "FetchPush-v4": Quote(
        "Sparse FetchPush-v4",
        "2M steps, 3 seeds, α 0.05, γ 0.95",
        "HER 0.99 ± 0.01, return -13.20 ± 1.48, 25.7 mm ± 1; "
        "no HER 0.05 ± 0.00, return -47.50, 184.5 mm",
    ),
    "push_fast_path": Quote(
        "FetchPush-v4's fast path",
        "500k steps",
        _bounds("push"),
        "14 min on a GPU, 60 on a CPU",
    ),
    "push_auto": Quote(
        "FetchPush-v4 with HER, α learned",
        "2M steps, 8 relabelled goals",
        "success 25 %: α collapses to about 0.005",
    ),
    "sweep": Quote(
        "Sweep on FetchPush-v4",
        "24 settings × 5 seeds × 2M steps",
        f"best {of_levels(SWEEP_BEST)}: 99.4 % ± 0.9; worst {of_levels(SWEEP_WORST)}: "
        f"64.0 % ± 20.3; means over {'; '.join(map(_levels, SWEEP))}",
        "about 140 GPU-hours",
    ),
    "ppo_cartpole": Quote("PPO lab", "CartPole-v1", "above 195 by 37k steps", "30 s on a CPU"),
    "sac_pendulum": Quote(
        "SAC lab",
        "Pendulum-v1, 50k steps",
        "return -190 at 10k steps (solved), -141 at 25k, -134 at 50k; "
        "α 0.415 at 5k, 0.197 at 10k, 0.048 at 25k, 0.017 at 50k",
        "5 min on a CPU",
    ),
    "her_relabeler": Quote(
        "HER lab",
        "a synthetic episode of 50 steps",
        "50 transitions become about 210, success 0 becomes 4 to 16 %",
    ),
    "pixels_0": Quote(
        "FetchPush-v4 from pictures, NatureCNN", "step 0, 2M steps", "success 5 to 8 %"
    ),
    "pixels_1": Quote(
        "With ManipulationCNN, spatial softmax and proprioception",
        "step 1, 2M steps",
        "success 5 to 8 %",
    ),
    "pixels_2": Quote(
        "With an encoder that the critics train",
        "step 2, 5M steps, buffer of 500k, 8 relabelled goals, 1 seed",
        "success 6 % to 2M steps, 25 to 34 % at 2.5M, 70 % at 3.5M, 95 % at 4.4M",
        "30 to 50 steps/s, about 40 h a seed, about 85 GB of memory",
    ),
    "pixels_4": Quote("With DrQ", "step 4, 1.5M steps", "success 3 %"),
    "pixels_control": Quote("Told the full state", "the control, 2M steps", "success 89 %"),
}
