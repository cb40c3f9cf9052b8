"""Clients that can live together in their newest versions."""

import os

from cases import DOCUMENTS, QUERY, case, main

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@case
def cohere_v2(url, key):
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=url)
    found = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, top_n=2)
    return {
        "results": [[entry.index, entry.relevance_score] for entry in found.results],
        "usage": found.meta.billed_units.search_units,
    }


@case
def cohere_v1(url, key):
    import cohere

    client = cohere.Client(api_key=key, base_url=url)
    found = client.rerank(query=QUERY, documents=DOCUMENTS, return_documents=True)
    assert [entry.document.text for entry in found.results] == [DOCUMENTS[e.index] for e in found.results]
    return {
        "results": [[entry.index, entry.relevance_score] for entry in found.results],
        "usage": found.meta.billed_units.search_units,
    }


@case
def cohere_with_v1_in_its_base_url(url, key):
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=f"{url}/v1")
    found = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
    return {"results": [[entry.index, entry.relevance_score] for entry in found.results]}


@case
def cohere_relevant_spans(url, key):
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=url)
    long = [text + " The lift is being repaired, so please take the stairs." * 8 for text in DOCUMENTS]
    spans = cohere.RerankRelevantSpans(mode="enabled")
    found = client.rerank(
        model="rerank-v3.5", query=QUERY, documents=long, max_tokens_per_doc=24, relevant_spans=spans
    )
    for entry in found.results[:2]:
        (span,) = entry.relevant_spans
        assert DOCUMENTS[entry.index] in long[entry.index][span.start : span.end]
        assert span.score == entry.relevance_score
    return {"results": [[entry.index, entry.relevance_score] for entry in found.results]}


@case
def voyage(url, key):
    import voyageai

    client = voyageai.Client(api_key=key, base_url=f"{url}/v1")
    found = client.rerank(QUERY, DOCUMENTS, model="rerank-2.5", top_k=2)
    assert [entry.document for entry in found.results] == [DOCUMENTS[e.index] for e in found.results]
    return {
        "results": [[entry.index, entry.relevance_score] for entry in found.results],
        "usage": found.total_tokens,
    }


@case
def openai_models(url, key):
    import openai

    client = openai.OpenAI(api_key=key, base_url=f"{url}/v1")
    assert [model.id for model in client.models.list()] == ["minilm"]
    assert client.models.retrieve("minilm").owned_by == "podium"
    return {}


@case
def haystack_cohere(url, key):
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    ranker = CohereRanker(model="rerank-v3.5", api_key=Secret.from_token(key), api_base_url=url)
    documents = [Document(content=text, meta={"index": index}) for index, text in enumerate(DOCUMENTS)]
    found = ranker.run(query=QUERY, documents=documents, top_k=3)["documents"]
    return {"results": [[document.meta["index"], document.score] for document in found]}


@case
def haystack_jina(url, key):
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(api_key=Secret.from_token(key), base_url=f"{url}/v1/rerank")
    documents = [Document(content=text, meta={"index": index}) for index, text in enumerate(DOCUMENTS)]
    found = ranker.run(query=QUERY, documents=documents, top_k=3)
    return {
        "results": [[document.meta["index"], document.score] for document in found["documents"]],
        "usage": found["meta"]["usage"]["total_tokens"],
    }


@case
def litellm_cohere(url, key):
    return _litellm("cohere/rerank-v3.5", url, key)


@case
def litellm_jina(url, key):
    return _litellm("jina_ai/jina-reranker-v2-base-multilingual", url, key)


@case
def litellm_vllm(url, key):
    return _litellm("hosted_vllm/minilm", url, key)


@case
def litellm_huggingface(url, key):
    found = _litellm("huggingface/minilm", url, key)
    return {"results": found["results"]}  # TEI's form has no usage: LiteLLM guesses it


@case
def litellm_voyage(url, key):
    return _litellm("voyage/rerank-2.5", url, key)


@case
def litellm_voyage_without_top_n(url, key):
    return _litellm("voyage/rerank-2.5", url, key, top_n=None)


def _litellm(model, url, key, top_n=2):
    import litellm

    found = litellm.rerank(model, QUERY, DOCUMENTS, top_n=top_n, api_base=url, api_key=key)
    results = [[entry["index"], entry["relevance_score"]] for entry in found.results]
    tokens, units = (found.meta or {}).get("tokens"), (found.meta or {}).get("billed_units")
    return {
        "results": results,
        "usage": (tokens or {}).get("input_tokens") or (units or {}).get("total_tokens"),
    }


if __name__ == "__main__":
    main()
