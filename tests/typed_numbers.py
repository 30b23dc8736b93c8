"""The rule against typed results: what a page states as a quantity was measured, or is quoted.

A number is refused where it has a unit, a %, a ± or a ×, a decimal point or a thousands comma, or
where it is one of so many (`9 of 10`). It may stand in a macro (`ours`, `logged`, `book` …), in a
fenced block, in a formula, or in inline code that says what it is (`--clip-range 0.1`); a number
alone is no code. Counts without a unit (chapter 3, 8 environments, seeds 0 to 2) are free, and so
are the few phrases of FACTS, which tell of a setting and cannot be read from a file.
"""

from __future__ import annotations

import re

CODE = r"^( *)(`{3,}).*?^\1\2 *$"
FORMULA = r"\$\$.*?\$\$|(?<!\\)\$(?=\S)[^$\n]+?(?<=\S)\$"
FACTS = ("Python 3.11 to 3.13", "95 % intervals", "84 × 84 pixels")
TOLD_ELSEWHERE = (
    r"<!-- made by \S+ -->.*?<!-- end -->",
    r"\A---\n.*?^---$",  # front matter
    r"<!--.*?-->",
    CODE,
    r"\{\{.*?\}\}|\{%.*?%\}",
    FORMULA,
    r"`[^`\n]*[A-Za-z][^`\n]*`",
    r"(?<=\]\()[^)]*",  # targets of links
    r"</?[A-Za-z][^>\n]*>",
    r"\{[:#.][^}\n]*\}",  # attributes
)
UNITS = (
    "%|‰|°|percent|points?|times|fold|s|ms|sec|seconds?|min|minutes?|h|hours?|days?|weeks?|"
    "m|mm|cm|km|met(?:re|er)s?|(?:milli|centi)met(?:re|er)s?|Hz|fps|steps?|episodes?|updates?|"
    "iterations?|[kMG]i?B|bytes?|GPUs?|cores?|pixels?|px|degrees?|radians?|[kM]|x|µs|ns"
)
QUANTITY = re.compile(
    rf"[±×~≈]\s*\d[\d.,]*|\d[\d.,]*[\s\N{{NO-BREAK SPACE}}-]*(?:[±×]|(?:{UNITS})(?![A-Za-z]))"
    r"|\d+\.\d+|\d,\d{3}|\de-?\d|\d+ (?:(?:out )?of (?:the |a )?(?:\d+|hundred|dozen)|in \d+)"
)


def typed_numbers(page: str) -> list[str]:
    """The quantities that a page states by itself, each with what stands around it."""
    facts = (re.escape(fact).replace(r"\ ", r"\s+") for fact in FACTS)
    for form in (*TOLD_ELSEWHERE, *facts):
        page = re.sub(form, " ‥ ", page, flags=re.MULTILINE | re.DOTALL)
    return [
        page[max(found.start() - 30, 0) : found.end() + 10].replace("\n", " ")
        for found in QUANTITY.finditer(page)
    ]
