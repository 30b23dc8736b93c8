"""What can draw: pytest's own process may have loaded MuJoCo without OpenGL."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import pytest

from robotics_rl import rendering
from robotics_rl.errors import UsageError


@pytest.fixture(scope="session")
def backend() -> str:
    """What draws here. A laptop may have nothing; CI draws, or fails."""
    with mock.patch.dict(os.environ):
        try:
            return rendering.choose_backend()
        except UsageError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def _drawing(backend: str) -> Iterator[None]:
    """Processes that are started from here draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUJOCO_GL", backend)
        patch.delenv("PYOPENGL_PLATFORM", raising=False)  # else it may contradict the other
        yield


@pytest.fixture(scope="module")
def there(_drawing: None) -> Iterator[Callable[..., Any]]:
    """Calls a function of a test module in a process that can draw; gives what it returns."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()
