"""Shapes, textures and colours, and how one picture of the three is drawn.

The ten of each are those of Hermann & Lampinen 2020 (arXiv:2006.12433), drawn anew. A shape is a polygon, a texture a
tile that repeats; both are sampled FINE times as finely as pixels in each direction, and a pixel is the mean of its
samples, so edges are antialiased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...modalities.decode import Pixels
from ...modalities.opencv import opencv

FINE = 4  # samples a pixel in each direction
GREY = 128  # of the canvas
TILE = 64  # rows and columns of a texture's tile; a power of 2, so that it repeats with &
BITS = 4  # of a corner's fraction, as OpenCV takes it
FAR = 2**14  # added to what is rounded down to whole numbers, lest it is below 0; a multiple of TILE
Points = NDArray[np.float64]
Field = NDArray[np.float64]
Inside = NDArray[np.bool_]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 32, 32),
    "green": (30, 160, 50),
    "blue": (40, 70, 235),
    "yellow": (250, 228, 40),
    "pink": (255, 130, 200),
    "cyan": (80, 230, 235),
    "purple": (105, 25, 150),
    "ocean": (10, 80, 105),
    "orange": (250, 140, 20),
    "white": (255, 255, 255),
}


def _regular(corners: int, *radii: float) -> Points:
    """(corners, 2) on circles of these radii in turn, the first at the top."""
    angles = 2 * np.pi * np.arange(corners) / corners
    found: Points = np.resize(radii, corners)[:, None] * np.stack([np.sin(angles), -np.cos(angles)], 1)
    return found


def _box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


ARM, DIE = 0.16, 0.17  # half the width of a bar, of a small square
_PLUS = [(ARM, -0.5), (ARM, -ARM), (0.5, -ARM), (0.5, ARM), (ARM, ARM), (ARM, 0.5)]
_TEE = [(-0.5, -0.45), (0.5, -0.45), (0.5, -0.13), (ARM, -0.13), (ARM, 0.5), (-ARM, 0.5), (-ARM, -0.13), (-0.5, -0.13)]
_FIVE = [(0.0, 0.0), *((x, y) for x in (DIE - 0.5, 0.5 - DIE) for y in (DIE - 0.5, 0.5 - DIE))]

# Polygons within -0.5 ... 0.5, y downwards.
SHAPES: dict[str, list[Points]] = {
    "triangle": [np.array([(0, -0.48), (0.5, 0.4), (-0.5, 0.4)])],
    "square": [np.array(_box(-0.41, -0.41, 0.41, 0.41))],
    "plus": [np.array([*_PLUS, *((-x, -y) for x, y in _PLUS)])],
    "circle": [_regular(72, 0.46)],
    "tee": [np.array(_TEE)],
    "rhombus": [np.array([(0, -0.5), (0.33, 0), (0, 0.5), (-0.33, 0)])],
    "pentagon": [_regular(5, 0.5)],
    "star": [_regular(10, 0.52, 0.22)],
    "fivesquare": [np.array(_box(x - DIE, y - DIE, x + DIE, y + DIE)) for x, y in _FIVE],
    "trapezoid": [np.array([(-0.2, -0.34), (0.2, -0.34), (0.5, 0.34), (-0.5, 0.34)])],
}


@dataclass(frozen=True)
class Texture:
    """A tile that repeats. tile: (TILE, TILE) 0 or 255; wide, high: what it spans, in periods"""

    tile: NDArray[np.uint8]
    wide: float = 1.0
    high: float = 1.0


def _tile(inside: Callable[[Field, Field], Inside], wide: float = 1.0, high: float = 1.0) -> Texture:
    """inside: tells of points (u, v), each from 0 to 1, whether they are coloured"""
    middles = (np.arange(TILE) + 0.5) / TILE
    u, v = np.meshgrid(middles, middles)
    return Texture(np.where(inside(u, v), 255, 0).astype(np.uint8), wide, high)


def _hexagons(u: Field, v: Field) -> Inside:
    """Borders of a honeycomb: where the two nearest middles of cells are about as near."""
    x, y = u, v * np.sqrt(3)
    middles = [(column + row % 2 / 2, row * np.sqrt(3) / 2) for row in range(-1, 4) for column in (-1, 0, 1)]
    near = np.sort([np.hypot(x - a, y - b) for a, b in middles], axis=0)
    border: Inside = near[1] - near[0] < 0.25
    return border


def _noise(cells: int) -> Inside:
    """(TILE, TILE) blocks of which half are coloured, whatever any seed."""
    from .base import shuffled

    blocks = (shuffled(cells**2, 0) % 2 == 0).reshape(cells, cells)
    tile: Inside = blocks.repeat(TILE // cells, 0).repeat(TILE // cells, 1)
    return tile


def _rain(u: Field, v: Field) -> Inside:
    """Short strokes, every second column half a row lower."""
    column, row = u * 2 % 1, (v + 0.5 * (u > 0.5)) % 1
    stroke: Inside = (np.abs(column - 0.5) < 0.24) & (np.abs(row - 0.5) < 0.3)
    return stroke


@cache
def textures() -> dict[str, Texture]:
    """By name."""
    return {
        "solid": _tile(lambda u, v: u >= 0),
        "stripes": _tile(lambda u, v: u < 0.5),
        "grid": _tile(lambda u, v: (u < 0.27) | (v < 0.27)),
        "hexgrid": _tile(_hexagons, high=float(np.sqrt(3))),
        "dots": _tile(lambda u, v: np.hypot(u - 0.5, v - 0.5) < 0.35),
        "noise": _tile(lambda u, v: _noise(32), wide=10, high=10),
        "triangles": _tile(lambda u, v: (np.abs(u - 0.5) < v / 2 * 1.05) & (v < 0.92)),
        "zigzags": _tile(lambda u, v: (v + np.abs(u - 0.5)) % 1 < 0.45),
        "rain": _tile(_rain, wide=1.1, high=1.6),
        "pluses": _tile(
            lambda u, v: (
                (np.minimum(abs(u - 0.5), abs(v - 0.5)) < 0.14) & (np.maximum(abs(u - 0.5), abs(v - 0.5)) < 0.41)
            )
        ),
    }


@dataclass(frozen=True)
class Pose:
    """Where a figure lies, in pixels and radians. x, y: its middle; turn: of the shape; slant: of the texture;
    along, across: what the texture is moved by, as shares of its tile"""

    x: float
    y: float
    turn: float
    slant: float
    along: float
    across: float


def figure(shape: str, texture: str, colour: str, pose: Pose, side: int, size: float, period: float) -> Pixels:
    """(side, side, 3) uint8: the shape in its texture, on grey.

    size: side of the square that the shape is drawn in before it is turned; period: of the texture; both in pixels
    """
    drawn = np.full((side, side, 3), GREY, np.uint8)
    left, top = (max(int(middle - size * 0.71), 0) for middle in (pose.x, pose.y))
    right, bottom = (min(int(middle + size * 0.71) + 1, side) for middle in (pose.x, pose.y))
    mask = _mask(SHAPES[shape], pose, size, (left, top, right, bottom))
    mask &= _woven(textures()[texture], pose, period, (left, top, right, bottom))
    cover = opencv().resize(mask, (right - left, bottom - top), interpolation=opencv().INTER_AREA)
    drawn[top:bottom, left:right] = _shades(COLOURS[colour])[cover]
    return drawn


Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def _mask(polygons: list[Points], pose: Pose, size: float, box: Box) -> NDArray[np.uint8]:
    """255 inside the shape, FINE times as fine as the box."""
    left, top, right, bottom = box
    mask = np.zeros(((bottom - top) * FINE, (right - left) * FINE), np.uint8)
    cos, sin = np.cos(pose.turn) * size, np.sin(pose.turn) * size
    matrix, middle = np.array([(cos, sin), (-sin, cos)]), (pose.x - left, pose.y - top)
    corners = [((each @ matrix + middle) * FINE - 0.5) * 2**BITS for each in polygons]
    opencv().fillPoly(mask, [each.round().astype(np.int32) for each in corners], 255, shift=BITS)
    return mask


def _woven(texture: Texture, pose: Pose, period: float, box: Box) -> NDArray[np.uint8]:
    """255 where the texture is coloured, FINE times as fine as the box."""
    left, top, right, bottom = box
    x = left - pose.x + (np.arange((right - left) * FINE, dtype=np.float32) + 0.5) / FINE
    y = top - pose.y + (np.arange((bottom - top) * FINE, dtype=np.float32)[:, None] + 0.5) / FINE
    cos, sin = np.cos(pose.slant) * TILE / period, np.sin(pose.slant) * TILE / period
    along = (x * (cos / texture.wide) + np.float32(pose.along * TILE + FAR)) + y * (sin / texture.wide)
    across = (y * (cos / texture.high) + np.float32(pose.across * TILE + FAR)) - x * (sin / texture.high)
    woven: NDArray[np.uint8] = texture.tile[across.astype(np.int32) & (TILE - 1), along.astype(np.int32) & (TILE - 1)]
    return woven


@cache
def _shades(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(256, 3) from the canvas to the colour."""
    cover = np.arange(256)[:, None] / 255
    shades: NDArray[np.uint8] = (GREY + cover * (np.array(colour) - GREY)).round().astype(np.uint8)
    return shades
