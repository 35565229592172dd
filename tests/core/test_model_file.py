# SPDX-License-Identifier: Apache-2.0
"""A model file comes back exactly, and every kind of damage gets one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import choose_device, load_model
from pc_perception.inference.model_file import read_model_file, save_model
from pc_perception.inference.segmenter import Segmenter


def test_round_trip_gives_identical_labels(model_path: Path, segmenter: Segmenter, cloud: PointCloud) -> None:
    loaded = load_model(model_path, "cpu")
    assert np.array_equal(loaded(cloud).labels, segmenter(cloud).labels)
    assert np.array_equal(loaded(cloud).confidence, segmenter(cloud).confidence)
    assert loaded.label_set == segmenter.label_set
    assert loaded.contract == segmenter.contract
    header, _ = read_model_file(model_path)
    assert header.provenance["method"] == "random"


def test_whoever_may_read_other_files_may_read_it(model_path: Path, segmenter: Segmenter) -> None:
    header = read_model_file(model_path)[0]
    model_path.with_name(model_path.name + ".part").touch(0o600)  # what an interrupted save leaves
    save_model(model_path, segmenter.network, header)
    plain = model_path.with_name("plain")
    plain.touch()
    assert model_path.stat().st_mode == plain.stat().st_mode


def _rewrite(path: Path, change: Callable[[dict, dict], object]) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pc_perception"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"pc_perception": json.dumps(header)})


def _huge(header: dict, _: dict) -> None:
    header["architecture"]["arguments"]["widths"] = [10**9] * 3


def _two_classes(header: dict, _: dict) -> None:
    header["labels"]["classes"], header["labels"]["colors"] = ["a", "b"], [[0, 0, 0], [1, 1, 1]]


CHANGES: dict[str, tuple[Callable[[dict, dict], object], str]] = {
    "missing tensor": (lambda h, t: t.pop("head.1.bias"), "head.1.bias"),
    "extra tensor": (lambda h, t: t.update(extra=t["head.1.bias"].clone()), "'extra'"),
    "wrong class count": (_two_classes, "head.1"),
    "missing key": (lambda h, t: h.pop("contract"), "lacks"),
    "unknown architecture": (lambda h, t: h["architecture"].update(name="os.system"), "unknown"),
    "unknown argument": (lambda h, t: h["architecture"]["arguments"].update(x=1), "arguments"),
    "huge network": (_huge, "whole numbers"),
    "format of the future": (lambda h, t: h.update(format=99), "format 99"),
    "changed class name": (lambda h, t: h["labels"]["classes"].__setitem__(0, "rood"), "checksum"),
    "changed grid": (lambda h, t: h["contract"].update(grid_m=0.1), "checksum"),
    "changed weight": (lambda h, t: t["head.1.bias"].add_(1.0), "checksum"),
    "labels of another kind": (lambda h, t: h.update(labels=[1, 2]), "label set"),
    "header is a list": (lambda h, t: h.clear(), "lacks"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_contradictions_are_refused(model_path: Path, name: str) -> None:
    change, words = CHANGES[name]
    _rewrite(model_path, change)
    with pytest.raises(ValueError, match=words) as error:
        load_model(model_path, "cpu")
    assert "\n" not in str(error.value)


def test_deep_json_is_refused(model_path: Path) -> None:
    with safe_open(model_path, framework="pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    save_file(tensors, model_path, metadata={"pc_perception": "[" * 100_000})
    with pytest.raises(ValueError, match="not readable JSON"):
        load_model(model_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_cut_anywhere_is_refused(
    model_path: Path, where: float, bit: int, cut: bool
) -> None:
    damaged = model_path.with_name("damaged.safetensors")
    data = bytearray(model_path.read_bytes())
    position = int(where * len(data))
    if cut:
        data = data[:position]
    else:
        data[position] ^= 1 << bit
    damaged.write_bytes(data)
    try:
        header, _ = read_model_file(damaged)
    except ValueError:
        return
    # The only bytes that may change unnoticed are blanks that pad the header: nothing we read differs.
    assert header == read_model_file(model_path)[0]


def test_not_a_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="shipped"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="safetensors"):
        load_model(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match="not one of our model files"):
        load_model(tmp_path / "empty.safetensors")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps", ""])
def test_absent_devices_are_named(device: str) -> None:
    with pytest.raises(ValueError, match="device"):
        choose_device(device)
