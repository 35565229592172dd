# SPDX-License-Identifier: Apache-2.0
"""Fields from latents: weights, nearest lookup, a sphere, bins."""

import math

import pytest
import torch

from pc_perception.models.field_decoder import FieldDecoder, field_iou, occupancy_loss
from pc_perception.models.fourier import fourier_features
from pc_perception.models.shape_tokenizer import BINS, ShapeTokenizer, from_bins, to_bins


def test_waves_of_a_place() -> None:
    found = fourier_features(torch.tensor([0.5, 0.0, -0.25]))
    assert found.shape == (51,)
    assert found[:3].tolist() == [0.5, 0.0, -0.25]
    assert found[3:11].tolist() == pytest.approx([math.sin(math.pi * 2**k / 2) for k in range(8)], abs=1e-4)
    assert found[27:35].tolist() == pytest.approx([math.cos(math.pi * 2**k / 2) for k in range(8)], abs=1e-4)


def test_weights_sum_to_one_and_become_the_nearest_center() -> None:
    torch.manual_seed(0)
    decoder = FieldDecoder(8, 16)
    queries, centers = torch.rand(2, 50, 3) * 2 - 1, torch.rand(2, 9, 3) * 2 - 1
    weights = decoder.weights(queries, centers)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 50), atol=1e-6)
    by_hand = (-20.0855 * torch.cdist(queries, centers).square()).softmax(-1)
    assert torch.allclose(weights, by_hand, atol=1e-4)
    with torch.no_grad():
        decoder.log_sigma.fill_(15.0)
    nearest = torch.cdist(queries, centers).argmin(-1)
    assert torch.equal(decoder.weights(queries, centers).argmax(-1), nearest)
    latents = torch.randn(2, 9, 8)
    blend = decoder.weights(queries, centers) @ latents
    taken = latents.gather(1, nearest[..., None].expand(-1, -1, 8))
    assert float((blend - taken).detach().abs().amax(-1).median()) < 1e-4


def test_a_sphere_is_learned() -> None:
    """IoU above 0.9 after a few hundred steps on places alone; signs at the centre and outside."""
    torch.manual_seed(0)
    decoder, latent = FieldDecoder(8, 32, 2), torch.zeros(1, 1, 8)
    center = torch.zeros(1, 1, 3)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=5e-3)
    for _ in range(300):
        x = torch.rand(1, 512, 3) * 2 - 1
        loss = occupancy_loss(decoder(x, latent, center), x.norm(dim=-1) < 0.6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.rand(1, 8000, 3) * 2 - 1
    with torch.no_grad():
        assert float(field_iou(decoder(x, latent, center), x.norm(dim=-1) < 0.6)) > 0.9
        signs = decoder(torch.tensor([[[0.0, 0, 0], [0.9, 0, 0], [0, -0.9, 0.3]]]), latent, center)[0]
    assert signs[0] > 0 > signs[1:].max()


def test_iou_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0], [-1.0, -1, -1, -1]])
    truth = torch.tensor([[True, False, True, True], [False] * 4])
    assert field_iou(logits, truth).tolist() == [0.5, 1.0]


def test_bins_are_as_fine_as_they_say() -> None:
    x = torch.rand(20_000, 3) * 2 - 1
    assert float((from_bins(to_bins(x)) - x).abs().max()) <= 1 / 255 + 1e-6
    assert to_bins(torch.tensor([-1.0, 1.0, -3.0, 3.0])).tolist() == [0, 255, 0, 255]
    assert torch.equal(to_bins(from_bins(torch.arange(BINS))), torch.arange(BINS))


SMALL = {
    **{"n_patches": 16, "patch_size": 8, "width": 24, "heads": 2, "decoder_depth": 1, "embed": (8, 12, 16)},
    **{"n_codes": 32, "code_width": 8, "hidden": 32, "field_depth": 2},
}


@pytest.mark.parametrize("depth", [0, 1])
def test_codes_of_a_patch_alone_do_not_change_with_the_rest(depth: int) -> None:
    """What the tokens of a part are: without an encoder those of the whole, with one they are not."""
    torch.manual_seed(0)
    tokenizer = ShapeTokenizer(**SMALL, encoder_depth=depth)
    for p in tokenizer.encoder.parameters():
        p.data.mul_(10)  # away from the start, where patches hardly look at each other
    points = torch.rand(2, 200, 3) * 2 - 1
    tokenizer(tokenizer.patches(points), points[:, :10])  # codes begin among the features
    tokenizer.eval()
    patches = tokenizer.patches(points)
    half = torch.arange(8).expand(2, -1)
    part = tokenizer.quantize(patches.take(half)).codes
    whole = tokenizer.quantize(patches).codes[:, :8]
    assert torch.equal(part, whole) == (depth == 0)
    tokens = tokenizer.tokenize(patches)
    assert tokens.ids.shape == (2, 16)
    assert float((tokens.centers - patches.centers).abs().max()) <= 1 / 255 + 1e-6
