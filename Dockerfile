# PYTHON_IMAGE may be any image with python3 >= 3.11 and its venv module; both stages must share it, because the
# environment links to its interpreter. A pip.conf for a mirror comes as a secret and stays out of the image:
#   docker build --secret id=pip.conf,src=pip.conf .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
# The environment that ships has neither pip nor the build backend: both stay in /opt/build.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/ops-commander \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
      --requirement requirements-build.lock \
 && /opt/build/bin/pip --python /opt/ops-commander/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-compile --require-hashes --no-deps --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md ./
COPY operator ./operator
# The official client loads its thousands of models only when asked for one, which the operator never does: they are
# not compiled, for a smaller image.
RUN /opt/build/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation \
      --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/ops-commander/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-compile --no-index --no-deps dist/*.whl \
 && find /opt/ops-commander/lib -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -r {} + \
 && /opt/ops-commander/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -x '/kubernetes/(aio/)?client/(api|models)/' /opt/ops-commander/lib \
 && /opt/ops-commander/bin/ops-commander --help > /dev/null

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Ops Commander" \
      org.opencontainers.image.description="Kubernetes operator for the progressive delivery of ML models" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/ops-commander /opt/ops-commander
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=1 \
    PATH=/opt/ops-commander/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp
WORKDIR /tmp
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opt/ops-commander/bin/ops-commander"]
CMD ["run"]
