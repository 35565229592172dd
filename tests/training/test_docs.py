# SPDX-License-Identifier: Apache-2.0
"""README and docs: their commands can be typed, their links lead somewhere, and every config is named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from calibration.cli import build_parser as calibrate_parser
from pc_perception.commands.arguments import build_parser
from training.evaluate.command import build_parser as evaluate_parser
from training.settings import read_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARSERS = {
    "pc-perception": build_parser,
    "pc-calibrate": calibrate_parser,
    "pc-evaluate": evaluate_parser,
}


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command of ours in a block of code, and of README's tables."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^ *(pc-(?:perception|train|evaluate|calibrate) [^\n`]*)$", text, re.MULTILINE)
    if page.name == "README.md":
        found += re.findall(r"`(pc-\w+ [^`]+)`", text)
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_can_be_typed(page: Path) -> None:
    for program, *words in commands(page):
        if program == "pc-train":
            # Placeholders for a set of the user's.
            chosen = [re.sub("=(NAME|mine/labels.yaml)$", "=modelnet40", word) for word in words[1:]]
            read_config(words[0], chosen).validate()
        else:
            PARSERS[program]().parse_args(words)  # a wrong word ends the test


def test_there_are_commands() -> None:
    assert {words[0] for page in PAGES for words in commands(page)} == {*PARSERS, "pc-train"}
    assert len(commands(ROOT / "README.md")) > 20


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", page.read_text(encoding="utf-8")):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}, anchor


def test_every_config_is_named() -> None:
    told = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    ours = [file.stem for file in (ROOT / "training" / "configs").glob("[!_]*.py")]
    assert len(ours) > 20
    assert [name for name in ours if f"`{name}`" not in told] == []
