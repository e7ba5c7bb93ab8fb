# The image of every node of a Ray cluster on Kubernetes (deploy/kuberay): the packages that pyproject.toml pins, and
# Stillhouse. No engine was at hand to build it; its steps were run by hand in a fresh environment (docs/cluster.md).
FROM python:3.12-slim

# KubeRay asks a node for its health by wget.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*

# Into the system's Python: KubeRay starts Ray in a login shell, which forgets any PATH that is set here.
WORKDIR /build
RUN pip install --no-cache-dir "uv>=0.9"
COPY pyproject.toml ./
RUN uv pip install --system --no-cache --compile-bytecode -r pyproject.toml
COPY README.md ./
COPY features features
COPY models models
COPY orchestrator orchestrator
RUN uv pip install --system --no-cache --compile-bytecode --no-deps .

RUN useradd --uid 1000 --create-home stillhouse
USER 1000
WORKDIR /home/stillhouse
CMD ["stillhouse", "--help"]
