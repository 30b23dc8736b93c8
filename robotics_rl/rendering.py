"""Which OpenGL backend MuJoCo draws with."""

import os
import subprocess
import sys

from robotics_rl.errors import UsageError

BACKENDS = ("egl", "osmesa")
REMEDY = "install libegl1, libgl1 and libosmesa6, or run it in the image (bash docker/build.sh)"

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


def choose_backend() -> str:
    """Set and return a backend that works: ``MUJOCO_GL`` where it is set, else EGL, else OSMesa.

    EGL comes first with or without a GPU: Mesa's software EGL works too, and OSMesa has ended.

    Raises:
        UsageError: none works, or the one that ``MUJOCO_GL`` names does not.
    """
    asked = os.environ.get("MUJOCO_GL", "")
    if asked and asked != "disable":
        problem = why_not(asked)
        if problem:
            raise UsageError(f"MUJOCO_GL={asked} cannot render ({problem}); unset it, or {REMEDY}")
        set_backend(asked)
        return asked
    problems = {}
    for backend in BACKENDS:
        problems[backend] = why_not(backend)
        if not problems[backend]:
            set_backend(backend)
            return backend
    reasons = ", ".join(f"{name}: {problem}" for name, problem in problems.items())
    raise UsageError(f"no rendering backend works ({reasons}); {REMEDY}")


def why_not(backend: str) -> str:
    """Why a backend cannot render here, in one line; empty where it can.

    Asked in a process of its own: a missing library shows as an error while mujoco is imported.
    """
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or ["it crashed"])[-1]
