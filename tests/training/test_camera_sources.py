# SPDX-License-Identifier: Apache-2.0
"""Pictures beside clouds out of recordings and KITTI sequences, and scene lists of nuScenes, on a simulated drive."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open3d", reason="ray casting needs open3d")

import camera_drive
from PIL import Image

from pc_perception.geometry import inverse
from pc_perception.io.bag_writer import BagWriter
from pc_perception.io.bags import BagReader
from pc_perception.simulation.camera import CameraFrame
from pc_perception.simulation.writers.bag import write_drive_bag
from pc_perception.simulation.writers.nuscenes import write_nuscenes
from training.data.cameras import CameraCloud, seen_points
from training.data.dataset import Picker
from training.data.nuscenes_splits import VERIFYING, every_nth, scenes_of
from training.data.specs import DataOptions, open_one

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def opened(spec: str, cache: Path, **more):  # type: ignore[no-untyped-def]
    return open_one(spec, DataOptions(None, cameras=True, cache_dir=str(cache), **more))


def meets_the_depth(cloud: CameraCloud, channel: str, image: CameraFrame) -> bool:
    """Say whether points land where the rendered picture shows the same depth; not so with another's picture."""
    camera = next(c for c in cloud.cameras if c.channel == channel)
    seen = seen_points(cloud.xyz, camera)
    u, v = (seen.place * camera.size).astype(int).T
    near = np.abs(seen.depth - image.depth[v, u]) < 0.05 * image.depth[v, u]
    return len(seen.point) > 300 and near.mean() > 0.75


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    write_drive_bag(path, camera_drive.frames())
    return path


def test_a_recording_gives_what_its_cameras_saw(bag: Path, tmp_path: Path) -> None:
    data = opened(f"bag:{bag}", tmp_path)
    assert len(data) == 3
    for k in range(3):
        cloud, frame = data[k], camera_drive.frames()[k]
        assert [c.channel for c in cloud.cameras] == ["cam_back", "cam_front"]
        for camera, name in zip(cloud.cameras, ("CAM_BACK", "CAM_FRONT"), strict=True):
            T = inverse(frame.T_base_cameras[name]) @ frame.T_base_lidar
            np.testing.assert_allclose(camera.T_camera_lidar, T, atol=1e-6)
            assert meets_the_depth(cloud, camera.channel, frame.images[name])
            assert np.abs(camera.picture().astype(int) - frame.images[name].rgb).mean() < 8  # jpeg
        assert not meets_the_depth(cloud, "cam_front", frame.images["CAM_BACK"])
    kept = sorted(f.stat().st_mtime_ns for f in data.folder.rglob("*"))
    again = opened(f"bag:{bag}", tmp_path)
    assert sorted(f.stat().st_mtime_ns for f in again.folder.rglob("*")) == kept  # laid out once
    assert not hasattr(open_one(f"bag:{bag}", DataOptions(None, cache_dir=str(tmp_path)))[0], "cameras")


def rewritten(bag: Path, out: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """Copy a recording; ``change(name, msg)`` may return a changed message, or None to leave one out."""
    with BagReader(bag) as reader, BagWriter(out) as writer:
        for topic, stamp_ns, msg in reader.read():
            changed = change(topic.name, msg)
            if changed is not None:
                writer.write(topic.name, topic.msgtype, changed, stamp_ns, topic.name == "/tf_static")
    return out


def late_front(name: str, msg):  # type: ignore[no-untyped-def]
    """The front camera stops after its first picture."""
    late = name == "/cam_front/image_raw/compressed" and stamp_of(msg) > camera_drive.frames()[0].stamp_ns
    return None if late else msg


def stamp_of(msg) -> int:  # type: ignore[no-untyped-def]
    return msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec


def bent(name: str, msg):  # type: ignore[no-untyped-def]
    if name == "/cam_back/camera_info":
        msg.d = np.array([0.1, 0, 0, 0, 0])
    return msg


def of_zeros(name: str, msg):  # type: ignore[no-untyped-def]
    if name == "/cam_back/camera_info":
        msg.k = np.zeros(9)
    return msg


def without_mounts(name: str, msg):  # type: ignore[no-untyped-def]
    if name == "/tf_static":
        msg.transforms = [t for t in msg.transforms if "front" not in t.child_frame_id]
    return msg


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (late_front, "cam_front was taken 0.20 s from the sweep"),
        (bent, "cam_back has lens distortion"),
        (of_zeros, "cam_back has no intrinsics"),
        (without_mounts, "cam_front cannot be placed: .* not connected"),
    ],
)
def test_what_a_recording_lacks_names_the_cloud(bag: Path, tmp_path: Path, change, told: str) -> None:  # type: ignore[no-untyped-def]
    data = opened(f"bag:{rewritten(bag, tmp_path / 'bad.mcap', change)}", tmp_path)
    with pytest.raises(ValueError, match=f"sample bad.mcap cloud 2: {told}"):
        data[2]
    if change is late_front:
        assert len(data[1].cameras) == 2


