"""What a shard tells beside its copies: what was left out, and what the source is like."""

import json
from collections.abc import Sequence
from typing import Any

from transforms import sums
from transforms.augmentation.filters import LEFT_OUT, LeftOut
from transforms.augmentation.looking import Looked
from transforms.failures import Failure
from transforms.records import Extras


def shard_extras(
    shard_name: str,
    looked: Sequence[Looked],
    short: dict[int, int],
    left: Sequence[tuple[str, int, Failure | LeftOut | None]],
) -> Extras:
    """What the shard has besides its copies: what was left out, and what the source is like."""
    rows = [(key, index, why) for key, index, why in left if isinstance(why, LeftOut)]
    lines = [
        json.dumps({"key": key, "index": index, "reason": why.reason, "message": why.message})
        for key, index, why in rows
    ]
    found: sums.Sums = {
        "sources": len(looked),
        "sources_used": sum(each.problem is None for each in looked),
        "left_out": {},
        "short": {str(c): n for c, n in short.items()},
    }
    for _, _, why in rows:
        found["left_out"] = sums.add(found["left_out"], {why.reason: 1})
    for each in looked:
        if each.problem is None:
            counts: dict[str, Any] = {
                "source_pixels": {str(c): n for c, n in each.counts.items()},
                "source_images": {str(c): 1 for c in each.counts},
            }
            found = sums.add(found, counts)
    files = {f"{LEFT_OUT}/{shard_name}.jsonl": "".join(f"{x}\n" for x in lines).encode()}
    return Extras(files if lines else {}, found)
