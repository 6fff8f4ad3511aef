"""The command ``deploy``: finds the verb, runs it, and turns every failure into a line and an exit code."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING, Any

import click

from orchestrator import __version__
from orchestrator.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, AgentrigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Verb -> its line in the help. The verb's code lies in the module of its name and is loaded when it is called.
VERBS = {
    "detect": "Read this machine, or every host of an inventory at once.",
    "plan": "Decide what a machine should run, and say why not the others.",
    "estimate": "Give the memory ledger of one named choice, or of many.",
    "lock": "Write deploy.lock and fill the store.",
    "bundle": "Everything a lock names, for a network without internet.",
    "render": "Show all that would be put on a host.",
    "up": "Detect, plan, lock, render, apply, verify.",
    "verify": "Accept again what runs, changing nothing.",
    "status": "Tell what runs, and whether it is still what was put there.",
    "doctor": "Tell why what we put there does not run, and what to change.",
    "rollback": "Go back to the release that was accepted before the present one.",
    "down": "Take away what was put on a host.",
    "agents": "Coding agents of a host, and how to start one yourself.",
    "sandbox": "Walled places where an agent works on a copy, and hands back a diff.",
    "lab": "Throwaway hosts on this machine.",
    "catalog": "The rows that decisions rest on.",
}


class Verbs(click.Group):
    """A group that loads a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the verbs in the order of the way."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"orchestrator.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb where there is none of that name."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"There is no verb {args[0]}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs without loading them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="deploy")
def deploy() -> None:
    """Coding agents on an llm of your own: sized, pinned, walled in, proved.

    One way through: detect, plan, lock, render, apply, verify. `deploy up` goes all of it.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line; give the exit code of the contract."""
    as_json = "--json" in arguments
    try:
        code = deploy.main(list(arguments), prog_name="deploy", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_DONE
    except AgentrigError as error:
        return fail(error, as_json=as_json, hosts=_of_hosts(arguments))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "deploy"
        usage = UsageError(error.format_message(), where=where, do=f"{where} --help shows what it takes")
        return fail(usage, as_json=as_json, hosts=_of_hosts(arguments))
    except (KeyboardInterrupt, click.Abort):
        return fail(AgentrigError("interrupted", do="run it again: it goes on where it was"), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last door: a fault of ours is a line too, its trace kept aside
        return fail(_fault(error), as_json=as_json, hosts=_of_hosts(arguments))


def _fault(error: Exception) -> AgentrigError:
    """Give a failure nobody foresaw as a line; the trace goes to a file, or to the screen if it is asked for."""
    if isinstance(error, FileNotFoundError):
        return UsageError("there is no such file", where=str(error.filename or ""), do="give one that is there")
    if isinstance(error, OSError):
        where = str(error.filename or "")
        return AgentrigError(
            error.strerror or str(error), where=where, do="see that there is room, and the right to it"
        )
    if "AGENTRIG_TRACE" in os.environ:
        raise error
    with tempfile.NamedTemporaryFile(
        "w", prefix="agentrig-trace-", suffix=".txt", delete=False, encoding="utf-8"
    ) as trace:
        trace.write("".join(traceback.format_exception(error)))
    what = f"deploy itself is at fault: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return AgentrigError(what, where="", do=f"report it with {trace.name}")


def _in_one_line(text: str) -> str:
    """Give a text with what cannot be shown, a newline in a path for one, as Python writes it."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _of_hosts(arguments: Sequence[str]) -> bool:
    return any(verb in arguments for verb in ("detect", "up", "rollback", "down", "status"))


def fail(error: AgentrigError, *, as_json: bool, hosts: bool = False) -> int:
    """Say what failed, in a line or two, or as the document's ``error``; give its exit code."""
    click.echo(f"error: {_in_one_line(str(error))}", err=True)
    if error.do:
        click.echo(f"  {_in_one_line(error.do)}", err=True)
    if as_json:
        document: dict[str, Any] = {"error": error.document()} | ({"hosts": []} if hosts else {})
        rejections = getattr(error, "rejections", ())
        if rejections:
            document["rejections"] = [rejection.document() for rejection in rejections]
        document |= getattr(error, "more", {})
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return error.exit_code or EXIT_FAILED
