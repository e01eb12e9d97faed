"""The commands and what the help says of them; each is loaded when it is asked for."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """``synopsis`` is what must follow the name; of ``help``, the list of all commands shows the first paragraph."""

    name: str
    synopsis: str
    help: str

    @property
    def place(self) -> str:
        return f"packtrain.cli.{self.name}:{self.name}"

    @property
    def usage(self) -> str:
        return f"Usage: packtrain {self.name} {self.synopsis}"


COMMANDS = (
    Command(
        "run",
        "INPUT... --model MODEL --out OUT [OPTIONS]",
        "Send every line of INPUT through a batch service and merge the answers into OUT.\n\n"
        "The same command again goes on where this one stopped; after success it does nothing.",
    ),
    Command(
        "check",
        "INPUT... [OPTIONS]",
        "Validate every line of INPUT and say what is wrong where. Ends with 0, 1 (some rejected) or 3 (none usable).",
    ),
    Command(
        "split",
        "INPUT... --out-dir DIR [OPTIONS]",
        "Validate INPUT and cut it into files that a batch service takes; bad lines go to a file of their own.",
    ),
    Command(
        "upload",
        "FILE... [OPTIONS]",
        "Upload each FILE; FILE.upload keeps how far it got. A file that already stands there is not sent again.",
    ),
    Command(
        "merge",
        "--requests FILE... --results FILE... --out OUT [OPTIONS]",
        "Join result files to request files by key, in the order of the requests, the answers' bytes untouched.",
    ),
    Command(
        "status",
        "STATE [OPTIONS]",
        "Say how the run in STATE stands, whether or not a process is driving it.",
    ),
    Command(
        "retry",
        "STATE [OPTIONS]",
        "Ask the failed lines of a complete run once more, and publish its answers anew.\n\n"
        "The answers stay as they are until the new ones are complete. Start the same command again to go on "
        "where it was interrupted.",
    ),
    Command(
        "verify",
        "STATE [OPTIONS]",
        "Hold the files of a run against its manifest, by rows and sizes or by every byte, and change none of them.",
    ),
    Command(
        "recover",
        "INPUT... --run TOKEN --model MODEL --out OUT [OPTIONS]",
        "Make the manifest of a run anew from its input and the service's list of jobs. Nothing is sent.\n\n"
        "Give everything as at the first start. Then start the same `packtrain run` again to go on.",
    ),
    Command(
        "adopt",
        "STATE [OPTIONS]",
        "Go on with a STATE that was copied, moved or put back, or that has a new key. No other copy of it "
        "may be driven.\n\n"
        "Shards of which no job is known are looked for at the service, for as long as after a lost answer, "
        "before they are sent.",
    ),
    Command(
        "resolve",
        "STATE --shard N (--adopt NAME | --retry | --drop) [OPTIONS]",
        "Decide about a quarantined shard, while nothing drives the run; the next start of the run acts on it.",
    ),
    Command(
        "serve",
        "--dir DIR [OPTIONS]",
        "Run the local batch service until SIGINT or SIGTERM; it survives being killed.",
    ),
)
