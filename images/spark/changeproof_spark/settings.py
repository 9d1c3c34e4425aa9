"""What a pipeline is told."""

from dataclasses import asdict, dataclass, field, fields


class Wrong(Exception):
    """The settings can't be used."""


CHOICES = {
    "dropped_columns": ("drop", "keep"),
    "on_type_change": ("stop", "replace"),
    "write_mode": ("merge-on-read", "copy-on-write"),
}


@dataclass(frozen=True)
class Settings:
    """A pipeline: from the topics of a prefix to the tables of a catalog."""

    # What its checkpoint and its commits are called.
    name: str
    # The topics' prefix: `topic.prefix` of Debezium's connector.
    topics: str
    # Options of Spark's Kafka source and sink without `kafka.`, such as `bootstrap.servers`.
    kafka: dict = field(default_factory=dict)
    # Topics that are left out, as a regular expression of what follows the prefix and its dot.
    without: str | None = None
    # The namespace of a table of the source's schema.
    namespace: str = "{schema}"
    # How often a micro-batch begins; at `0 seconds` as soon as the one before has ended.
    trigger: str = "5 seconds"
    # The most records of a micro-batch.
    max_records: int = 500_000
    # What becomes of a column that the source has dropped: `drop`, or `keep`.
    dropped_columns: str = "drop"
    # What becomes of a column whose type changed to one that it can't be promoted to: `stop`, or `replace`.
    on_type_change: str = "stop"
    # How rows are changed: `merge-on-read`, or `copy-on-write`.
    write_mode: str = "merge-on-read"
    # The topic for records that can't be read or don't fit; without one they stop the pipeline.
    dead_letters: str | None = None
    # For how many seconds a batch is tried again whose sink doesn't answer.
    retry_for_s: int = 300

    @staticmethod
    def of(given):
        """The settings of an object of JSON.

        Raises `Wrong`, with what is wrong.
        """
        unknown = set(given) - {one.name for one in fields(Settings)}
        if unknown:
            raise Wrong(f"there is no setting {', '.join(sorted(unknown))}")
        missing = [name for name in ("name", "topics") if not given.get(name)]
        if missing:
            raise Wrong(f"{' and '.join(missing)} must be given")
        for name, choices in CHOICES.items():
            if given.get(name, choices[0]) not in choices:
                raise Wrong(f"{name} is one of {', '.join(choices)}")
        return Settings(**given)

    def as_json(self):
        return asdict(self)
