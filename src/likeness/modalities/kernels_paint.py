"""The triton kernels that draw views of images (fused.py says how they work together); imported where they are used.

A program works on one row, so that what the row drew is decided once for all its pixels. Nothing is added by atomics,
and no tile depends on how many rows there are: a view has the same bits in every batch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from . import colour, resize

# columns of `numbers`, the table (R, FIELDS) of what rows drew: the fields of `Drawn` side by side
TOP, LEFT, TALL, WIDE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
UPSIDE_DOWN, MIRRORED = tl.constexpr(4), tl.constexpr(5)
COLOURED, GREY, BLURRED, SOLARISED = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8), tl.constexpr(9)
BRIGHTNESS, CONTRAST, SATURATION, TURN = tl.constexpr(10), tl.constexpr(11), tl.constexpr(12), tl.constexpr(13)
SIGMA, FIELDS = tl.constexpr(14), tl.constexpr(15)

RED, GREEN, BLUE = tl.constexpr(resize.GREY[0]), tl.constexpr(resize.GREY[1]), tl.constexpr(resize.GREY[2])
COLOURS, SECTORS, SHADE = tl.constexpr(colour.COLOURS), tl.constexpr(colour.SECTORS), tl.constexpr(colour.SHADE)
SECTOR, THIRD = tl.constexpr(1 / colour.SECTORS), tl.constexpr(2 / colour.SECTORS)  # of the hue's circle
TOGETHER = tl.constexpr(4)  # channels that are sampled at once: they lie side by side
UNLISTED = ["items", "height", "width", "taps", "parts", "radius"]  # numbers that a kernel is not made anew for


@triton.jit(do_not_specialize=UNLISTED)
def sample(
    images,  # (items, height, width, CHANNELS) of any depth
    numbers,  # (R, FIELDS)
    views,  # (R, CHANNELS, side, side), black as 0 and white as 1
    items,  # row r shows item r % items
    height,
    width,
    side,
    low,  # the stored number that is black
    scale,  # makes white 1
    taps,  # pixels that weigh along an axis, at most
    parts,  # programs a row
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Cropped, flipped and resized, as crops.sampled does."""
    row, place = tl.program_id(0) // parts, tl.program_id(0) % parts * BLOCK + tl.arange(0, BLOCK)
    drawn, there = numbers + row * FIELDS, place < side * side
    image = images + (row % items).to(tl.int64) * (height * width * CHANNELS)
    to = views + row.to(tl.int64) * (CHANNELS * side * side) + place
    top, tall, upside_down = tl.load(drawn + TOP), tl.load(drawn + TALL), tl.load(drawn + UPSIDE_DOWN)
    left, wide, mirrored = tl.load(drawn + LEFT), tl.load(drawn + WIDE), tl.load(drawn + MIRRORED)
    y, high = source(place // side, top, tall, upside_down, side)
    x, broad = source(place % side, left, wide, mirrored, side)
    first_row, first_column = tl.floor(y - high) + 1, tl.floor(x - broad) + 1
    for first in range(0, CHANNELS, TOGETHER):
        channel = first + tl.arange(0, TOGETHER)[None, :]
        total, mass = tl.zeros((BLOCK, TOGETHER), tl.float32), tl.zeros((BLOCK,), tl.float32)
        for down in range(taps):
            at_row = first_row + down
            by_row = triangle(at_row, y, high, top, tall)
            for across in range(taps):
                at_column = first_column + across
                share = by_row * triangle(at_column, x, broad, left, wide)
                pixel = image + (at_row.to(tl.int32) * width + at_column.to(tl.int32))[:, None] * CHANNELS + channel
                counts = (there & (share > 0))[:, None] & (channel < CHANNELS)
                total += share[:, None] * tl.load(pixel, mask=counts, other=0).to(tl.float32)
                mass += share
        mean = total / tl.where(there, mass, 1.0)[:, None]
        wanted = there[:, None] & (channel < CHANNELS)
        tl.store(to[:, None] + channel * side * side, (mean - low) * scale, mask=wanted)


@triton.jit
def source(at, start, length, flipped, side):
    """Where a view's rows or columns lie in the image, and how far from there pixels weigh."""
    step = length / side
    centre = (at.to(tl.float32) + 0.5) * step
    return tl.where(flipped > 0, length - centre, centre) + start - 0.5, tl.maximum(step, 1.0)


@triton.jit
def triangle(at, centre, reach, start, length):
    """A pixel's weight along an axis; none outside the crop."""
    near = tl.maximum(1.0 - tl.abs(at / reach - centre / reach), 0.0)
    return tl.where((at >= start) & (at < start + length), near, 0.0)


@triton.jit
def luma(red, green, blue):
    return red * RED + green * GREEN + blue * BLUE


@triton.jit(do_not_specialize=UNLISTED)
def mean_luma(
    pixels,  # one channel of a pixel lies `apart` numbers from the next pixel's, and `beside` from the next channel's
    numbers,
    means,  # (R,) of rows that are coloured; the others are left as they are
    side,
    apart,
    beside,
    low,
    scale,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Brightness that contrast is changed about: a row's mean, of the mean of channels where they are no colours."""
    row = tl.program_id(0)
    if tl.load(numbers + row * FIELDS + COLOURED) == 0:
        return
    pixel = pixels + row.to(tl.int64) * (CHANNELS * side * side) + tl.arange(0, BLOCK) * apart
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, side * side, BLOCK):
        there = start + tl.arange(0, BLOCK) < side * side
        if CHANNELS == COLOURS:
            red = tl.load(pixel, mask=there, other=0).to(tl.float32)
            green = tl.load(pixel + beside, mask=there, other=0).to(tl.float32)
            blue = tl.load(pixel + 2 * beside, mask=there, other=0).to(tl.float32)
            total += luma(red, green, blue)
        else:
            for channel in range(CHANNELS):
                total += tl.load(pixel + channel * beside, mask=there, other=0).to(tl.float32) / CHANNELS
        pixel += BLOCK * apart
    tl.store(means + row, (tl.sum(total, 0) / (side * side) - low) * scale)


@triton.jit(do_not_specialize=UNLISTED)
def paint(
    pixels,  # as above; may be the views themselves
    numbers,
    means,
    turns,  # (R, 9) matrices that rotate colours, where LINEAR
    white,  # (2, CHANNELS) what the encoder's statistics multiply by, then subtract
    views,
    side,
    apart,
    beside,
    low,
    scale,
    threshold,
    parts,
    CHANNELS: tl.constexpr,
    LINEAR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All that needs no neighbours: colour and grey, and in rows that are not blurred all that follows."""
    row, place = tl.program_id(0) // parts, tl.program_id(0) % parts * BLOCK + tl.arange(0, BLOCK)
    drawn, there = numbers + row * FIELDS, place < side * side
    first = row.to(tl.int64) * (CHANNELS * side * side)
    pixel, to = pixels + first + place * apart, views + first + place
    coloured, last = tl.load(drawn + COLOURED) > 0, tl.load(drawn + BLURRED) == 0
    solarised = tl.load(drawn + SOLARISED) > 0
    gain = tl.load(drawn + BRIGHTNESS)
    lift = tl.load(means + row, mask=coloured, other=0.0) * gain
    contrast = tl.load(drawn + CONTRAST)
    gain, lift = gain * contrast, lift * (1 - contrast)
    if CHANNELS == COLOURS:
        red = (tl.load(pixel, mask=there, other=0).to(tl.float32) - low) * scale
        green = (tl.load(pixel + beside, mask=there, other=0).to(tl.float32) - low) * scale
        blue = (tl.load(pixel + 2 * beside, mask=there, other=0).to(tl.float32) - low) * scale
        if coloured:
            saturation = tl.load(drawn + SATURATION)
            grey = luma(red, green, blue) * (gain * (1 - saturation)) + lift
            red = clipped(red * (gain * saturation) + grey)
            green = clipped(green * (gain * saturation) + grey)
            blue = clipped(blue * (gain * saturation) + grey)
            if LINEAR:
                red, green, blue = rotated(red, green, blue, turns + row * 9)
            else:
                red, green, blue = turned(red, green, blue, tl.load(drawn + TURN))
        if tl.load(drawn + GREY) > 0:
            red = luma(red, green, blue)
            green, blue = red, red
        if last:
            red = finished(red, solarised, threshold, white, 0, CHANNELS)
            green = finished(green, solarised, threshold, white, 1, CHANNELS)
            blue = finished(blue, solarised, threshold, white, 2, CHANNELS)
        tl.store(to, red, mask=there)
        tl.store(to + side * side, green, mask=there)
        tl.store(to + 2 * side * side, blue, mask=there)
    else:
        for channel in range(CHANNELS):
            value = (tl.load(pixel + channel * beside, mask=there, other=0).to(tl.float32) - low) * scale
            if coloured:
                value = clipped(value * gain + lift)
            if last:
                value = finished(value, solarised, threshold, white, channel, CHANNELS)
            tl.store(to + channel * side * side, value, mask=there)


@triton.jit
def clipped(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def turned(red, green, blue, turn):
    """The hue turned in HSV, as colour.turn_hue_ does."""
    least = tl.minimum(tl.minimum(red, green), blue)
    chroma = (tl.maximum(tl.maximum(red, green), blue) - least) * SECTORS
    hue = tl.abs((green + blue - red - least) / (chroma + SHADE) + SECTOR)
    hue = tl.where(green < blue, -hue, hue) + turn
    least += chroma * THIRD
    return least - far(hue) * chroma, least - far(hue - THIRD) * chroma, least - far(hue - 2 * THIRD) * chroma


@triton.jit
def far(hue):
    """How far a hue lies from a primary, in turns, between one sector and two."""
    return tl.minimum(tl.maximum(tl.abs(hue - tl.floor(hue + 0.5)), SECTOR), 2 * SECTOR)


@triton.jit
def rotated(red, green, blue, matrix):
    """Colours rotated about the grey axis, as colour.rotate_hue_ does."""
    to_red = red * tl.load(matrix) + green * tl.load(matrix + 1) + blue * tl.load(matrix + 2)
    to_green = red * tl.load(matrix + 3) + green * tl.load(matrix + 4) + blue * tl.load(matrix + 5)
    to_blue = red * tl.load(matrix + 6) + green * tl.load(matrix + 7) + blue * tl.load(matrix + 8)
    return clipped(to_red), clipped(to_green), clipped(to_blue)


@triton.jit
def finished(value, solarised, threshold, white, channel, CHANNELS: tl.constexpr):
    """Solarised where the row drew it, and on the scale that the encoder is shown."""
    if solarised:
        value = tl.where(value >= threshold, 1 - value, value)
    return value * tl.load(white + channel) - tl.load(white + CHANNELS + channel)


@triton.jit(do_not_specialize=UNLISTED)
def smooth(
    inputs,  # views where not LAST, else what that made of them
    outputs,  # and the other way round
    rows,  # (B,) which of the views are blurred
    numbers,
    white,
    side,
    radius,
    threshold,
    parts,
    CHANNELS: tl.constexpr,
    LAST: tl.constexpr,  # down the columns first; last along the rows, and all that follows the blur
    HIGH: tl.constexpr,
    BROAD: tl.constexpr,
):
    """Gaussian blur along one axis, mirrored at the edges, as colour.blurred does."""
    plane, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    nth, channel = plane // CHANNELS, plane % CHANNELS
    row = tl.load(rows + nth)
    drawn = numbers + row * FIELDS
    view = (row.to(tl.int64) * CHANNELS + channel) * (side * side)
    between = plane.to(tl.int64) * (side * side)
    across = tl.cdiv(side, BROAD)
    y = (part // across * HIGH + tl.arange(0, HIGH))[:, None]
    x = (part % across * BROAD + tl.arange(0, BROAD))[None, :]
    there = (y < side) & (x < side)
    start = inputs + (between if LAST else view)
    sigma = tl.load(drawn + SIGMA)
    total, mass = tl.zeros((HIGH, BROAD), tl.float32), 0.0
    for apart in range(-radius, radius + 1):
        share = tl.exp(-0.5 * (apart / sigma) * (apart / sigma))
        if LAST:
            value = tl.load(start + y * side + mirrored(x + apart, side), mask=there, other=0)
        else:
            value = tl.load(start + mirrored(y + apart, side) * side + x, mask=there, other=0)
        total += share * value
        mass += share
    value = total / mass
    if LAST:
        value = finished(value, tl.load(drawn + SOLARISED) > 0, threshold, white, channel, CHANNELS)
    tl.store(outputs + (view if LAST else between) + y * side + x, value, mask=there)


@triton.jit
def mirrored(at, side):
    """A place beyond an edge, reflected at it."""
    at = tl.abs(at)
    return tl.minimum(at, 2 * (side - 1) - at)
