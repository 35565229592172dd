# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set up everything they need in .venv; a second call installs nothing.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
COMMA := ,

# ROS 2 is used where it is installed: the sourced distribution, else the last one in /opt/ros.
ROS_SETUP ?= $(lastword $(sort $(wildcard /opt/ros/$(or $(ROS_DISTRO),*)/setup.bash)))
ROS_PYTHON := $(notdir $(firstword $(wildcard $(dir $(ROS_SETUP))lib/python3.*)))
WITH_ROS := $(if $(ROS_SETUP),source $(ROS_SETUP) &&)
EXTRAS := dev$(if $(ROS_SETUP),$(COMMA)ros-test)
STAMP := $(VENV)/.installed$(if $(ROS_SETUP),-ros)

# The interpreter that ROS was built for comes first, since rclpy imports in no other.
PYTHON ?= $(shell for p in $(ROS_PYTHON) python3.11 python3.12 python3.10 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)

# Libraries of the system that Open3D's wheel loads, by their Debian and Ubuntu names.
OPEN3D_SYSTEM := libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1

# Nodes under test talk over loopback only, whatever networks the machine has.
CYCLONE_LOOPBACK := <CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces><AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>99</MaxAutoParticipantIndex><Peers><Peer Address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>

.PHONY: help install demo test lint loop clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with everything that demo, test, lint and loop need

demo: $(STAMP) ## simulate a drive, label it, leave out/demo.{mcap,png,html} and print a table
	$(VENV)/bin/pc-perception demo --out out

test: export CYCLONEDDS_URI ?= $(CYCLONE_LOOPBACK)
test: $(STAMP) ## run the tests; the nodes' too where ROS 2 is installed (ARGS=... goes to pytest)
	$(WITH_ROS) PATH="$(CURDIR)/$(VENV)/bin:$$PATH" python -m pytest $(ARGS)

lint: $(STAMP) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

loop: $(STAMP) ## the whole promise on the simulator: bag, pre-training, fine-tuning, labels
	$(PY) -m training.loop --out out/loop

clean: ## remove what was built and produced here, .venv included
	rm -rf $(VENV) build install log out work_dirs *.egg-info

# $(call system_packages,NAMES) installs Debian packages, or says what to type.
define system_packages
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); \
else \
	echo "make: a system package is missing; type: sudo apt-get install -y $(1)" >&2; exit 1; fi
endef

$(STAMP): setup.py constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "make: no Python >= 3.10 found; install one or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV) 2>/dev/null || \
		{ rm -rf $(VENV); $(call system_packages,python3-venv) && $(PYTHON) -m venv $(VENV); }
	@touch $(VENV)/COLCON_IGNORE
	$(PY) -m pip install -q -c constraints.txt -e ".[$(EXTRAS)]"
	@$(PY) -c "import open3d" 2>/dev/null || { $(call system_packages,$(OPEN3D_SYSTEM)); }
	@touch $@
