# SPDX-License-Identifier: Apache-2.0
"""What is installed, under which names, and what must never be committed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def committed() -> list[Path]:
    """Return the files that git tracks, or skip outside a checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def setup_call() -> ast.Call:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    return next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup"
    )


def console_scripts() -> dict[str, str]:
    entries = next(k.value for k in setup_call().keywords if k.arg == "entry_points")
    pairs = (line.split("=", 1) for line in ast.literal_eval(entries)["console_scripts"])
    return {name.strip(): target.strip() for name, target in pairs}


def test_training_and_calibration_are_ours() -> None:
    import calibration
    import pc_perception
    import training

    # The names are generic; whichever is found must lie beside our library, wherever that is installed.
    for module in (training, calibration):
        assert Path(module.__file__ or "").parents[1] == Path(pc_perception.__file__).parents[1]


@pytest.mark.parametrize(("name", "target"), sorted(console_scripts().items()))
def test_every_command_has_its_function(name: str, target: str) -> None:
    module, function = target.split(":")
    base = ROOT.joinpath(*module.split("."))
    file = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
    assert file.is_file(), f"{name} points to {target}, and there is no {module}"
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    assert function in names


def test_package_xml_and_setup_agree() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    keywords = {k.arg: k.value for k in setup_call().keywords}
    assert package.get("format") == "3"
    assert package.findtext("name") == "pc_perception"
    assert package.findtext("version") == ast.literal_eval(keywords["version"])
    assert package.findtext("license") == ast.literal_eval(keywords["license"])
    assert package.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "pc_perception").read_bytes() == b""


def test_what_nodes_import_is_in_package_xml() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    told = {str(e.text).removeprefix("python3-") for e in root.iter("exec_depend")}
    imported = set()
    for file in (*(ROOT / "ros2_nodes").glob("*.py"), *(ROOT / "launch").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    assert "rclpy" in imported
    ours = {"pc_perception", "ros2_nodes", "calibration"}
    assert imported - told - ours - sys.stdlib_module_names == set()


def test_only_the_four_packages_are_installed() -> None:
    packages = ast.unparse(next(k.value for k in setup_call().keywords if k.arg == "packages"))
    assert "include=" in packages
    assert "tests" not in packages
    assert "launch" not in packages


def test_data_files_are_inside_the_package() -> None:
    package = resources.files("pc_perception")
    assert (package / "label_sets" / "street8.yaml").is_file()
    patterns = next(k.value for k in setup_call().keywords if k.arg == "package_data")
    assert "label_sets/*.yaml" in ast.unparse(patterns)
    assert "weights/*.safetensors" in ast.unparse(patterns)


def test_constraints_pin_what_is_required() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.M))
    pinned = {name.lower().replace("_", "-") for name in pins}
    required = re.findall(r'^\s+"([A-Za-z][\w.-]*)(?:[<>=;].*)?",$', (ROOT / "setup.py").read_text(), re.M)
    assert {"numpy", "torch", "numba", "rosbags"} <= {name.lower() for name in required}
    missing = {name for name in required if name.lower().replace("_", "-") not in pinned}
    assert missing <= {"open3d"}  # the constraints are those of x86-64 Linux, where it is open3d-cpu
    assert pins["torch"] == "2.13.0"


def test_launch_folder_does_not_shadow_ros() -> None:
    assert not (ROOT / "launch" / "__init__.py").exists()


def test_no_catch_all_modules_and_no_giants() -> None:
    banned = {"utils.py", "helpers.py", "misc.py", "common.py"}
    python = [file for file in committed() if file.suffix == ".py"]
    assert [file for file in python if file.name in banned] == []
    assert [file for file in python if len(text_of(file).splitlines()) > 500] == []


def test_every_module_names_its_licence() -> None:
    python = [f for f in committed() if f.suffix == ".py" and f.stat().st_size]
    assert [f for f in python if "SPDX-License-Identifier: Apache-2.0" not in text_of(f)[:200]] == []


def test_no_paths_of_one_machine_are_committed() -> None:
    # Split, so that this file does not find itself.
    banned = re.compile("|".join(["/" + "work/", "/" + r"root/\w", "/" + r"home/\w", r"\.\./" + "shared"]))
    allowed = {ROOT / ".ci" / "run"}  # says where the data may lie, relative to the checkout
    found = [
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in committed()
        if file not in allowed and (match := banned.search(text_of(file)))
    ]
    assert found == []


def test_large_files_are_weights_or_pictures() -> None:
    large = [file for file in committed() if file.stat().st_size > 500_000]
    assert [f for f in large if f.suffix not in {".safetensors", ".png", ".jpg", ".gif"}] == []
    assert [f for f in large if f.stat().st_size > 10_000_000] == []
