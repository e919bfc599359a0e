# One target per service, all from one base:  docker build --target web .
#
# The base is pinned by its full tag. To pin its bytes as well, give the digest that `docker buildx imagetools inspect`
# shows for the tag:  docker build --build-arg PYTHON_IMAGE=python:3.13.14-slim-bookworm@sha256:… --target web .
# What is installed into it is pinned and hashed in requirements/.

ARG PYTHON_IMAGE=python:3.13.14-slim-bookworm


FROM ${PYTHON_IMAGE} AS base
LABEL org.opencontainers.image.title="Artseek" \
      org.opencontainers.image.description="Self-hosted image search" \
      org.opencontainers.image.licenses="Apache-2.0"
# glibc's arenas per thread would cost the workers a third of their memory. The code is a layer of its own, so that a
# change to it leaves the large layer of packages as it is.
ENV PATH=/opt/packages/bin:$PATH \
    PYTHONPATH=/opt/artseek \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2
# A fixed number: what one target writes into a volume, another reads. A new named volume takes over the owner and the
# mode of the folder that it is mounted on.
RUN groupadd --gid 10001 artseek \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin artseek \
    && install --directory --owner 10001 --group 10001 /models /var/lib/artseek /var/lib/artseek/cache \
        /var/lib/artseek/query /var/lib/artseek/spool
WORKDIR /var/lib/artseek


FROM base AS builder
# Byte code is made here, once: the containers' file systems are read-only.
ENV PYTHONDONTWRITEBYTECODE= \
    PYTHONPATH= \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_NO_DEPS=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip install --require-hashes --requirement requirements/build.txt \
    && python -m venv --without-pip /opt/packages
COPY pyproject.toml README.md LICENSE ./


FROM builder AS embedder-builder
COPY requirements/embedder.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/embedder.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/embedder services/embedder
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS embedder
COPY --from=embedder-builder /opt/packages /opt/packages
COPY --from=embedder-builder /opt/artseek /opt/artseek
USER 10001:10001
CMD ["python", "-m", "celery", "-A", "services.embedder.app", "worker", "-Q", "embed", "-n", "embedder@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]


FROM builder AS indexer-builder
COPY requirements/indexer.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/indexer.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/indexer services/indexer
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS indexer
COPY --from=indexer-builder /opt/packages /opt/packages
COPY --from=indexer-builder /opt/artseek /opt/artseek
USER 10001:10001
CMD ["python", "-m", "celery", "-A", "services.indexer.app", "worker", "-Q", "index", "-n", "indexer@%h", "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]


FROM builder AS maintenance-builder
COPY requirements/maintenance.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/maintenance.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/maintenance services/maintenance
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS maintenance
COPY --from=maintenance-builder /opt/packages /opt/packages
COPY --from=maintenance-builder /opt/artseek /opt/artseek
USER 10001:10001
CMD ["python", "-m", "celery", "-A", "services.maintenance.app", "worker", "-Q", "maintenance", "-n", "maintenance@%h", "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]


FROM builder AS evaluator-builder
COPY requirements/evaluator.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/evaluator.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/evaluator services/evaluator
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS evaluator
COPY --from=evaluator-builder /opt/packages /opt/packages
COPY --from=evaluator-builder /opt/artseek /opt/artseek
# Snapshots of collections are on disk, not in memory.
ENV TMPDIR=/var/lib/artseek/spool
USER 10001:10001
CMD ["python", "-m", "celery", "-A", "services.evaluator.app", "worker", "-Q", "evaluate", "-n", "evaluator@%h", "--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]


FROM builder AS query-builder
COPY requirements/query.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/query.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/query services/query
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS query
COPY --from=query-builder /opt/packages /opt/packages
COPY --from=query-builder /opt/artseek /opt/artseek
ENV ARTSEEK_QUERY_LISTEN=0.0.0.0:8600 \
    ARTSEEK_QUERY_METRICS_LISTEN=0.0.0.0:8601 \
    ARTSEEK_QUERY_COPY=/var/lib/artseek/query
USER 10001:10001
EXPOSE 8600 8601
CMD ["python", "-m", "services.query"]


FROM builder AS web-builder
COPY requirements/web.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/web.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/web services/web
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS web
COPY --from=web-builder /opt/packages /opt/packages
COPY --from=web-builder /opt/artseek /opt/artseek
# Uploads in progress wait on disk, not in memory.
ENV ARTSEEK_WEB_LISTEN=0.0.0.0:8080 \
    TMPDIR=/var/lib/artseek/spool
USER 10001:10001
EXPOSE 8080
CMD ["python", "-m", "services.web"]


# The command line:  docker compose run --rm producer status
FROM builder AS producer-builder
COPY requirements/producer.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/producer.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/producer services/producer
COPY cli cli
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS producer
COPY --from=producer-builder /opt/packages /opt/packages
COPY --from=producer-builder /opt/artseek /opt/artseek
# What `artseek sync` has found out about files: without it, each sync reads them all again.
ENV XDG_CACHE_HOME=/var/lib/artseek/cache
USER 10001:10001
ENTRYPOINT ["python", "-m", "cli"]
CMD ["--help"]


# Exports the model that is served; has TensorFlow, and runs once.
FROM builder AS model-builder
COPY requirements/training.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/training.txt
COPY shared shared
COPY training training
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS model
COPY --from=model-builder /opt/packages /opt/packages
COPY --from=model-builder /opt/artseek /opt/artseek
USER 10001:10001
CMD ["python", "-m", "training.export", "--out", "/models", "--base-path", "/models"]


# Stands in for tensorflow/serving, which is built for amd64 only: see deploy/model-server.yml.
FROM builder AS model-server-builder
COPY requirements/model-server.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /usr/local/bin/pip --python /opt/packages install --require-hashes --requirement requirements/model-server.txt
COPY shared shared
COPY services/__init__.py services/
COPY services/model_server services/model_server
RUN /usr/local/bin/pip install --no-build-isolation --target /opt/artseek .

FROM base AS model-server
COPY --from=model-server-builder /opt/packages /opt/packages
COPY --from=model-server-builder /opt/artseek /opt/artseek
USER 10001:10001
EXPOSE 8500
CMD ["python", "-m", "services.model_server", "--model_config_file=/models/models.config", "--model_config_file_poll_wait_seconds=30", "--host=0.0.0.0", "--port=8500"]
