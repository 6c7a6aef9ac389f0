# The service: Socket Mode needs no open port. Settings, secrets and keys are mounted, never built in.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bot bot
COPY recovery recovery
COPY config config
RUN pip install --no-cache-dir --prefix=/install .

FROM python:3.11-slim-bookworm
# redis-server only for `redis: private`; with a Redis of your own it is not started.
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/consul-recovery consul-recovery
COPY --from=build /install /usr/local
USER consul-recovery
WORKDIR /var/lib/consul-recovery
# What a private Redis keeps has to outlive the container. Give it 30 s to stop (docker stop --time 30): it finishes
# the step under way and hands its runs over.
VOLUME /var/lib/consul-recovery
ENTRYPOINT ["consul-recovery-bot"]
CMD ["--settings", "/etc/consul-recovery/settings.yaml"]
