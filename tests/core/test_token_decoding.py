# SPDX-License-Identifier: Apache-2.0
"""Iterative decoding: rounds, known tokens, determinism, permutation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pc_perception.models import token_decoding
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.shape_generator import ShapeNetwork, in_order
from pc_perception.models.shape_tokenizer import ShapeTokenizer, ShapeTokens
from pc_perception.models.token_decoding import Decoding, crowded, decode, draw_slots, hidden_after, sample

G, V = 16, 32
TOKENIZER = {
    **{"n_patches": G, "patch_size": 8, "width": 24, "heads": 2, "encoder_depth": 0, "decoder_depth": 1},
    **{"embed": (8, 12, 16), "n_codes": V, "code_width": 8, "hidden": 32, "field_depth": 2},
}
ENCODER = {"n_patches": G, "patch_size": 8, "width": 24, "depth": 1, "heads": 2, "embed": (8, 12, 16)}


@pytest.fixture(scope="module")
def network() -> ShapeNetwork:
    torch.manual_seed(0)
    built = ShapeNetwork(ShapeTokenizer(**TOKENIZER), ObjectEncoder(**ENCODER), 3, 24, 2, 2)
    for p in built.generator.parameters():
        p.data.mul_(3)  # away from the start, where all logits are about equal
    return built.eval()


def tokens_of(n: int, seed: int = 1, b: int = 2) -> ShapeTokens:
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (b, n), generator=rng)
    return ShapeTokens(ids, torch.randint(256, (b, n, 3), generator=rng))


ANY = torch.full((2,), -1)


def test_the_cosine_leaves_as_many_as_the_card_says() -> None:
    assert [hidden_after(s, 8, 64) for s in range(8)] == [62, 59, 53, 45, 35, 24, 12, 0]
    assert [hidden_after(s, 12, 64) for s in range(12)] == [63, 61, 59, 55, 50, 45, 38, 32, 24, 16, 8, 0]


@pytest.mark.parametrize(("n_seen", "steps"), [(0, 1), (0, 5), (6, 8), (6, 100), (15, 3)])
def test_it_ends_after_its_rounds_and_leaves_known_tokens_alone(
    network: ShapeNetwork, monkeypatch: pytest.MonkeyPatch, n_seen: int, steps: int
) -> None:
    rounds: list[int] = []

    def counted(*a):  # type: ignore[no-untyped-def]
        rounds.append(a[3])
        return draw_slots(*a)

    monkeypatch.setattr(token_decoding, "draw_slots", counted)
    seen = tokens_of(n_seen)
    found = decode(network, seen, ANY, G - n_seen, Decoding(steps))
    assert len(rounds) == min(steps, G - n_seen)
    assert all(a > b for a, b in pairwise(rounds))
    assert found.ids.shape == (2, G)
    assert int(found.ids.min()) >= 0
    assert int(found.ids.max()) < V
    assert torch.equal(found.ids[:, :n_seen], seen.ids)
    assert torch.equal(found.bins[:, :n_seen], seen.bins)


def test_one_round_is_one_draw(network: ShapeNetwork) -> None:
    how = Decoding(1, temperature=1.0)
    one = decode(network, tokens_of(4), ANY, 12, how, torch.Generator().manual_seed(3))
    drawn, sure = draw_slots(network, tokens_of(4), ANY, 12, how, torch.Generator().manual_seed(3))
    assert torch.equal(one.ids[:, 4:], drawn.ids)
    assert torch.equal(one.bins[:, 4:], drawn.bins)
    assert bool((sure < 0).all())


def test_without_temperature_the_seed_changes_nothing(network: ShapeNetwork) -> None:
    how = Decoding(4, temperature=0.0, choice=0.0)
    runs = [
        decode(network, tokens_of(4), ANY, 12, how, torch.Generator().manual_seed(s)).ids for s in range(2)
    ]
    assert torch.equal(*runs)
    warm = replace(how, temperature=1.0)
    runs = [
        decode(network, tokens_of(4), ANY, 12, warm, torch.Generator().manual_seed(s)).ids for s in range(2)
    ]
    assert not torch.equal(*runs)


def test_the_order_of_seen_tokens_does_not_matter(network: ShapeNetwork) -> None:
    seen, order = tokens_of(9), torch.randperm(9)
    slots = network.slots(seen, ANY, 7)
    permuted = network.slots(seen.take(order.expand(2, -1)), ANY, 7)
    assert torch.allclose(slots, permuted, atol=1e-3)
    assert not torch.allclose(slots, network.slots(tokens_of(9, 2), ANY, 7), atol=1e-2)


def test_a_class_and_its_guidance_change_what_is_drawn(network: ShapeNetwork) -> None:
    how = Decoding(1, temperature=0.0, guidance=0.0)
    seen, label = tokens_of(4), torch.full((2,), 1)
    none, some = (draw_slots(network, seen, y, 12, how)[1] for y in (ANY, label))
    much = draw_slots(network, seen, label, 12, replace(how, guidance=3.0))[1]
    assert not torch.allclose(none, some)
    assert not torch.allclose(some, much)
    unguided = draw_slots(network, seen, ANY, 12, replace(how, guidance=3.0))[1]
    assert torch.equal(unguided, none)  # no class, nothing to be guided to


def test_values_are_drawn_from_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, -1)
    drawn = sample(logits, Decoding(top_p=0.75), torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / 4000
    assert share.tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert int(sample(logits, Decoding(temperature=0)).max()) == 0


def test_of_two_at_one_place_the_surer_is_kept() -> None:
    drawn = ShapeTokens(
        torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[[9] * 3, [10] * 3, [99] * 3, [200] * 3]])
    )
    seen = ShapeTokens(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[[201] * 3]]))
    found = crowded(drawn, seen, torch.tensor([[1.0, 2.0, 0.0, 5.0]]), 0.1)
    assert found.tolist() == [[True, False, False, True]]


def test_hidden_tokens_are_put_along_the_curve() -> None:
    tokens = tokens_of(12)
    ordered = in_order(tokens, torch.arange(12).flip(0).expand(2, -1))
    again = in_order(tokens, ordered)
    assert torch.equal(ordered, again)
    assert torch.equal(ordered.sort(1).values, torch.arange(12).expand(2, -1))


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"steps": 0}, {"temperature": -1.0}, {"top_p": 0.0}):
        with pytest.raises(ValueError, match="steps must be at least 1"):
            Decoding(**wrong)
