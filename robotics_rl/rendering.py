"""Which OpenGL backend MuJoCo draws with."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from robotics_rl.errors import UsageError

if sys.platform == "darwin":  # MuJoCo knows neither EGL nor OSMesa there
    BACKENDS: tuple[str, ...] = ("glfw",)
    REMEDY = "run it on the Mac's own desktop, or in the image (bash docker/build.sh)"
else:
    BACKENDS = ("egl", "osmesa")
    REMEDY = "install libegl1, libgl1 and libosmesa6, or run it in the image (bash docker/build.sh)"
TIMEOUT_SECONDS = 120  # a driver that hangs must not hang us

_PROBE = "import mujoco; context = mujoco.GLContext(64, 64); context.make_current(); context.free()"


def render_nothing() -> None:
    """Keep MuJoCo from loading OpenGL: training draws nothing and must not need it.

    Must come before mujoco is imported.
    """
    set_backend("disable")


def set_backend(backend: str) -> None:
    """Choose the backend of this process; must come before mujoco is imported."""
    os.environ["MUJOCO_GL"] = backend
    if backend in BACKENDS:
        os.environ["PYOPENGL_PLATFORM"] = backend  # must agree, or PyOpenGL loads the other one
    else:
        os.environ.pop("PYOPENGL_PLATFORM", None)


def chosen_backend() -> str | None:
    """The backend of this process, if one was chosen."""
    return os.environ.get("MUJOCO_GL")


def choose_backend() -> str:
    """Set and return a backend that works: ``MUJOCO_GL`` where it is set, else EGL, else OSMesa.

    EGL comes first with or without a GPU: Mesa's software EGL works too, and OSMesa has ended.

    Raises:
        UsageError: none works, or the one that ``MUJOCO_GL`` names does not.
    """
    problems = {}
    for backend in candidates():
        problems[backend] = why_not(backend)
        if not problems[backend]:
            set_backend(backend)
            return backend
    raise UsageError(none_works(problems))


def candidates() -> tuple[str, ...]:
    """What to try, in this order: ``MUJOCO_GL`` is obeyed, not replaced.

    ``disable`` counts as unset: it draws nothing, and ``render_nothing`` sets it. So does the
    image's own value, which nobody asked for.
    """
    asked = os.environ.get("MUJOCO_GL", "")
    by_default = os.environ.get("MUJOCO_GL_DEFAULT", "")
    return BACKENDS if asked in ("", "disable", by_default) else (asked,)


def none_works(problems: Mapping[str, str]) -> str:
    """What is wrong and what to do, in one line, where every candidate has a problem."""
    if tuple(problems) != BACKENDS:
        [(asked, problem)] = problems.items()
        return f"MUJOCO_GL={asked} cannot render ({problem}); unset it, or {REMEDY}"
    reasons = ", ".join(f"{name}: {problem}" for name, problem in problems.items())
    return f"no rendering backend works ({reasons}); {REMEDY}"


def why_not(backend: str) -> str:
    """Why a backend cannot render here, in one line; empty where it can.

    Asked in a process of its own: a missing library shows as an error while mujoco is imported.
    """
    return problem_of([sys.executable, "-c", _PROBE], backend)


def problem_of(command: Sequence[str], backend: str) -> str:
    """Run a Python command with a backend; the last line of its error, empty where it succeeds."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_SECONDS} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
