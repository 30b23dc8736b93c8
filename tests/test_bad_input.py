"""Bad input: one line that says what to do, exit code 2, nothing written, nothing lost."""

from __future__ import annotations

import contextlib
import io
import random
import re
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from support import (
    PPO_NAME,
    SAC_HER_NAME,
    TINY_PPO,
    TINY_SAC_HER,
    Trained,
    edit_json,
    rewrite_entries,
    run_script,
    start,
    tree,
)

from robotics_rl import artifacts

PPO_ZIP = Path("checkpoints", f"{PPO_NAME}.zip")
PPO_JSON = Path("checkpoints", f"{PPO_NAME}.meta.json")
SAC_ZIP = f"checkpoints/{SAC_HER_NAME}.zip"

REACH = "--env FetchReach-v4"
PPO = f"--algo ppo {REACH}"
SAC = f"--algo sac {REACH}"
HER = "--algo sac --her --env FetchPush-v4"

Prepare = Callable[[], AbstractContextManager[object] | None]


class Bad(NamedTuple):
    """Arguments that no run can be made of, and what the message must say (a pattern)."""

    name: str
    script: str
    arguments: str
    says: str
    prepare: Prepare | None = None


def _truncate() -> None:
    PPO_ZIP.write_bytes(PPO_ZIP.read_bytes()[:-1000])


def _random_bytes() -> None:
    PPO_ZIP.write_bytes(random.Random(0).randbytes(5000))


def _zip_without_policy() -> None:
    with zipfile.ZipFile(PPO_ZIP, "w") as archive:
        archive.writestr("data", "{}")


def _garbage_tensors() -> None:
    rewrite_entries(PPO_ZIP, lambda name, content: b"\x80garbage" if "policy" in name else content)


def _weights_that_are_no_numbers() -> None:
    with zipfile.ZipFile(PPO_ZIP) as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    weights["action_net.bias"][0] = torch.nan
    file = io.BytesIO()
    torch.save(weights, file)
    rewrite_entries(PPO_ZIP, lambda name, old: file.getvalue() if name == "policy.pth" else old)


def _flip_bits_of_tensors() -> None:
    with zipfile.ZipFile(PPO_ZIP) as archive:
        entry = archive.getinfo("policy.pth")
    content = bytearray(PPO_ZIP.read_bytes())
    middle = entry.header_offset + entry.compress_size // 2
    content[middle] ^= 0xFF
    PPO_ZIP.write_bytes(content)


def _remove_metadata() -> None:
    PPO_JSON.unlink()


def _other_metadata_schema() -> None:
    edit_json(PPO_JSON, schema="meta/99")


def _corrupt_metadata() -> None:
    PPO_JSON.write_text(PPO_JSON.read_text()[:-20])


def _metadata_is_a_list() -> None:
    PPO_JSON.write_text("[]")


def _metadata_without_architecture() -> None:
    edit_json(PPO_JSON, hyperparameters={})


def _other_layers() -> None:
    edit_json(PPO_JSON, hyperparameters={"net_arch": [32]})


def _a_regular_file() -> None:
    Path("file").write_text("mine")


def _folder_like_a_zip() -> None:
    Path("a.zip").mkdir()


def _hold_the_lock() -> AbstractContextManager[None]:
    return artifacts.run_lock(PPO_ZIP.with_suffix(".resume"))


def _hold_the_curves() -> AbstractContextManager[None]:
    return artifacts.run_lock(Path("runs", "ppo", "FetchReachDense-v4", "seed0"))


def _no_cuda() -> AbstractContextManager[object]:
    return mock.patch.object(torch.cuda, "device_count", return_value=0)


def _unfinished_run() -> None:
    state = PPO_ZIP.with_suffix(".resume") / "state.pt"
    state.parent.mkdir()
    torch.save({"identity": {"algo": "sac"}, "parameters": {}, "log_ent_coef": None}, state)


def _half_a_state() -> None:
    _unfinished_run()
    state = PPO_ZIP.with_suffix(".resume") / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])


def _damaged_state() -> None:
    state = PPO_ZIP.with_suffix(".resume") / "state.pt"
    state.parent.mkdir()
    state.write_bytes(b"half a state")