def test_corrupt_pictures_and_wrong_sizes_name_the_cloud(bag: Path, tmp_path: Path) -> None:
    def spoiled(name: str, msg):  # type: ignore[no-untyped-def]
        if name == "/cam_front/image_raw/compressed":
            msg.data = msg.data[:700]
        if name == "/cam_back/camera_info":
            msg.width = 640
        return msg

    back, front = opened(f"bag:{rewritten(bag, tmp_path / 'bad.mcap', spoiled)}", tmp_path)[1].cameras
    with pytest.raises(ValueError, match=r"sample bad.mcap cloud 1: the picture of cam_front"):
        front.picture()
    with pytest.raises(ValueError, match=r"sample bad.mcap cloud 1: .* its calibration says .640, 180"):
        back.picture()


def test_a_recording_without_camera_info_is_told(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = rewritten(bag, tmp_path / "half.mcap", lambda n, m: None if n == "/cam_back/camera_info" else m)
    with caplog.at_level(logging.WARNING):
        data = opened(f"bag:{half}", tmp_path)
    assert [c.channel for c in data[0].cameras] == ["cam_front"]
    assert "no camera_info for '/cam_back/image_raw/compressed'" in caplog.text
    none = rewritten(bag, tmp_path / "none.mcap", lambda n, m: None if n.endswith("camera_info") else m)
    with pytest.raises(ValueError, match="has no camera"):
        opened(f"bag:{none}", tmp_path)


def write_kitti(root: Path) -> Path:
    """Write the drive as a SemanticKITTI sequence: the LiDAR as it is, the front camera as image_2."""
    sequence = root / "sequences" / "04"
    for name in ("velodyne", "image_2", "labels"):
        (sequence / name).mkdir(parents=True)
    for k, frame in enumerate(camera_drive.frames()):
        cloud, image = frame.cloud, frame.images["CAM_FRONT"]
        np.c_[cloud.xyz, cloud.fields["intensity"]].astype(np.float32).tofile(
            sequence / f"velodyne/{k:06d}.bin"
        )
        np.full(len(cloud), 40, np.uint32).tofile(sequence / f"labels/{k:06d}.label")
        Image.fromarray(image.rgb).save(sequence / f"image_2/{k:06d}.png")
    T = inverse(frame.T_base_cameras["CAM_FRONT"]) @ frame.T_base_lidar
    baseline = np.array([0.06, 0.01, 0.005])  # of image_2 in the first camera's frame, as P2 holds it
    P2 = np.c_[image.K, image.K @ baseline]
    T[:3, 3] -= baseline
    rows = {"P0": np.c_[image.K, np.zeros(3)], "P2": P2, "Tr": T[:3]}
    text = "".join(f"{n}: {' '.join(f'{v:.12e}' for v in P.ravel())}\n" for n, P in rows.items())
    (sequence / "calib.txt").write_text(text)
    return root


def test_kitti_sequences_give_what_the_left_camera_saw(tmp_path: Path) -> None:
    data = opened(f"semantickitti:{write_kitti(tmp_path / 'kitti')}", tmp_path / "cache")
    assert len(data) == 3
    for k in range(3):
        frame, (camera,) = camera_drive.frames()[k], data[k].cameras
        T = inverse(frame.T_base_cameras["CAM_FRONT"]) @ frame.T_base_lidar
        np.testing.assert_allclose(camera.T_camera_lidar, T, atol=1e-9)
        assert meets_the_depth(data[k], "image_2", frame.images["CAM_FRONT"])
        assert np.array_equal(camera.picture(), frame.images["CAM_FRONT"].rgb)


def test_what_a_kitti_sequence_lacks_names_the_scan(tmp_path: Path) -> None:
    sequence = write_kitti(tmp_path / "kitti") / "sequences" / "04"
    data = opened(f"semantickitti:{tmp_path / 'kitti'}", tmp_path / "cache")
    (sequence / "image_2" / "000000.png").unlink()
    with pytest.raises(ValueError, match=r"sample 04/000000: the picture 'image_2/000000.png' is missing"):
        data[0]
    file = sequence / "image_2" / "000001.png"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"sample 04/000001: the picture of image_2"):
        data[1].cameras[0].picture()
    file.write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"sample 04/000001: the picture 'image_2/000001.png' cannot be used"
    ):
        data[1]
    Image.new("RGB", (120, 80)).save(sequence / "image_2" / "000002.png")
    with pytest.raises(ValueError, match=r"sample 04/000002: calib.txt is not of 'image_2'"):
        data[2]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no calib.txt"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n", "calib.txt has no Tr"),
        ("P2: 0 0 0 0 0 1 0 0 0 0 1 0\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "P2 is no projection"),
        ("P2: a b c\n", "P2 does not hold numbers"),
    ],
)
def test_a_kitti_calibration_that_is_none(tmp_path: Path, content: str | None, told: str) -> None:
    file = write_kitti(tmp_path / "kitti") / "sequences" / "04" / "calib.txt"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ValueError, match=f"sample 04/000001: .*{told}"):
        opened(f"semantickitti:{tmp_path / 'kitti'}", tmp_path / "cache")[1]
    shutil.rmtree(file.parent / "image_2")
    with pytest.raises(ValueError, match=r"sample 04/000001: there is no folder 'image_2'"):
        opened(f"semantickitti:{tmp_path / 'kitti'}", tmp_path / "cache")[1]


