# SPDX-License-Identifier: Apache-2.0
"""The Triton range image against the reference, bit for bit."""

from math import pi

import pytest
import torch

from pc_perception.ops.range_image import range_image

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LIMITS = (-0.5, 0.3)


def _sweep(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(n)
    azimuth, elevation = torch.rand(n, generator=g) * 2 * pi - pi, torch.rand(n, generator=g) * 1.2 - 0.6
    # Few different ranges: ties are the rule.
    radius = torch.randint(1, 6, (n, 1), generator=g)
    flat = elevation.cos()
    return radius * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], 1)


@pytest.mark.parametrize("by_ring", [False, True])
@pytest.mark.parametrize(("n", "shape"), [(0, (2, 3)), (1, (1, 1)), (700, (8, 32)), (3000, (3, 5))])
def test_equals_the_reference(n: int, shape: tuple[int, int], by_ring: bool) -> None:
    xyz = _sweep(n).to(DEVICE)
    xyz = torch.cat([xyz, xyz], 1)[:, ::2][:, [0, 2, 1]] if n == 700 else xyz
    ring = torch.arange(n, device=DEVICE) % shape[0] if by_ring else None
    a, b = (range_image(xyz, shape, LIMITS, ring, backend) for backend in ("triton", "torch"))
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.range, b.range)


def test_directions_ties_and_points_without_direction() -> None:
    left, right, ahead = [0.0, 5.0, 0.0], [0.0, -5.0, 0.0], [5.0, 0.0, 0.0]
    nothing = [[torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]
    xyz = torch.tensor(
        [*nothing, [9.0, 0.1, 0.0], ahead, ahead, left, right, [-5.0, 0.0, 0.0], [-4.0, -0.0, 0.0]],
        device=DEVICE,
    )
    image = range_image(xyz, (1, 4), LIMITS, backend="triton")
    assert image.index.tolist() == [[10, 7, 5, 8]]
    assert image.range.tolist() == [[4.0, 5.0, 5.0, 5.0]]