ABOVE_0 = "must be a number above 0"

TRAINING = [
    Bad("no algorithm", "train.py", REACH, "--algo"),
    Bad("unknown algorithm", "train.py", f"--algo a2c {REACH}", "invalid choice: 'a2c'"),
    Bad("no environment", "train.py", "--algo ppo", "--env"),
    Bad("unknown env", "train.py", "--algo ppo --env FetchPusj-v4", "did you mean FetchPush-v4"),
    Bad("unlike any env", "train.py", "--algo ppo --env qqqq", "list-envs"),
    Bad("unknown flag", "train.py", f"{PPO} --entcoef 1", "unrecognized arguments: --entcoef"),
    Bad("shortened flag", "train.py", f"{PPO} --total 1", "unrecognized arguments: --total"),
    Bad("PPO with HER", "train.py", f"{PPO} --her", "ppo has none; use --algo sac"),
    Bad("HER, no goals", "train.py", "--algo sac --her --env Pendulum-v1", "leave out --her"),
    Bad("discrete actions", "train.py", "--algo td3 --env CartPole-v1", "continuous.*--algo ppo"),
    Bad("odd observations", "train.py", "--algo ppo --env Blackjack-v1", "observation"),
    Bad("negative steps", "train.py", f"{PPO} --total-steps -1", f"--total-steps.*{ABOVE_0}"),
    Bad("no envs", "train.py", f"{PPO} --n-envs 0", f"--n-envs.*{ABOVE_0}"),
    Bad("no rollout", "train.py", f"{PPO} --n-steps 0", f"--n-steps.*{ABOVE_0}"),
    Bad("empty batch", "train.py", f"{SAC} --batch-size 0", f"--batch-size.*{ABOVE_0}"),
    Bad("PPO, batch of one", "train.py", f"{PPO} --batch-size 1", "--batch-size.*2"),
    Bad("rollout of one", "train.py", f"{PPO} --n-envs 1 --n-steps 1", "--n-steps"),
    Bad("no gradient steps", "train.py", f"{SAC} --gradient-steps 0", "must be positive, or -1"),
    Bad("negative seed", "train.py", f"{PPO} --seed -1", "--seed.*0"),
    Bad("seed too large", "train.py", f"{PPO} --seed {2**32}", "--seed.*4294967295"),
    Bad("a word for a count", "train.py", f"{PPO} --n-envs many", "invalid int value: 'many'"),
    Bad("a fraction of steps", "train.py", f"{PPO} --total-steps 1e6", "invalid int value"),
    Bad("ent_coef of words", "train.py", f"{SAC} --ent-coef high", "--ent-coef.*must.*auto"),
    Bad("PPO, auto entropy", "train.py", f"{PPO} --ent-coef auto", "must be a number"),
    Bad("NaN", "train.py", f"{PPO} --learning-rate nan", f"--learning-rate.*{ABOVE_0}"),
    Bad("infinity", "train.py", f"{SAC} --ent-coef inf", "--ent-coef.*must be a number"),
    Bad("gamma above 1", "train.py", f"{PPO} --gamma 1.5", "between 0 and 1"),
    Bad("gamma NaN", "train.py", f"{PPO} --gamma nan", "between 0 and 1"),
    Bad("layers of words", "train.py", f"{PPO} --net-arch 64,wide", "layer sizes"),
    Bad("an empty layer", "train.py", f"{PPO} --net-arch 64,0", "layer sizes such as 64,64"),
    Bad("flag of SAC", "train.py", f"{PPO} --tau 0.1", "needs --algo sac or td3 or ddpg$"),
    Bad("flag of PPO", "train.py", f"{SAC} --n-steps 8", "--n-steps .* it needs --algo ppo$"),
    Bad(
        "scaling off on sb3",
        "train.py",
        f"{SAC} --engine sb3 --no-normalize-observations",
        "--no-normalize-observations .* off anyway; leave it out",
    ),
    Bad("flag of HER", "train.py", f"{SAC} --n-sampled-goal 4", "needs --her"),
    Bad("unknown goals", "train.py", f"{HER} --goal-selection-strategy past", "future, final"),
    Bad(
        "HER too early",
        "train.py",
        f"{HER} --n-envs 8 --learning-starts 399",
        "use --learning-starts 400",
    ),
    Bad("HER, no room", "train.py", f"{HER} --n-envs 8 --buffer-size 799", "use --buffer-size 800"),
    Bad("buffer too big", "train.py", f"{SAC} --buffer-size {10**12}", "GiB.*--buffer-size [0-9]+"),
    Bad("unknown device", "train.py", f"{PPO} --device cuda:abc", "cuda:N"),
    Bad("no CUDA", "train.py", f"{PPO} --device cuda", "--device cpu", _no_cuda),
    Bad("not that many GPUs", "train.py", f"{PPO} --device cuda:99", "--device cpu"),
    Bad("unknown engine", "train.py", f"{PPO} --engine jet", "--engine.*must be one of: fast, sb3"),
    Bad(
        "engine fast elsewhere",
        "train.py",
        "--algo ppo --env CartPole-v1 --engine fast",
        "--engine sb3",
    ),
    Bad("recipe without HER", "train.py", f"{SAC} --recipe fast", "--recipe book"),
    Bad("recipe on sb3", "train.py", f"{HER} --engine sb3 --recipe fast", "--engine fast"),
    Bad("filter without HER", "train.py", f"{SAC} --trivial-goal-keep 0.1", "needs --her"),
    Bad(
        "filter on sb3",
        "train.py",
        f"{HER} --engine sb3 --trivial-goal-keep 0.1",
        "needs --engine fast",
    ),
    Bad("scaling for PPO", "train.py", f"{PPO} --normalize-observations", "needs --engine fast"),
    Bad("share above 1", "train.py", f"{HER} --random-action-prob 1.1", "between 0 and 1"),
    Bad("unknown recipe", "train.py", f"{PPO} --recipe secret", "--recipe.*must be one of"),
    Bad("below a file", "train.py", f"{PPO} --checkpoints-dir file/x", "another", _a_regular_file),
    Bad("logs in /proc", "train.py", f"{PPO} --log-dir /proc/runs", "choose another folder"),
    Bad("no file name", "train.py", f"{PPO} --out .", "--out"),
    Bad("out in a folder's place", "train.py", f"{PPO} --out runs", "runs is a folder; name a"),
    Bad("out on a folder", "train.py", f"{PPO} --out a", "a.zip is a folder", _folder_like_a_zip),
    Bad("out in /proc", "train.py", f"{SAC} --out /proc/x.zip", "cannot write to /proc"),
    Bad("empty tag", "train.py", f"{PPO} --run-tag=", "--run-tag is empty; it must name a folder"),
    Bad("second run", "train.py", " ".join(TINY_PPO), "wait for it", _hold_the_lock),
    Bad(
        "second run into the same curves",
        "train.py",
        " ".join([*TINY_PPO, "--out", "elsewhere/policy"]),
        "wait for it",
        _hold_the_curves,
    ),
    Bad(
        "resume another run",
        "train.py",
        " ".join([*TINY_PPO, "--resume"]),
        "--algo sac, not ppo.*without --resume",
        _unfinished_run,
    ),
    Bad(
        "resume a damaged state",
        "train.py",
        " ".join([*TINY_PPO, "--resume"]),
        "cannot be read: it is damaged or cut short; start again without --resume$",
        _damaged_state,
    ),
    Bad(
        "resume half a state",
        "train.py",
        " ".join([*TINY_PPO, "--resume"]),
        "cannot be read: it is damaged or cut short; start again without --resume$",
        _half_a_state,
    ),
]

