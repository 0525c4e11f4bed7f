"""`pixelmill segment` of GeoTIFFs: masks that a GIS opens in their place."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from geotiffs import UTM, geotiff, pixels, place_in
from PIL import Image
from support import Segment, metrics_of

from pipeline import cli


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """The same pixels with a place on Earth and without."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "ortho.tif").write_bytes(geotiff(pixels(), UTM))
    (source / "scan.tif").write_bytes(geotiff(pixels(), ()))
    return source


@pytest.mark.parametrize("flags", [[], ["--tile_px=32"]], ids=["whole", "windows"])
def test_masks_and_confidence_are_geotiffs_where_the_picture_is_one(
    segment: Segment, scans: Path, tmp_path: Path, flags
) -> None:
    out = tmp_path / "out"
    assert segment(str(scans), out, "--confidence_map", *flags) == 0
    for kind in ("masks", "confidence"):
        assert {path.name for path in (out / kind).iterdir()} == {"ortho.tif", "scan.png"}
        placed = (out / kind / "ortho.tif").read_bytes()
        assert place_in(placed) == UTM
        with Image.open(io.BytesIO(placed)) as a, Image.open(out / kind / "scan.png") as b:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_other_commands_take_such_masks(segment: Segment, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(str(scans), out) == 0
    assert cli.main(["verify", str(out)]) == 0
    assert "cannot be shown" not in (out / "report.html").read_text()
    scores = ["--output", str(tmp_path / "scores")]
    same = ["--predictions", str(out), "--labels", str(out), *scores]
    assert cli.main(["evaluate", *same]) == 0
    assert metrics_of(tmp_path / "scores")["metrics"]["miou"] == 1
    assert cli.main(["export", "--format=coco_rle", str(out), str(tmp_path / "coco")]) == 0
    (file,) = (tmp_path / "coco").rglob("*.json")
    assert len(json.loads(file.read_text())["images"]) == 2
