"""What mkdocs calls while it builds the site: macros, links into the repository, maths.

Pages link to the repository's files as they lie, such as `../scripts/labs/ppo_from_scratch.py`. The
site gets each file that a page links to: source code as a page, anything else as it is.
"""

import html
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import rehearsal_tables
import report
import tutorial_macros
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

from robotics_rl.errors import UsageError

GENERATED = {  # page of the site → where report.py writes it
    "results.md": Path("results", "README.md"),
    "benchmarks.md": Path("benchmarks", "README.md"),
    "commands.md": rehearsal_tables.PAGE,
}
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".yml": "yaml", ".txt": "text"}
FENCES = re.compile(r"(^ *(`{3,}).*?^ *\2 *$)", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)  # how pymdownx.arithmatex marks one
CODE_PAGE = """---
search:
  exclude: true
---
# `{path}`

````{language}
{code}
````
"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace macros, add the generated pages and every file that a page links to."""
    made = dict(report.pages())
    for uri, source in GENERATED.items():
        files.append(File.generated(config, uri, content=made[source]))
    for file in list(files.documentation_pages()):
        source = GENERATED.get(file.src_uri, tutorial_macros.FOLDER / file.src_uri)
        try:
            text = file.content_string
            if file.src_uri not in GENERATED:
                text = tutorial_macros.expand(text)
            file.content_string = _linked(text, source, files, config)
        except UsageError as error:
            raise PluginError(f"{source}: {error}") from error
    return files


def _linked(text: str, source: Path, files: Files, config: MkDocsConfig) -> str:
    """A page whose links lead to places of the site, which get there if they are not yet."""

    def place(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(source.parent / link[1]))
        if not path.is_file():
            raise UsageError(f"a link leads to {path}, which is no file; mend it")
        return _place(path, files, config)

    parts = FENCES.split(text)  # outside, fence, its mark, outside, fence, …
    parts[::3] = [tutorial_macros.LINK.sub(place, part) for part in parts[::3]]
    del parts[2::3]
    return "".join(parts)


def _place(path: Path, files: Files, config: MkDocsConfig) -> str:
    """Where a file of the repository is in the site; from the root, where the pages are."""
    for uri, source in GENERATED.items():
        if path == source:
            return uri
    uri = PurePosixPath(path).as_posix()
    language = LANGUAGES.get(path.suffix)
    if language is not None:
        uri = f"code/{uri}.md"
    elif path.is_relative_to(tutorial_macros.FOLDER):
        return uri.removeprefix(f"{tutorial_macros.FOLDER}/")
    elif path.suffix == ".md":
        raise UsageError(f"a link leads to {path}, which is no page of the site; name one")
    if files.get_file_from_path(uri) is None:
        if language is not None:
            page = CODE_PAGE.format(path=path, language=language, code=path.read_text("utf-8"))
            added = File.generated(config, uri, content=page, inclusion=InclusionLevel.NOT_IN_NAV)
        else:
            added = File.generated(config, uri, abs_src_path=str(path.absolute()))
        files.append(added)
    return uri


def on_page_content(content: str, **_: Any) -> str:
    """Turn the formulas of a page into MathML, which browsers draw without a script."""
    return FORMULA.sub(
        lambda formula: mathml(html.unescape(formula[2]), display=formula[1] == "div"), content
    )


def mathml(latex: str, *, display: bool) -> str:
    """A formula as MathML; one of a line of its own may be scrolled on a narrow screen.

    Raises:
        PluginError: it has a mistake, or a command that is unknown.
    """
    bare = re.sub(r"\\[{}]", "", latex)
    try:
        if bare.count("{") != bare.count("}"):
            raise ValueError("unequal braces")
        made = convert(latex.strip(), display="block" if display else "inline")
    except Exception as error:  # latex2mathml has a class for each kind of mistake
        raise PluginError(f"${latex}$ is no formula ({error or type(error).__name__})") from error
    if "\\" in made:
        raise PluginError(f"${latex}$ has a command that latex2mathml does not know; write another")
    return f'<div class="formula">{made}</div>' if display else made
