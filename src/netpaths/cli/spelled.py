"""Things spelled ``NAME`` or ``NAME:OPTION=VALUE,…``: attacks and methods."""

from __future__ import annotations

from netpaths.errors import BadOption


def split_spelled(flag: str, text: str) -> tuple[str, dict[str, str]]:
    """The name and the options' texts; raises BadOption, naming ``flag``, for a part without an equals sign."""
    name, _, rest = text.partition(":")
    found: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise BadOption(f"{flag} {text!r}: {part!r} is no OPTION=VALUE")
        found[option.strip()] = value.strip()
    return name.strip(), found
