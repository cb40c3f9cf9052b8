"""Clients that need Cohere's client in its fifth version, and others that live with them."""

from cases import DOCUMENTS, QUERY, case, main


@case
def cohere_5(url, key):
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=url)
    found = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, top_n=2)
    return {
        "results": [[entry.index, entry.relevance_score] for entry in found.results],
        "usage": found.meta.billed_units.search_units,
    }


@case
def langchain_cohere(url, key):
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    reranker = CohereRerank(model="rerank-v3.5", base_url=url, cohere_api_key=key)
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]
    found = reranker.compress_documents(documents, QUERY)
    return {"results": [[entry.metadata["index"], entry.metadata["relevance_score"]] for entry in found]}


@case
def langchain_jina(url, key):
    from langchain_community.document_compressors import jina_rerank
    from langchain_core.documents import Document

    jina_rerank.JINA_API_URL = f"{url}/v1/rerank"
    reranker = jina_rerank.JinaRerank(jina_api_key=key)
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]
    found = reranker.compress_documents(documents, QUERY)
    return {"results": [[entry.metadata["index"], entry.metadata["relevance_score"]] for entry in found]}


@case
def llama_index_cohere(url, key):
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    reranker = CohereRerank(base_url=url, api_key=key, top_n=2)
    return _llama_index(reranker)


@case
def llama_index_jina(url, key):
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    reranker = JinaRerank(base_url=f"{url}/v1", api_key=key, top_n=2)
    return _llama_index(reranker)


@case
def llama_index_tei(url, key):
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    reranker = TextEmbeddingInference(base_url=url, auth_token=f"Bearer {key}", top_n=2)
    return _llama_index(reranker)


def _llama_index(reranker):
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=0) for i, text in enumerate(DOCUMENTS)]
    found = reranker.postprocess_nodes(nodes, query_str=QUERY)
    return {"results": [[int(entry.node.node_id), entry.score] for entry in found]}


if __name__ == "__main__":
    main()
