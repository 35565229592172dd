# SPDX-License-Identifier: Apache-2.0
"""Labels, objects, RGB-D and fusion in one process; with simulated sensors where no input is given."""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.launch_arguments import CAMERAS, Argument, common
from ros2_nodes.launching import Session, describe
from ros2_nodes.perception import NODES

SIMULATED = ["cam_0", "cam_1"]
# Nodes that would publish under one name: all but segment_node's outputs get a parent.
PARENTS = {"rgbd_node": "rgbd", "classify_node": "classified", "fuse_node": "fused"}
SHARED = ("segmentation", "colored", "label_info", "legend")
ARGUMENTS = {
    "nodes": Argument(
        f"Which nodes, separated by commas, out of {', '.join(NODES)}.", "segment,rgbd,classify,fuse"
    ),
    "input": Argument("PointCloud2 topic of the LiDAR. Without it, a simulated one is started."),
    "depth": Argument("Depth image topic of an RGB-D camera. Without it, a simulated one is started."),
    "rgb": Argument("Its colour image topic."),
    "camera_info": Argument("Its CameraInfo topic."),
    **CAMERAS,
    "device": Argument("auto, cpu, cuda or cuda:N, of all models; empty: what params_file says (auto)."),
    "threads": Argument(
        "CPU threads to compute with, 0 lets torch choose; empty: what params_file says (1 each)."
    ),
    **common("perception.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    nodes = [f"{name.strip()}_node" for name in session.said("nodes").split(",")]
    unknown = [n for n in nodes if n.removesuffix("_node") not in NODES]
    if unknown:
        raise ValueError(
            f"there is no node '{unknown[0].removesuffix('_node')}'; there are {', '.join(NODES)}"
        )
    topic = session.said("input")
    inputs = {"points": topic, **{name: session.said(name) for name in ("depth", "rgb", "camera_info")}}
    remapped = {node: {**inputs, **_outputs(node)} for node in nodes}
    lidar = not topic and nodes != ["rgbd_node"]
    depth = not inputs["depth"] and "rgbd_node" in nodes
    values: dict[str, object] = {"decimation": 2} if depth else {"use_rgb": bool(inputs["rgb"])}
    if lidar and "fuse_node" in nodes and not session.said("cameras"):
        values["cameras"] = SIMULATED
    actions: list[LaunchDescriptionEntity] = [session.combined(remapped, **values)]
    if lidar:
        cameras = len(SIMULATED) if "fuse_node" in nodes else 0
        actions += session.simulated("simulated_sensor_node", cameras=cameras, rate_hz=5.0)
    if depth:
        actions += session.simulated("simulated_rgbd_node", rate_hz=5.0, width=400)
    return actions + session.rviz("perception.rviz", "base_link", {"points": topic})


def _outputs(node: str) -> dict[str, str]:
    parent = PARENTS.get(node)
    return {topic: f"{parent}/{topic}" for topic in SHARED} if parent else {}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
