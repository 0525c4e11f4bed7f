"""Hugging Face's imagefolder, and Croissant metadata of the same files."""

import hashlib
import json
from typing import Any

from pipeline.exports.samples import Source, samples
from pipeline.exports.target import Target
from transforms.png import encode_png

METADATA, CROISSANT = "metadata.jsonl", "croissant.json"


def hf_imagefolder(source: Source, target: Target) -> int:
    """images/, masks/ and metadata.jsonl with `file_name` and `mask_file_name`, as the library
    `datasets` loads them: features `image` and `mask`. Returns the number of images."""
    return _write(source, target)[0]


def croissant(source: Source, target: Target) -> int:
    """The same files, with croissant.json, which describes them (MLCommons Croissant 1.0)."""
    count, digest = _write(source, target)
    names = ", ".join(f"{row.id} {row.name}" for row in source.classes)
    fields = [
        _field("image", "sc:Text", "file_name", "Path of the image."),
        _field("mask", "sc:Text", "mask_file_name", f"Path of the mask of class ids: {names}."),
        _field("width", "sc:Integer", "width", "Of both, in pixels."),
        _field("height", "sc:Integer", "height", "Of both, in pixels."),
    ]
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "pixelmill_masks",
        "description": f"{count} images with masks of class ids, made by pixelmill.",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": METADATA,
                "name": METADATA,
                "contentUrl": METADATA,
                "encodingFormat": "application/jsonlines",
                "sha256": digest,
            },
            *(
                {
                    "@type": "cr:FileSet",
                    "@id": name,
                    "name": name,
                    "encodingFormat": "image/*",
                    "includes": f"{name}/**",
                }
                for name in ("images", "masks")
            ),
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "examples", "name": "examples", "field": fields}
        ],
    }
    target.create(CROISSANT, json.dumps(found, indent=1).encode() + b"\n")
    return count


def _write(source: Source, target: Target) -> tuple[int, str]:
    count, digest = 0, hashlib.sha256()
    with target.growing(METADATA) as file:
        for sample in samples(source):
            image = f"images/{sample.name}.{sample.extension}"
            mask = f"masks/{sample.name}.png"
            target.create(image, sample.image)
            target.create(mask, encode_png(sample.mask))
            height, width = sample.mask.shape
            row = {
                "file_name": image,
                "mask_file_name": mask,
                "key": sample.key,
                "width": width,
                "height": height,
            }
            line = json.dumps(row).encode() + b"\n"
            digest.update(line)
            file.write(line)
            count += 1
    rows = [{"id": r.id, "name": r.name, "rgb": r.rgb} for r in source.classes]
    legend = {"ignore_id": source.ignore_id, "classes": rows}
    target.create("legend.json", json.dumps(legend, indent=1).encode() + b"\n")
    return count, digest.hexdigest()


def _field(name: str, kind: str, column: str, text: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"examples/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
        "source": {"fileObject": {"@id": METADATA}, "extract": {"column": column}},
    }


_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
