"""Boxes with names on images: lines and letters grow with the image, tags keep clear.

OpenCV 5 brings fonts for most of the world's letters; older ones draw ASCII alone, and a question
mark for every other letter.
"""

import colorsys
from collections.abc import Iterable
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import cv2
import numpy as np

LINE_SHARE, TEXT_SHARE = 1 / 300, 1 / 40  # line width and letter height; 1 is the root of the area
MIN_TEXT = 9  # pixels; smaller letters cannot be read
TEXT_WEIGHT = 500  # a little bolder than regular (400): letters on colored ground
MAX_HIDDEN = 0.2  # share of a tag that tags of better boxes may hide; with more it is left out
DASH = 4  # length of a dash and of a gap, in line widths
HERSHEY = cv2.FONT_HERSHEY_SIMPLEX  # the font where OpenCV has no FontFace
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
FONT_LOCK = Lock()  # OpenCV changes the font itself while it draws with it

Color = tuple[int, int, int]


class DrawnBox(NamedTuple):
    """A box to draw. ltrb: pixels, may lie outside. text: none if empty. color: b, g, r."""

    ltrb: tuple[float, float, float, float]
    text: str
    color: Color
    dashed: bool = False


def draw(bgr: np.ndarray, boxes: Iterable[DrawnBox]) -> np.ndarray:
    """Return a copy of an image, (H, W, 3) uint8, with boxes; the first ones lie on top.

    A box is cut off at the image's edge, and left out if wholly outside. A tag lies in the
    image, where no better box's tag hides it; it is left out where there is no room for it.
    """
    canvas = bgr.copy()
    height, width = canvas.shape[:2]
    line = 1 + 2 * round((height * width) ** 0.5 * LINE_SHARE / 2)  # odd
    drawn = [(box, clip(box.ltrb, width, height, line)) for box in boxes]
    drawn = [(box, ltrb) for box, ltrb in drawn if ltrb is not None]
    for box, ltrb in reversed(drawn):
        draw_outline(canvas, ltrb, box.color, line, box.dashed)
    draw_tags(canvas, [(box, ltrb) for box, ltrb in drawn if box.text], line)
    return canvas


