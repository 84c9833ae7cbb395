"""`/v1/search`, `/v1/embed`, `/v1/classify`."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from confu.search import Query, QueryError
from confu.search.query import label_prompts
from confu.serve.fields import CLASSIFY, EMBED, SEARCH, labels_of, text_of, weights_of_fields, wish_of
from confu.serve.forms import Form
from confu.serve.problems import Problem
from confu.serve.rendering import hits_out, json_of
from confu.serve.schemas import ClassifyOut, EmbedOut, LabelOut, SearchOut
from confu.serve.service import Found, Service


def asking_routes(service: Service, bodies: dict[str, dict[str, Any]], errors: dict[int | str, Any]) -> APIRouter:
    """The addresses that take inputs.

    Args:
        service: answers.
        bodies: address -> what OpenAPI says of its body.
        errors: what OpenAPI says of errors.
    """
    routes, collection = APIRouter(responses=errors), service.collection

    @routes.post("/v1/search", response_model=SearchOut, openapi_extra=bodies["search"], tags=["ask"])
    async def search(request: Request) -> Response:
        """The items whose embeddings of `target` are nearest to any combination of inputs."""
        begun = time.perf_counter()

        async def work(form: Form) -> Response:
            wish, id = wish_of(form.fields, service.settings), text_of(form.fields, "id")
            if id is not None and form.inputs:
                raise Problem(422, "bad_id", "id: ask by an item or by inputs, not by both", "id")

            def question(items: dict[str, Any]) -> Query:
                if id is None:
                    return collection.query(items, wish)
                return collection.query_of_item(id, text_of(form.fields, "subset") or "", wish)

            return json_of(_search_out(service, await service.ask(form, question), begun))

        return await service.answered(request, SEARCH, work)

    @routes.post("/v1/embed", response_model=EmbedOut, openapi_extra=bodies["embed"], tags=["ask"])
    async def embed(request: Request) -> Response:
        """The unit vector of any combination of inputs that the model embeds."""

        async def work(form: Form) -> Response:
            subset = text_of(form.fields, "subset")
            answer = (await service.ask(form, lambda items: collection.vector_query(items, subset))).answer
            vector = answer.vector.tolist()
            return json_of(EmbedOut(subset=str(answer.query), dim=len(vector), vector=vector))

        return await service.answered(request, EMBED, work)

    @routes.post("/v1/classify", response_model=ClassifyOut, openapi_extra=bodies["classify"], tags=["ask"])
    async def classify(request: Request) -> Response:
        """Labels of the client's own, by how well their prompts fit the inputs."""

        async def work(form: Form) -> Response:
            fields = form.fields
            prompts = label_prompts(labels_of(fields), text_of(fields, "template") or "{}")
            for prompt in (one for several in prompts.values() for one in several):
                if len(prompt) > service.settings.max_text:
                    raise QueryError("labels: a prompt is too long", "labels", "text_too_long")
            weights = weights_of_fields(fields)
            answer = (await service.ask(form, lambda items: collection.vector_query(items, None, weights))).answer
            ranked = await service.in_thread(collection.rank_labels, answer.vector, prompts)
            labels = [LabelOut(label=label, score=score, probability=share) for label, score, share in ranked]
            return json_of(ClassifyOut(query=str(answer.query), labels=labels))

        return await service.answered(request, CLASSIFY, work)

    return routes


def _search_out(service: Service, found: Found, begun: float) -> SearchOut:
    answer, places = found.answer, found.places
    return SearchOut(
        query=str(answer.query),
        target=str(answer.target),
        hits=hits_out(answer.hits, service, places),
        singles={name: hits_out(hits, service, places) for name, hits in answer.singles.items()},
        mean=hits_out(answer.mean, service, places),
        point=places.get(None),
        took_ms=round(1000 * (time.perf_counter() - begun), 2),
    )
