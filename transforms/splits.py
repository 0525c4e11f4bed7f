"""Splitting a dataset into training and validation by a hash, the same in every run and place."""

import hashlib
import re

from models.errors import UserError


def is_validation(key: str, fraction: float, group: re.Pattern[str] | None = None) -> bool:
    """Whether a record belongs to the validation part.

    The hash of the name decides, not its position: a record stays where it is when others come.

    Args:
        key: name of the record.
        fraction: of the records (or groups) that validate, 0 to 1.
        group: records among whose names it finds the same text, or the same first group, stay
            together, such as the frames of one video.

    Raises:
        UserError: the pattern, or its first group, is not in the name.
    """
    if group is not None:
        match = group.search(key)
        found = match and match.group(1 if group.groups else 0)
        if found is None:
            raise UserError(
                f"--split_by={group.pattern!r} is not in the name {key!r}; give a regular "
                "expression that finds the group in every name"
            )
        key = found
    digest = hashlib.blake2b(key.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64
