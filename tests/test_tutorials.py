"""The tutorials: what they type parses and runs, what they state was measured or is the book's."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote, urldefrag

import keep_output
import pytest
import tutorial_macros
import tutorial_site
import typed_commands
from mkdocs.exceptions import PluginError
from support import ROOT, read_strict_json, run_script
from typed_commands import Fence
from typed_numbers import typed_numbers

from robotics_rl.errors import UsageError

PAGES = sorted(ROOT.glob("tutorials/*.md"))
KEPT = sorted(ROOT.glob("results/tutorials/*_output.json"))
QUICK = [path for path in KEPT if read_strict_json(path)["quick"]]
EXERCISES = sorted(ROOT.glob("tutorials/exercises/*.py"))
BUILD_SECONDS = 60
PER_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
WITH_README = pytest.mark.parametrize(
    "page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem
)


@pytest.fixture
def repository(workdir: Path) -> Path:
    """An empty current folder that sees what is published, and writes elsewhere."""
    for name in ("checkpoints", "scripts", "tutorials", "train.py", "eval.py"):
        (workdir / name).symlink_to(ROOT / name)
    for name in ("results", "runs"):
        shutil.copytree(ROOT / name, workdir / name)
    return workdir


def expanded(page: Path) -> str:
    with contextlib.chdir(ROOT), mock.patch.dict(os.environ):
        os.environ.pop("MUJOCO_GL", None)
        return tutorial_macros.expand(page.read_text("utf-8"))


def fences(page: Path) -> Iterator[Fence]:
    return typed_commands.fences(expanded(page))


# The site


def test_the_site_builds_without_a_warning_and_needs_nothing_but_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    environment.pop("MUJOCO_GL", None)
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert time.monotonic() - started < BUILD_SECONDS
    built = {path: Addresses(path) for path in sorted(tmp_path.rglob("*.html"))}
    assert len(built) > len(PAGES)
    left = re.compile(r"--8 ?<|\{\{ \w+\(")  # of snippets and macros
    assert [path.name for path, page in built.items() if left.search(page.text)] == []
    outside = [
        (path.name, url)
        for path, page in built.items()
        for url in page.loaded
        if "//" in url and path.is_relative_to(tmp_path)
    ]
    assert outside == [], "loaded from elsewhere"
    styles = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*.css"))
    assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", styles)
    assert [broken for path, page in built.items() for broken in page.broken(path, built)] == []


class Addresses(HTMLParser):
    """What a built page loads, links to, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given:
            self.loaded.append(given["src"])
        elif "href" in given:
            (self.links if tag == "a" else self.loaded).append(given["href"])

    def handle_data(self, data: str) -> None:
        self.text += data

    def broken(self, path: Path, built: dict[Path, Addresses]) -> Iterator[tuple[str, str]]:
        """Links of the page at ``path`` that lead nowhere in the site."""
        for url in self.links + self.loaded:
            target, anchor = map(unquote, urldefrag(url))
            if "//" in target or target.startswith(("mailto:", "/")):  # "/": only in 404.html
                continue
            found = (path.parent / target).resolve() if target else path
            if found.is_dir():
                found = found / "index.html"
            if not found.is_file() or (anchor and anchor not in built[found].anchors):
                yield path.name, url


def test_formulas_are_drawn_without_a_script() -> None:
    page = r'<p><span class="arithmatex">\(a &lt; \hat b\)</span></p>'
    made = tutorial_site.on_page_content(page)
    assert made.startswith("<p><math")
    assert "&#x0003C;" in made
    with pytest.raises(PluginError, match="does not know"):
        tutorial_site.mathml(r"\unknown{x}", display=True)
    for wrong in (r"a_{1", r"\left( a", "a_b_c"):
        with pytest.raises(PluginError, match="no formula"):
            tutorial_site.mathml(wrong, display=False)


@WITH_README
def test_no_number_is_shown_as_code(page: Path) -> None:
    """Within backticks readers would see the markup of a macro."""
    text = re.sub(
        r"^( *)```.*?^\1```", "", tutorial_macros.expand(page.read_text("utf-8")), flags=re.M | re.S
    )
    assert re.findall(r"`[^`\n]*<span[^`\n]*`", text) == []


# Numbers


@WITH_README
def test_no_page_states_a_number_by_itself(page: Path) -> None:
    assert typed_numbers(page.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "It took 12 minutes.",
        "success of 95 %",
        "a success of 0.98",
        "0.40 ± 0.05",
        "about 50,000 of them",
        "solved in 9 of 10 episodes",
        "learned within 300k steps",
        "returns `0.98` in the end",
        "2× faster",
        "a 5-minute run",
        "success < 90 % and distance > 3",
        "2x faster",
        "off by 1e-5",
        "one way in 1 in 3 runs",
        "98 out of a hundred",
    ],
)
def test_a_typed_result_is_found(text: str) -> None:
    assert typed_numbers(f"# Title\n\n{text}\n") != []


@pytest.mark.parametrize(
    "text",
    [
        'success {{ ours("results/x.json", "a.b", ".2f") }}, the book has {{ book("95 %") }}',
        "Chapter 3 trains 8 environments with seeds 0 to 2.",
        "the reward is 0 or -1",
        "pass `--clip-range 0.1`, on Python `mujoco==3.6.0`",
        "with $\\epsilon = 0.2$ the ratio",
        "```bash\npython x.py --steps 5000 # 12 minutes\n```",
        "    ```text\n    12 s\n    ```",
        "[words](../results/0.5s.json)",
    ],
)
def test_settings_quotations_and_counts_are_no_typed_results(text: str) -> None:
    assert typed_numbers(f"# Title\n\n{text}\n") == []


