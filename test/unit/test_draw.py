"""Boxes and names, checked by their pixels."""

from ssd import draw as drawing
from ssd.draw import DrawnBox, draw

import numpy as np
import pytest

GREEN, RED = (0, 255, 0), (0, 0, 255)


def gray(width, height):
    return np.full((height, width, 3), 128, np.uint8)


def changed(before, after):
    return (before != after).any(axis=2)


def luminance(bgr):
    """WCAG's relative luminance, as its text has it."""
    total = 0
    for channel, weight in zip(bgr[::-1], (0.2126, 0.7152, 0.0722), strict=True):
        c = channel / 255
        total += weight * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
    return total


@pytest.fixture(params=["OpenCV 5", "before OpenCV 5"])
def either_font(request, monkeypatch):
    if request.param == "OpenCV 5":
        if drawing.font() is None:
            pytest.skip("this OpenCV has no FontFace")
    else:
        monkeypatch.setattr(drawing, "font", lambda: None)


def test_a_box_is_a_line_of_its_color_around_its_pixels():
    image = gray(300, 300)  # a line of one pixel
    made = draw(image, [DrawnBox((50, 60, 100.4, 119.6), "", GREEN)])
    expected = np.zeros((300, 300), bool)
    expected[60:121, 50:101] = True
    expected[61:120, 51:100] = False
    assert (changed(image, made) == expected).all()
    assert (made[expected] == GREEN).all()
    assert (image == 128).all()


def test_nothing_to_draw_gives_an_equal_copy():
    image = gray(7, 5)
    made = draw(image, [])
    assert made is not image and (made == image).all()
    made[0, 0] = 0
    assert (image == 128).all()


def test_images_that_may_not_be_written_or_are_views_are_taken():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    image.flags.writeable = False
    view = image[:, ::-1, ::-1]
    box = DrawnBox((5, 5, 40, 40), "name", GREEN)
    assert (draw(view, [box]) == draw(view.copy(), [box])).all()


@pytest.mark.parametrize(("size", "line"), [((60, 40), 1), ((640, 480), 3), ((6000, 4000), 17)])
def test_lines_and_letters_grow_with_the_image(size, line, either_font):
    image = gray(*size)
    width, height = size
    box = (0.3 * width, 0.5 * height, 0.9 * width, 0.9 * height)
    plain = changed(image, draw(image, [DrawnBox(box, "", GREEN)]))
    column = plain[: int(0.7 * height), int(0.6 * width)]
    assert column.sum() == line
    tag = changed(image, draw(image, [DrawnBox(box, "i", GREEN)])) & ~plain
    rows = tag.any(axis=1).sum()
    assert max(9, height / 60) <= rows <= max(20, height / 20)


def test_a_tag_is_filled_and_its_letters_stand_out(either_font):
    image = gray(640, 480)
    for color in [GREEN, RED, (255, 0, 0), (255, 255, 255), (0, 0, 0), (130, 130, 130)]:
        made = draw(image, [DrawnBox((100, 200, 300, 400), "person 0.98", color)])
        tag = made[183:198, 102:170].reshape(-1, 3)
        assert (tag == color).all(axis=1).mean() > 0.3
        lights = [luminance(pixel) + 0.05 for pixel in (*tag, color)]
        ground = luminance(color) + 0.05
        assert max(max(lights) / ground, ground / min(lights)) > 4.5, color


def test_text_on_any_color_has_the_contrast_that_wcag_asks_for():
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (2000, 3)).tolist()
    for color in [*colors, *([v, v, v] for v in range(256))]:
        ink, ground = luminance(drawing.text_color(tuple(color))), luminance(color)
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 4.5, color


def test_every_label_has_another_color():
    colors = [drawing.label_color(label) for label in range(300)]
    assert len(set(colors)) > 290
    assert all(type(c) is int and 0 <= c <= 255 for color in colors for c in color)
    near = [np.abs(np.subtract(a, b)).sum() for a, b in zip(colors, colors[1:], strict=False)]
    assert min(near) > 100


@pytest.mark.parametrize(
    "ltrb", [(-90, 5, -1, 50), (5, -90, 50, -1), (61, 5, 90, 50), (5, 41, 50, 90), (1e30,) * 4]
)
def test_a_box_wholly_outside_is_left_out(ltrb):
    image = gray(60, 40)
    assert not changed(image, draw(image, [DrawnBox(ltrb, "name", GREEN)])).any()


def test_a_box_partly_outside_is_cut_off_at_the_edge():
    image = gray(60, 40)
    for far in (70, 1e9, 3e38, float("inf")):
        made = draw(image, [DrawnBox((20, -far, far, 30), "", GREEN)])
        assert (made == draw(image, [DrawnBox((20, 0, 59, 30), "", GREEN)])).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 2), (3, 3), (12, 11), (4000, 9)])
@pytest.mark.parametrize("dashed", [False, True])
def test_images_of_any_shape_take_boxes_of_any_shape(size, dashed, either_font):
    rng = np.random.default_rng(0)
    boxes = []
    for scale in (0, 1, 30, 1e4, 1e30):
        for left, top, width, height in rng.uniform(-1, 1, (40, 4)) * scale:
            text = str(rng.choice(["", "person 0.9", "交通灯 0.99", "a" * 500]))
            ltrb = (left, top, left + abs(width), top + abs(height))
            boxes.append(DrawnBox(ltrb, text, GREEN, dashed))
    made = draw(gray(*size), boxes)
    assert made.shape == (size[1], size[0], 3) and made.dtype == np.uint8


