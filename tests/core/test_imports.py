# SPDX-License-Identifier: Apache-2.0
"""The dependency direction: who may import whom, and what must import without optional packages."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("pc_perception", "training", "calibration", "ros2_nodes", "launch")

MAY_IMPORT = {
    "training": {"pc_perception", "training"},
    "calibration": {"pc_perception", "calibration"},
    "ros2_nodes": {"pc_perception", "calibration", "ros2_nodes"},
    "launch": {"pc_perception", "ros2_nodes"},
}
BASE = {"cloud", "kernel_cache", "labels", "geometry", "undistort"}
LOW = BASE | {"io", "ops"}
CORE = LOW | {"models", "inference"}
# A module of pc_perception that is not named here (cli, doctor, ...) stands on top of all of these.
INNER_MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "io": BASE | {"io"},
    "ops": BASE | {"ops"},
    "models": LOW | {"models"},
    "inference": CORE,
    "__init__": CORE,
    "simulation": CORE | {"simulation"},
    "visualization": CORE | {"visualization"},
}
# Optional or slow to import: only inside the function that needs them.
HEAVY = [
    *("open3d", "spconv", "pointnet2_ops", "mmengine", "nuscenes", "laspy", "lazrs", "matplotlib"),
    *("rosbags", "PIL", "h5py", "sklearn", "tensorboard", "triton", "transformers", "onnxruntime"),
    *("openvino", "mcap", "cv2", "fla", "skimage", "cyclonedds", "distributed"),
]
# All of this package is Triton kernels: it is itself imported inside functions only.
KERNELS = "pc_perception.ops.gpu"


@dataclass(frozen=True)
class Import:
    """One import statement: the file's module, the imported module, and whether it is at the top."""

    source: str
    target: str
    line: int
    top_level: bool


def module_name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _is_module(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def _targets(node: ast.AST, package: list[str], root: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        name = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:
            member = f"{name}.{alias.name}"
            yield member if _is_module(member, root) else name


def imports_of(file: Path, root: Path = ROOT) -> list[Import]:
    """Return every import of a file, also those inside functions and classes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    source = module_name(file, root)
    package = source.split(".") if file.name == "__init__.py" else source.split(".")[:-1]
    inside = {
        id(child)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(outer)
    }
    return [
        Import(source, target, node.lineno, id(node) not in inside)
        for node in ast.walk(tree)
        for target in _targets(node, package, root)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def python_files(root: Path = ROOT, tops: tuple[str, ...] = TOPS) -> list[Path]:
    return sorted(file for top in tops for file in (root / top).rglob("*.py"))


def _inner(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def wrong_arrow(edge: Import) -> str | None:
    """Return a sentence where an import goes against the direction of the design, else None."""
    source, target = edge.source.split(".")[0], edge.target.split(".")[0]
    if target not in TOPS or (target == "launch" and source in ("launch", "ros2_nodes")):
        return None  # a third party's; `launch` is also the name of ROS's own package
    allowed = MAY_IMPORT.get(source, {"pc_perception"})
    if target not in allowed:
        return f"{edge.source}:{edge.line} imports {edge.target}; {source} may import {sorted(allowed)}"
    if source == "pc_perception":
        inner = INNER_MAY_IMPORT.get(_inner(edge.source))
        if inner is not None and _inner(edge.target) not in inner:
            return f"{edge.source}:{edge.line} imports {edge.target}; allowed are {sorted(inner)}"
    return None


def ros_modules() -> set[str]:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    named = {node.text for tag in ("exec_depend", "test_depend") for node in package.iter(tag) if node.text}
    return {name for name in named if not name.startswith("python3-")}


def ros_free_modules(files: list[Path]) -> list[str]:
    """Return the modules that import no ROS package, neither themselves nor through a neighbour."""
    edges = {module_name(f, ROOT): {e.target for e in imports_of(f) if e.top_level} for f in files}
    ros = ros_modules()
    tainted = {name for name, targets in edges.items() if any(t.split(".")[0] in ros for t in targets)}
    while grown := {name for name, targets in edges.items() if targets & tainted} - tainted:
        tainted |= grown
    return sorted(set(edges) - tainted)


EDGES = [edge for file in python_files() for edge in imports_of(file)]


def test_no_import_against_the_direction() -> None:
    assert [s for s in map(wrong_arrow, EDGES) if s] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pc_perception/inference/x.py", "def f():\n    from pc_perception.simulation import lidar"),
        ("pc_perception/inference/x.py", "from ..simulation.lidar import scan"),
        ("pc_perception/io/x.py", "from pc_perception import ops"),
        ("pc_perception/ops/x.py", "class A:\n    def f(self):\n        import pc_perception.models.gdn"),
        ("pc_perception/models/x.py", "import training.run"),
        ("pc_perception/cloud.py", "import pc_perception"),
        ("ros2_nodes/x.py", "def f():\n    import training"),
        ("training/x.py", "from calibration import solve"),
        ("calibration/x.py", "from ros2_nodes.runtime import Slot"),
    ],
)
def test_the_walk_finds_a_wrong_arrow(tmp_path: Path, path: str, line: str) -> None:
    for folder in ("simulation", "ops", "models"):
        (tmp_path / "pc_perception" / folder).mkdir(parents=True)
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    assert [wrong_arrow(edge) for edge in imports_of(file, tmp_path)] != [None]


def test_only_nodes_and_launch_files_import_ros() -> None:
    ros = ros_modules()
    own = [e for e in EDGES if e.source.split(".")[0] in ("pc_perception", "training", "calibration")]
    assert [e for e in own if e.target.split(".")[0] in ros] == []


def test_the_library_imports_heavy_packages_inside_functions_only() -> None:
    own = [e for e in EDGES if e.source.startswith(("pc_perception", "ros2_nodes"))]
    own = [e for e in own if not (e.source.startswith(KERNELS) and e.target.split(".")[0] == "triton")]
    assert [e for e in own if e.top_level and e.target.split(".")[0] in HEAVY] == []
    outside = [e for e in EDGES if not e.source.startswith(KERNELS)]
    assert [e for e in outside if e.top_level and e.target.startswith(f"{KERNELS}.")] == []


IMPORT_ALL = """
import importlib, importlib.abc, json, sys
modules, blocked = json.load(sys.stdin)
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named '{name}' (blocked by the test)", name=name)
sys.meta_path.insert(0, Absent())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except Exception as error:
        failed[module] = repr(error)
print(json.dumps(failed))
"""


def test_everything_imports_without_optional_packages() -> None:
    modules = ros_free_modules(python_files(tops=("pc_perception", "ros2_nodes")))
    modules = [m for m in modules if not m.startswith(f"{KERNELS}.")]
    assert "pc_perception.cloud" in modules
    blocked = [*HEAVY, *ros_modules()]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        input=json.dumps([modules, blocked]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_the_public_names_are_listed() -> None:
    import pc_perception

    assert set(pc_perception.__all__) <= set(dir(pc_perception))
    assert all(getattr(pc_perception, name) is not None for name in pc_perception.__all__)


def test_importing_the_package_leaves_heavy_ones_alone() -> None:
    code = f"import sys, pc_perception; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    # torch itself may import triton where it is installed.
    assert set(ast.literal_eval(done.stdout)) <= {"triton"}
