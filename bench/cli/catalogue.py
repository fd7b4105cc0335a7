"""`list`, `show`, `verify`: what is in the registry, and whether it is what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import OUTPUT, PROGRESS, JsonOption, SetOption, SizeOption, parse_settings, print_json
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.counting.reconcile import Reconciliation

PatternArgument = Annotated[str, typer.Argument(help="Shell pattern of names, as `smp/*` or `*unet*`.")]
PatternsArgument = Annotated[list[str] | None, typer.Argument(help="Shell patterns of names, as `smp/*` or `*unet*`.")]
SORTS = ("name", "family", "params", "macs", "year")


def list_architectures(
    patterns: PatternsArgument = None,
    sort: Annotated[str, typer.Option(help=f"By {', '.join(SORTS)}.")] = "name",
    size: SizeOption = 256,
    as_json: JsonOption = False,
) -> None:
    """List the registered architectures: family, parameters, exact GMACs, paper, input constraints."""
    from bench.counting.summary import listing

    if sort not in SORTS:
        raise BenchError(f"--sort {sort!r} is not possible; choose one of {', '.join(SORTS)}")
    names = list(dict.fromkeys(name for pattern in patterns or ["*"] for name in _matching(pattern)))
    progress = PROGRESS if PROGRESS.is_terminal else Console(quiet=True)
    rows = listing(names, (size, size), progress)
    if sort != "name":
        rows.sort(key=lambda row: (row[sort] is None, row[sort]))
    if as_json:
        return print_json(rows)
    table = Table(
        title=f"{len(rows)} architectures, 7 classes, {size}x{size} (or the one size that it takes)",
        box=None,
        title_justify="left",
    )
    for header in ("name", "family", "params", "GMACs", "year", "paper", "input"):
        table.add_column(header, justify="right" if header in ("params", "GMACs", "year") else "left")
    for row in rows:
        macs = "–" if row["macs"] is None else f"{row['macs'] / 1e9:.3f}"
        params = "–" if row["params"] is None else f"{row['params']:,}"
        paper = row["paper"] + (" (reconstruction)" if row["reconstruction"] else "")
        table.add_row(row["name"], row["family"], params, macs, str(row["year"]), paper, row["input"])
    return OUTPUT.print(table)


def _matching(pattern: str) -> list[str]:
    import archs

    names = archs.names(pattern)
    if not names:
        raise BenchError(f"no architecture matches {pattern!r}; `lale-bench list` without a pattern shows them all")
    return names


def show(
    name: Annotated[str, typer.Argument(help="A name, or the path of a saved config.")],
    size: SizeOption = 256,
    num_classes: Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")] = 7,
    settings: SetOption = None,
    against: Annotated[
        str | None, typer.Option(help="Also where the MACs of `fvcore` or `thop` differ, operator by operator.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one architecture: provenance, config, and by stage its output shape, parameters and MACs."""
    import archs
    from bench.counting.reconcile import reconcile
    from bench.counting.summary import summarise

    config = archs.config(name, **parse_settings(settings))
    summary = summarise(config, (size, size), num_classes)
    found = reconcile(archs.build(config, num_classes).eval(), (size, size), against) if against else None
    provenance = None if name.endswith(".json") else archs.entry(name).provenance
    if as_json:
        also = {"reconciliation": asdict(found)} if found else {}
        return print_json({"name": name, "provenance": provenance and vars(provenance), **summary.to_dict(), **also})
    if provenance:
        kind = "reconstruction of " if provenance.reconstruction else ""
        OUTPUT.print(f"[bold]{name}[/]: {kind}{provenance.paper}, {provenance.year}, {provenance.licence}")
        OUTPUT.print(f"{provenance.source}  {provenance.note}")
    OUTPUT.print(", ".join(f"{field}={value}" for field, value in archs.to_dict(config).items()), style="dim")
    OUTPUT.print(summary.table())
    return OUTPUT.print(_differences(found)) if found else None


def _differences(found: Reconciliation) -> Table:
    """From the exact count to the other counter's: the differences add up."""
    table = Table(box=None, show_footer=True, title=f"MACs by {found.counter}", title_justify="left")
    footers = ("total", f"{found.exact:,}", f"{found.foreign:,}", f"{found.foreign - found.exact:+,}", "")
    for header, footer in zip(("operator", "exact", "counted", "difference", "why"), footers, strict=True):
        table.add_column(header, footer, justify="left" if header in ("operator", "why") else "right")
    for row in found.rows:
        table.add_row(row.operator, f"{row.exact:,}", f"{row.foreign:,}", f"{row.difference:+,}", row.verdict)
    return table


def verify(pattern: PatternArgument = "*", as_json: JsonOption = False) -> None:
    """Check every check figure of the registry: build, count, compare. Exit status 1 if one does not hold."""
    from bench.counting.verify import verify as verify_names

    results = []
    with PROGRESS.status("counting") as status:
        for result in verify_names(_matching(pattern)):
            results.append(result)
            status.update(f"{result.name}: {result.quantity}")
    if as_json:
        print_json([vars(result) for result in results])
    else:
        OUTPUT.print(_check_table(results))
    failed = sum(not result.ok for result in results)
    PROGRESS.print(f"{len(results) - failed} of {len(results)} check figures hold")
    raise typer.Exit(1 if failed else 0)


def _check_table(results: list) -> Table:
    table = Table(box=None)
    for header in ("architecture", "quantity", "expected", "found", "", "source"):
        table.add_column(header, justify="right" if header in ("expected", "found") else "left")
    for r in results:
        mark = "[green]ok[/]" if r.ok else "[red]WRONG[/]"
        table.add_row(r.name, r.quantity, _number(r.expected), _number(r.found), mark, r.source)
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.3f}" if value < 1000 else f"{value:,.0f}"
