"""Lines come back in their order, whether memory held them or not."""

import pytest

from transforms.spill import Spill


@pytest.mark.parametrize("most_bytes", [0, 20, 1 << 20])
def test_lines_by_number(tmp_path, most_bytes):
    spill = Spill(str(tmp_path), most_bytes)
    for n in range(50):
        spill.add(n % 3, b"%d" % n)
    for number in range(3):
        assert spill.read(number).split() == [b"%d" % n for n in range(50) if n % 3 == number]
    assert spill.read(7) == b""
