# The score worker on an NVIDIA GPU. CUDA's libraries come with PyTorch; the driver is the host's.
FROM python:3.11-slim

# Triton builds its kernels with a C compiler when they are first used.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --root-user-action=ignore "uv>=0.11" \
    && useradd --create-home --uid 1000 podium
WORKDIR /app

# Dependencies first: they are gigabytes and change less often than the code.
COPY pyproject.toml ./
RUN uv pip install --system --no-cache --compile-bytecode --requirements pyproject.toml --extra worker

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
# The volume of models is mounted here and takes over its owner.
RUN mkdir /home/podium/.cache
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["podium", "worker", "score"]
