"""What watches a training: it saves states, stops on a signal, and tells how far things are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from robotics_rl import training_state
from robotics_rl.errors import Interrupted
from robotics_rl.learners.diagnosis import Diagnosis
from robotics_rl.progress import Progress
from robotics_rl.signals import Stop


class StateKeeper(BaseCallback):
    """Saves the training state now and then, and when asked to stop.

    States are taken between rollouts, where nothing is half done. A rollout of PPO takes seconds,
    so its last state is kept in memory: a run that is stopped inside a rollout repeats it.

    Args:
        path: where the state is written.
        frequency: environment steps between two states; 0 writes one only when asked to stop.
        stop: the request to stop.
        describe: what to save beside the model's own state.
    """

    def __init__(
        self, path: Path, frequency: int, stop: Stop, describe: Callable[[], dict[str, Any]]
    ) -> None:
        super().__init__()
        self._path, self._frequency, self._stop, self._describe = path, frequency, stop, describe
        self._next = frequency
        self._last: dict[str, Any] | None = None

    def _on_training_start(self) -> None:
        self._next = self.num_timesteps + self._frequency

    def _on_rollout_start(self) -> None:
        due = bool(self._frequency) and self.num_timesteps >= self._next
        if isinstance(self.model, OffPolicyAlgorithm) and not (due or self._stop.signum):
            return
        self._last = training_state.capture(self.model) | self._describe()
        if due:
            training_state.write(self._path, self._last)
            self._next = self.num_timesteps + self._frequency
        self._stop_if_asked()
        if isinstance(self.model, OffPolicyAlgorithm):
            self._last = None  # shares the replay buffer's arrays, which change from here on

    def _on_step(self) -> bool:
        self._stop_if_asked()
        return True

    def _stop_if_asked(self) -> None:
        if self._stop.signum is None or self._last is None:
            return
        training_state.write(self._path, self._last)
        raise Interrupted(
            f"stopped after {self._last['counters']['num_timesteps']:,} steps; the state is in "
            f"{self._path.parent}, and the same command with --resume goes on",
            self._stop.signum,
        )


class Diagnostician(BaseCallback):
    """Logs now and then what the critics make of the replay.

    Args:
        diagnose: the engine's.
        steps_per_rollout: environment steps between two looks at the clock.
    """

    EVERY = 1_000  # environment steps

    def __init__(
        self, diagnose: Callable[[BaseAlgorithm], Diagnosis | None], steps_per_rollout: int
    ) -> None:
        super().__init__()
        self._diagnose, self._steps_per_rollout = diagnose, steps_per_rollout

    def _on_rollout_start(self) -> None:
        # Told from the step count alone, so that a resumed run logs at the same steps.
        before = self.num_timesteps - self._steps_per_rollout
        if self.num_timesteps // self.EVERY == before // self.EVERY:
            return
        diagnosis = self._diagnose(self.model)
        for name, value in diagnosis.metrics().items() if diagnosis else ():
            self.logger.record(f"replay/{name}", value)

    def _on_step(self) -> bool:
        return True


class EpisodeInfo(BaseCallback):
    """Logs the mean of what ``info`` tells at the end of recent episodes, as ``rollout/KEY``.

    The values are kept where Stable-Baselines3 keeps returns, so a resumed run has them too.

    Args:
        keys: entries of ``info``.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__()
        self._keys = keys

    def _on_step(self) -> bool:
        for info in ended(self.locals):
            for key in self._keys:
                info["episode"][key] = float(info[key])
        return True

    def _on_rollout_start(self) -> None:
        for key in self._keys:
            values = [one[key] for one in self.model.ep_info_buffer or () if key in one]
            if values:
                self.logger.record(f"rollout/{key}", sum(values) / len(values))


def ended(step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The ``info`` of every environment whose episode has just ended."""
    for done, info in zip(step["dones"], step["infos"], strict=True):
        if done:
            yield info


class ProgressReporter(BaseCallback):
    """Tells the progress display how far training is."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def _on_step(self) -> bool:
        rate = success_rate(self.model)
        self._progress.update(self.num_timesteps, "" if rate is None else f"success {rate:.2f}")
        return True


def success_rate(model: BaseAlgorithm) -> float | None:
    """Share of the last 100 training episodes that ended in success."""
    episodes = model.ep_success_buffer
    return sum(map(float, episodes)) / len(episodes) if episodes else None
