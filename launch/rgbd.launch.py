# SPDX-License-Identifier: Apache-2.0
"""Label an RGB-D camera, live or from a bag, or (with no argument) a simulated one, and show it in RViz."""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.launch_arguments import BAG_RATE, Argument, common, model
from ros2_nodes.launching import Session, describe

INPUTS = ("depth", "rgb", "camera_info", "rgb_camera_info")
# A small picture, for the machine has to simulate it, too; with decimation 2 as many points as the model knows.
SIMULATED = {"width": 400, "rate_hz": 5.0}
ARGUMENTS = {
    "depth": Argument(
        "Depth image topic (16UC1 or 32FC1), e.g. /camera/aligned_depth_to_color/image_raw, or its compressed "
        "form, .../compressedDepth. Without it a simulated camera is started."
    ),
    "rgb": Argument(
        "Colour image topic, also .../compressed; with bag or depth it must be given, or use_rgb be false."
    ),
    "camera_info": Argument("CameraInfo topic of the depth image."),
    "rgb_camera_info": Argument(
        "CameraInfo topic of the colour image, for depth that is not registered to it."
    ),
    "bag": Argument("rosbag2 bag (folder, .mcap or .db3) to play with its own clock; say the topics, too."),
    "bag_rate": BAG_RATE,
    **model(),
    **common("rgbd.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    topics = {name: session.said(name) for name in INPUTS}
    bag = session.said("bag")
    if (bag or topics["depth"]) and not (topics["depth"] and topics["camera_info"]):
        raise ValueError("say both topics, depth:=... and camera_info:=..., of the camera to label")
    # What is not registered is said by giving the colour camera's own intrinsics.
    values: dict[str, object] = {"registered": False} if topics["rgb_camera_info"] else {}
    if topics["depth"] and not topics["rgb"]:
        values["use_rgb"] = False
    if not topics["depth"]:
        values["decimation"] = 2
    node = session.perception("rgbd_node", topics, **values)
    actions = [session.play(node, f"playing '{bag}', labelling '{topics['depth']}'")] if bag else []
    actions.append(node)
    if not topics["depth"]:
        actions += session.simulated("simulated_rgbd_node", **SIMULATED)
    frame = "camera_color_optical_frame" if topics["depth"] else "camera_optical_frame"
    return actions + session.rviz("rgbd.rviz", frame, topics)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
