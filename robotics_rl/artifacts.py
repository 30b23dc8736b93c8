"""Where every artifact lies, and how it is written so that no reader ever sees half of it."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from robotics_rl.config import EvalSettings, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.provenance import file_stamp


@dataclass(frozen=True)
class RunPaths:
    """The files and folders of one training."""

    checkpoint: Path
    logs: Path

    @classmethod
    def of(cls, settings: TrainSettings) -> "RunPaths":
        """The paths that the settings ask for."""
        run = settings.run
        tag = run.run_tag or ""
        stem = f"{settings.run_name}_{settings.env_id}_seed{run.seed}"
        checkpoint = Path(run.out) if run.out else Path(run.checkpoints_dir, tag, stem)
        logs = Path(run.log_dir, tag, settings.run_name, settings.env_id, f"seed{run.seed}")
        return cls(checkpoint_path(checkpoint), logs)

    @property
    def metadata(self) -> Path:
        """The JSON beside the checkpoint."""
        return metadata_path(self.checkpoint)

    @property
    def resume(self) -> Path:
        """Folder of the training state; there only while the run is unfinished."""
        return self.checkpoint.with_suffix(".resume")

    @property
    def curves(self) -> Path:
        """The exported learning curve."""
        return self.logs / "curves.csv"


def checkpoint_path(path: Path) -> Path:
    """``path`` with the ending that Stable-Baselines3 gives checkpoints."""
    if path.name in ("", ".."):
        raise UsageError(f"{path} names no file; give --out or --ckpt the path of a checkpoint")
    return path if path.suffix == ".zip" else path.with_name(path.name + ".zip")


def existing_checkpoint(path: Path) -> Path:
    """The checkpoint that ``path`` names with or without its ending; what it names otherwise."""
    checkpoint = checkpoint_path(path)
    return path if path.exists() and not checkpoint.exists() else checkpoint


def metadata_path(checkpoint: Path) -> Path:
    """``x.zip`` → ``x.meta.json``."""
    return checkpoint.with_suffix(".meta.json")


def benchmark_path(script: str, device: str = "cpu") -> Path:
    """``results/benchmarks/SCRIPT.json``, or ``SCRIPT_cuda.json`` for what a GPU did."""
    kind = device.partition(":")[0]
    name = script if kind == "cpu" else f"{script}_{kind}"
    return Path("results", "benchmarks", f"{name}.json")


def evaluation_path(results_dir: str, run_tag: str | None, chapter: str | None, name: str) -> Path:
    """``results/[TAG/][CH_]NAME_eval.json``."""
    prefix = f"{chapter}_" if chapter else ""
    return Path(results_dir, run_tag or "", f"{prefix}{name}_eval.json")


def evaluation_name(run_name: str, env_id: str, seed: int | None) -> str:
    """``sac_her_fetchpush-v4_seed0``; baselines have no training seed and no suffix."""
    return f"{run_name}_{env_id.lower()}" + ("" if seed is None else f"_seed{seed}")


def checkpoint_evaluations(results_dir: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and document of every evaluation of a checkpoint that is published or stands to be.

    Left out is what was moved aside, and what a sweep and the journey are made of: of these no
    policy is published.
    """
    for path in sorted(Path(results_dir).rglob("*_eval.json")):
        if {"previous", "sweep", "journey"} & set(path.relative_to(results_dir).parts):
            continue
        document = read_json(path)
        if document["checkpoint"]:
            yield path, document


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that replaces ``path`` once it is on disk.

    Raises:
        UsageError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_why(error)}; choose another folder") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _flush_to_disk(temporary)
        temporary.replace(path)
        _flush_to_disk(path.parent)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {_why(error)}; free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write a dataclass of ``schemas.py`` atomically: sorted keys, 2 spaces, never NaN."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(document), encoding="utf-8")


def to_json(document: Any) -> str:
    """JSON text of a dataclass or a mapping, as every file of the project is written."""
    return json.dumps(_plain(document), sort_keys=True, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON document.

    Raises:
        UsageError: it is missing or not JSON.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; make it first, or check the path") from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not a readable JSON document ({error}); make it again"
        ) from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a JSON object; make it again")
    return document


def _plain(value: Any) -> Any:
    """Only what JSON knows: numpy scalars become Python's, NaN and infinity become null."""
    if is_dataclass(value) and not isinstance(value, type):
        content = {row.name.rstrip("_"): getattr(value, row.name) for row in fields(value)}
        schema = getattr(value, "schema", None)
        return _plain(content | ({"schema": schema} if schema else {}))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(folder: Path) -> None:
    """Make sure that files can be made in ``folder``, without leaving anything behind.

    Raises:
        UsageError: they cannot.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {_why(error)}; choose another folder"
        ) from None


def require_file(path: Path) -> None:
    """Make sure that a file can be written at ``path``, without leaving anything behind.

    Raises:
        UsageError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    require_writable(path.parent)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


@contextmanager
def run_lock(*folders: Path) -> Iterator[None]:
    """Hold every folder for one process; the system lets go of them when the process dies.

    Raises:
        UsageError: another process holds one.
    """
    locks: list[FileLock] = []
    made: list[Path] = []
    try:
        for folder in folders:
            made += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "run.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(
                    f"another training is writing to {folder}; wait for it, or use --run-tag"
                ) from None
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
        for folder in (*folders, *made):
            with suppress(OSError):  # something was written there
                folder.rmdir()


def is_held(folder: Path) -> bool:
    """Whether another process has the ``run_lock`` of a folder, which is tried for a moment."""
    path = folder / "run.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def figure_path(document: Path) -> Path:
    """Where the figure of a JSON document goes: under ``figures/`` as that lies under ``results/``.

    Of a document elsewhere it goes beside that, so that it takes no published one's place.
    """
    results = Path(EvalSettings.results_dir)
    if document.is_relative_to(results):
        return Path("figures", document.relative_to(results)).with_suffix(".png")
    return document.with_suffix(".png")


def keep_other(
    path: Path, what: str, is_same: Callable[[dict[str, Any]], bool], *figures: Path
) -> None:
    """Move the JSON at ``path`` to ``previous/`` unless it is the one about to be made again.

    A sanity run must not cost a published result, nor a damaged file the work just done.

    Args:
        path: of the JSON.
        what: the document is of.
        is_same: whether the document that is there, empty if damaged, is of the same.
        figures: that were drawn from it, and go where it goes.
    """
    if not path.exists():
        return
    try:
        old = read_json(path)
    except UsageError:
        old = {}
    if is_same(old):
        return
    stamp = file_stamp(old.get("created_at"))
    for one in (path, *figures):
        if moved := move_aside(one, one.parent / "previous", stamp):
            print(f"{one.name} was of another {what}: it went to {moved}")


def has_same(document: Any, *names: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a document that was read has these entries of one that is to be written."""
    written = json.loads(to_json(document))
    return lambda read: all(read.get(name) == written[name] for name in names)


def move_aside(path: Path, previous: Path, stamp: str) -> Path | None:
    """Move ``path``, if it exists, into ``previous``, with ``stamp`` (if any) in its name."""
    if not path.exists():
        return None
    name, dot, endings = path.name.partition(".")
    target = unused(previous / (f"{name}_{stamp}{dot}{endings}" if stamp else path.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(path, target))


def unused(path: Path) -> Path:
    """``path``, or where that is taken a name like it."""
    while path.exists():
        path = path.with_name(f"_{path.name}")
    return path
