"""The records that flow through the program, in the order in which they come to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """One checkable claim of a prompt.

    ``kind`` is one of object, count, attribute, size, relation, only, scene, text, style. ``text``
    says the claim as a sentence. ``subject`` is a singular noun, ``value`` what is claimed of it
    ("3", "red", "large", "to the left of"), ``object`` the other noun of a relation. A claim is moot
    while one that it depends on fails.
    """

    id: str
    kind: str
    text: str
    subject: str
    value: str
    object: str = ""
    depends_on: tuple[str, ...] = ()
