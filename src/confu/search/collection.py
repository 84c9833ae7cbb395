"""A trained model and an index of what it embedded, searched with any combination of inputs."""

import json
import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from confu.data.readers.text import count_cut, warn_of_cut
from confu.index import Index
from confu.index.conditions import Where
from confu.index.items import Hit
from confu.inference import Embedder
from confu.inference.embedder import class_means
from confu.inference.embedding import embed_batch
from confu.inference.reading import Item, collate
from confu.plan import Subset
from confu.search.plane import Plane, places_of, plane_of
from confu.search.query import (
    Query,
    QueryError,
    SearchOptions,
    SearchResult,
    blend,
    check_query,
    label_prompts,
    parse_subset,
    query_subset,
    query_weights,
    resolve_target,
)
from confu.types import Batch

RankedLabels = list[tuple[str, float, float | None]]
_CACHED_LABELS = 4096
_FOLDED = 16_384  # hits are looked at, at most, to fold those of equal content
_EQUAL = 1e-6  # the components of two vectors of one content differ by less
_LOG_TAIL = 1 << 16  # bytes


class Collection:
    """An index with the model that made it.

    Args:
        embedder: the model that made the index's vectors.
        index: the vectors.
        temperature: of the model's loss; with it, labels get probabilities.

    Raises:
        ValueError: if another model made the index, or the model's method does not compare two embeddings.
    """

    def __init__(self, embedder: Embedder, index: Index, temperature: float | None = None) -> None:
        _check_model(embedder, index)
        if temperature is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a positive number; got {temperature}")
        self.embedder = embedder
        self.index = index
        self.temperature = temperature
        self.modalities = embedder.modalities
        self._label_vectors: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._label_lock = Lock()  # a server classifies in several threads
        self._planes: dict[Subset, Plane] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str,
        run: Path | str | None = None,
        temperature: float | None = None,
        *,
        device: str | torch.device = "cpu",
        encoders: Mapping[str, nn.Module] | None = None,
        allow_custom: bool = False,
        **options: Any,
    ) -> "Collection":
        """Open an index and load the model that made it.

        Args:
            folder: of the index.
            run: where the model lies now; by default where it was when the index was made.
            temperature: see the class; by default the last one in the log of the model's training, if it is there.
            device: of the model.
            encoders: modules for the modalities whose encoders are not confu's own.
            allow_custom: whether an encoder may be built by the function that the model's files name.
            options: of the index's backend, e.g. the address of its server.

        Raises:
            ValueError: if there is no index or model, or they do not belong together.
        """
        index = Index.open(folder, **options)
        try:
            model = index.about.model if run is None else run
            if run is None and Path(model).is_absolute() and not Path(model).exists():
                raise ValueError(
                    f"{folder}: its model {model} is no longer there; say where it lies now with run= (--run FOLDER)"
                )
            embedder = Embedder.from_pretrained(model, device=device, encoders=encoders, allow_custom=allow_custom)
            return cls(embedder, index, _logged_temperature(model) if temperature is None else temperature)
        except BaseException:
            index.close()
            raise

    def ask(
        self,
        sources: Mapping[str, Any],
        target: Subset | str | None = None,
        k: int = 10,
        where: Where = (),
        **options: Any,
    ) -> SearchResult:
        """The items whose embeddings of `target` are nearest to the inputs.

        Args:
            sources: modality -> a file's path, bytes, an array, a PIL image; for a text modality the text.
            target: the subset to search; None if only one makes sense.
            k: number of hits, at most 1000.
            where: a filter on metadata, e.g. `"year >= 2020 and site != north"`, or several that must all hold.
            options: weights, singles, exclude and fold_equal of `SearchOptions`.

        Raises:
            QueryError: a ValueError that says what to change.
        """
        return self._one(self.query(self.read(sources), SearchOptions(target, k, where, **options)))

    def similar(
        self,
        id: str,
        subset: Subset | str,
        target: Subset | str | None = None,
        k: int = 10,
        where: Where = (),
        **options: Any,
    ) -> SearchResult:
        """As `ask`, by the stored embeddings of an item of the index.

        Args:
            id: of the item. It is not among the hits if `target` shares a modality with `subset`.
            subset: the modalities of the item to search by.
            target, k, where, options: as for `ask`.
        """
        return self._one(self.query_of_item(id, subset, SearchOptions(target, k, where, **options)))

    def embed(self, sources: Mapping[str, Any], subset: Subset | str | None = None) -> Float[Tensor, " dim"]:
        """The unit vector of the inputs, or of `subset` of them."""
        return self._one(self.vector_query(self.read(sources), subset)).vector

    def classify(
        self,
        sources: Mapping[str, Any],
        labels: Sequence[str] | Mapping[str, Sequence[str]],
        template: str = "{}",
        weights: Mapping[str, float] | None = None,
    ) -> RankedLabels:
        """Rank labels by the cosine of their prompts with the inputs.

        Args:
            sources: as for `ask`.
            labels: names, or name -> prompts; of several prompts the re-normalised mean is taken.
            template: of a prompt; `{}` stands for the name or prompt, e.g. `"a photo of a {}"`.
            weights: see `SearchOptions`.

        Returns:
            label, cosine, and probability (None if the temperature is not known), best first.
        """
        prompts = label_prompts(labels, template)
        vector = self._one(self.vector_query(self.read(sources), None, weights)).vector
        return self.rank_labels(vector, prompts)

    def read(self, sources: Mapping[str, Any]) -> dict[str, Item]:
        """Decode inputs with the model's readers; None is left out."""
        given = {name: source for name, source in sources.items() if source is not None}
        items = {}
        for name in query_subset(given, self.modalities):
            reader = self.embedder.readers[name]
            try:
                items[name] = reader.read(given[name])
            except ValueError as error:
                raise QueryError(f"{name}: {error}", name, f"bad_{reader.modality_kind}") from error
        warn_of_cut(self.embedder.readers, self.cut(items))
        return items

    def cut(self, items: Mapping[str, Any]) -> dict[str, int]:
        """The modalities whose text is longer than its encoder takes, so that its end is ignored: name -> 1."""
        return count_cut(self.embedder.readers, {name: [item] for name, item in items.items()})

    def query(self, items: Mapping[str, Item], options: SearchOptions) -> Query:
        """A checked query by decoded inputs."""
        subset, stored = query_subset(items, self.modalities), self.index.subsets
        query = check_query(subset, self.embedder.subsets, options, stored, self.index.schema)
        return replace(query, items=items)

    def query_of_item(self, id: str, subset: Subset | str, options: SearchOptions) -> Query:
        """A checked query by an item of the index; see `similar`."""
        query = query_subset(parse_subset(subset, "subset"), self.modalities)
        try:
            table = self.index.fetch([id]).table
        except KeyError as error:
            raise QueryError(f"id: the index has no item {id!r}", "id", "unknown_item") from error
        stored = [one for one in table.subsets if bool(table.complete[one][0])]
        vectors = {one: table[one][0] for one in stored if one <= query}
        if not vectors:
            names = ", ".join(map(str, stored)) or "none"
            message = f"subset: the item has no embedding of {query}; it has {names}"
            raise QueryError(message, "subset", "not_embedded")
        target = resolve_target(query, options.target, self.index.subsets)
        exclude = [*options.exclude, id] if target & query else options.exclude
        options = replace(options, target=target, exclude=exclude)
        checked = check_query(query, tuple(vectors), options, self.index.subsets, self.index.schema)
        return replace(checked, vectors=vectors)

    def vector_query(
        self, items: Mapping[str, Item], subset: Subset | str | None = None, weights: Mapping[str, float] | None = None
    ) -> Query:
        """A query that is only embedded, not searched."""
        query = query_subset(items if subset is None else parse_subset(subset, "subset"), self.modalities)
        if missing := [name for name in query if name not in items]:
            raise QueryError(f"subset: {query} needs {', '.join(missing)}, which is not given", "subset", "bad_subset")
        shares = query_weights(query, weights, self.embedder.subsets)
        return Query(query, shares, {name: items[name] for name in query})

    def search(self, queries: Sequence[Query]) -> list[SearchResult | Exception]:
        """Answer queries in one batch; a query that fails gets its exception, and the others are answered."""
        try:
            return list(self._search(queries))
        except Exception as error:
            # The batch does not say which query failed: search one by one.
            return [error] if len(queries) == 1 else [self.search([one])[0] for one in queries]

    def rank_labels(self, vector: Float[Tensor, " dim"], prompts: Mapping[str, tuple[str, ...]]) -> RankedLabels:
        """Rank labels by the cosine of their prompts with a vector; see `classify`."""
        cosines = (self._embed_labels(list(prompts.values())) @ vector).tolist()
        shares: list[float | None] = [None] * len(cosines)
        if self.temperature is not None:
            shares = torch.tensor(cosines, dtype=torch.float64).div(self.temperature).softmax(dim=0).tolist()
        return sorted(zip(prompts, cosines, shares), key=lambda label: -label[1])

    def plane(self, subset: Subset | str) -> Plane:
        """The 2-D map of the items by a stored subset, cached until `refresh`."""
        subset = parse_subset(subset, "subset")
        subset = resolve_target(subset, subset, self.index.subsets)
        if subset not in self._planes:
            self._planes[subset] = plane_of(self.index, subset)
        return self._planes[subset]

    def places(self, result: SearchResult) -> dict[str | None, tuple[float, float]]:
        """The positions of a result's hits in the target's map, by id; under None that of the query."""
        if result.target is None:
            return {}
        hits = [*result.hits, *result.mean, *(hit for hits in result.singles.values() for hit in hits)]
        return places_of(self.index, self.plane(result.target), [hit.id for hit in hits], result.vector)

    def refresh(self) -> bool:
        """See what a writer has committed since; True if there was something."""
        if changed := self.index.refresh():
            self._planes.clear()
        return changed

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def _one(self, query: Query) -> SearchResult:
        result = self.search([query])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def _search(self, queries: Sequence[Query]) -> list[SearchResult]:
        embedded = iter(_embed_batch(self.embedder, [query for query in queries if query.items]))
        sides = [_query_vectors(query, next(embedded) if query.items else query.vectors) for query in queries]
        # One search of the index for all queries with the same target, k and conditions.
        groups = defaultdict(list)
        for place, query in enumerate(queries):
            if query.target is not None:
                groups[query.target, query.k + len(query.exclude), query.where, query.fold_equal].append(place)
        hits: dict[int, list[list[Hit]]] = {}
        for (target, k, where, fold), places in groups.items():
            vectors = torch.cat([sides[place] for place in places])
            owners = [queries[place] for place in places for _ in sides[place]]
            lists = iter(self._hits(vectors, owners, target, k, where, fold))
            for place in places:
                hits[place] = [next(lists) for _ in sides[place]]
        results = []
        for place, query in enumerate(queries):
            fused, *others = hits.get(place, [[]])
            singles = {str(one): single for one, single in zip(query.singles, others)}
            mean = others[len(singles)] if len(others) > len(singles) else []
            results.append(SearchResult(query.subset, query.target, sides[place][0], fused, singles, mean))
        return results

    def _hits(
        self, vectors: Tensor, owners: Sequence[Query], target: Subset, k: int, where: Where, fold: bool
    ) -> list[list[Hit]]:
        """The hits of each vector, without those that its query excludes."""
        while True:
            lists = self.index.search(vectors, target, k, where)
            kept = [[hit for hit in hits if hit.id not in query.exclude] for hits, query in zip(lists, owners)]
            if not fold:
                return [hits[: query.k] for hits, query in zip(kept, owners)]
            try:
                folded = [self._folded(hits, target, query.k + 1) for hits, query in zip(kept, owners)]
            except KeyError:  # one was deleted after the search
                continue
            # The last hit but one is counted to its end.
            if k >= _FOLDED or all(
                len(hits) < k or len(result) > query.k for hits, result, query in zip(lists, folded, owners)
            ):
                return [result[: query.k] for result, query in zip(folded, owners)]
            k = min(4 * k, _FOLDED)

    def _folded(self, hits: Sequence[Hit], target: Subset, most: int) -> list[Hit]:
        """The first `most` hits of different vectors, each with the number of those that are equal to it."""
        vectors, result = self.index.fetch([hit.id for hit in hits]).table[target], []
        left = torch.arange(len(hits))
        while len(left) and len(result) < most:
            # Rows that were embedded in batches of different sizes may differ in their last bits.
            equal = ((vectors[left] - vectors[left[0]]).abs() <= _EQUAL).all(dim=1)
            result.append(replace(hits[int(left[0])], equal=int(equal.sum())))
            left = left[~equal]
        return result

    def _embed_labels(self, labels: Sequence[tuple[str, ...]]) -> Float[Tensor, "labels dim"]:
        """One unit vector a label, the re-normalised mean of its prompts; cached."""
        texts = [name for name, reader in self.embedder.readers.items() if reader.modality_kind == "text"]
        if len(texts) != 1 or not self.embedder.supports(texts[0]):
            message = (
                f"labels need a model with one text modality that it embeds alone; this one has {texts} and embeds "
                f"{', '.join(map(str, self.embedder.subsets))}"
            )
            raise QueryError(message, "labels", "no_text_modality")
        with self._label_lock:
            vectors = {label: self._label_vectors[label] for label in labels if label in self._label_vectors}
        if new := [label for label in dict.fromkeys(labels) if label not in vectors]:
            try:
                encoded = self.embedder.encode({texts[0]: [prompt for label in new for prompt in label]})
            except ValueError as error:
                raise QueryError(f"labels: {error}", "labels", "bad_labels") from error
            vectors.update(zip(new, class_means(encoded, [len(label) for label in new])))
        with self._label_lock:
            for label in labels:
                self._label_vectors[label] = vectors[label]
                self._label_vectors.move_to_end(label)
            while len(self._label_vectors) > _CACHED_LABELS:
                self._label_vectors.popitem(last=False)
        return torch.stack([vectors[label] for label in labels])


