# SPDX-License-Identifier: Apache-2.0
"""Parameters that several nodes have in common, in the groups in which they are read."""

from __future__ import annotations

from .parameters import Parameter, wrong_box, wrong_device, wrong_frame, wrong_names, wrong_precision

THREADS = Parameter(
    "threads", 0, "CPU threads to compute with; 0 leaves the choice to torch.", 0, 256, read_only=True
)


def model(default: str, shipped: str = "street, room") -> tuple[Parameter, ...]:
    """Return the parameters of a node that runs a model file; ``shipped`` names those that suit it."""
    return (
        Parameter(
            "model",
            default,
            f"Shipped model ({shipped}) or path of a .safetensors model file.",
            read_only=True,
            check=lambda v: None if v else "is empty; name a shipped model or a file",
        ),
        Parameter(
            "device",
            "auto",
            "auto (first CUDA device, else CPU), cpu, cuda or cuda:N.",
            read_only=True,
            check=wrong_device,
        ),
        Parameter(
            "precision",
            "auto",
            "What the model multiplies in: float32, bfloat16, or auto: bfloat16 where the device has it.",
            read_only=True,
            check=wrong_precision,
        ),
        THREADS,
    )


LIFE_CYCLE = (
    Parameter("autostart", True, "Configure and activate at start, without a manager.", read_only=True),
    Parameter("diagnostics_period_s", 1.0, "Seconds between two messages on /diagnostics.", 0.1, 60.0, True),
    Parameter(
        "reliable",
        False,
        "Have lost parts of clouds and pictures sent again, in and out; of publishers that are best effort nothing "
        "is heard then.",
        read_only=True,
    ),
)
"""What ``PerceptionNode`` itself reads."""

STREAM = (
    Parameter("max_rate_hz", 0.0, "Process at most so many inputs per second; 0 takes all.", 0.0, 1000.0),
    Parameter(
        "max_age_ms", 500.0, "Diagnostics warn about output that is older than this when sent.", 1.0, 60000.0
    ),
    Parameter("publish_debug", True, "Publish latencies on `~/debug/...`."),
)
"""What ``NodeWorker`` reads."""

LEGEND = Parameter("publish_legend", True, "Publish class names and colours as markers on `legend`.")

LABELS = (
    Parameter("confidence_threshold", 0.0, "Labels less sure than this become unlabeled.", 0.0, 1.0),
    LEGEND,
    Parameter("sensor_check", True, "Compare live clouds with what the model's training saw, and warn."),
)
"""What a node reads that labels points."""

TF_TIMEOUT = Parameter(
    "tf_timeout_s", 0.1, "Seconds to wait for a transform before the input is skipped.", 0.0, 5.0
)

UNDISTORT = Parameter(
    "undistort",
    True,
    "Points have a `time` and were measured while the sensor moved: put that right. false: the driver did.",
)

EGO_BOX = Parameter(
    "ego_box",
    [0.0] * 6,
    "Box of the vehicle itself: x_min, y_min, z_min, x_max, y_max, z_max in metres in target_frame (or "
    "the cloud's own frame); points inside stay unlabeled. Six zeros: no box.",
    check=wrong_box,
)

POLICY = (
    Parameter(
        "calibration_policy",
        "warn",
        "What a bad, stale or drifted calibration or an impossible camera_info leads to: ignore, warn (log and "
        "diagnostics), or refuse (configure fails, the camera is left out).",
        check=lambda v: (
            None if v in ("ignore", "warn", "refuse") else f"must be ignore, warn or refuse, got '{v}'"
        ),
    ),
    Parameter(
        "calibration_max_age_days",
        365.0,
        "Older result files are stale; 0 allows any age.",
        0.0,
        36500.0,
        True,
    ),
)
"""What a node reads that holds cameras against their calibrations."""

RIG = (
    Parameter(
        "cameras",
        ["camera"],
        "Names of the cameras; each has the topics `NAME/image_raw`, `NAME/camera_info` and `NAME/label_image`.",
        read_only=True,
        check=wrong_names,
    ),
    Parameter(
        "calibrations",
        [""],
        "Result files of pc-calibrate, one for each camera in the same order; one empty text takes intrinsics "
        "from camera_info and mounts from TF.",
        read_only=True,
    ),
    Parameter("compressed", False, "Subscribe to `NAME/image_raw/compressed` instead.", read_only=True),
    Parameter("image_slop_s", 0.1, "Largest difference in time between a cloud and a picture.", 0.0, 5.0),
    Parameter(
        "image_timeout_s",
        0.05,
        "Seconds that a cloud waits for a picture of its time, of cameras that are not silent.",
        0.0,
        1.0,
    ),
    Parameter(
        "fixed_frame",
        "",
        "Frame that stands still (odom): clouds are carried by TF to the time of each picture; empty: the "
        "vehicle's own motion in between and within a turn (`undistort`) is left out.",
        read_only=True,
        check=wrong_frame,
    ),
    UNDISTORT,
    TF_TIMEOUT,
)
"""What a node reads that pairs clouds with cameras."""