@cache
def label_color(label: int) -> Color:
    """Return the (b, g, r) color of a label; neighbours differ much, the same label never."""
    golden = (5**0.5 - 1) / 2  # of a turn: hues never come round to the same place
    saturation, value = ((0.85, 1.0), (0.65, 0.85), (1.0, 0.75))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(label * golden % 1, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def text_color(ground: Color) -> Color:
    """Return black or white, whichever has the better contrast by WCAG: always 4.5 or more."""
    linear = [(c / 255 + 0.055) ** 2.4 / 1.055**2.4 if c > 10 else c / 255 / 12.92 for c in ground]
    luminance = float(np.dot(linear, (0.0722, 0.7152, 0.2126)))
    return BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else WHITE


def clip(
    ltrb: tuple[float, float, float, float], width: int, height: int, line: int
) -> tuple[int, int, int, int] | None:
    """Return whole pixels such that a line of that width shows, None for a box wholly outside."""
    left, top, right, bottom = ltrb
    if right < 0 or bottom < 0 or left > width or top > height:
        return None
    inset = line // 2
    columns = np.clip((left, right), min(inset, width - 1), max(width - 1 - inset, 0))
    rows = np.clip((top, bottom), min(inset, height - 1), max(height - 1 - inset, 0))
    x, y = columns.round().astype(int), rows.round().astype(int)
    return int(x[0]), int(y[0]), int(x[1]), int(y[1])


def draw_outline(
    canvas: np.ndarray, ltrb: tuple[int, int, int, int], color: Color, line: int, dashed: bool
) -> None:
    """Draw a rectangle into the image; OpenCV's has no dashes, and is wider than asked for."""
    half, dash = line // 2, DASH * line
    left, top, right, bottom = ltrb
    columns = np.arange(max(left - half, 0), min(right + half + 1, canvas.shape[1]))
    rows = np.arange(max(top - half, 0), min(bottom + half + 1, canvas.shape[0]))
    if dashed:
        columns = columns[(columns - columns[0]) % (2 * dash) < dash]
        rows = rows[(rows - rows[0]) % (2 * dash) < dash]
    for y in (top, bottom):
        canvas[max(y - half, 0) : y + half + 1, columns] = color
    for x in (left, right):
        canvas[rows, max(x - half, 0) : x + half + 1] = color


def draw_tags(
    canvas: np.ndarray, boxes: list[tuple[DrawnBox, tuple[int, int, int, int]]], line: int
) -> None:
    """Draw the boxes' names on filled tags; the first boxes have the first choice of place."""
    height, width = canvas.shape[:2]
    size = max(MIN_TEXT, round((height * width) ** 0.5 * TEXT_SHARE))
    pad = size // 5
    taken = np.empty((0, 4), int)
    tags = []
    for box, ltrb in boxes:
        text = shorten(printable(box.text), size, width - 2 * pad)
        wide, ascent, tall = text_size(text, size)
        wide, tall = min(wide + 2 * pad, width), tall + line // 2
        corner = place(ltrb, (wide, tall), (width, height), line, taken)
        if corner:
            x, y = corner
            taken = np.concatenate([taken, [[x, y, x + wide, y + tall]]])
            tags.append((text, taken[-1], (x + pad, y + line // 4 + ascent), box.color))
    for text, (left, top, right, bottom), origin, color in reversed(tags):
        canvas[top:bottom, left:right] = color
        put_text(canvas[:, :right], text, origin, text_color(color), size)


def place(
    ltrb: tuple[int, int, int, int],
    tag: tuple[int, int],
    image: tuple[int, int],
    line: int,
    taken: np.ndarray,
) -> tuple[int, int] | None:
    """Return the left and top of a tag: the first of a box's places that the fewest tags hide.

    In order: on its top side, below that, under its bottom side, above that, then down the box,
    each at the left and at the right. tag, image: width, height. taken: (N, 4) ltrb, the tags of
    better boxes. None if they would hide too much of it anywhere, or the image is too low.
    """
    if tag[1] > image[1]:
        return None
    left, top, right, bottom = ltrb
    half = line // 2
    left, top, right, bottom = left - half, top - half, right + half + 1, bottom + half + 1
    starts = [top - tag[1], top, bottom, bottom - tag[1]]
    starts += range(top + tag[1], bottom - 2 * tag[1], tag[1])
    sides = (left, right - tag[0])
    wanted = np.array([(x, y) for y in starts for x in sides])
    corners = np.clip(wanted, 0, np.array(image) - tag)
    moved = np.abs(corners - wanted)[:, 1]  # off its box's side by the image's edge: not wanted
    least = np.maximum(corners[:, None], taken[None, :, :2])  # (places, N, 2)
    most = np.minimum(corners[:, None] + tag, taken[None, :, 2:])
    hidden = np.maximum(most - least, 0).prod(axis=2).sum(axis=1)
    best = np.lexsort((moved, hidden))[0]  # ties: the first
    if hidden[best] > MAX_HIDDEN * tag[0] * tag[1]:
        return None
    return int(corners[best, 0]), int(corners[best, 1])


def shorten(text: str, size: int, width: int) -> str:
    """Return the text with its middle left out until it fits; its last word, the score, stays."""
    name, space, last = text.rpartition(" ")
    while len(name) > 1 and text_size(text, size)[0] > width:
        name = name[:-1]
        text = name + "." + space + last
    return text


def printable(text: str) -> str:
    """Return the text in letters that can be drawn here, on one line."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if font() else text.encode("ascii", "replace").decode()


@cache
def font() -> Any:
    """Return OpenCV's font that has letters beyond ASCII, None before OpenCV 5."""
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def text_size(text: str, size: int) -> tuple[int, int, int]:
    """Return width, height above the baseline, and height of a text, in pixels."""
    with FONT_LOCK:
        if font():
            _, top, wide, tall = cv2.getTextSize((0, 0), text, (0, 0), font(), size, TEXT_WEIGHT)
            return wide, -top, tall
        scale = cv2.getFontScaleFromHeight(HERSHEY, size, 1)
        (wide, ascent), below = cv2.getTextSize(text, HERSHEY, scale, hershey_width(size))
        return wide, ascent, ascent + below


def put_text(
    canvas: np.ndarray, text: str, origin: tuple[int, int], color: Color, size: int
) -> None:
    """Write into the image, from the left end of the baseline on; cut off at its right edge."""
    with FONT_LOCK:
        if font():
            cv2.putText(canvas, text, origin, color, font(), size, TEXT_WEIGHT)
            return
        scale = cv2.getFontScaleFromHeight(HERSHEY, size, 1)
        thickness = hershey_width(size)
        cv2.putText(canvas, text, origin, HERSHEY, scale, color, thickness, cv2.LINE_AA)


def hershey_width(size: int) -> int:
    return max(1, size // 12)
