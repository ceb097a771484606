# Sluice with the bundled project, for `docker exec` by cron. docs/deploy.md says how to run it.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/sluice --shell /usr/sbin/nologin sluice

WORKDIR /srv/sluice

# The lock alone first: a change to the code does not install everything anew.
COPY Makefile requirements.txt ./
RUN make .venv/.installed

COPY README.md pyproject.toml ./
COPY bin bin
COPY lib lib
COPY pipelines pipelines
COPY sql sql
COPY warehouse warehouse
RUN make setup

# The code is root's and stays as it is; all that is written lies in the home, for which a volume is meant.
ENV PATH=/srv/sluice/bin:$PATH \
    SLUICE_STATE_DIR=/var/lib/sluice/state \
    SLUICE_LOG_DIR=/var/lib/sluice/logs \
    SLUICE_SOURCES=/var/lib/sluice/sources \
    SLUICE_DUCKDB_PATH=/var/lib/sluice/warehouse.duckdb
USER 10001

# 26 h: a run a day, and two hours for it. A new container has as long for its first.
HEALTHCHECK --interval=15m --timeout=60s --start-period=26h --retries=1 \
    CMD ["sluice-doctor", "--max-age", "26h"]

ENTRYPOINT ["tini", "-g", "--"]
CMD ["sleep", "infinity"]
