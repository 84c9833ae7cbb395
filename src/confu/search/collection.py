"""A trained model and an index of what it embedded: ask with any combination of inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from confu.index import Index
from confu.index.conditions import Condition
from confu.inference import Embedder
from confu.inference.reading import Item
from confu.plan import Subset
from confu.search.answering import answered
from confu.search.asking import check_belongs, checked_question, known_vectors
from confu.search.choosing import parsed_subset, query_of, target_of, weights_of
from confu.search.labels import probabilities, prompts_of
from confu.search.plane import Plane, places_of, plane_of
from confu.search.prompts import PromptVectors
from confu.search.question import Answer, BadQuestion, Question, Wish
from confu.search.temperature import logged_temperature

Ranked = list[tuple[str, float, float | None]]


class Collection:
    """Items that were embedded, and the model that embeds what they are asked with.

    Args:
        embedder: the model that made the index's vectors.
        index: the vectors.
        temperature: by which the model's loss divided cosines; with it, labels get probabilities.

    Raises:
        ValueError: if the index was made by another model, or the model's method does not compare two embeddings.
    """

    def __init__(self, embedder: Embedder, index: Index, temperature: float | None = None) -> None:
        check_belongs(embedder, index)
        if temperature is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a positive number; got {temperature}")
        self.embedder = embedder
        self.index = index
        self.temperature = temperature
        self.modalities = embedder.modalities
        self._prompts = PromptVectors(embedder)
        self._planes: dict[Subset, Plane] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str,
        run: Path | str | None = None,
        device: str | torch.device = "cpu",
        allow_custom: bool = False,
        encoders: Mapping[str, nn.Module] | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> "Collection":
        """Open an index and load the model that made it.

        Args:
            folder: of the index.
            run: where the model lies now; by default where it was when the index was made.
            device: where to put the model.
            allow_custom: whether an encoder may be built by the function that the model's files name.
            encoders: modules for the modalities whose encoders are not confu's own.
            temperature: see the class; by default what the record of the model's training says, if it is there.
            options: of the index's backend, e.g. the address of its server.

        Raises:
            ValueError: if there is no index or model, or they do not belong together.
        """
        index = Index.open(folder, **options)
        try:
            place = index.about.model if run is None else run
            embedder = Embedder.from_pretrained(place, device=device, encoders=encoders, allow_custom=allow_custom)
            return cls(embedder, index, logged_temperature(place) if temperature is None else temperature)
        except BaseException:
            index.close()
            raise

    def ask(
        self,
        sources: Mapping[str, Any],
        target: Subset | str | None = None,
        k: int = 10,
        where: Sequence[Condition | str] = (),
        weights: Mapping[str, float] | None = None,
        singles: bool = False,
        exclude: Sequence[str] = (),
    ) -> Answer:
        """The items whose embeddings of `target` are nearest to what is given.

        Args:
            sources: modality -> a file's path, bytes, an array, a PIL image; for a text modality the text.
            target: the subset that is sought; None if there is only one that makes sense.
            k: how many, at most 1000.
            where: conditions on metadata, e.g. `"year >= 2020"`.
            weights: subset -> its share of the query's vector, e.g. `{"image": 0.2, "image+audio": 0.8}`; None for the
                embedding of all that is given together.
            singles: search by each single modality too, and by their mean.
            exclude: ids to leave out.

        Raises:
            BadQuestion: a ValueError that says what to ask instead.
        """
        return self._one(self.question(self.read(sources), Wish(target, k, where, weights, singles, exclude)))

    def similar(
        self,
        id: str,
        subset: Subset | str,
        target: Subset | str | None = None,
        k: int = 10,
        where: Sequence[Condition | str] = (),
        weights: Mapping[str, float] | None = None,
        singles: bool = False,
        exclude: Sequence[str] = (),
    ) -> Answer:
        """As `ask`, by the stored embeddings of an item of the index.

        Args:
            id: of the item. It is not among the hits if `target` holds a modality that asks.
            subset: which of its modalities ask.
            target: as for `ask`, like the others.
            k: how many, at most 1000.
            where: conditions on metadata.
            weights: subset -> its share of the query's vector.
            singles: search by each single modality too, and by their mean.
            exclude: ids to leave out.
        """
        return self._one(self.question_of(id, subset, Wish(target, k, where, weights, singles, exclude)))

    def embed(self, sources: Mapping[str, Any], subset: Subset | str | None = None) -> Float[Tensor, " dim"]:
        """The unit vector of what is given; of `subset` of it, if that is named."""
        return self._one(self.vector_question(self.read(sources), subset)).vector

    def classify(
        self,
        sources: Mapping[str, Any],
        labels: Sequence[str] | Mapping[str, Sequence[str]],
        template: str = "{}",
        weights: Mapping[str, float] | None = None,
    ) -> Ranked:
        """Labels of one's own, the most fitting first.

        Args:
            sources: as for `ask`.
            labels: names, or name -> prompts; of several prompts the re-normalised mean is taken.
            template: of a prompt; `{}` stands for the name or prompt, e.g. `"a photo of a {}"`.
            weights: as for `ask`.

        Returns:
            label, cosine, and probability (None if the temperature is not known).
        """
        prompts = prompts_of(labels, template)
        vector = self._one(self.vector_question(self.read(sources), None, weights)).vector
        return self.ranked_labels(vector, prompts)

    def read(self, sources: Mapping[str, Any]) -> dict[str, Item]:
        """What the readers make of the sources; None is left out."""
        given = {name: source for name, source in sources.items() if source is not None}
        items = {}
        for name in query_of(given, self.modalities):
            reader = self.embedder.readers[name]
            try:
                items[name] = reader.read(given[name])
            except ValueError as error:
                raise BadQuestion(f"{name}: {error}", name, f"bad_{reader.modality_kind}") from error
        return items

    def question(self, items: Mapping[str, Item], wish: Wish) -> Question:
        """Check a question of what `read` gave, before it waits for its turn."""
        query, about = query_of(items, self.modalities), self.index.about
        return checked_question(query, self.embedder.subsets, wish, about.subsets, self.index.schema, items=items)

    def question_of(self, id: str, subset: Subset | str, wish: Wish) -> Question:
        """Check a question by an item of the index; see `similar`."""
        query, about = query_of(parsed_subset(subset, "subset"), self.modalities), self.index.about
        try:
            known = known_vectors(self.index.fetch([id]).table, query)
        except KeyError as error:
            raise BadQuestion(f"id: the index has no item {id!r}", "id", "unknown_item") from error
        target = target_of(query, wish.target, about.subsets)
        left_out = [*wish.exclude, id] if target & query else wish.exclude
        wish = Wish(target, wish.k, wish.where, wish.weights, wish.singles, left_out)
        return checked_question(query, tuple(known), wish, about.subsets, self.index.schema, known=known)

    def vector_question(
        self, items: Mapping[str, Item], subset: Subset | str | None = None, weights: Mapping[str, float] | None = None
    ) -> Question:
        """A question that wants no more than the query's vector."""
        names = list(items) if subset is None else list(parsed_subset(subset, "subset"))
        query = query_of(names, self.modalities)
        if missing := [name for name in query if name not in items]:
            raise BadQuestion(f"subset: {query} needs {', '.join(missing)}, which is not given", "subset", "bad_subset")
        shares = weights_of(query, weights, self.embedder.subsets)
        return Question(query, shares, {name: items[name] for name in query})

    def answer(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Answer checked questions together, each with its answer or with what was wrong with it."""
        return answered(questions, self.embedder, self.index)

    def ranked_labels(self, vector: Float[Tensor, " dim"], prompts: Mapping[str, tuple[str, ...]]) -> Ranked:
        """Labels by the cosine of their prompts with a vector; see `classify`."""
        cosines = (self._prompts.of(list(prompts.values())) @ vector).tolist()
        shares = [None] * len(cosines) if self.temperature is None else probabilities(cosines, self.temperature)
        return sorted(zip(prompts, cosines, shares), key=lambda one: -one[1])

    def plane(self, subset: Subset | str) -> Plane:
        """The map of the items by one subset that is stored; made when it is first asked for."""
        wanted = parsed_subset(subset, "subset")
        chosen = target_of(wanted, wanted, self.index.about.subsets)
        if chosen not in self._planes:
            self._planes[chosen] = plane_of(self.index, chosen)
        return self._planes[chosen]

    def places(self, answer: Answer) -> dict[str | None, tuple[float, float]]:
        """Where in the map of the target the hits of an answer lie, by id; under None the query itself."""
        if answer.target is None:
            return {}
        hits = [*answer.hits, *answer.mean, *(hit for found in answer.singles.values() for hit in found)]
        return places_of(self.index, self.plane(answer.target), [hit.id for hit in hits], answer.vector)

    def refresh(self) -> bool:
        """See what a writer has published since; True if there was something."""
        if changed := self.index.refresh():
            self._planes.clear()
        return changed

    def close(self) -> None:
        """Let go of the index."""
        self.index.close()

    def _one(self, question: Question) -> Answer:
        answer = self.answer([question])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
