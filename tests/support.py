"""What the tests of the contract share: running a script, and looking at what it left on disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import torch
from check_repro import differing_tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from robotics_rl import cli

ROOT = Path(__file__).resolve().parents[1]

TINY = ["--n-envs", "2", "--net-arch", "16", "--checkpoint-freq", "0", "--no-progress"]
TINY_PPO = ["--algo", "ppo", "--env", "FetchReachDense-v4", *TINY]
TINY_PPO += ["--n-steps", "32", "--batch-size", "32", "--n-epochs", "2", "--total-steps", "64"]
TINY_OFF_POLICY = [*TINY, "--batch-size", "16", "--buffer-size", "2000", "--learning-starts", "100"]
TINY_SAC_HER = ["--algo", "sac", "--her", "--env", "FetchPush-v4", *TINY_OFF_POLICY]
TINY_SAC_HER += ["--total-steps", "150", "--recipe", "book"]

PPO_NAME = "ppo_FetchReachDense-v4_seed0"
SAC_HER_NAME = "sac_her_FetchPush-v4_seed0"


class Outcome(NamedTuple):
    """How a script ended."""

    code: int
    out: str
    err: str


def run_script(script: str, *arguments: str) -> Outcome:
    """Run ``train.py`` or ``eval.py`` in this process, which has torch loaded already.

    An unexpected exception passes through, as it should: a traceback is no outcome.
    """
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with (
        mock.patch.object(sys, "argv", [str(ROOT / script), *arguments]),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.run(_loaded(script).main)
        except SystemExit as stop:
            code = stop.code
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(script: str, *arguments: str) -> Outcome:
    """``run_script`` where anything but success fails the test."""
    outcome = run_script(script, *arguments)
    assert outcome.code == 0, outcome
    return outcome


def start(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a script in a process of its own, in the current folder."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@cache
def _loaded(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{Path(script).stem}", ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look for what annotations name
    spec.loader.exec_module(module)
    return module


class Trained(NamedTuple):
    """A folder in which a training has run."""

    root: Path
    name: str

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoints" / f"{self.name}.zip"

    @property
    def metadata(self) -> Path:
        return self.root / "checkpoints" / f"{self.name}.meta.json"

    def copy_to(self, folder: Path) -> Trained:
        """The same artifacts in another folder, for a test that changes them."""
        shutil.copytree(self.root, folder, dirs_exist_ok=True)
        return Trained(folder, self.name)


def tree(folder: Path) -> dict[str, str]:
    """Every file with its SHA-256, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def read_strict_json(path: Path) -> dict[str, Any]:
    """A JSON document that holds neither NaN nor Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{path} holds {constant}")

    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert isinstance(document, dict)
    return document


def tensors(checkpoint: Path, entry: str = "policy.pth") -> Any:
    """The tensors of one entry of a checkpoint, without unpickling anything else."""
    with zipfile.ZipFile(checkpoint) as archive:
        return torch.load(io.BytesIO(archive.read(entry)), weights_only=True)


def assert_equal_weights(first: Path, second: Path) -> None:
    """Policy and optimizers are equal bit for bit."""
    assert differing_tensors(first, second) == []


def have_equal_weights(first: Path, second: Path) -> bool:
    """Whether the policies are equal bit for bit."""
    one, other = tensors(first), tensors(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def rewrite_entries(checkpoint: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write the zip again with every entry passed through ``change``."""
    with zipfile.ZipFile(checkpoint) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def edit_json(path: Path, **changes: Any) -> None:
    """Replace top-level values of a JSON document."""
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, **changes}), encoding="utf-8")


def layouts(logs: Path) -> list[Any]:
    """What groups charts in TensorBoard, every time that it was written into a run's folder."""
    events = _events(logs)
    if metadata.CONFIG_SUMMARY_TAG not in events.Tags()["tensors"]:
        return []
    written = events.Tensors(metadata.CONFIG_SUMMARY_TAG)
    return [layout_pb2.Layout.FromString(event.tensor_proto.string_val[0]) for event in written]


def shown_by_tensorboard(logs: Path) -> tuple[str, set[str]]:
    """Title and tags of a run's only layout, in which every expression finds one tag."""
    [layout] = layouts(logs)
    [category] = layout.category
    logged = _events(logs).Tags()["scalars"]
    found = [
        [tag for tag in logged if re.match(expression, tag)]  # as TensorBoard looks for it
        for chart in category.chart
        for expression in chart.multiline.tag
    ]
    return category.title, {tag for [tag] in found}


def _events(logs: Path) -> EventAccumulator:
    events = EventAccumulator(str(logs))
    events.Reload()
    return events
