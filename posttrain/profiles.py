"""What data looked like, in a few figures, and how far other data is from it. Pydantic alone.

A profile is small enough to stay with a registered version: the next run's data is compared with
it, without the rows. `data/profile.py` takes it, `data/drift.py` compares.
"""

from typing import Literal, get_args

from pydantic import Field

from posttrain.recipe.section import Section
from posttrain.recipe.validation import Dimension

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

Level = Literal["stable", "notable", "beyond"]


class Counted(Section):
    """How much of one dimension fell where."""

    counts: dict[str, int]
    """Bin -> rows; of the vocabulary the most frequent words -> how often they stand there."""

    total: int
    """Of all bins, those that are left out too."""


class RoleProfile(Section):
    """One role's validated rows."""

    num_rows: int
    dimensions: dict[Dimension, Counted]
    """Those that the role has: preferences alone have `preferred`."""


class ChampionData(Section):
    """The data of the champion's run, as far as the registry tells."""

    version: int | None = None
    """None where there is no champion, or no registry."""

    profiles: dict[str, RoleProfile] = Field(default_factory=dict)
    note: str = ""
    """Why nothing is known."""

    key: str = ""
    """What of the champion the cache key of `validate` sees."""


class Shift(Section):
    """One bin's share, then and now."""

    bin: str
    then: float
    now: float


class DimensionDrift(Section):
    """How far one dimension is from the champion's."""

    dimension: Dimension
    psi: float
    """Population stability index: sum over bins of (now - then) * ln(now / then)."""

    num_bins: int
    expected: float
    """Mean index of two samples of these sizes from one source."""

    chance: float
    """Index that such samples exceed as rarely as `validation.drift.false_alarms` says."""

    level: Level
    """`notable` and `beyond`: above the recipe's figure of that name, and above chance."""

    shifts: tuple[Shift, ...]
    """The bins that add most."""


class RoleDrift(Section):
    """One role, as against the champion's."""

    role: str
    num_rows: int
    num_rows_then: int
    """Rows of the champion's run."""

    dimensions: tuple[DimensionDrift, ...]
    """Empty where there are too few rows to compare."""


class DataDrift(Section):
    """A run's data against those of the champion's run."""

    champion: int | None
    """The champion's version; None where there is nothing to compare with."""

    note: str
    """Why nothing was compared, or which roles were not; empty where all were."""

    roles: tuple[RoleDrift, ...] = ()
    key: str = ""
    """What of the champion the cache key of `validate` saw; kept with the version."""

    @property
    def beyond(self) -> tuple[str, ...]:
        """What is beyond its limit, in words."""
        return tuple(
            f"{role.role} {one.dimension}: {one.psi:.2f} ({moves(one)})"
            for role in self.roles
            for one in role.dimensions
            if one.level == "beyond"
        )


def moves(drift: DimensionDrift) -> str:
    """What moved most, in words."""
    return ", ".join(f"{s.bin!r} {s.then:.1%} to {s.now:.1%}" for s in drift.shifts[:2])
