"""Who decides: the name that the promotion history keeps."""

import getpass

from posttrain.registry.one_line import said


def who_decides(given: str | None) -> str:
    """The name that was given, or the login name.

    Raises:
        ValueError: what was given shows nothing; or neither is there, as in a container without an
            entry for its user.
    """
    if given is not None:
        return said(given, "--who")
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("say who decides: --who NAME; the history keeps it") from None
