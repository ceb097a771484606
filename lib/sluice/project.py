"""The dbt project at hand: a manifest that is never stale, and selections; dbt itself is started only when needed."""

from pathlib import Path

import msgspec

from sluice import manifest as manifests
from sluice import selectors
from sluice.config import Config, require_project
from sluice.dbt_engine.client import Engine, EngineError, ProjectInfo
from sluice.errors import SluiceError, misconfigured, refused
from sluice.records import Vars


class Project:
    """What planners need to know of a project. `manifest` is that of the files as they are now."""

    def __init__(self, config: Config, base_vars: Vars):
        require_project(config)
        self._config = config
        self._base_vars = base_vars
        self._engine: Engine | None = None
        self.info = self._parsed()
        self.manifest = manifests.load(Path(self.info.manifest_path))

    def __enter__(self) -> "Project":
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.close()

    def select(self, select: list[str], exclude: list[str], selector: str | None) -> list[str]:
        """The unique_ids of the models that `dbt ls` would list, in dependency order, ties by name.

        Answered without dbt where that is certain. Raises SluiceError (2) for a selector that dbt does not take and
        for one that chooses no model.
        """
        try:
            if selector is not None:
                raise selectors.NeedsDbt("a YAML selector")
            chosen = selectors.select(self.manifest, select, exclude, project_dir=self._config.project_dir)
        except selectors.NeedsDbt:
            chosen = self._ask_dbt(select, exclude, selector)
        models = [uid for uid in self.manifest.order(chosen) if _is_run(self.manifest.nodes[uid])]
        if not models:
            asked = " ".join(
                [
                    *(f"--select {s}" for s in select),
                    *(f"--exclude {s}" for s in exclude),
                    *([f"--selector {selector}"] if selector else []),
                ]
            )
            raise refused(
                f"no model of {self.info.project_name} is chosen by {asked or 'an empty selection'}",
                code="plan_empty_selection",
                hint=f"dbt ls --resource-type model {asked} --project-dir {self._config.project_dir}",
            )
        return models

    def _ask_dbt(self, select: list[str], exclude: list[str], selector: str | None) -> set[str]:
        try:
            return set(self._dbt().ls(select, exclude, selector))
        except EngineError as problem:
            raise _as_sluice_error(problem, self._config) from None

    def _dbt(self) -> Engine:
        if self._engine is None:
            self._engine = start_engine(self._config, self._config.target, self._base_vars)
            parse(self._engine, self._config)
        return self._engine

    def _parsed(self) -> ProjectInfo:
        config, cache = self._config, self._config.cache_dir
        fingerprint = manifests.fingerprint(config.project_dir, config.profiles_dir, config.target, self._base_vars)
        kept = cache / "project.json"
        if manifests.cached_manifest(cache, fingerprint) and kept.exists():
            return msgspec.json.decode(kept.read_bytes(), type=ProjectInfo)
        self._engine = start_engine(config, config.target, self._base_vars)
        info = parse(self._engine, config, write_manifest=True)
        kept.write_bytes(msgspec.json.encode(info))
        manifests.save_fingerprint(cache, fingerprint)
        return info


def _is_run(node: manifests.Node) -> bool:
    """Whether `dbt run` does anything for a model that `dbt ls` lists: not for an ephemeral one, nor an empty file."""
    return node.materialized != "ephemeral" and bool(node.raw_code.strip())


def start_engine(config: Config, target: str | None, base_vars: Vars) -> Engine:
    """The warm dbt of the project at hand. Whoever starts it closes it."""
    return Engine(
        project_dir=config.project_dir,
        profiles_dir=config.profiles_dir,
        target=target,
        cache_dir=config.cache_dir,
        base_vars=base_vars,
    )


def parse(engine: Engine, config: Config, *, write_manifest: bool = False) -> ProjectInfo:
    """Have dbt parse the project. Raises SluiceError (78) with dbt's words when it cannot."""
    try:
        return engine.parse(write_manifest=write_manifest)
    except EngineError as problem:
        engine.close()
        raise _as_sluice_error(problem, config) from None


def _as_sluice_error(problem: EngineError, config: Config) -> SluiceError:
    if problem.kind == "selection":
        return refused(f"{problem}", code="plan_bad_selector", hint="see dbt's node selection syntax")
    if problem.kind == "configuration":
        return misconfigured(
            f"dbt cannot load {config.project_dir} ({config.explain('DBT_PROJECT_DIR')}): {problem}",
            code="dbt_configuration",
            hint=f"dbt debug --project-dir {config.project_dir} --profiles-dir {config.profiles_dir}",
        )
    return SluiceError(f"dbt failed: {problem}", code="dbt_internal", exit_code=70)
