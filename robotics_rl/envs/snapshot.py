"""The exact state of a running environment, so that a resumed run goes on as if never stopped."""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor

from robotics_rl.envs import Env

# Everything that MuJoCo integrates, warm start included.
_INTEGRATED = mujoco.mjtState.mjSTATE_INTEGRATION


def capture(env: Env) -> dict[str, Any]:
    """State of one environment between two steps: arrays, numbers and strings only.

    An environment that is not simulated by MuJoCo keeps only its random stream; ``restore`` then
    starts a new episode.
    """
    base = env.unwrapped
    state: dict[str, Any] = {"rng": base.np_random.bit_generator.state}
    if _is_robot(base):
        state |= {
            "simulation": simulation_state(base.model, base.data),  # type: ignore[attr-defined]
            "goal": np.array(base.goal),  # type: ignore[attr-defined]
            "elapsed_steps": _wrapper(env, TimeLimit)._elapsed_steps,
            "rewards": list(_wrapper(env, Monitor).rewards),
        }
    return state


def restore(env: Env, state: dict[str, Any]) -> bool:
    """Put ``env`` into a captured state; False where it starts a new episode instead."""
    env.reset()
    base = env.unwrapped
    base.np_random.bit_generator.state = state["rng"]
    if "simulation" not in state:
        return False
    restore_simulation(base.model, base.data, state["simulation"])  # type: ignore[attr-defined]
    base.goal = np.array(state["goal"])  # type: ignore[attr-defined]
    _wrapper(env, TimeLimit)._elapsed_steps = state["elapsed_steps"]
    _wrapper(env, Monitor).rewards = list(state["rewards"])
    return True


def simulation_state(model: Any, data: Any) -> dict[str, np.ndarray]:
    """What the next step of a Fetch task reads of ``MjData``."""
    integrated = np.empty(mujoco.mj_stateSize(model, _INTEGRATED))
    mujoco.mj_getState(model, data, integrated, _INTEGRATED)
    # Not part of MuJoCo's own state, but the action moves the gripper from where its body was seen
    # last, and after a step that is the pose before the last substep.
    return {"integrated": integrated, "xpos": data.xpos.copy(), "xquat": data.xquat.copy()}


def restore_simulation(model: Any, data: Any, state: dict[str, np.ndarray]) -> None:
    """Counterpart of ``simulation_state``."""
    mujoco.mj_setState(model, data, state["integrated"], _INTEGRATED)
    data.xpos[:] = state["xpos"]
    data.xquat[:] = state["xquat"]


def _is_robot(base: Any) -> bool:
    return isinstance(getattr(base, "data", None), mujoco.MjData) and hasattr(base, "goal")


def _wrapper(env: Env, kind: type) -> Any:
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, kind):
            return layer
        layer = layer.env
    raise LookupError(f"{env} has no {kind.__name__}")
