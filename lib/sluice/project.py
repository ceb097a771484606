"""The dbt project at hand: a manifest that is never stale, and selections; dbt itself is started only when needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sluice import error_classes, profiles, progress, selectors, whole_file
from sluice import manifest as manifests
from sluice.config import Config, require_project
from sluice.dbt_engine.client import Engine, EngineError, ProjectInfo
from sluice.errors import SluiceError, misconfigured, refused
from sluice.records import Vars
from sluice.warehouse import Warehouse, connect


@dataclass(frozen=True)
class Question:
    """What is a model's config under a batch's `vars`? Batches alike in those that `matter` share one answer."""

    model: str
    matter: Vars
    vars: Vars


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

    def moved_configs(self, asked: list[Question]) -> list[dict[str, Any] | None]:
        """What of each model's config is different under a batch's vars; None where only a run can tell.

        dbt is asked once for each, and its answers are kept for as long as the manifest is.
        """
        kept = self._config.cache_dir / "configs.json"
        try:
            known = msgspec.json.decode(kept.read_bytes(), type=_Configs)
        except (OSError, msgspec.DecodeError):
            known = _Configs("")
        if known.fingerprint != self._fingerprint:
            known = _Configs(self._fingerprint)
        keys = [msgspec.json.encode([one.model, one.matter], order="deterministic").decode() for one in asked]
        missing = {key: one for key, one in zip(keys, asked, strict=True) if key not in known.moved}
        if missing:
            try:
                answers = self._dbt().moved_configs([(one.model, one.vars) for one in missing.values()])
            except EngineError as problem:
                raise _as_sluice_error(problem, self._config) from None
            known.moved.update(zip(missing, answers, strict=True))
            whole_file.write(kept, msgspec.json.encode(known))
        return [known.moved[key] for key in keys]

    def connect(self, tag: str) -> Warehouse:
        """A connection that only reads. Raises SluiceError where there is none at once: a planner waits for nobody."""
        return connect(
            profiles.load(self._config, self._base_vars), tag=tag, read_only=True,
            rules=error_classes.load(self._config.error_classes),
        )  # fmt: skip

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
        self._fingerprint = fingerprint
        kept = cache / "project.json"
        if manifests.cached_manifest(cache, fingerprint) and kept.exists():
            return msgspec.json.decode(kept.read_bytes(), type=ProjectInfo)
        self._engine = start_engine(config, config.target, self._base_vars)
        info = parse(self._engine, config, write_manifest=True)
        kept.write_bytes(msgspec.json.encode(info))
        manifests.save_fingerprint(cache, fingerprint)
        return info


class _Configs(msgspec.Struct):
    """Answers of dbt for one state of the project's files."""

    fingerprint: str
    moved: dict[str, dict[str, Any] | None] = {}


def _is_run(node: manifests.Node) -> bool:
    """Whether `dbt run` does anything for a model that `dbt ls` lists: not for an ephemeral one, nor an empty file."""
    return node.materialized != "ephemeral" and bool(node.raw_code.strip())


def start_engine(config: Config, target: str | None, base_vars: Vars, asides: dict[str, str] | None = None) -> Engine:
    """The warm dbt of the project at hand; models in `asides` are built under these names. Whoever starts it closes it."""
    return Engine(
        project_dir=config.project_dir,
        profiles_dir=config.profiles_dir,
        target=target,
        cache_dir=config.cache_dir,
        base_vars=base_vars,
        asides=asides,
    )


def parse(engine: Engine, config: Config, *, write_manifest: bool = False) -> ProjectInfo:
    """Have dbt parse the project. Raises SluiceError (78) with dbt's words when it cannot."""
    try:
        with progress.waiting(f"dbt reads {config.project_dir.name}"):
            return engine.parse(write_manifest=write_manifest)
    except EngineError as problem:
        engine.close()
        raise _as_sluice_error(problem, config) from None
    except BaseException:  # a stop signal: dbt is gone before we are
        engine.close()
        raise


def _as_sluice_error(problem: EngineError, config: Config) -> SluiceError:
    if problem.kind == "selection":
        return refused(f"{problem}", code="plan_bad_selector", hint="see dbt's node selection syntax")
    if problem.kind == "configuration":
        return misconfigured(
            f"dbt cannot load {config.project_dir} ({config.explain('DBT_PROJECT_DIR')}): {problem}",
            code="dbt_configuration",
            hint=f"dbt {'deps' if 'dbt deps' in str(problem) else 'debug'} --project-dir {config.project_dir} "
            f"--profiles-dir {config.profiles_dir}",
        )
    return SluiceError(f"dbt failed: {problem}", code="dbt_internal", exit_code=70)