def _check_model(embedder: Embedder, index: Index) -> None:
    if embedder.model.score != "cosine":
        raise ValueError(
            f"this model's method compares the embeddings of all modalities at once, by {embedder.model.score}: "
            "there is no vector of a query to search with. Train with a method that compares two (confu, clip)"
        )
    fingerprint, about = embedder.parts.fingerprint(), index.about
    if fingerprint != about.fingerprint:
        raise ValueError(
            f"the index at {index.folder} was made by another model ({about.model}, fingerprint "
            f"{about.fingerprint[:12]}) than the one given (fingerprint {fingerprint[:12]}): their vectors cannot be "
            "compared. Give that model, or index again with this one"
        )


def _embed_batch(embedder: Embedder, queries: Sequence[Query]) -> list[dict[Subset, Tensor]]:
    """For each query subset -> (dim,) on the CPU; each modality is encoded once for all queries that have it."""
    subsets = [tuple(dict.fromkeys((*query.weights, *query.singles))) for query in queries]
    needed = list(dict.fromkeys(subset for several in subsets for subset in several))
    if not needed:
        return [{} for _ in queries]
    names = [name for name in embedder.modalities if any(name in subset for subset in needed)]
    inputs = {name: collate(embedder.readers[name], [query.items.get(name) for query in queries]) for name in names}
    batch = Batch(inputs, [str(row) for row in range(len(queries))])
    vectors = {subset: rows for subset, (rows, _) in embed_batch(embedder.model, batch, needed).items()}
    return [{subset: vectors[subset][row] for subset in several} for row, several in enumerate(subsets)]


def _query_vectors(query: Query, vectors: Mapping[Subset, Tensor]) -> Float[Tensor, "sides dim"]:
    """The query vector, then that of each single modality, then their mean."""
    sides = [blend(vectors, query.weights), *(vectors[one] for one in query.singles)]
    if len(query.singles) == len(query.subset) > 1:
        sides.append(normalize(torch.stack(sides[1:]).mean(dim=0), dim=0))
    return torch.stack(sides)


def _logged_temperature(model: Path | str) -> float | None:
    """The last temperature in the training log of a run folder, or of its `best` or `last`; None without a log."""
    for folder in (Path(model), Path(model).parent):
        try:
            with (folder / "log.jsonl").open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - _LOG_TAIL))
                lines = log.read().splitlines()
        except OSError:  # a model of the hub, or saved without its log
            continue
        for line in reversed(lines):
            try:
                temperature = json.loads(line)["metrics"]["temperature"]
            except (ValueError, KeyError, TypeError):  # the first line may be cut, and others are no steps
                continue
            if isinstance(temperature, int | float) and math.isfinite(temperature) and temperature > 0:
                return float(temperature)
    return None
