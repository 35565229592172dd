# SPDX-License-Identifier: Apache-2.0
"""Objects in sequence, for the wrappers of ``spd.py``: what leads an encoder of single objects from one to the next.

PointCSP (arXiv 2605.01759) walks a recurrent layer from scene to scene. A transformer has no walk; the same is
proposed by us for it: the patches of all objects in a sequence attend to each other, while each class token
reads its own object alone (class tokens are equal at the start and would stay so if all read everything). A causal
encoder's patches see those that come before them in the order of the sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from pc_perception.models.voxel_objects import VoxelObjectEncoder
from pc_perception.models.walks import Walk
from training.objects import ObjectBatch

from .cross_sample import AcrossScenes
from .host import Encoded


def encode_objects(encoder: ObjectEncoder | VoxelObjectEncoder, batch: ObjectBatch, walk: Walk) -> Encoded:
    """Encode objects to one pooled row each, (B, 2 C); of an encoder on voxels keep what every level had."""
    if isinstance(encoder, VoxelObjectEncoder):
        levels = encoder.levels_of(batch.points, batch.offsets, walk)
        return Encoded(encoder.pool(*levels[-1]), tuple(levels))
    steps = block_outputs(encoder, encoder.patches(batch.points, batch.offsets), walk)
    return Encoded(encoder.pool(encoder.transformer.norm(steps[-1])))


def block_outputs(encoder: ObjectEncoder, patches: Patches, walk: Walk) -> list[Tensor]:
    """Return what ``Transformer.outputs`` does, (B, n_extra + G, C) each; ``walk`` may join objects."""
    tokens, place, mask = encoder.prepare(
        encoder.embedding(patches.points), encoder.position(patches.centers)
    )
    if not isinstance(walk, AcrossScenes):
        return encoder.transformer.outputs(tokens, place, mask)
    parts = []
    for few, where in zip(tokens.split(walk.n_scenes), place.split(walk.n_scenes), strict=True):
        sight = sequence_mask(len(few), few.shape[1], encoder.n_extra, encoder.causal, walk.order)
        joined = few.flatten(0, 1)[None], where.flatten(0, 1)[None], sight.to(few.device)
        parts.append([x[0].unflatten(0, few.shape[:2]) for x in encoder.transformer.outputs(*joined)])
    return [torch.cat(step) for step in zip(*parts, strict=True)]


def sequence_mask(n_objects: int, n_tokens: int, n_extra: int, causal: bool, order: str) -> Tensor:
    """Return where each token of a sequence of objects may look, (T, T) bool with T = n_objects * n_tokens.

    With one object this is what the object sees alone.

    Args:
        n_tokens: of an object, ``n_extra`` class tokens in front.
        order: of patches along the sequence (``cross_sample.ORDERS``); it matters to causal encoders only.
    """
    token = torch.arange(n_objects * n_tokens)
    thing, is_class = token // n_tokens, token % n_tokens < n_extra
    own = thing[:, None] == thing
    if causal:
        rank = _ranks(order, n_objects, n_tokens)
        patches = (rank[:, None] >= rank) & ~is_class
        return torch.where(is_class[:, None], own, patches)
    return torch.where(is_class[:, None] | is_class, own, torch.ones_like(own))


def _ranks(order: str, n_objects: int, n_tokens: int) -> Tensor:
    """Return the place of each token along the sequence; random orders are torch's."""
    if order == "shuffle_all" and n_objects > 1:
        return torch.randperm(n_objects * n_tokens)
    if order == "shuffle_within" and n_objects > 1:
        return torch.cat([k * n_tokens + torch.randperm(n_tokens) for k in range(n_objects)])
    return torch.arange(n_objects * n_tokens)
