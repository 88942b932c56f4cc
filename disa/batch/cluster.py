"""Which machines segment, and how much of them an actor gets (decision D157).

Free of Ray, so that help answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from disa.errors import DisaError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster of Ray, and its actors: processes that hold the model."""

    # With --on ray, a cluster that runs: `auto` (on this machine), or HOST:6379 of its head.
    # Default: $RAY_ADDRESS, else the cores and GPUs of this machine, for as long as the run takes.
    ray_address: str | None = None
    # With --on ray, how many processes hold the model. Default: as many as the cluster has place
    # for.
    actors: int | None = None
    # The part of a GPU that an actor gets; 0: it computes on CPUs. With 0.25, four share a GPU: one
    # computes while others read and draw. Default: 1 where the cluster has GPUs, else 0.
    actor_gpus: float | None = None
    # CPUs of an actor, and threads of its model where it computes on them.
    actor_cpus: int = 1
    # Pictures that an actor is given at a time, and that are looked at again when it dies.
    batch: int = 32

    def check(self) -> None:
        """Raise `DisaError` for numbers that make no sense."""
        for name in ("actors", "actor_cpus", "batch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise DisaError(f"--{name.replace('_', '-')} {number}: choose 1 or more")
        gpus = self.actor_gpus
        # Ray takes parts of one GPU, or whole ones.
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise DisaError(f"--actor-gpus {gpus:g}: choose 0 to 1, or a whole number")

    def actors_on(self, resources: Mapping[str, float]) -> "Actors":
        """Return the actors for a cluster with these `resources`, as Ray names them.

        Raises `DisaError` where not even one has a place.
        """
        cpus = resources.get("CPU", 0)
        gpus = resources.get("GPU", 0)
        share = self.actor_gpus
        if share is None:
            share = 1.0 if gpus else 0.0
        places = int(cpus / self.actor_cpus)
        if share:
            places = min(places, int(gpus / share + 1e-6))  # ten times 0.1 is a little less than 1
        if places < 1:
            raise DisaError(
                f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs, too few for an actor with "
                f"{self.actor_cpus} and {share:g}; choose fewer with --actor-cpus and --actor-gpus"
            )
        count = self.actors or places
        return Actors(min(count, places), count, self.actor_cpus, share)


@dataclass(frozen=True)
class Actors:
    """How many actors begin, how many there may be where the cluster grows, and each one's part."""

    fewest: int
    most: int
    cpus: int
    gpus: int | float
