"""Words of messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def no_molecules(number: int, noun: str = "") -> str:
    """How many things are no molecules.

    >>> no_molecules(1, "line"), no_molecules(2)
    ('1 line is no molecule', '2 are no molecules')
    """
    things = counted(number, noun) if noun else f"{number:,}"
    return f"{things} {'is no molecule' if number == 1 else 'are no molecules'}"