EVALUATION = [
    Bad("nothing to evaluate", "eval.py", REACH, "either --ckpt PATH or --baseline"),
    Bad("too much", "eval.py", f"--ckpt {PPO_ZIP} --baseline random", "either --ckpt"),
    Bad("baseline of nothing", "eval.py", "--baseline random", "name it with --env"),
    Bad("unknown baseline", "eval.py", f"--baseline best {REACH}", "do-nothing or random|one of"),
    Bad("baseline, unknown env", "eval.py", "--baseline random --env Fetch", "did you mean|list"),
    Bad("no episodes", "eval.py", f"--ckpt {PPO_ZIP} --n-episodes 0", "--n-episodes.*between 1"),
    Bad("seeds of words", "eval.py", f"--ckpt {PPO_ZIP} --seeds a-b", "0,1,2 or 0-99"),
    Bad("seeds backwards", "eval.py", f"--ckpt {PPO_ZIP} --seeds 9-0", "0,1,2 or 0-99"),
    Bad("seed too large", "eval.py", f"--ckpt {PPO_ZIP} --seeds {2**32}", "4294967295"),
    Bad("a seed twice", "eval.py", f"--ckpt {PPO_ZIP} --seeds 0-2,1", "twice; name each .*once"),
    Bad("few seeds", "eval.py", f"--ckpt {PPO_ZIP} --seeds 0-4 --n-episodes 9", "5 of 9"),
    Bad("no checkpoint", "eval.py", "--ckpt checkpoints/none", "none.zip does not exist"),
    Bad("checkpoint without name", "eval.py", "--ckpt .", "--ckpt|does not exist"),
    Bad("a page", "eval.py", "--ckpt file", "error: file is .*not a checkpoint", _a_regular_file),
    Bad("a folder", "eval.py", "--ckpt runs", "runs is a folder; give"),
    Bad("zip folder", "eval.py", "--ckpt a.zip", "a.zip is a folder; give", _folder_like_a_zip),
    Bad("truncated", "eval.py", f"--ckpt {PPO_ZIP}", "truncated", _truncate),
    Bad("random bytes", "eval.py", f"--ckpt {PPO_ZIP}", "not a checkpoint", _random_bytes),
    Bad("no policy", "eval.py", f"--ckpt {PPO_ZIP}", "holds no policy", _zip_without_policy),
    Bad("garbage tensors", "eval.py", f"--ckpt {PPO_ZIP}", "tensors.*damaged", _garbage_tensors),
    Bad("diverged", "eval.py", f"--ckpt {PPO_ZIP}", "diverged", _weights_that_are_no_numbers),
    Bad("flipped bits", "eval.py", f"--ckpt {PPO_ZIP}", "damaged", _flip_bits_of_tensors),
    Bad("no metadata", "eval.py", f"--ckpt {PPO_ZIP}", "code.*--trust-pickle", _remove_metadata),
    Bad("new schema", "eval.py", f"--ckpt {PPO_ZIP}", "--trust-pickle", _other_metadata_schema),
    Bad("corrupt metadata", "eval.py", f"--ckpt {PPO_ZIP}", "not.*JSON", _corrupt_metadata),
    Bad("metadata list", "eval.py", f"--ckpt {PPO_ZIP}", "not a JSON object", _metadata_is_a_list),
    Bad("no net_arch", "eval.py", f"--ckpt {PPO_ZIP}", "policy", _metadata_without_architecture),
    Bad("other layers", "eval.py", f"--ckpt {PPO_ZIP}", r"other layers .*\[32\]", _other_layers),
    Bad("other spaces", "eval.py", f"--ckpt {PPO_ZIP} --env FetchPush-v4", "other spaces"),
    Bad("spaces, no goals", "eval.py", f"--ckpt {SAC_ZIP} --env Pendulum-v1", "other spaces"),
    Bad("discrete spaces", "eval.py", f"--ckpt {SAC_ZIP} --env CartPole-v1", "other spaces"),
    Bad("tag elsewhere", "train.py", "--algo ppo --env FetchReach-v4 --run-tag ../x", "inside"),
    Bad("tag of the root", "eval.py", f"--ckpt {PPO_ZIP} --run-tag /x", "inside"),
    Bad("seeds without end", "eval.py", f"--ckpt {PPO_ZIP} --seeds 0-9999999999", "too many"),
    Bad("result is a folder", "eval.py", f"--ckpt {PPO_ZIP} --json-out .", "is a folder"),
    Bad("old id", "train.py", "--algo ppo --env FetchReach-v1", "not installed"),
    Bad("out is a folder", "train.py", "--algo ppo --env FetchReach-v4 --out x/", "not a folder"),
    Bad("tuple spaces", "eval.py", f"--ckpt {SAC_ZIP} --env Blackjack-v1", "no time limit"),
    Bad("other algorithm", "eval.py", f"--ckpt {PPO_ZIP} --algo sac", "trained with ppo"),
    Bad("result in /proc", "eval.py", f"--ckpt {PPO_ZIP} --json-out /proc/x.json", "another"),
    Bad("unknown device", "eval.py", f"--ckpt {PPO_ZIP} --device tpu", "cuda:N"),
    Bad("unknown flag", "eval.py", f"--ckpt {PPO_ZIP} --episodes 3", "unrecognized"),
]

