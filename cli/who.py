"""Who decides: the name that the promotion history keeps."""

import getpass

from posttrain.registry.one_line import one_line


def who_decides(given: str | None) -> str:
    """The name that was given, or the login name.

    Raises:
        ValueError: neither is there, as in a container without an entry for its user.
    """
    if given is not None and (name := one_line(given)):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("say who decides: --who NAME; the history keeps it") from None
