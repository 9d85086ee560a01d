# One image for both programs: the command chooses the broker (the default) or the Chat API server.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
COPY requirements/run.lock requirements/dev.lock requirements/
RUN /venv/bin/pip install --require-hashes -r requirements/run.lock \
    && python -m pip install --require-hashes -r requirements/dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY sdk sdk
COPY server server
COPY kit kit
# The build backend comes from the lock as well; the wheel alone reaches the final stage's environment.
RUN python -m pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /venv/bin/python -m compileall -q /venv

FROM python:3.13-slim
# The base image comes without the standard library's bytecode, and nothing here may write it later: each
# start and each health check would compile anew what it imports, which is a third of a start.
RUN useradd --system --uid 65532 --home-dir /data --shell /usr/sbin/nologin chat \
    && install -d -o 65532 -g 65532 -m 0700 /data \
    && python -m compileall -q -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=2)"]
CMD ["chat-broker", "serve"]