CASES = [*TRAINING, *EVALUATION]


@pytest.fixture
def published(workdir: Path, trained_ppo: Trained, trained_sac_her: Trained) -> Path:
    """Checkpoints, curves and a result that a mistake could cost."""
    trained_ppo.copy_to(workdir)
    trained_sac_her.copy_to(workdir)
    result = workdir / "results" / "ppo_fetchreachdense-v4_seed0_eval.json"
    result.parent.mkdir()
    result.write_text("{}")
    return workdir


@pytest.mark.parametrize("bad", CASES, ids=[f"{c.script[:-3]}: {c.name}" for c in CASES])
def test_bad_input_ends_in_one_helpful_line_and_changes_nothing(bad: Bad, published: Path) -> None:
    prepared = bad.prepare() if bad.prepare else None
    short = ["--total-steps", "64"] if bad.script == "train.py" else []  # in case it is accepted
    with prepared or contextlib.nullcontext():
        before = tree(published)
        outcome = run_script(bad.script, *short, *bad.arguments.split())
        assert tree(published) == before
    assert outcome.out == "", "a warning before the error tells of a run that will not be"
    _assert_refused(outcome.code, outcome.err, bad.says)


def test_at_least_25_kinds_of_bad_input_are_tried() -> None:
    assert len(CASES) >= 25
    assert len({(case.script, case.name) for case in CASES}) == len(CASES)


