# The image of the proxy:  docker build -t slotgate .
# It needs a configuration at /etc/slotgate/slotgate.toml, or flags in place of CMD. It runs as any user and on a
# read-only root file system.

FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY proxy ./proxy
# An image without the compiled engine is not built: setup.py would go on without, and is told not to.
RUN SLOTGATE_BUILD=require pip wheel --no-deps --wheel-dir /dist .
# pip compiles what it installs, so nothing needs to be written at run time; pip itself stays out of the image.
RUN python -m venv --without-pip /opt/slotgate \
    && pip --python /opt/slotgate/bin/python install --prefer-binary /dist/*.whl
# In another folder, so that it is the installed one that is asked.
WORKDIR /
RUN /opt/slotgate/bin/slotgate --version | grep --fixed-strings '(engine: compiled)'

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="slotgate" \
      org.opencontainers.image.description="A RESP-speaking sharding proxy: any Redis client in front, many Redis or Valkey servers behind" \
      org.opencontainers.image.licenses="MIT"
# The number, not the name, so that an orchestrator can see that it is not root.
RUN groupadd --system --gid 10001 slotgate \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin slotgate
COPY --from=build /opt/slotgate /opt/slotgate
ENV PATH=/opt/slotgate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 6380 9121
STOPSIGNAL SIGTERM
# The admin address of the configuration, on this port. No proxy of the environment's is asked for it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:9121/healthz', timeout=2)"]
ENTRYPOINT ["slotgate"]
CMD ["serve", "-c", "/etc/slotgate/slotgate.toml"]
