# SPDX-License-Identifier: Apache-2.0
"""Contract, segmenter, stream: the promises every deployed model keeps."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, pose, rotation_y
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_choice import choose_model
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.sensor_check import describe, mismatches, pool
from pc_perception.inference.stream import SweepOptions, SweepSegmenter, Timing
from pc_perception.inference.upright import upright
from pc_perception.inference.worker import LatestSlot, Worker
from pc_perception.labels import UNLABELED
from pc_perception.ops.repeats import first_equal

from .conftest import SIZE_T, TINY, make_cloud, make_segmenter


@pytest.mark.parametrize("arguments", [TINY, SIZE_T], ids=["tiny", "T"])
def test_batch_independence(arguments: dict) -> None:
    model = make_segmenter(arguments)
    clouds = [make_cloud(0), make_cloud(1, 40), make_cloud(2, 1500)]
    together = model(clouds)
    for cloud, result in zip(clouds, together, strict=True):
        alone = model(cloud)
        assert np.array_equal(alone.labels, result.labels)
        np.testing.assert_allclose(alone.confidence, result.confidence, atol=1e-5)


@pytest.mark.parametrize("given", ["sweep.pcd", Path("sweep.pcd"), np.zeros((5, 3), np.float32), [None]])
def test_what_is_no_cloud_is_told(segmenter: Segmenter, given: object) -> None:
    with pytest.raises(
        TypeError, match=r"a model takes a PointCloud or a list of them, not \w+; .*read_cloud"
    ):
        segmenter(given)  # type: ignore[call-overload]


def test_labels_spread_over_classes(segmenter: Segmenter, cloud: PointCloud) -> None:
    assert len(np.unique(segmenter(cloud).labels)) > 2  # else the comparisons below prove nothing


@pytest.mark.parametrize("arguments", [TINY, SIZE_T], ids=["tiny", "T"])
def test_permuted_points_give_permuted_labels(arguments: dict, cloud: PointCloud) -> None:
    model = make_segmenter(arguments)
    order = np.random.default_rng(0).permutation(len(cloud))
    straight, shuffled = model(cloud), model(cloud.select(order))
    # Sums over a voxel's points run in another order: rounding may turn a tie between two classes.
    assert (straight.labels[order] == shuffled.labels).mean() > 0.999
    np.testing.assert_allclose(straight.confidence[order], shuffled.confidence, atol=1e-3)


def test_points_that_come_twice_change_nothing(segmenter: Segmenter, cloud: PointCloud) -> None:
    """A sensor in dual return mode sends a point twice wherever its light found one surface."""
    once = segmenter(cloud).labels
    order = np.random.default_rng(0).permutation(2 * len(cloud)) % len(cloud)
    twice = cloud.select(order)
    assert (segmenter(twice).labels == once[order]).mean() > 0.999  # ties, as above


def test_first_equal_points_against_a_dictionary() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.integers(-2, 3, (400, 3)).astype(np.float32)
    xyz[::7] = np.nan
    found, seen = first_equal(xyz), {}
    assert found is not None
    assert found.tolist() == [seen.setdefault(point.tobytes(), i) for i, point in enumerate(xyz)]
    assert first_equal(xyz[np.unique(found)]) is None
    assert first_equal(xyz[:0]) is None


def test_unseen_points_stay_unlabeled_in_place(segmenter: Segmenter, cloud: PointCloud) -> None:
    xyz = cloud.xyz.copy()
    xyz[5], xyz[17, 1], xyz[30] = np.nan, np.inf, (500.0, 0.0, 0.0)
    result = segmenter(PointCloud(xyz, cloud.fields))
    assert (result.labels[[5, 17, 30]] == UNLABELED).all()
    assert (result.confidence[[5, 17, 30]] == 0).all()
    others = np.delete(result.labels, [5, 17, 30])
    assert (others < 8).all()
    assert len(result.labels) == len(cloud)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_clouds_of_almost_nothing(segmenter: Segmenter, n: int) -> None:
    result = segmenter(PointCloud(np.zeros((n, 3), np.float32)))
    assert result.labels.shape == result.confidence.shape == (n,)
    assert result.labels.dtype == np.uint16
    assert result.confidence.dtype == np.float32


def test_a_cloud_far_from_its_origin_is_seen(segmenter: Segmenter, cloud: PointCloud) -> None:
    moved = PointCloud(cloud.xyz + np.float32([512.0, -256.0, 0.0]), cloud.fields)
    assert (segmenter(moved).labels != UNLABELED).all()


def test_only_nan(segmenter: Segmenter) -> None:
    result = segmenter(PointCloud(np.full((10, 3), np.nan, np.float32)))
    assert (result.labels == UNLABELED).all()


def test_intensity_unit_does_not_matter(segmenter: Segmenter, cloud: PointCloud) -> None:
    scaled = cloud.with_fields(intensity=cloud.fields["intensity"] / 255)
    assert np.array_equal(segmenter(cloud).labels, segmenter(scaled).labels)


def test_contract_round_trip_and_refusals() -> None:
    contract = InputContract(0.1, ("offset", "color"), seen={"range_m": (1.0, 2.0, 3.0)})
    assert InputContract.from_json(contract.to_json()) == contract
    with pytest.raises(ValueError, match="names of"):
        InputContract(0.1, ("offset", "smell"))
    with pytest.raises(ValueError, match="positive"):
        InputContract(0.0, ("offset",))
    with pytest.raises(ValueError, match="unknown keys"):
        InputContract.from_json({**contract.to_json(), "new": 1})
    with pytest.raises(ValueError, match="cannot be read"):
        InputContract.from_json({"grid_m": 0.1})


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_contract_reader_never_crashes(data: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (any sentence will do; anything but ValueError fails)
        InputContract.from_json(data)


def looks_alike_unordered(optical: NDArray, level: NDArray) -> bool:
    """Say whether points that a driver or a filter gives without their grid, in any order, are levelled alike."""
    order = np.random.default_rng(1).permutation(len(optical))
    unordered = upright(PointCloud(optical[order], frame="camera_optical_frame"))
    return np.allclose(unordered, level[order], atol=0.01, equal_nan=True)


@pytest.mark.parametrize("down_deg", [45, 50, 55])
def test_upright_takes_no_wall_for_a_floor(down_deg: int) -> None:
    """A wall fills most of the picture; the floor before it is what lies level."""
    v, u = np.meshgrid(np.linspace(-0.45, 0.45, 60), np.linspace(-0.6, 0.6, 80), indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    down = np.deg2rad(down_deg)
    R_world_camera = np.array(
        [[0, -np.sin(down), np.cos(down)], [-1, 0, 0], [0, -np.cos(down), -np.sin(down)]]
    )
    world = rays @ R_world_camera.T
    with np.errstate(divide="ignore"):
        to_floor, to_wall = -1.2 / world[:, 2], 0.7 / world[:, 0]
    depth = np.minimum(np.where(to_floor > 0, to_floor, np.inf), np.where(to_wall > 0, to_wall, np.inf))
    on_floor = depth == to_floor
    assert 0.1 < on_floor.mean() < 0.5
    optical = (rays * depth[:, None]).astype(np.float32)
    level = upright(PointCloud(optical, frame="camera_optical_frame", grid_shape=(60, 80)))
    assert np.ptp(level[on_floor, 2]) < 0.02
    assert np.ptp(level[~on_floor, 2]) > 0.3
    assert looks_alike_unordered(optical, level)


def test_upright_levels_a_tilted_camera() -> None:
    rng = np.random.default_rng(0)
    # A floor 1 m below a camera that looks 35 degrees down, as a 60 x 80 organised view.
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 80), np.linspace(-0.4, 0.4, 60))
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    R_world_optical = rotation_y(np.deg2rad(35)) @ R_BODY_OPTICAL
    world = rays @ R_world_optical.T
    world *= (-1.0 / world[:, 2:3]) * (1 + rng.normal(0, 1e-3, (len(world), 1)))
    optical = (world @ R_world_optical).astype(np.float32)
    optical[::97] = np.nan
    level = upright(PointCloud(optical, frame="camera_optical_frame", grid_shape=(60, 80)))
    assert np.isnan(level[::97]).all()
    assert np.nanstd(level[:, 2]) < 0.02
    assert abs(np.nanmean(level[:, 2]) + 1.0) < 0.02
    assert looks_alike_unordered(optical, level)
    all_around = (world * rng.choice([-1, 1], (len(world), 1))).astype(np.float32)
    lidar = PointCloud(all_around, frame="lidar", grid_shape=(60, 80))
    assert upright(lidar) is lidar.xyz


def test_upright_takes_views_of_nothing_and_stray_points() -> None:
    for xyz in (np.zeros((0, 3)), np.full((40, 3), np.nan), np.full((40, 3), 1e30)):
        view = PointCloud(xyz.astype(np.float32), frame="camera_optical_frame")
        assert upright(view).shape == xyz.shape


def test_a_coloured_lidar_that_looks_ahead_is_on_a_street() -> None:
    rng = np.random.default_rng(0)
    for far, model in ((120.0, "street"), (6.0, "room")):
        x = rng.uniform(0.05, 1, 5000) * far
        ahead = np.stack([x, x * rng.uniform(-0.6, 0.6, 5000), x * rng.uniform(-0.3, 0.3, 5000)], 1)
        colours = {"rgb": np.full((5000, 3), 90, np.uint8)}
        assert choose_model(PointCloud(ahead.astype(np.float32), colours, "livox_frame"))[0] == model


def test_slot_keeps_the_newest_and_counts() -> None:
    slot: LatestSlot[int] = LatestSlot()
    for i in range(5):
        slot.put(i)
    assert slot.take(0.0) == 4
    assert (slot.received, slot.dropped) == (5, 4)
    assert slot.take(0.01) is None


def test_worker_survives_errors_and_stops() -> None:
    done, errors, handled = threading.Event(), [], []

    def handle(item: int) -> None:
        if item == 1:
            raise ValueError("bad sweep")
        handled.append(item)
        done.set()

    worker = Worker(handle, errors.append)
    worker.slot.put(1)
    while not errors:
        done.wait(0.01)
    worker.slot.put(2)
    assert done.wait(5.0)
    worker.stop()
    assert handled == [2]
    assert str(errors[0]) == "bad sweep"
    assert not worker._thread.is_alive()


def test_timing_percentiles() -> None:
    timing = Timing(window=10)
    for i in range(20):
        timing.add(total=float(i))
    assert timing.percentile("total", 50) == 14.5
    assert timing.last("total") == 19.0
    assert np.isnan(timing.percentile("nothing", 50))


def test_ego_box_and_threshold(segmenter: Segmenter, cloud: PointCloud) -> None:
    box = (-5.0, -5.0, -3.0, 5.0, 5.0, 3.0)
    inside = (np.abs(cloud.xyz[:, :2]) <= 5).all(1)
    result = SweepSegmenter(segmenter, SweepOptions(ego_box=box))(cloud)
    assert ((result.labels == UNLABELED) == inside).all()
    sure = SweepSegmenter(segmenter, SweepOptions(confidence_threshold=0.5))(cloud)
    assert ((sure.labels == UNLABELED) == (sure.confidence < 0.5)).all()
    with pytest.raises(ValueError, match="ego_box"):
        SweepOptions(ego_box=(1.0, 0, 0, 0, 1, 1))


def test_accumulated_sweeps_label_only_the_newest(segmenter: Segmenter) -> None:
    first, second = make_cloud(1, 800), make_cloud(2, 600)
    sweeps = SweepSegmenter(segmenter, SweepOptions(n_sweeps=2))
    sweeps(first, pose((1.0, 0.0, 0.0)))
    result = sweeps(second, pose((3.0, 0.0, 0.0)))
    assert len(result.labels) == 600
    # The first sweep, seen from the second, lies 2 m behind: the same as labelling the union by hand.
    moved = first.xyz - np.float32([2.0, 0.0, 0.0])
    fields = {"intensity": np.concatenate([second.fields["intensity"], first.fields["intensity"]])}
    union = segmenter(PointCloud(np.concatenate([second.xyz, moved]), fields))
    assert (union.labels[:600] == result.labels).mean() > 0.999
    sweeps.forget()
    assert np.array_equal(sweeps(second, pose()).labels, segmenter(second).labels)


def test_sensor_check_speaks_in_numbers(cloud: PointCloud) -> None:
    seen = pool([describe(make_cloud(s)) for s in range(4)])
    assert mismatches(cloud, seen) == []
    in_centimetres = PointCloud(cloud.xyz * 100, cloud.fields)
    assert any("check the unit" in sentence for sentence in mismatches(in_centimetres, seen))
    swapped = PointCloud(cloud.xyz[:, [0, 2, 1]], cloud.fields)
    assert any("check axes" in sentence for sentence in mismatches(swapped, seen))
    assert any("no intensity" in sentence for sentence in mismatches(PointCloud(cloud.xyz), seen))
    assert mismatches(PointCloud(np.zeros((0, 3), np.float32)), {}) == []


def test_loading_leaves_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_segmenter("street", "cpu")
    assert torch.equal(torch.rand(3), expected)
