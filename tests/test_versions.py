"""The dependency gate, and the physics it protects."""

import gymnasium as gym
import numpy as np
import pytest

from robotics_rl import envs, versions
from robotics_rl.errors import UsageError


def test_the_pins_of_this_project_are_met():
    versions.check_dependencies()


def test_the_gate_names_package_found_and_wanted_version(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# why\nmujoco==9.9.9\nnumpy>=1\n")
    with pytest.raises(UsageError, match=r"mujoco \S+ is installed .* mujoco==9\.9\.9; .*pip"):
        versions.check_dependencies(requirements)


def test_the_gate_names_a_missing_package(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("surely-not-there==1.0\n")
    with pytest.raises(UsageError, match="surely-not-there is not installed"):
        versions.check_dependencies(requirements)


def test_the_physics_are_pinned_exactly():
    pins = versions.exact_pins(versions.REQUIREMENTS)
    assert pins["mujoco"] == "3.6.0"
    assert pins["gymnasium-robotics"] == "1.4.2"
    assert "torch" not in pins  # the image's own build must stay


# Gripper, object (fingers and velocity on Reach) and goal after reset(seed=0), in metres. These
# move when MuJoCo's physics do: the gripper and object of Push by 17.5 mm at 3.7.0.
GOLDEN_RESETS = {
    "FetchReach-v4": [
        [1.34183475, 0.749101033, 0.534725182, 0.000390055545, 1.17025843e-05, -5.26143686e-06],
        [1.38292352, 0.680037051, 0.397016008],
    ],
    "FetchPush-v4": [
        [1.34548228, 0.749026985, 0.415998736, 1.20779916, 0.60398354, 0.424892225],
        [1.43948818, 0.872851922, 0.424892223],
    ],
    "FetchPickAndPlace-v4": [
        [1.34193475, 0.749101049, 0.534725189, 1.20422707, 0.604059343, 0.424892225],
        [1.43591609, 0.872927725, 0.424892223],
    ],
    "FetchSlide-v4": [
        [0.992643068, 0.749041358, 0.415512418, 0.90087497, 0.652344517, 0.413538103],
        [1.58064241, 0.996692337, 0.413536328],
    ],
}


@pytest.mark.parametrize("env_id", GOLDEN_RESETS)
def test_reset_gives_the_start_that_every_result_began_from(env_id):
    env = envs.make_env(env_id)
    observation, _ = env.reset(seed=0)
    env.close()
    start, goal = GOLDEN_RESETS[env_id]
    np.testing.assert_allclose(observation["observation"][:6], start, rtol=0, atol=1e-7)
    np.testing.assert_allclose(observation["desired_goal"], goal, rtol=0, atol=1e-7)


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean .*FetchPush-v4"):
        envs.make_env("FetchPusch-v4")
    assert "FetchPush-v4" in gym.registry
