"""The commands in the order of use, and their help; each is loaded when it is called."""

from __future__ import annotations

from typing import NamedTuple

RUN, ON_A_RUN, STAGES, SERVICE = "A run", "On a run", "Stages on plain files", "Local service"


class Command(NamedTuple):
    """``synopsis`` is what must follow the name; of ``help``, the list of all commands shows the first paragraph."""

    group: str
    name: str
    synopsis: str
    help: str
    examples: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"packtrain.cli.{self.name}:{self.name}"

    @property
    def usage(self) -> str:
        return f"Usage: packtrain {self.name} {self.synopsis}"

    @property
    def epilogue(self) -> str:
        """The examples, below the options."""
        return "\n".join(["Examples:", *(f"  packtrain {self.name} {example}" for example in self.examples)])


COMMANDS = (
    Command(
        RUN,
        "run",
        "INPUT... --model MODEL --out OUT [OPTIONS]",
        "Send every line of INPUT through a batch service and merge the answers into OUT.\n\n"
        "The same command again goes on where this one stopped; after success it does nothing.",
        (
            "in.jsonl -m gemini-2.5-flash -o answers.jsonl",
            "corpus/ -m gemini-embedding-001 --task embed -o vectors/",
            "in.jsonl -m any-model -o out.jsonl --service local",
        ),
    ),
    Command(
        RUN,
        "backfill",
        "INPUT... --model MODEL --out OUT [OPTIONS OF run]",
        "Drive one run to its end: packtrain run, again while it ends with 75. For cron and batch schedulers.\n\n"
        "The first wait is 10 seconds, and each further one twice as long, up to --max-wait. While one backfill works "
        "for an OUT, another one says so and ends with 0.",
        (
            "corpus/ -m gemini-2.5-flash -o answers.jsonl",
            "--max-hours 4 --max-wait 30 corpus/ -m gemini-2.5-flash -o answers.jsonl",
        ),
    ),
    Command(
        RUN,
        "check",
        "INPUT... [OPTIONS]",
        "Validate every line of INPUT and list the bad ones. Ends with 0, 1 (some rejected) or 3 (none usable).",
        ("in.jsonl", "corpus/ --json"),
    ),
    Command(
        ON_A_RUN,
        "status",
        "STATE [OPTIONS]",
        "Show the progress of the run in STATE, with or without a process that drives it.",
        ("answers.jsonl.packtrain", "answers.jsonl.packtrain --watch"),
    ),
    Command(
        ON_A_RUN,
        "retry",
        "STATE [OPTIONS]",
        "Ask the failed lines of a complete run once more, and publish its answers again.\n\n"
        "The answers stay as they are until the new ones are complete. Start the same command again to go on where it "
        "was interrupted. While a process drives the run, that one is asked to do it once the run is published.",
        ("answers.jsonl.packtrain", "answers.jsonl.packtrain --all"),
    ),
    Command(
        ON_A_RUN,
        "resolve",
        "STATE --shard N (--adopt NAME | --retry | --drop) [OPTIONS]",
        "Decide about a quarantined shard. A process that drives the run takes the decision and goes on with it; "
        "without one, the next start does.",
        (
            "answers.jsonl.packtrain --shard 19 --adopt batches/x2",
            "answers.jsonl.packtrain --shard 19 --retry",
            "answers.jsonl.packtrain --shard 19 --drop",
        ),
    ),
    Command(
        ON_A_RUN,
        "verify",
        "STATE [OPTIONS]",
        "Compare the files of a run with its manifest, by rows and sizes or by every byte, and change none of them.",
        ("answers.jsonl.packtrain", "answers.jsonl.packtrain --read-data"),
    ),
    Command(
        ON_A_RUN,
        "recover",
        "INPUT... --run TOKEN --model MODEL --out OUT [OPTIONS]",
        "Make the lost manifest of a run again from its input and the service's list of jobs. Nothing is sent.\n\n"
        "Give everything as at the first start. Then start the same `packtrain run` again to go on.",
        ("in.jsonl --run xjqdjmuxitit7sjqnxk3xkpx3i -m gemini-2.5-flash -o answers.jsonl",),
    ),
    Command(
        ON_A_RUN,
        "adopt",
        "STATE [OPTIONS]",
        "Go on with a STATE that was copied, moved or put back, or that has a new key. No other copy of it "
        "may be driven.\n\n"
        "Shards of which no job is known are looked for at the service, for as long as after a lost reply, "
        "before they are sent.",
        ("answers.jsonl.packtrain",),
    ),
    Command(
        STAGES,
        "split",
        "INPUT... --out-dir DIR [OPTIONS]",
        "Validate INPUT and cut it into files that a batch service takes; bad lines go to a file of their own.",
        ("in.jsonl --out-dir shards",),
    ),
    Command(
        STAGES,
        "upload",
        "FILE... [OPTIONS]",
        "Upload each FILE; FILE.upload keeps how far it got. A file that is at the service already is not sent again.",
        ("shards/shard-00000.jsonl",),
    ),
    Command(
        STAGES,
        "merge",
        "--requests FILE... --results FILE... --out OUT [OPTIONS]",
        "Join result files to request files by key, in the order of the requests, the answers' bytes untouched.",
        ("--requests in.jsonl --results results.jsonl -o answers.jsonl",),
    ),
    Command(
        SERVICE,
        "serve",
        "--dir DIR [OPTIONS]",
        "Run the local batch service until a signal stops it; it survives being killed.",
        ("--dir service", "--dir service --backend forward:http://127.0.0.1:8000/v1"),
    ),
)
