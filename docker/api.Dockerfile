# The API with its page, the callback worker and Flower: all that needs no engine.
FROM python:3.11-slim

RUN pip install --no-cache-dir --root-user-action=ignore "uv>=0.11" \
    && useradd --create-home --uid 1000 podium
WORKDIR /app

# Dependencies first: they change less often than the code.
COPY pyproject.toml ./
RUN uv pip install --system --no-cache --compile-bytecode --requirements pyproject.toml --extra page

# Editable, so that configs/ lies beside the packages, where the settings look for it.
COPY README.md ./
COPY configs configs
COPY api api
COPY bench bench
COPY cli cli
COPY jobs jobs
COPY worker worker
RUN uv pip install --system --no-cache --no-deps --editable .

USER podium
CMD ["podium", "api", "--host", "0.0.0.0"]
