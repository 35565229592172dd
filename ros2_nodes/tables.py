# SPDX-License-Identifier: Apache-2.0
"""The parameters of every node: one table each."""

from __future__ import annotations

import sys

from .parameter_groups import (
    EGO_BOX,
    LABELS,
    LEGEND,
    LIFE_CYCLE,
    POLICY,
    RIG,
    STREAM,
    TF_TIMEOUT,
    THREADS,
    UNDISTORT,
    model,
)
from .parameters import Parameter, markdown, wrong_frame

SEGMENT_NODE = (
    *model("street"),
    *LIFE_CYCLE,
    Parameter(
        "target_frame",
        "",
        "Frame of the output; empty keeps the input's. Needs TF at the stamp of each cloud.",
        read_only=True,
        check=wrong_frame,
    ),
    Parameter(
        "n_sweeps",
        1,
        "Sweeps that the model sees at once: the newest, which is labelled, and earlier ones moved by TF.",
        1,
        20,
        True,
    ),
    Parameter(
        "fixed_frame",
        "odom",
        "Frame that stands still, through which earlier sweeps are moved; used when n_sweeps > 1.",
        read_only=True,
        check=lambda v: wrong_frame(v) if v else "is empty; name a frame such as odom or map",
    ),
    TF_TIMEOUT,
    EGO_BOX,
    *LABELS,
    *STREAM,
)

CLASSIFY_NODE = (
    *model("objects", "objects"),
    Parameter(
        "segmenter",
        "street",
        "Model (as `model`) whose things are told apart, class by class; empty: everything above the ground.",
        read_only=True,
    ),
    *LIFE_CYCLE,
    Parameter(
        "fixed_frame",
        "odom",
        "Frame that stands still, in which objects are tracked by TF. Empty, or while there is no transform: the "
        "sensor's own.",
        read_only=True,
        check=wrong_frame,
    ),
    TF_TIMEOUT,
    EGO_BOX,
    Parameter(
        "distance_m",
        0.6,
        "Longest gap inside an object within 20 m, half of it for people; it grows beyond.",
        0.02,
        5.0,
    ),
    Parameter("min_points", 5, "Objects with fewer points are none.", 1, 10000),
    Parameter("min_height_m", 0.2, "Points lower above the ground belong to no object.", -1.0, 1.0),
    Parameter("max_height_m", 4.5, "Points higher above the ground belong to no object.", 1.5, 100.0),
    Parameter("max_extent_m", 15.0, "What is longer is no object.", 0.1, 100.0),
    Parameter("max_range_m", 100.0, "Points further away belong to no object.", 1.0, 1000.0),
    Parameter("max_objects", 200, "Of more objects the nearest are kept.", 1, 2000),
    Parameter("score_threshold", 0.4, "Objects whose best class scores less are `unknown`.", 0.0, 1.0),
    UNDISTORT,
    Parameter("complete", True, "Boxes grow to what is typical of their class, away from the sensor."),
    LEGEND,
    *STREAM,
)

RGBD_NODE = (
    *model("room"),
    *LIFE_CYCLE,
    Parameter("use_rgb", True, "Use the colour image; false labels depth alone.", read_only=True),
    Parameter(
        "registered",
        True,
        "The depth is registered to the colour image: same size, same frame. false: colours are looked up "
        "through `rgb_camera_info` and TF.",
        read_only=True,
    ),
    Parameter("sync_queue", 5, "Messages of each input that wait for their partners.", 1, 100, True),
    Parameter("sync_slop_s", 0.03, "Largest difference of the stamps of one frame.", 0.0, 1.0, True),
    Parameter(
        "decimation",
        3,
        "Every n-th pixel of every n-th row becomes a point; 1 keeps all. Label images keep the "
        "size of the depth image.",
        1,
        16,
    ),
    TF_TIMEOUT,
    Parameter(
        "depth_calibration",
        "",
        "Result file of pc-calibrate that `camera_info` is held against; empty: none.",
        read_only=True,
    ),
    Parameter(
        "rgb_calibration",
        "",
        "The same for `rgb_camera_info`, where the depth is not registered to the colour image.",
        read_only=True,
    ),
    *POLICY,
    *LABELS,
    *STREAM,
)

