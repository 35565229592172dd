# SPDX-License-Identifier: Apache-2.0
"""Model cards in docs/models say what the shipped files say, today."""

from pathlib import Path

import pytest

from pc_perception.commands.model_card import model_card
from pc_perception.inference.model_file import read_model_file, shipped_models

CARDS = Path(__file__).resolve().parents[2] / "docs" / "models"


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_every_shipped_model_has_its_card(name: str) -> None:
    told = f"pc-perception inspect {name} --card > docs/models/{name}.md"
    assert (CARDS / f"{name}.md").read_text(encoding="utf-8") == model_card(name), f"run: {told}"


def test_no_card_outlives_its_model() -> None:
    assert {card.stem for card in CARDS.glob("*.md")} == set(shipped_models())


def test_a_card_says_what_was_measured_and_on_what() -> None:
    metrics = read_model_file("street")[0].provenance["metrics"]
    card = model_card("street")
    assert metrics
    for on, row in metrics.items():
        assert f"| {on} | " + " | ".join(f"{value:g}" for value in row.values()) in card


def test_a_bare_model_says_that_nothing_is_recorded(model_path: Path) -> None:
    card = model_card(str(model_path))
    assert "Nothing is recorded in the file." in card
    assert "**Method**: random" in card
