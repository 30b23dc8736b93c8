"""Many simulations of one Fetch task that share a model and are stepped together.

Bit-identical to the environments of Gymnasium-Robotics: episodes begin through the environment's
own code, and a step calls MuJoCo as the environment does, less what no later number depends on.
"""

import operator
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium_robotics.utils.rotations import mat2euler
from numpy.typing import NDArray

from robotics_rl.envs import fetch_ids, make_env
from robotics_rl.envs.snapshot import restore_simulation, simulation_state

Floats = NDArray[np.float64]
Observation = dict[str, Floats]  # observation, achieved_goal, desired_goal; first axis n_envs
ADDED_ROTATION = np.array([1.0, 0.0, 1.0, 0.0])  # quaternion that every Fetch action adds


@dataclass(frozen=True)
class Step:
    """What one step of every simulation led to; first axis ``n_envs``."""

    observation: Observation  # where an episode ended: the first one of the next
    final_observation: Observation  # before that
    rewards: NDArray[Any]  # float32 on sparse tasks, float64 on dense ones, as the environment's
    successes: NDArray[np.float32]
    truncated: NDArray[np.bool_]  # a Fetch episode ends by its time limit alone


class FetchBatch:
    """``n_envs`` simulations of a Fetch task, each with its own random stream.

    Args:
        env_id: one of the eight ids ``Fetch{Reach,Push,PickAndPlace,Slide}[Dense]-v4``.
        n_envs: number of simulations.
        n_threads: threads that step them; MuJoCo lets go of the interpreter while it computes.

    Raises:
        ValueError: another environment, or no simulations or threads.
    """

    def __init__(self, env_id: str, n_envs: int, n_threads: int = 1) -> None:
        if env_id not in fetch_ids():
            raise ValueError(f"{env_id!r} has no batch; choose one of: {', '.join(fetch_ids())}")
        require_at_least_one(n_envs, "environments")
        require_at_least_one(n_threads, "threads")
        env = make_env(env_id, disable_env_checker=True)
        assert env.spec is not None
        assert env.spec.max_episode_steps is not None
        self.spec, self.n_envs = env.spec, n_envs
        self.observation_space: Any = env.observation_space
        self.action_space: Any = env.action_space
        self.max_episode_steps = env.spec.max_episode_steps
        self.task: Any = env.unwrapped
        self.needs_reset = True  # until there is an episode that somebody has seen begin
        self.elapsed_steps = np.zeros(n_envs, dtype=np.int64)
        self._goals = np.zeros((n_envs, 3))
        self._readings = _Readings(n_envs, self.task)
        self._simulations = [_Simulation(self.task) for _ in range(n_envs)]
        self._chunks = np.array_split(np.arange(n_envs), n_threads)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="mujoco")
        self._pending: list[Future[None]] = []
        self._is_closed = False

    def reset(self, index: int, seed: int | None = None) -> Observation:
        """Begin an episode of one simulation; ``seed`` starts its random stream anew.

        Returns:
            Its observation, arrays without the axis of simulations.
        """
        task = self.task_of(index)
        observation, _ = task.reset(seed=seed)
        self._simulations[index].rng = task.np_random
        self._goals[index] = task.goal
        self.elapsed_steps[index] = 0
        return observation  # type: ignore[no-any-return]

    def task_of(self, index: int) -> Any:
        """The task with the data, random stream and goal of one simulation.

        There is one task for all: what is returned is valid until the next call of this or of
        ``reset``, and there must be none while a step is under way.
        """
        simulation, task = self._simulations[index], self.task
        task.data, task.np_random = simulation.data, simulation.rng
        task.goal = self._goals[index].copy()
        return task

    def reset_all(self, seeds: Sequence[int | None]) -> Observation:
        """Begin an episode of every simulation; the observations, first axis (n_envs,)."""
        self.needs_reset = False
        observations = [self.reset(index, seed) for index, seed in enumerate(seeds)]
        return {key: np.stack([one[key] for one in observations]) for key in observations[0]}

    def start(self, actions: NDArray[Any]) -> None:
        """Begin to step every simulation in the background; ``finish`` waits for it.

        Args:
            actions: (n_envs, 4).

        Raises:
            ValueError: actions of another shape, or NaN, which MuJoCo would go on with.
            gymnasium.error.ResetNeeded: no episode has begun.
            gymnasium.error.ClosedEnvironmentError: its threads have ended.
        """
        if self._is_closed:
            raise gym.error.ClosedEnvironmentError("the environments were closed; make others")
        if self.needs_reset:
            raise gym.error.ResetNeeded("no episode has begun; call reset before the first step")
        require_actions(actions, (self.n_envs, *self.action_space.shape))
        clipped = np.clip(actions, self.action_space.low, self.action_space.high)
        self._pending = [self._pool.submit(self._advance, chunk, clipped) for chunk in self._chunks]

    def finish(self) -> Step:
        """Wait for the step that ``start`` began, and begin new episodes where some ended."""
        for future in self._pending:
            future.result()
        self._pending = []
        final = self.observe()
        rewards = self.task.compute_reward(final["achieved_goal"], self._goals, {})
        successes = self.task._is_success(final["achieved_goal"], self._goals)
        self.elapsed_steps += 1
        truncated = self.elapsed_steps >= self.max_episode_steps
        observation = final
        if truncated.any():
            observation = {key: array.copy() for key, array in final.items()}
            for index in np.flatnonzero(truncated):
                for key, array in self.reset(int(index)).items():
                    observation[key][index] = array
        return Step(observation, final, rewards, successes, truncated)

    def observe(self) -> Observation:
        """What every simulation shows after a step, before new episodes begin."""
        return self._readings.observation(self._goals, self.task.dt)

    @property
    def data(self) -> list[Any]:
        """The ``MjData`` of every simulation."""
        return [simulation.data for simulation in self._simulations]

    def state(self) -> list[dict[str, Any]]:
        """Exact state between two steps: arrays and plain values only."""
        return [
            {
                "simulation": simulation_state(self.task.model, simulation.data),
                "rng": simulation.rng.bit_generator.state,
                "goal": self._goals[index].copy(),
                "elapsed_steps": int(self.elapsed_steps[index]),
            }
            for index, simulation in enumerate(self._simulations)
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Counterpart of ``state``."""
        self.needs_reset = False
        for index, (simulation, saved) in enumerate(zip(self._simulations, state, strict=True)):
            restore_simulation(self.task.model, simulation.data, saved["simulation"])
            simulation.rng.bit_generator.state = saved["rng"]
            self._goals[index] = saved["goal"]
            self.elapsed_steps[index] = saved["elapsed_steps"]

    def close(self) -> None:
        """End the threads."""
        self._is_closed = True
        self._pool.shutdown()

    def _advance(self, chunk: NDArray[np.intp], actions: NDArray[Any]) -> None:
        for index in chunk:
            self._simulations[index].step(actions[index])
            self._simulations[index].read(self._readings, index)


class _Readings:
    """What the observation is made of; first axis ``n_envs``, lengths in metres."""

    def __init__(self, n_envs: int, task: Any) -> None:
        self.has_object = task.has_object
        self.grip_pos, self.grip_vel = np.zeros((n_envs, 3)), np.zeros((n_envs, 3))
        self.finger_pos, self.finger_vel = np.zeros((n_envs, 2)), np.zeros((n_envs, 2))
        self.object_pos, self.object_vel = np.zeros((n_envs, 3)), np.zeros((n_envs, 3))
        self.object_mat, self.object_rotvel = np.zeros((n_envs, 3, 3)), np.zeros((n_envs, 3))

    def observation(self, goals: Floats, dt: float) -> Observation:
        """Copies, in the order that `ch01_env_anatomy.py describe` prints."""
        grip_vel = self.grip_vel * dt
        parts = [self.grip_pos, self.finger_pos, grip_vel, self.finger_vel * dt]
        achieved = self.grip_pos
        if self.has_object:
            achieved = self.object_pos
            parts[1:1] = [self.object_pos, self.object_pos - self.grip_pos]
            parts[4:4] = [
                mat2euler(self.object_mat),
                self.object_vel * dt - grip_vel,
                self.object_rotvel * dt,
            ]
        return {
            "observation": np.concatenate(parts, axis=1),
            "achieved_goal": achieved.copy(),
            "desired_goal": goals.copy(),
        }


class _Simulation:
    """One ``MjData``, with every name looked up once and every array that a step needs at hand."""

    def __init__(self, task: Any) -> None:
        model, kinds = task.model, mujoco.mjtObj
        self.data = mujoco.MjData(model)
        self.rng = np.random.default_rng()
        self._model, self._n_substeps = model, task.n_substeps
        self._block_gripper, self._has_object = task.block_gripper, task.has_object
        self._grip = _find(model, kinds.mjOBJ_SITE, "robot0:grip")
        self._object = _find(model, kinds.mjOBJ_SITE, "object0") if task.has_object else -1
        joints = [
            _find(model, kinds.mjOBJ_JOINT, f"robot0:{side}_gripper_finger_joint")
            for side in ("r", "l")
        ]
        self._finger_qpos, self._finger_qvel = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._mocap_body = welded_to_mocap(model)
        self._jacobian, self._jacobian_rot = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        # Actuators of the fingers take a target relative to where the joint is.
        self._actuated_qpos = model.jnt_qposadr[model.actuator_trnid[:, 0]]
        self._relative = model.actuator_biastype != 0

    def step(self, action: NDArray[Any]) -> None:
        """Apply one action (4,), clipped already, for one control step."""
        data = self.data
        position = action[:3] * 0.05  # as the environment: in the action's own precision
        finger = 0.0 if self._block_gripper else float(action[3])
        data.ctrl[:] = np.where(self._relative, data.qpos[self._actuated_qpos] + finger, finger)
        data.mocap_pos[0] = data.xpos[self._mocap_body] + position
        data.mocap_quat[0] = data.xquat[self._mocap_body] + ADDED_ROTATION
        mujoco.mj_step(self._model, data, self._n_substeps)
        if self._block_gripper:
            data.qpos[self._finger_qpos] = 0.0
            # The environment calls mj_forward; of what that computes, only this is read again.
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_comPos(self._model, data)

    def read(self, readings: _Readings, index: int) -> None:
        """Copy what the observation needs."""
        data, model = self.data, self._model
        readings.grip_pos[index] = data.site_xpos[self._grip]
        mujoco.mj_jacSite(model, data, self._jacobian, None, self._grip)
        readings.grip_vel[index] = self._jacobian @ data.qvel
        readings.finger_pos[index] = data.qpos[self._finger_qpos]
        readings.finger_vel[index] = data.qvel[self._finger_qvel]
        if self._has_object:
            readings.object_pos[index] = data.site_xpos[self._object]
            readings.object_mat[index] = data.site_xmat[self._object].reshape(3, 3)
            mujoco.mj_jacSite(model, data, self._jacobian, self._jacobian_rot, self._object)
            readings.object_vel[index] = self._jacobian @ data.qvel
            readings.object_rotvel[index] = self._jacobian_rot @ data.qvel


def require_actions(actions: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Make sure that simulations can be stepped with these actions.

    Raises:
        ValueError: they have another shape, or are NaN, which MuJoCo would go on with.
    """
    if np.shape(actions) != shape:
        raise ValueError(f"actions have the shape {np.shape(actions)}; it must be {shape}")
    if np.isnan(actions).any():
        raise ValueError("actions are NaN; see what the policy was given, or has become")


def require_at_least_one(number: int, what: str) -> None:
    """Make sure that there is something to count.

    Raises:
        ValueError: there is not.
    """
    if operator.index(number) < 1:
        raise ValueError(f"there cannot be {number} {what}; give 1 or more")


def _find(model: Any, kind: Any, name: str) -> int:
    found = mujoco.mj_name2id(model, kind, name)
    assert found != -1, f"the model has no {name}"
    return int(found)


def welded_to_mocap(model: Any) -> int:
    """The body that the mocap body drags along."""
    [weld] = np.flatnonzero(model.eq_type == int(mujoco.mjtEq.mjEQ_WELD))
    first, second = int(model.eq_obj1id[weld]), int(model.eq_obj2id[weld])
    return second if model.body_mocapid[first] != -1 else first