FUSE_NODE = (
    *RIG,
    *POLICY,
    Parameter(
        "label_set",
        "street8",
        "What the ids of the label images mean: a preset or a .yaml file of the same form.",
        read_only=True,
        check=lambda v: None if v else "is empty; name a label set such as street8",
    ),
    Parameter(
        "use_label_images", True, "Subscribe to label images; false only colours the points.", read_only=True
    ),
    *LIFE_CYCLE,
    LEGEND,
    *STREAM,
)

CALIBRATE_NODE = (
    *RIG,
    *POLICY,
    Parameter("publish_tf", True, "Publish each mount on /tf_static, LiDAR to camera.", read_only=True),
    Parameter(
        "publish_camera_info",
        True,
        "Publish `NAME/camera_info` with the stamp and frame of each picture.",
        read_only=True,
    ),
    Parameter(
        "check_period_s", 60.0, "Seconds between two measurements of the drift; 0: never.", 0.0, 86400.0
    ),
    Parameter("check_frames", 4, "Pairs of cloud and picture that one measurement uses.", 2, 50),
    Parameter("check_gap_s", 2.0, "Seconds between these pairs, so that the surroundings change.", 0.0, 60.0),
    Parameter("max_drift_deg", 0.5, "Largest rotation from the calibration to the best fit.", 0.01, 10.0),
    Parameter(
        "max_drift_mm", 150.0, "Largest translation from the calibration to the best fit.", 1.0, 2000.0
    ),
    THREADS,
    *LIFE_CYCLE,
    *STREAM,
)

SIMULATED_SENSOR_NODE = (
    Parameter("seed", 0, "Decides the streets, the sensor's noise and all traffic.", 0, 2**31 - 1, True),
    Parameter("rate_hz", 10.0, "Revolutions, thus clouds, per second.", 1.0, 20.0, True),
    Parameter(
        "n_beams",
        32,
        "Beams of the LiDAR: 16, 32, 64 or 128.",
        read_only=True,
        check=lambda v: None if v in (16, 32, 64, 128) else f"must be 16, 32, 64 or 128, got {v}",
    ),
    Parameter("n_azimuths", 1085, "Firings per revolution of each beam.", 90, 4096, True),
    Parameter("speed", 8.0, "Metres per second along the street.", 0.5, 30.0, True),
    Parameter("lidar_height", 1.84, "Metres of the sensor above the ground.", 0.3, 5.0, True),
    Parameter(
        "cameras", 0, "Cameras around the vehicle; six are named as nuScenes names its own.", 0, 8, True
    ),
    Parameter("image_width", 320, "Pixels of a picture's row; it is 16 to 9.", 64, 1920, True),
)

SIMULATED_RGBD_NODE = (
    Parameter("seed", 0, "Decides the rooms and the camera's noise.", 0, 2**31 - 1, True),
    Parameter("rate_hz", 10.0, "Frames per second.", 1.0, 30.0, True),
    Parameter("width", 320, "Pixels of an image's row; it is 4 to 3.", 64, 1280, True),
    Parameter("turn_s", 12.0, "Seconds of looking around before the next room.", 1.0, 600.0, True),
)

TABLES = {
    "segment_node": SEGMENT_NODE,
    "classify_node": CLASSIFY_NODE,
    "rgbd_node": RGBD_NODE,
    "fuse_node": FUSE_NODE,
    "calibrate_node": CALIBRATE_NODE,
    "simulated_sensor_node": SIMULATED_SENSOR_NODE,
    "simulated_rgbd_node": SIMULATED_RGBD_NODE,
}
"""Every node's table by the node's name."""


def main() -> None:
    """Print the tables of docs/ros2.md."""
    for name, table in TABLES.items():
        sys.stdout.write(f"## {name}\n\n{markdown(table)}\n")


if __name__ == "__main__":
    main()
