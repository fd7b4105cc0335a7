"""The application: its commands, what is common to all, and how errors leave it."""

import atexit
import errno
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bench.cli import (
    catalogue,
    choosing,
    data,
    exporting,
    measuring,
    quickstart,
    records,
    reporting,
    scenes,
    searching,
    studying,
    training,
    worker,
)
from bench.cli.options import run_file, show_data_warnings
from bench.errors import BenchError

app = typer.Typer(
    name="lale-bench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Measure, train, compare and search small segmentation networks under a compute budget.\n\n"
    "Start with `lale-bench quickstart`, or with `lale-bench list`, then `lale-bench study ablation --budget quick`.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("lale-bench"))
        raise typer.Exit


@app.callback()
def common(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file that registers architectures of your own (`archs.register`); repeatable."),
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and leave.")
    ] = False,
) -> None:
    """Run the plug-ins before any command, so that their names are known to it."""
    show_data_warnings()
    for path in plugin or []:
        if not path.is_file():
            raise BenchError(f"there is no plug-in {path}; give the path of a Python file")
        run_file(path, "lale_bench_plugin")


app.command("quickstart")(quickstart.quickstart)
app.command("list")(catalogue.list_architectures)
app.command("show")(catalogue.show)
app.command("verify")(catalogue.verify)
app.command("measure")(measuring.measure)
app.command("export")(exporting.export)
app.command("train")(training.train)
app.command("predict")(scenes.predict)
app.command("evaluate")(scenes.evaluate)
app.command("publish")(scenes.publish)
app.command("choose")(choosing.choose)
app.command("study")(studying.study)
app.command("plot")(studying.plot)
app.command("report")(reporting.report)
app.add_typer(searching.app, name="search")
app.command("worker")(worker.worker)
data.app.command("import")(data.import_published)
data.app.command("get")(data.get)
app.add_typer(data.app, name="data")
app.add_typer(records.app, name="records")


def main() -> None:
    """Run the command line; an error that a user can cause is one sentence and exit status 1, Ctrl-C is 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")
    _leave(run())


def _leave(status: int) -> NoReturn:
    """End without taking PyTorch apart, which takes a second and 100 MiB; what asked to be called at exit is called."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # whoever read it has gone
            pass
        except OSError as error:
            status = status or _fail(_os_sentence(error))
    os._exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    try:
        return app(args=arguments, standalone_mode=False) or 0
    except BenchError as error:
        return _fail(str(error))
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except OSError as error:
        return _fail(_os_sentence(error))
    except Exception as error:
        return _usage(error)


def _os_sentence(error: OSError) -> str:
    """What the operating system refused, on which file."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full ({error}); what was measured is recorded: make room, run the same again"
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"the operating system refused{where}: {error.strerror or error}; what was measured is recorded: mend that, or "
        "give another folder, and run the same again"
    )


def _usage(error: Any) -> int:
    """A sentence of `archs`, which is not imported for the class of its errors; a mistyped option, which comes as an
    exception that shows itself; anything else is a bug and keeps its traceback."""
    if any(kind.__name__ == "ArchError" for kind in type(error).__mro__):
        return _fail(str(error))
    if not hasattr(error, "show"):
        raise error
    error.show()
    return error.exit_code


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1
