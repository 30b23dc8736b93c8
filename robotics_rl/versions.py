"""Which versions are installed, and whether they are the ones that every result was made with."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from robotics_rl.errors import UsageError

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
RECORDED = (
    "torch",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "stable-baselines3",
    "numpy",
)


def check_dependencies(requirements: Path = REQUIREMENTS) -> None:
    """Refuse to run on other versions than those that ``requirements.txt`` pins exactly.

    Without this gate a newer MuJoCo fails three libraries down with a bare ``AssertionError``,
    or, worse, simulates another robot under the same environment id.

    Raises:
        UsageError: a pinned package is missing or has another version.
    """
    for name, wanted in exact_pins(requirements).items():
        found = _installed(name)
        if found != wanted:
            state = f"{name} {found} is installed" if found else f"{name} is not installed"
            raise UsageError(
                f"{state} but every result here was made with {name}=={wanted}; "
                "start commands with `bash docker/dev.sh …`, or run "
                "`pip install -r requirements.txt`"
            )


def exact_pins(requirements: Path) -> dict[str, str]:
    """``{package: version}`` of the lines ``package==version``."""
    pin = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.+!-]+)", re.MULTILINE)
    return dict(pin.findall(requirements.read_text(encoding="utf-8")))


def gather_versions() -> dict[str, str | None]:
    """Versions recorded with every result, by the name that ``import`` uses."""
    import torch  # takes seconds; whoever records a result has loaded it already

    found: dict[str, str | None] = {"python": platform.python_version()}
    found |= {name.replace("-", "_"): _installed(name) for name in RECORDED}
    found["cuda"] = torch.version.cuda
    return found


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