def test_unusable_rendering_backend_is_refused_before_anything_imports_mujoco(
    workdir: Path,
) -> None:
    arguments = ["--baseline", "random", "--env", "FetchReach-v4", "--video"]
    process = start("eval.py", *arguments, MUJOCO_GL="bogus")
    _, err = process.communicate(timeout=60)
    _assert_refused(process.returncode, err, "MUJOCO_GL=bogus cannot render.*unset it")
    assert tree(workdir) == {}


def test_error_line_and_exit_code_reach_the_shell(workdir: Path) -> None:
    process = start("train.py", *TINY_SAC_HER, "--n-envs", "-2")
    out, err = process.communicate(timeout=60)
    _assert_refused(process.returncode, err, "--n-envs.*-2")
    assert out == ""
    assert tree(workdir) == {}


def test_largest_buffer_named_in_the_refusal_is_accepted(workdir: Path) -> None:
    refused = run_script("train.py", *SAC.split(), "--buffer-size", str(10**12))
    fits = re.search(r"needs ([\d.]+) GiB .* --buffer-size (\d+)", refused.err)
    assert fits is not None, refused.err
    assert float(fits[1]) > 50_000
    assert 1_000_000 < int(fits[2]) < 10**12
    # A negative count is looked at earlier, memory later: past the check comes the folder's.
    accepted = run_script(
        "train.py", *SAC.split(), "--buffer-size", fits[2], "--log-dir", "/proc/runs"
    )
    assert "cannot write" in accepted.err


def test_a_buffer_smaller_than_the_episodes_it_keeps_is_refused(workdir: Path) -> None:
    """Without HER as well: the engine fast keeps whole episodes, and would hold more than asked."""
    flags = ["--n-envs", "2", "--buffer-size", "199"]
    refused = run_script("train.py", *SAC.split(), *flags)
    _assert_refused(refused.code, refused.err, "whole episodes and 199 .* --buffer-size 200")
    assert tree(workdir) == {}


def _assert_refused(code: int, err: str, says: str) -> None:
    assert code == 2, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert ";" in lines[0], "the message must say what to do"
    assert re.search(says, lines[0]), lines[0]
    assert "Traceback" not in err
