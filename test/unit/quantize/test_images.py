"""Which images calibrate a model."""

from ssd.quantize.images import spread


def test_images_are_spread_over_the_folder():
    assert spread(list(range(9)), 3) == [0, 4, 8]
    assert spread(list(range(9)), 99) == list(range(9))
    assert spread([5], 1) == [5]