def test_a_box_without_an_area_is_still_seen():
    image = gray(60, 40)
    assert changed(image, draw(image, [DrawnBox((20, 10, 20, 10), "", GREEN)])).sum() == 1
    assert changed(image, draw(image, [DrawnBox((20, 10, 20, 30), "", GREEN)])).sum() == 21


def test_dashes_are_parts_of_the_line():
    image = gray(640, 480)
    ltrb = (100, 100, 500, 400)
    whole = changed(image, draw(image, [DrawnBox(ltrb, "", GREEN)]))
    dashes = changed(image, draw(image, [DrawnBox(ltrb, "", GREEN, True)]))
    assert 0.4 < dashes.sum() / whole.sum() < 0.75
    assert not dashes[~whole].any()


def test_the_first_box_lies_on_top():
    image = gray(300, 300)
    boxes = [DrawnBox((50, 50, 90, 90), "", GREEN), DrawnBox((50, 50, 90, 90), "", RED)]
    assert (draw(image, boxes)[50, 50] == GREEN).all()
    assert (draw(image, boxes[::-1])[50, 50] == RED).all()


def test_the_first_boxs_tag_lies_on_top(monkeypatch):
    monkeypatch.setattr(drawing, "MAX_HIDDEN", 1)
    image = gray(60, 12)  # room for one tag
    first, second = (DrawnBox((1, 1, 55, 8), "red kites", color) for color in (GREEN, RED))
    made = draw(image, [first, second])
    assert (made == GREEN).all(axis=2).sum() > 100 > (made == RED).all(axis=2).sum()


def test_a_tag_lies_in_the_image_wherever_its_box_is():
    rng = np.random.default_rng(0)
    for _ in range(300):
        corner, far = np.sort(rng.integers(0, 300, (2, 2)), axis=0)
        tag = tuple(rng.integers(1, 200, 2))
        nothing = np.empty((0, 4), int)
        x, y = drawing.place((*corner, *far), tag, (300, 200), 2, nothing)
        assert x >= 0 and y >= 0 and x + tag[0] <= 300 and y + tag[1] <= 200


def test_tags_of_the_same_box_do_not_hide_each_other():
    box, image, tag = (100, 100, 200, 300), (640, 480), (60, 15)
    taken = np.empty((0, 4), int)
    for _ in range(12):
        x, y = drawing.place(box, tag, image, 2, taken)
        shared_x = np.minimum(taken[:, 2], x + tag[0]) - np.maximum(taken[:, 0], x)
        shared_y = np.minimum(taken[:, 3], y + tag[1]) - np.maximum(taken[:, 1], y)
        assert not ((shared_x > 0) & (shared_y > 0)).any()
        taken = np.concatenate([taken, [[x, y, x + tag[0], y + tag[1]]]])


def test_a_tag_that_nobody_could_read_is_left_out():
    full = np.array([[0, 0, 640, 480]])
    assert drawing.place((100, 100, 200, 200), (60, 15), (640, 480), 2, full) is None
    none = np.empty((0, 4), int)
    assert drawing.place((1, 1, 9, 9), (60, 15), (640, 14), 2, none) is None


def test_a_name_too_long_for_the_image_keeps_its_score():
    short = drawing.shorten("baseball glove 0.97", 9, 50)
    assert short.startswith("b") and short.endswith(". 0.97")
    assert drawing.text_size(short, 9)[0] <= 50
    assert drawing.shorten("baseball glove 0.97", 9, 500) == "baseball glove 0.97"


def test_chinese_names_are_drawn_where_opencv_can():
    image = gray(640, 480)
    box = (100, 100, 300, 300)
    if drawing.font() is None:
        pytest.skip("this OpenCV has no FontFace")
    drawn = [draw(image, [DrawnBox(box, text, GREEN)]) for text in ("猫", "狗", "?", "￿")]
    for i in range(3):
        for j in range(i):
            assert (drawn[i] != drawn[j]).any()


def test_letters_that_cannot_be_drawn_become_question_marks(monkeypatch):
    image = gray(640, 480)
    box = (100, 100, 300, 300)
    control = draw(image, [DrawnBox(box, "a\nb\x1b", GREEN)])
    assert (control == draw(image, [DrawnBox(box, "a?b?", GREEN)])).all()
    monkeypatch.setattr(drawing, "font", lambda: None)
    chinese = draw(image, [DrawnBox(box, "猫狗 0.9", GREEN)])
    assert (chinese == draw(image, [DrawnBox(box, "?? 0.9", GREEN)])).all()
    assert (chinese != draw(image, [DrawnBox(box, "", GREEN)])).any()


def test_threads_draw_the_same_as_one():
    from concurrent.futures import ThreadPoolExecutor

    images = [gray(200 + 40 * i, 300) for i in range(24)]
    boxes = [DrawnBox((20, 30 * i, 150, 30 * i + 20), f"猫 {i} name", GREEN) for i in range(1, 9)]
    alone = [draw(image, boxes) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for single, other in zip(alone, pool.map(lambda p: draw(p, boxes), images), strict=True):
            assert (single == other).all()
