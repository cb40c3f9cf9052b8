# The score worker without a GPU, installed as `make setup` does it: that knows which packages to leave out.
FROM python:3.11-slim

# The engine's build for CPUs links to it. It needs no compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 podium
WORKDIR /app

COPY pyproject.toml README.md ./
COPY scripts scripts
COPY configs configs
COPY api api
COPY bench bench
COPY cli cli
COPY jobs jobs
COPY worker worker
RUN UV_NO_CACHE=1 python scripts/setup.py --extras cpu
ENV PATH=/app/.venv/bin:$PATH

USER podium
# The volume of models is mounted here and takes over its owner.
RUN mkdir /home/podium/.cache
CMD ["podium", "worker", "score"]
