# SPDX-License-Identifier: Apache-2.0
# ROS 2 Jazzy with pc_perception: docker build -t pc_perception .
#   docker run --rm --net=host pc_perception                                   # a simulated sensor
#   docker run --rm --net=host pc_perception ros2 launch pc_perception segment.launch.py input:=/velodyne_points rviz:=false
#   docker run --rm --net=host --gpus all pc_perception ...                    # needs NVIDIA's container toolkit
FROM ros:jazzy-perception

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The base image's own snapshot decides the versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libgomp1 libusb-1.0-0 python3-colcon-common-extensions python3-venv \
        ros-jazzy-rmw-cyclonedds-cpp ros-jazzy-rosbag2-storage-mcap ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

# One layer for what changes seldom: torch and the other requirements, in an environment that sees rclpy.
WORKDIR /ws
COPY setup.py constraints.txt package.xml /ws/src/pc_perception/
COPY resource /ws/src/pc_perception/resource
ENV VIRTUAL_ENV=/ws/.venv
ENV PATH=/ws/.venv/bin:$PATH
RUN python3 -m venv --system-site-packages "$VIRTUAL_ENV" \
    && touch "$VIRTUAL_ENV/COLCON_IGNORE" \
    && python -m pip install --no-cache-dir -c src/pc_perception/constraints.txt "./src/pc_perception[open3d,dds]" \
    && python -m pip uninstall -y pc_perception

COPY . /ws/src/pc_perception
RUN . /opt/ros/jazzy/setup.bash \
    && python -m pip install --no-cache-dir -c src/pc_perception/constraints.txt "colcon-common-extensions==0.3.0" "empy==3.3.4" "lark==1.3.1" \
    && python -m colcon build --packages-select pc_perception \
    && useradd --create-home --uid 1001 robot

USER 1001
RUN . install/setup.bash && python -m pc_perception.cli doctor --warm
ENV RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/jazzy/setup.bash && source /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "pc_perception", "segment.launch.py", "rviz:=false"]
