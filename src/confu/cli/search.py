"""The commands to search what a model has embedded: an index, questions to it, and its server."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from confu.cli.own import CUSTOM, OUTSIDE, PROGRESS, parse_pairs
from confu.cli.show import console, escape, print_wide

FOLDER = Annotated[Path, typer.Argument(help="The folder of the index.", show_default=False, metavar="DIR")]
MODEL = Annotated[
    str | None, typer.Option("--run", help="Where the model lies now, if it is not where it was.", show_default=False)
]
DEVICE = Annotated[str, typer.Option(help="cpu, cuda, cuda:1: where the model embeds what you ask with.")]
OPTION = Annotated[
    list[str] | None, typer.Option("--option", help="Of the backend: --option kind=hnsw. May be repeated.")
]


def index(
    run: Annotated[
        str,
        typer.Argument(help="The run folder, or a model folder; with --delete, --verify, --compact: the index."),
    ],
    manifest: Annotated[
        str | None, typer.Argument(help="A table of samples, as for confu embed.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the index: a new one, or one of the same model that gets more.", show_default=False
        ),
    ] = None,
    subset: Annotated[
        list[str] | None, typer.Option(help="What to store, e.g. image+audio; all by default. May be repeated.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A modality's column, if it is another: --column image=photo.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(help="Columns to store beside, with commas; by default all that are no modality.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="exact (the default), faiss, postgres or qdrant.", show_default=False)
    ] = None,
    option: OPTION = None,
    replace: Annotated[bool, typer.Option(help="Rows whose id is there take the old ones' place.")] = False,
    on_error: Annotated[str, typer.Option(help="stop or skip: what broken rows do; skipped.csv lists them.")] = "stop",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, on a CPU.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")] = None,
    delete: Annotated[
        list[str] | None, typer.Option(help="Take an item out: confu index DIR --delete ID. May be repeated.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of DIR again, and say what is damaged or out of date.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Put DIR in order after many changes.")] = False,
    allow_outside: OUTSIDE = False,
    allow_custom: CUSTOM = False,
    progress: PROGRESS = True,
) -> None:
    """Embed a table and store it, to be searched: confu index RUN MANIFEST --out DIR.

    Killed at any moment, the same command goes on where it was; the rows come into the index all together or not at
    all. An index that is there already gets more rows. Searching stays possible meanwhile.
    """
    from confu.index import Index
    from confu.runs import EmbedOptions, IndexOptions, index_manifest
    from confu.runs.indexing import check_fresh, remove_items, verify_index

    options = _options(option)
    if delete or verify or compact:
        if manifest is not None or out is not None:
            raise ValueError("--delete, --verify and --compact take just the index: confu index DIR --verify")
        if delete:
            console.print(f"{remove_items(run, delete, **options)} of {len(delete)} items taken out", highlight=False)
        if compact:
            with Index.open(run, writable=True, **options) as opened:
                opened.compact()
        if verify:
            wrong = verify_index(run, **options) or check_fresh(run, allow_custom, **options)
            for problem in wrong:
                console.print(f"- {problem}", highlight=False, soft_wrap=True, markup=False)
            if wrong:
                raise typer.Exit(1)
            with Index.open(run, **options) as opened:
                console.print(f"All is as it was written: {len(opened)} items.", highlight=False)
        return
    if manifest is None or out is None:
        raise ValueError("an index is made by confu index RUN MANIFEST --out DIR; one of these is missing")
    names = None if metadata is None else [name.strip() for name in metadata.split(",") if name.strip()]
    embed = EmbedOptions(
        subsets=subset,
        columns=parse_pairs(column, "--column"),
        on_error=on_error,
        batch_size=batch_size,
        workers=workers,
        threads=threads,
        device=device,
        allow_outside=allow_outside,
        allow_custom=allow_custom,
    )
    stored = IndexOptions(names, backend, options, replace)
    found = index_manifest(run, manifest, out, stored, embed, progress)
    notes = [(found.replaced, "replaced"), (found.skipped, "set aside"), (found.empty, "with nothing to embed")]
    more = "".join(f", {count} {what}" for count, what in notes if count)
    console.print(
        f"{found.added} rows added{more}; {found.items} items in [bold]{escape(str(found.folder))}[/bold]: "
        f"{', '.join(map(str, found.subsets))}; metadata: {escape(', '.join(found.metadata)) or 'none'}",
        highlight=False,
        soft_wrap=True,
    )
    if found.without:
        console.print(f"Without {', '.join(found.without)}: the table has no such column. --column names another.")
    console.print(f"Next: confu search {out}, or the page: confu serve {out}", highlight=False, markup=False)


def search(
    folder: FOLDER,
    asked: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to ask with, by modality: --image a.png --text 'a robin'.",
            metavar="--MODALITY VALUE ...",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="What to find, e.g. text; needed where several are stored.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many, at most.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A filter on metadata: \"year >= 2020 and (species in (robin, wren) or note contains 'at dusk')\". "
            "Of several all must hold."
        ),
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Ask with an item of the index, by its id.", show_default=False)
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Which of its modalities ask, with --like: image+audio.", show_default=False)
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="Ask with a blend: --weight image=0.3 --weight image+audio=0.7.", show_default=False),
    ] = None,
    give: Annotated[
        list[str] | None,
        typer.Option(help="A modality whose name is an option here: --give weight=3.5.", show_default=False),
    ] = None,
    singles: Annotated[bool, typer.Option("--singles", help="Show too what each input alone would find.")] = False,
    fold_equal: Annotated[
        bool, typer.Option("--fold-equal", help="Show items of equal content once, with their number.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
    run: MODEL = None,
    option: OPTION = None,
    device: DEVICE = "cpu",
    allow_custom: CUSTOM = False,
) -> None:
    """Ask an index with any of the model's modalities, each as an option of its name.

    confu search DIR --image a.png --audio b.wav --target text -k 5

    A file by its path, a text as it is, a vector as a .npy file or as "[1, 2, 3]". All that is given asks together, by
    its fused embedding.
    """
    from confu.cli.search_results import as_dict, read_sources, tables_of
    from confu.search import Collection

    if str(folder).startswith("-"):
        raise ValueError(f"the folder of the index comes first: confu search DIR {folder} ...")
    shares = {name: _number(value, "--weight") for name, value in parse_pairs(weight, "--weight").items()} or None
    collection = Collection.open(folder, run=run, device=device, allow_custom=allow_custom, **_options(option))
    try:
        kinds = {name: reader.modality_kind for name, reader in collection.embedder.readers.items()}
        lists = [name for name, reader in collection.embedder.readers.items() if "list" in reader.settings]
        sources = read_sources([*(asked or []), *(f"--{one}" for one in give or [])], kinds, lists)
        wish = {"target": target, "k": k, "where": where or (), "weights": shares, "singles": singles}
        wish["fold_equal"] = fold_equal
        if like is None:
            if by is not None:
                raise ValueError("--by says which modalities of an item ask; name the item with --like ID")
            answer = collection.ask(sources, **wish)
        else:
            if sources:
                raise ValueError("ask with files and texts, or with --like ID; not with both")
            answer = collection.similar(like, by or "+".join(_all_of(collection.index, like)), **wish)
    finally:
        collection.close()
    if as_json:
        typer.echo(json.dumps(as_dict(answer), indent=2, ensure_ascii=False, default=str))
        return
    for table in tables_of(answer):
        print_wide(table)


def serve(
    folder: FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="A limit: --set max_upload_mb=64. --list names all. May be repeated."),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="Name the limits, and end.")] = False,
    run: MODEL = None,
    option: OPTION = None,
    device: DEVICE = "cpu",
    allow_custom: CUSTOM = False,
) -> None:
    """Serve an index: a page to search it with, and HTTP for programs. Needs the extra "serve".

    Listens on this machine only, unless --host says otherwise. CONFU_API_KEY in the environment asks every client for
    that key. Ctrl-C stops it when the requests that are under way are answered.
    """
    try:
        from confu.serve import run as serve_forever
        from confu.serve.settings import ServeSettings
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("confu"):
            raise
        raise ImportError(
            f'confu serve needs the package {error.name}: pip install "contrastive-fusion[serve]"'
        ) from error

    if list_all:
        table = Table("--set", "default", "")
        for name, one in ServeSettings.model_fields.items():
            if name not in ("host", "port", "api_key"):
                table.add_row(name, str(one.get_default()), one.description or "")
        print_wide(table)
        return
    settings = ServeSettings(host=host, port=port, **_options(sets, "--set"))
    console.print(f"Serving {folder} on http://{host}:{port}", highlight=False, markup=False)
    serve_forever(folder, settings, run=run, device=device, allow_custom=allow_custom, **_options(option))


def recall(
    folder: FOLDER,
    target: Annotated[
        str | None, typer.Option(help="The stored subset to search; the first by default.", show_default=False)
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="So many items of the index ask.")] = 1000,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Of so many nearest items.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="The plot; recall.png in DIR by default. PNG, SVG, JSON.", show_default=False)
    ] = None,
    option: OPTION = None,
) -> None:
    """Measure what an approximate index misses: recall@k and time a query at each of its settings, with a plot."""
    from confu.runs.index_recall import measure_recall

    plot = folder / "recall.png" if out is None else out
    found = measure_recall(folder, queries, k, plot, target, **_options(option))
    print_wide(found.to_rich())
    console.print(f"The plot: [bold]{escape(str(plot))}[/bold]", highlight=False, soft_wrap=True)


search_settings = {"ignore_unknown_options": True}
"""What `app.command` needs so that `search` takes an option for each modality of a model that is not known yet."""


def _all_of(index: Any, id: str) -> tuple[str, ...]:
    """The largest subset that is stored of an item."""
    try:
        found = index.get(id).subsets
    except KeyError as error:
        raise ValueError(f"the index has no item {id!r}") from error
    return tuple(max(found, key=len, default=()))


def _options(given: list[str] | None, option: str = "--option") -> dict[str, Any]:
    """Numbers, true, false and lists as JSON writes them; all else as texts."""
    found: dict[str, Any] = {}
    for name, value in parse_pairs(given, option).items():
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} takes SUBSET=NUMBER, e.g. image+audio=0.7; got {text!r}") from None
