"""Trainings with their evaluations on a Ray cluster, whose machines share the project's folder.

Ray places each where two cores are free (one, if this machine has no more), and begins it again on
another machine where one is lost; the training then goes on from what it saved last
(`--checkpoint-freq`).
"""

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from robotics_rl import jobs
from robotics_rl.campaign import Experiment
from robotics_rl.errors import UsageError
from robotics_rl.jobs import Job
from robotics_rl.progress import Progress
from robotics_rl.provenance import usable_cores
from robotics_rl.signals import stop_requests

MOST_CORES = 2  # one steps the environments, one learns
RETRIES = 3  # of what a lost machine had begun


def carry_out(
    experiments: Sequence[Experiment], address: str, *, show_progress: bool = True
) -> Generator[tuple[Job, int]]:
    """Make experiments on a cluster; yields the job of each with its exit code as it ends.

    Whoever closes the iterator, or is stopped by a signal, stops what runs; it saves its state.

    Args:
        experiments: what to make; their paths are relative to the current folder, which all
            machines must see.
        address: of the cluster, as ``ray.init`` takes it; ``local`` starts one on this machine.
        show_progress: tell how many are done.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
        Interrupted: SIGINT or SIGTERM.
    """
    if not experiments:
        return
    ray = _connect(address)
    # A training that asked for more than there is would wait forever.
    remote = ray.remote(num_cpus=min(MOST_CORES, usable_cores()), max_retries=RETRIES)(_make)
    pending = {remote.remote(one, str(Path.cwd())): one.job() for one in experiments}
    progress = Progress(len(pending), "runs", enabled=show_progress)
    with progress, stop_requests() as stop:
        try:
            while pending:
                ended, _ = ray.wait(list(pending), timeout=1.0)
                stop.raise_if_asked()
                for reference in ended:
                    job = pending.pop(reference)
                    yield job, _exit_code(ray, reference, job)
                progress.update(len(experiments) - len(pending))
        finally:
            for reference in pending:
                ray.cancel(reference)
            if pending:
                ray.wait(list(pending), num_returns=len(pending))
            ray.shutdown()


def _make(experiment: Experiment, folder: str) -> int:
    """On a machine of the cluster: go on from what is there; the exit code."""
    environment = dict(os.environ)
    os.chdir(folder)
    [(_, code)] = jobs.carry_out([experiment.job()], 1, environment=environment)
    return code


def _exit_code(ray: Any, reference: Any, job: Job) -> int:
    """What the processes ended with; 1 where Ray gave up, and its reason in the log."""
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayError as error:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"{error}\n")
        return 1


def _connect(address: str) -> Any:
    """The module ``ray``, connected."""
    try:
        import ray
    except ModuleNotFoundError:
        raise UsageError(
            "Ray is not installed; install it with: "
            "bash docker/dev.sh pip install --requirement requirements-sweep.txt"
        ) from None
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"no Ray cluster at {address} ({str(error).splitlines()[0]}); start one with: "
            "bash docker/dev.sh ray start --head"
        ) from None
    return ray
