# SPDX-License-Identifier: Apache-2.0
"""Flat targets, checkerboard and ChArUco: what they look like and where an image shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def opencv() -> Any:
    """Return the cv2 module.

    Raises:
        ImportError: OpenCV is not installed; the sentence says how to install it.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "finding boards in images needs OpenCV: pip install 'pc_perception[calibration]'"
        ) from error
    return cv2


@dataclass(frozen=True)
class Board:
    """A checkerboard or ChArUco board; frame: origin in the middle of the outline, x right, y down, z away.

    Attributes:
        columns, rows: inner corners along x and y.
        square_m: side of a square.
        width_m, height_m: outline of the plate along x and y; 0 takes one square around the inner corners.
        shift_m: (x, y) of the pattern's middle from the outline's middle.
        marker_m: side of the markers of a ChArUco board; 0 is a plain checkerboard.
        dictionary: OpenCV's name of the markers' dictionary.

    Raises:
        ValueError: sizes that are no board, or an outline smaller than its pattern.
    """

    columns: int
    rows: int
    square_m: float
    width_m: float = 0.0
    height_m: float = 0.0
    shift_m: tuple[float, float] = (0.0, 0.0)
    marker_m: float = 0.0
    dictionary: str = "DICT_5X5_1000"

    def __post_init__(self) -> None:
        if self.columns < 3 or self.rows < 3 or not 0 < self.square_m < 10:
            raise ValueError(
                f"a board has at least 3 x 3 inner corners and squares in metres, got {self.columns} x "
                f"{self.rows} of {self.square_m} m"
            )
        if self.marker_m >= self.square_m or self.marker_m < 0:
            raise ValueError(f"markers of {self.marker_m} m do not fit squares of {self.square_m} m")
        for name, n in (("width_m", self.columns), ("height_m", self.rows)):
            size = getattr(self, name) or (n + 1) * self.square_m
            if size < (n - 1) * self.square_m:
                raise ValueError(
                    f"{name} {size} is less than the pattern's {(n - 1) * self.square_m:.3f} m; "
                    "columns go with width, rows with height"
                )
            object.__setattr__(self, name, float(size))

    @property
    def size(self) -> NDArray[np.float64]:
        """(2,) width and height of the outline, metres."""
        return np.array([self.width_m, self.height_m])

    @property
    def radius_m(self) -> float:
        """Half the diagonal of the outline."""
        return float(np.hypot(self.width_m, self.height_m)) / 2

    @property
    def is_symmetric(self) -> bool:
        """True where a half turn maps the pattern to itself, so that an image cannot tell which way is up."""
        return self.marker_m == 0 and (self.columns + self.rows) % 2 == 0

    @property
    def corners(self) -> NDArray[np.float64]:
        """(rows * columns, 3) inner corners in the board's frame, row by row."""
        v, u = np.mgrid[0 : self.rows, 0 : self.columns].reshape(2, -1)
        x = (u - (self.columns - 1) / 2) * self.square_m + self.shift_m[0]
        y = (v - (self.rows - 1) / 2) * self.square_m + self.shift_m[1]
        return np.stack([x, y, np.zeros_like(x)], 1)

    @property
    def outline(self) -> NDArray[np.float64]:
        """(4, 3) corners of the plate in the board's frame, clockwise in the image from the upper left."""
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        return np.column_stack([signs * self.size / 2, np.zeros(4)])


@dataclass(frozen=True)
class Corners:
    """Corners seen in one image: (N, 2) pixels and (N,) rows of ``Board.corners``."""

    uv: NDArray[np.float64]
    index: NDArray[np.int64]


def find_corners(image: NDArray[np.uint8], board: Board) -> Corners | None:
    """Find the board's inner corners to a fraction of a pixel.

    Args:
        image: (H, W) grey or (H, W, 3) red, green, blue.

    Returns:
        All corners of a checkerboard, those with markers around them of a ChArUco board (six or more), or None.
    """
    cv2 = opencv()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    if board.marker_m:
        return _charuco(cv2, grey, board)
    shape = (board.columns, board.rows)
    # The exhaustive search costs several times as much and finds a few more.
    for flags in (0, cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_NORMALIZE_IMAGE):
        found, uv = cv2.findChessboardCornersSB(grey, shape, flags=flags | cv2.CALIB_CB_ACCURACY)
        if found:
            break
    if not found:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
        found, uv = cv2.findChessboardCorners(grey, shape, flags=flags)
        if not found:
            return None
        # The window must not reach the neighbouring corners.
        gap = np.linalg.norm(np.diff(uv[:, 0].reshape(board.rows, board.columns, 2), axis=1), axis=-1).min()
        half = int(np.clip(gap / 4, 2, 8))
        stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)
        uv = cv2.cornerSubPix(grey, uv, (half, half), (-1, -1), stop)
    return Corners(_clockwise(uv[:, 0].astype(np.float64), board), np.arange(len(uv)))


def _clockwise(uv: NDArray, board: Board) -> NDArray:
    """Order a checkerboard's corners so that x, y and the view direction are right-handed, as seen."""
    grid = uv.reshape(board.rows, board.columns, 2)
    along, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if along[0] * down[1] - along[1] * down[0] < 0:
        grid = grid[:, ::-1]
    return grid.reshape(-1, 2)


def _charuco(cv2: Any, grey: NDArray, board: Board) -> Corners | None:
    dictionary = getattr(cv2.aruco, board.dictionary, None)
    if dictionary is None:
        raise ValueError(f"OpenCV knows no marker dictionary '{board.dictionary}', DICT_5X5_1000 is one")
    plate = cv2.aruco.CharucoBoard(
        (board.columns + 1, board.rows + 1),
        board.square_m,
        board.marker_m,
        cv2.aruco.getPredefinedDictionary(dictionary),
    )
    uv, index, _, _ = cv2.aruco.CharucoDetector(plate).detectBoard(grey)
    if index is None or len(index) < 6:
        return None
    # This detector counts pixels from the first one's border (measured with OpenCV 4.11), all else from its centre.
    return Corners(uv[:, 0].astype(np.float64) - 0.5, index.ravel().astype(np.int64))
