"""GeoTIFFs: half a metre a pixel in UTM zone 33N, as GDAL writes it."""

import io

import numpy as np
import tifffile
from PIL import Image

from transforms.georeference import georeference_of

SCALE, TIE = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 392000.25, 5820000.5, 0.0)
TURNED = (0.4, 0.3, 0.0, 392000.25, 0.3, -0.4, 0.0, 5820000.5, *([0.0] * 7), 1.0)
KEYS = (1, 1, 0, 5, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, 34737, 8, 0, 2057, 34736, 1, 0)
KEYS = (*KEYS, 3072, 0, 1, 32633)
UTM = ((33550, 12, SCALE), (33922, 12, TIE), (34735, 3, KEYS))
UTM = (*UTM, (34736, 12, (6378137.0,)), (34737, 2, "UTM 33N|"))
AFFINE = ((34264, 12, TURNED), *UTM[2:])


def pixels(size_hw=(70, 90)):
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)


def geotiff(values, place, **how):
    tags = [(tag, kind, 0 if kind == 2 else len(value), value, True) for tag, kind, value in place]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", extratags=tags, metadata=None, **how)
    return buffer.getvalue()


def place_in(data):
    with Image.open(io.BytesIO(data)) as image:
        return georeference_of(image)
