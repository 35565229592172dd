# SPDX-License-Identifier: Apache-2.0
"""Run a model of shapes: make new ones, and complete what a sensor saw one side of."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.meshes import Mesh
from pc_perception.models.shape_generator import ShapeNetwork
from pc_perception.models.shape_tokenizer import ShapeTokens
from pc_perception.models.token_decoding import Decoding, decode
from pc_perception.ops.parallel import team

from .deployed import Deployed
from .meshing import extract_mesh
from .partial_view import PartialView, choose_placement
from .shape_contract import Placement, ShapeContract, box_placement

RESOLUTION = 64
GUIDANCE = 1.0


@dataclass(frozen=True)
class Completion:
    """A whole shape for what was seen of it.

    Attributes:
        mesh: in the cloud's units, in z-up axes about the cloud's origin.
        placement: of the cube that the shape was drawn in; ``yaw`` is the object's heading as the model takes it.
        n_seen: tokens that the cloud gave; the others of the shape were drawn.
        milliseconds: wall time.
    """

    mesh: Mesh
    placement: Placement
    n_seen: int
    milliseconds: float


class ShapeModel(Deployed[ShapeNetwork, ShapeContract]):
    """A network of shapes with its contract and classes, on one device."""

    def generate(
        self,
        class_name: str | None = None,
        n: int = 1,
        seed: int = 0,
        *,
        guidance: float = GUIDANCE,
        resolution: int = RESOLUTION,
        decoding: Decoding | None = None,
    ) -> list[Mesh]:
        """Make new shapes.

        Args:
            class_name: one of the model's classes; None for any.
            n: how many; each depends on the seed and its number alone.
            guidance: how much more than asked for shapes are to be like the class; 0: not at all.
            resolution: cells of the mesh along each axis of the cube.
            decoding: how tokens are drawn, in place of the default.

        Returns:
            Meshes in the cube -1 .. 1, z up, facing +x; one of a shape that came out empty has no faces.

        Raises:
            ValueError: there is no such class, or a number makes no sense.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        label = self._label(class_name)
        how = replace(decoding or Decoding(), guidance=guidance)
        with torch.inference_mode(), team():
            tokens = [self._draw(label, seed, i, how) for i in range(n)]
            return [self._mesh(found, resolution) for found in tokens]

    def complete(
        self,
        cloud: PointCloud,
        seed: int = 0,
        *,
        class_name: str | None = None,
        yaw: float | None = None,
        resolution: int = RESOLUTION,
        decoding: Decoding | None = None,
    ) -> Completion:
        """Draw the whole shape of an object that was seen from one side.

        The cloud's points must be those of the object alone, upright; its origin is taken for the sensor unless it
        lies within the cloud. How large the object is and where it faces is not seen: ``partial_view`` says how both
        are chosen.

        Args:
            class_name: what the object is, where that is known.
            yaw: where it faces, radians about z; None to find out.

        Raises:
            ValueError: there is no such class, or too few points.
        """
        start = time.perf_counter()
        label = self._label(class_name)
        points = self.contract.points(cloud, self.network.tokenizer.patch_size // 4)
        with torch.inference_mode(), team():
            view = PartialView.of(points, self.network.tokenizer, self.contract.n_points)
            placement = choose_placement(self.network, view, label, yaw, self.device)
            seen = view.tokens(self.network.tokenizer, [placement], self.device)
            n_hidden = self.network.tokenizer.n_patches - seen.ids.shape[1]
            generator = torch.Generator(self.device).manual_seed(seed)
            labels = torch.tensor([label], device=self.device)
            how = decoding or Decoding(guidance=0.0)
            tokens = decode(self.network, seen, labels, n_hidden, how, generator)
            mesh = self._mesh(tokens, resolution)
        mesh = Mesh(placement.out_of_cube(mesh.vertices), mesh.faces)
        return Completion(mesh, placement, seen.ids.shape[1], 1e3 * (time.perf_counter() - start))

    def reconstruct(self, cloud: PointCloud, resolution: int = RESOLUTION) -> Mesh:
        """Draw a whole shape from its tokens: what is lost is what its codes cannot say.

        Raises:
            ValueError: too few points.
        """
        points = self.contract.points(cloud, self.network.tokenizer.n_patches)
        placement = box_placement(points)
        with torch.inference_mode(), team():
            xyz = torch.from_numpy(placement.into_cube(_thinned(points, self.contract.n_points)))
            field = self.network.tokenizer.reconstruct(xyz.to(self.device))
            mesh = extract_mesh(field, resolution)
        return Mesh(placement.out_of_cube(mesh.vertices), mesh.faces)

    def _label(self, class_name: str | None) -> int:
        if class_name is None:
            return -1
        if class_name not in self.label_set.classes:
            known = ", ".join(self.label_set.classes)
            raise ValueError(f"this model knows no class '{class_name}'; it has: {known}")
        return self.label_set.classes.index(class_name)

    def _draw(self, label: int, seed: int, number: int, how: Decoding) -> ShapeTokens:
        """Draw the tokens of one shape: it is the same whatever else is asked for."""
        generator = torch.Generator(self.device).manual_seed(1_000_003 * seed + number)
        labels = torch.tensor([label], device=self.device)
        nothing = torch.zeros(1, 0, dtype=torch.int64, device=self.device)
        empty = ShapeTokens(nothing, nothing[..., None].expand(1, 0, 3))
        return decode(self.network, empty, labels, self.network.tokenizer.n_patches, how, generator)

    def _mesh(self, tokens: ShapeTokens, resolution: int) -> Mesh:
        return extract_mesh(self.network.tokenizer.field_of(tokens), resolution)


def _thinned(points: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return at most ``n`` points, the same ones for the same cloud."""
    if len(points) <= n:
        return points
    return points[np.random.default_rng(0).permutation(len(points))[:n]]