def test_a_number_is_read_where_it_was_measured(workdir: Path) -> None:
    Path("x.json").write_text('{"a": {"b": [0.987]}, "s": 75.2}')
    assert ">0.99<" in tutorial_macros.expand('{{ ours("x.json", "a.b.0", ".2f") }}')
    assert ">1:15<" in tutorial_macros.expand('{{ ours("x.json", "s", "clock") }}')
    Path("c.csv").write_text("env_steps,loss\n100,0.5\n200,\n")
    assert ">0.5<" in tutorial_macros.expand('{{ logged("c.csv", "loss", 100) }}')


@pytest.mark.parametrize(
    "macro",
    [
        'ours("y.json", "a")',
        'ours("x.json", "b")',
        'ours("x.json", "a", "words")',
        'logged("c.csv", "loss", 200)',
        'logged("c.csv", "loss", 5000)',
        'logged("d.csv", "loss", 5000)',
        'card("ch08")',
        'command("ch02", "no such row")',
        'table("results", "No such heading")',
        'table("nowhere")',
        'headline("ch08")',
        'shown("nothing")',
        "unknown()",
        "book()",
    ],
)
def test_a_number_that_nobody_measured_builds_no_site(repository: Path, macro: str) -> None:
    for name in ("README.md", "benchmarks"):
        (repository / name).symlink_to(ROOT / name)
    Path("x.json").write_text('{"a": 1}')
    Path("c.csv").write_text("env_steps,loss\n200,\n")
    with pytest.raises(UsageError):
        tutorial_macros.expand(f"{{{{ {macro} }}}}")


# Commands and code


class ParsedError(Exception):
    """The script has read its flags; what follows would be work."""


@WITH_README
@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")  # in TensorBoard
def test_every_command_is_one_that_its_script_takes(page: Path) -> None:
    commands = typed_commands.commands(expanded(page))
    if page.stem.startswith("ch"):
        assert commands, "a chapter is run"
    for command in commands:
        assert_parses(command.words)


def assert_parses(words: Sequence[str]) -> None:
    """Whether a command is one that exists, with flags that it knows."""
    match words:
        case []:
            pass  # a shell
        case ["python", "-c", code]:
            compile(code, "typed", "exec")
        case ["python", script] if script.startswith("tutorials/exercises/"):
            assert (ROOT / script).is_file()  # they take no flags
        case ["python", script, *arguments]:
            parse_only = mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop)
            with contextlib.chdir(ROOT), parse_only, pytest.raises(ParsedError):
                print(run_script(script, *arguments), "for", words)
        case ["bash", "-c", line]:
            inner = list(itertools.dropwhile(lambda word: "=" in word, shlex.split(line)))
            assert_parses(inner)
        case ["tensorboard", *arguments]:
            from tensorboard.program import TensorBoard

            TensorBoard().configure(["tensorboard", *arguments])
        case ["mkdocs", *arguments]:
            from mkdocs.__main__ import cli as mkdocs

            name, command, rest = mkdocs.resolve_command(mock.Mock(), list(arguments))
            assert command is not None
            command.make_context(name, rest)
        case ["pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths)
        case _:
            pytest.fail(f"nobody checks {shlex.join(words)}; teach assert_parses to")


def parse_and_stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
    """In place of ``parse_args``: parse, say so, do nothing."""
    _, unknown = self.parse_known_args(args, namespace)
    if unknown:
        self.error(f"unrecognized arguments: {' '.join(unknown)}")
    raise ParsedError


@pytest.mark.parametrize(
    "line",
    [
        "bash docker/dev.sh python scripts/ch02_ppo_dense_reach.py train --no-such-flag 1",
        "bash docker/dev.sh python scripts/labs/ppo_from_scratch.py --verfy",
        "bash docker/dev.sh python scripts/ch02_ppo_dense_reach.py train --total-steps many",
        "bash docker/dev.sh bash -c 'MUJOCO_GL=egl python scripts/ch00_proof_of_life.py draws'",
        "bash docker/dev.sh mkdocs server",
        "bash docker/dev.sh pythn scripts/ch00_proof_of_life.py",
    ],
)
def test_a_command_with_a_mistake_is_found(line: str) -> None:
    (command,) = typed_commands.typed(line)
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        assert_parses(command.words)


@PER_PAGE
def test_python_that_a_reader_may_type_runs(page: Path, repository: Path) -> None:
    for fence in fences(page):
        if fence.language == "python" and 'title="try it"' in fence.options:
            done = subprocess.run(
                [sys.executable, "-c", fence.code], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_every_kept_output_is_shown_and_every_exercise_has_one() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    names = [path.stem.removesuffix("_output") for path in KEPT]
    assert [name for name in names if f'shown("{name}"' not in text] == []
    commands = [read_strict_json(path)["command"] for path in KEPT]
    run = {word for command in commands for word in command}
    assert [path.name for path in EXERCISES if str(path.relative_to(ROOT)) not in run] == []


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_a_quick_command_still_prints_what_its_page_shows(path: Path, repository: Path) -> None:
    kept = read_strict_json(path)
    assert kept["cpu_seconds"] <= keep_output.QUICK_SECONDS
    done = keep_output.run(kept["command"])
    assert done.returncode == kept["exit_code"]
    lines = done.stdout.replace(f"{repository}/", "").splitlines()
    assert words_of(lines) == words_of(kept["lines"])


def words_of(lines: Sequence[str]) -> list[str]:
    """Lines without numbers, which differ from machine to machine in their last digits."""
    return [re.sub(r"[-+\d.,:e]*\d[\d.,:e+-]*|\s+", " ", line).strip() for line in lines]
