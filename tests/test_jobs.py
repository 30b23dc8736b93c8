"""Jobs run side by side, and are stopped gently however the work ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support import ROOT

from robotics_rl.errors import Interrupted
from robotics_rl.jobs import Job, carry_out

# A job that says when it runs, and that it was asked to stop.
PATIENT = """
import pathlib, signal, sys, time
name = sys.argv[1]
def stop(*_):
    time.sleep(0.5)  # as it takes to save a state
    pathlib.Path(name + ".stopped").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(name + ".running").touch()
time.sleep(60)
"""
# A parent that runs two of them.
PARENT = f"""
import sys
from pathlib import Path
from robotics_rl import cli
from robotics_rl.jobs import Job, carry_out
def main(_):
    jobs = [Job(name, [["-c", {PATIENT!r}, name]], Path(name + ".log")) for name in "ab"]
    return max(code for _, code in carry_out(jobs, 2))
cli.run(main)
"""


def job(name: str, *programs: str) -> Job:
    return Job(name, [["-c", program] for program in programs], Path("logs", f"{name}.log"))


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def _exist(kind: str) -> bool:
    return all(Path(f"{name}.{kind}").exists() for name in "ab")


def test_commands_of_a_job_run_in_order_and_its_log_holds_them_all(workdir: Path) -> None:
    both = job("two", "print('first')", "print('second')")
    assert list(carry_out([both], 1)) == [(both, 0)]
    assert both.log.read_text().split() == ["first", "second"]


def test_a_failure_ends_its_job_and_no_other(workdir: Path) -> None:
    bad = job("bad", "print('why'); raise SystemExit(3)", "print('never')")
    good = job("good", "pass")
    assert list(carry_out([bad, good], 1)) == [(bad, 3), (good, 0)]
    assert bad.last_lines() == "why"


def test_no_more_jobs_run_at_once_than_allowed(workdir: Path) -> None:
    program = (
        "import os, pathlib, time; mine = pathlib.Path(f'{os.getpid()}.at'); mine.touch();"
        "time.sleep(0.3); print(len(list(pathlib.Path().glob('*.at')))); mine.unlink()"
    )
    jobs = [job(str(number), program) for number in range(4)]
    assert {code for _, code in carry_out(jobs, 2)} == {0}
    assert max(int(one.log.read_text()) for one in jobs) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not let us choose")
def test_every_job_has_its_share_of_the_cores(workdir: Path) -> None:
    all_cores = os.sched_getaffinity(0)
    jobs = [job(name, "import os; print(*os.sched_getaffinity(0))") for name in "ab"]
    assert {code for _, code in carry_out(jobs, 2)} == {0}
    one, other = ({int(core) for core in each.log.read_text().split()} for each in jobs)
    if len(all_cores) > 1:
        assert not one & other
    assert one | other == all_cores


def test_whoever_stops_looking_stops_the_running_jobs(workdir: Path) -> None:
    patient = Job("a", [["-c", PATIENT, "a"]], Path("a.log"))
    quick = job("quick", "import pathlib, time\nwhile not pathlib.Path('a.running').exists(): pass")
    with closing(carry_out([patient, quick], 2)) as outcomes:
        assert next(outcomes) == (quick, 0)
    assert Path("a.stopped").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_job_gently(workdir: Path, number: int) -> None:
    parent = _start_parent()
    _wait_for(lambda: _exist("running"))
    parent.send_signal(number)
    _, err = parent.communicate(timeout=60)
    assert parent.returncode == 128 + number
    assert "stopped; the same command goes on" in err
    assert _exist("stopped"), "it waits for them"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child")
def test_jobs_stop_gently_when_their_parent_is_killed(workdir: Path) -> None:
    parent = _start_parent()
    _wait_for(lambda: _exist("running"))
    parent.kill()
    _wait_for(lambda: _exist("stopped"))
    parent.communicate(timeout=60)


def test_handlers_of_signals_are_put_back(workdir: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        for _ in carry_out([job("quick", "pass"), job("slow", "import time; time.sleep(60)")], 1):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def _start_parent() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
