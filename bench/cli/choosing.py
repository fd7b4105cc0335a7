"""`choose`: which network to run over so much land, on this machine, under a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import OUTPUT, PROGRESS, DeviceOption, JsonOption, OutOption, print_json
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.choose.answer import Memory
    from bench.choose.known import Known, KnownNetwork, KnownSet, KnownSpeed
    from bench.choose.wish import Wish
    from bench.data import DataSet

NONE_MEETS = 1
"""Exit status where no network is known to meet the wish."""


def choose(
    land_km2: Annotated[float, typer.Option(help="Square kilometres of land.")],
    data: Annotated[
        str,
        typer.Option(
            help="Data like the land: a folder of tiles, `world`, or the name or fingerprint of a set that has records."
        ),
    ],
    gsd: Annotated[
        float | None, typer.Option(help="Side of a pixel of the land in metres; by default that of the data.")
    ] = None,
    within: Annotated[str | None, typer.Option(help="The longest that the land may take, as 30min, 2h, 1.5d.")] = None,
    f1: Annotated[float | None, typer.Option(help="The least macro F1 on the test tiles, from 0 to 1.")] = None,
    max_mib: Annotated[float | None, typer.Option(help="The largest file of weights (fp32) in MiB.")] = None,
    max_params: Annotated[float | None, typer.Option(help="The most parameters.")] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(help="The highest peak of tensors in PyTorch, fp32, in MiB; other runtimes have their own."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of studies, as `runs`; repeatable. By default the suite's own reference runs."),
    ] = None,
    records_only: Annotated[
        bool, typer.Option("--records-only", help="Time nothing here; take recorded speeds, and say whose they are.")
    ] = False,
    networks: Annotated[
        int, typer.Option(min=1, help="So many networks, those of the highest F1 that fit, are timed.")
    ] = 6,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="A runtime to time the networks in; repeatable. By default eager, onnxruntime and openvino on a CPU, "
            "eager and compile on a GPU. compile and autotune take a minute or so a network."
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="A precision to time the networks in, fp32 by default; repeatable. See `measure`."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of timed calls in the race, over all networks.")] = 60.0,
    device: DeviceOption = "auto",
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Choose the network to run over so much land, on this machine, under a budget.

    F1 comes from recorded studies on `--data`, and holds there and at its pixel size only: for other land the command
    refuses. The networks whose F1, weights and parameters fit are raced here, in their deployed form, in every runtime,
    interleaved; each stands with its quickest run. Verdicts are those of the studies; nothing is compared anew. Exit
    status 1 says that no network is known to meet the wish.
    """
    from bench.choose import words
    from bench.choose.answer import answer, contenders
    from bench.choose.candidates import candidates
    from bench.choose.reading import counted
    from bench.choose.timing import Land, Race, Raced, available, race, this_machine
    from bench.records.environment import resolve_device

    where = str(resolve_device(device))
    with PROGRESS.status("reading records"):
        known = _known(records)
        chosen, tiles = _set(known, data)
        known = counted(known, chosen)
    limits = {"f1": f1, "max_mib": max_mib, "max_params": max_params, "max_memory": max_memory}
    wish, about_pixels = _wish(chosen, gsd, within, land_km2=land_km2, **limits)
    raced = Raced()
    if not records_only:
        how = Race(tuple(runtime or available(where)), tuple(precision or ["fp32"]), where, seconds, out, tiles)
        running = [one.network for one in contenders(candidates(known, chosen), wish, networks)]
        raced = race(running, Land.of(wish.pixels, chosen).side, chosen, how)
    here = this_machine(where)
    found = answer(known, chosen, wish, raced=raced.speeds, here=here, memory=peak_of(chosen, where))
    notes = [about_pixels, *raced.sentences]
    if as_json:
        print_json(words.to_dict(found) | {"notes": notes, "not_raced": raced.failures})
    else:
        rows = words.frame(found)
        if len(rows):
            from bench.report.tables import rich_table

            OUTPUT.print(rich_table(rows, words.columns(found, rows)))
        for sentence in [*words.sentences(found), *notes]:
            OUTPUT.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if not found.chosen:
        raise typer.Exit(NONE_MEETS)


def _known(folders: list[Path] | None) -> Known:
    from bench.choose.known import committed
    from bench.choose.reading import gather

    return gather(folders) if folders else committed()


def _set(known: Known, source: str) -> tuple[KnownSet, DataSet | None]:
    """The data set of the scores, and its tiles; found by its name alone where they are not here.

    Raises:
        BenchError: no study has scores on it.
    """
    from bench.choose.candidates import find_set, no_records

    if source.partition(":")[0] not in ("world", "terrain") and not Path(source).is_dir():
        return find_set(known, source), None
    from bench.data import open_data

    with PROGRESS.status(f"reading {source}"):
        opened = open_data(source)
    for one in known.sets:
        if one.fingerprint == opened.fingerprint:
            return replace(one, gsd_m=opened.gsd_m or one.gsd_m, scope=opened.scope), opened
    raise no_records(known, f"{opened.name} ({opened.fingerprint[:12]})", source)


def _wish(data: KnownSet, gsd: float | None, within: str | None, **asked: Any) -> tuple[Wish, str]:
    from bench.choose.wish import Wish, agreed_gsd, parse_duration

    metres, sentence = agreed_gsd(gsd, data.gsd_m, data.name)
    return Wish(gsd_m=metres, within=parse_duration(within), **asked), sentence


def peak_of(data: KnownSet, device: str) -> Memory:
    """Counts the peak of a network's tensors, as it would be run on windows of the data."""

    def peak(network: KnownNetwork, speed: KnownSpeed | None) -> int | None:
        import archs
        from bench.counting.cells import deploy
        from bench.counting.memory import peak_inference_bytes
        from bench.scenes.windows import largest_batch

        size = speed.size if speed else data.tile_size
        batch = speed.batch if speed else largest_batch(size)
        try:
            model = archs.build(archs.from_dict(dict(network.config)), data.num_classes, data.in_channels).eval()
            if speed is None or speed.form == "deployed":
                model = deploy(model, size, data.in_channels)
            return peak_inference_bytes(model, size, batch, device, data.in_channels)
        except (archs.ArchError, BenchError):
            return None

    return peak


def from_records(data: str, gsd: float, within: str | None, **asked: float) -> tuple[Any, Any, list[str]]:
    """Rows, columns and sentences of an answer from the committed records alone, the same on every machine."""
    from bench.choose import words
    from bench.choose.answer import answer

    known = _known(None)
    found_set, _ = _set(known, data)
    wish, about_pixels = _wish(found_set, gsd, within, **asked)
    found = answer(known, found_set, wish, memory=peak_of(found_set, "cpu"))
    rows = words.frame(found)
    return rows, words.columns(found, rows), [*words.sentences(found), about_pixels]