def test_clouds_without_usable_pictures_are_counted_and_replaced(bag: Path, tmp_path: Path) -> None:
    from pc_perception.inference.contract import InputContract
    from pc_perception.models.segmenters import SEGMENTERS
    from training.augment import Augmentation
    from training.data.crops import CropSettings
    from training.methods.image_trunk import ImageTrunk
    from training.methods.method import Task
    from training.stream import SampleStream

    data = opened(f"bag:{rewritten(bag, tmp_path / 'late.mcap', late_front)}", tmp_path)
    contract = InputContract(0.4, ("height",))
    task = Task(contract, 0, 3, {}, Augmentation(max_points=0), SEGMENTERS["SparseUNetSegmenter"])
    stream = SampleStream(Picker([data], (), 0), ImageTrunk(CropSettings(48, 80)), task, 0)
    bad = [line for k in range(6) for line in stream[k].bad]
    assert bad
    assert all("late.mcap cloud 2: cam_front was taken 0.20 s" in line for line in bad)


def test_the_split_for_pre_training() -> None:
    train, parametrizing = scenes_of("train"), scenes_of("parametrizing")
    assert train is not None
    assert parametrizing is not None
    assert (len(train), len(parametrizing), len(VERIFYING)) == (700, 600, 100)
    assert train > VERIFYING
    assert parametrizing == train - VERIFYING
    assert scenes_of("") is None
    with pytest.raises(ValueError, match="there is no split 'half'; choose one of train, val"):
        scenes_of("half")


def test_every_nth_scene_counts_from_one() -> None:
    names = [f"scene-{k:04d}" for k in range(700)]
    assert [len(every_nth(names, k, "x")) for k in (100, 20, 10, 4, 1)] == [7, 35, 70, 175, 700]
    assert every_nth(names, 100, "x")[0] == "scene-0099"
    with pytest.raises(ValueError, match="at least 1"):
        every_nth(names, 0, "x")


def test_few_labels_of_a_nuscenes_format_drive(tmp_path: Path) -> None:
    """Scene names of the official lists, in another order than theirs."""
    frames = [replace(f, images={}, T_base_cameras={}) for f in camera_drive.frames()[:1]]
    names = ["scene-0061", "scene-0003", "scene-0008", "scene-0001", "scene-0002"]  # 0003 is of val
    root = write_nuscenes(tmp_path / "drives", [frames] * 5, keyframe_every=1, scene_names=names)

    def scenes(**options: object) -> list[str]:
        data = open_one(f"nuscenes:{root}", DataOptions("street8", **options))  # type: ignore[arg-type]
        return [scene for scene, _, _ in data.frames]  # type: ignore[attr-defined]

    assert scenes() == names
    assert scenes(split="train") == ["scene-0061", "scene-0008", "scene-0001", "scene-0002"]
    assert scenes(split="parametrizing") == ["scene-0061", "scene-0001", "scene-0002"]
    assert scenes(split="verifying") == ["scene-0008"]
    assert scenes(split="train", every=2) == ["scene-0008", "scene-0002"]
    assert scenes(every=5) == ["scene-0002"]
    with pytest.raises(ValueError, match="every=100 leaves none of the 4 scenes of 'drives', split train"):
        scenes(split="train", every=100)
    with pytest.raises(ValueError, match="no keyframe"):
        scenes(split="mini_val")


def test_few_labels_of_kitti(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")

    def scans(**options: object) -> list[str]:
        data = open_one(f"semantickitti:{root}", DataOptions("street8", **options))  # type: ignore[arg-type]
        return [data.name(k) for k in range(len(data))]

    assert scans(split="train", every=2) == ["04/000000", "04/000002"]
    assert scans(every=100) == ["04/000000"]
    with pytest.raises(ValueError, match="no labelled scan of sequences 08"):
        scans(split="val")
    with pytest.raises(ValueError, match="there is no split 'half'"):
        scans(split="half")
