"""The command ``slotgate check``: what is wrong with a configuration, what it means, where its values come from, and
what its servers say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.commandline.advice import RULES, open_listeners, written_as_text
from proxy.commandline.findings import Finding, failed
from proxy.commandline.machine_advice import machine_findings
from proxy.commandline.summary import summary
from proxy.commandline.values_shown import values
from proxy.config import Config, load
from proxy.config.checks import contradictions
from proxy.config.origins import DEFAULT, Origins
from proxy.errors import ConfigError

_COLUMNS = ("key", "value", "source")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What ``slotgate check`` is asked for: the servers too (``connect``), all values (``show``), warnings that fail
    (``strict``), JSON instead of text."""

    connect: bool = False
    show: bool = False
    strict: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check of a usable configuration found. ``meaning`` is in a few lines, ``shown`` has all values if they
    are asked for, and ``servers`` a row for each server that was asked, by the headings of its columns."""

    findings: Sequence[Finding]
    failed: bool
    meaning: Sequence[tuple[str, str]]
    shown: Sequence[tuple[str, str, str]]
    servers: Sequence[Mapping[str, str]]

    def as_text(self) -> str:
        """Return the report for people: findings first, then the meaning or all values, then the servers."""
        lines = [each.text() for each in self.findings]
        if self.shown:
            lines += table(_COLUMNS, self.shown)
        else:
            lines += [f"{name:<10} {words}" for name, words in self.meaning]
        if self.servers:
            lines += ["", *table(tuple(self.servers[0]), [tuple(each.values()) for each in self.servers])]
        if self.failed and not any(each.severity == "error" for each in self.findings):
            lines.append("failed     there are warnings, and --strict is given")
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return the report as a JSON object."""
        document = {
            "ok": not self.failed,
            "findings": [each.fields() for each in self.findings],
            "summary": [{"name": name, "words": words} for name, words in self.meaning],
            "values": [dict(zip(_COLUMNS, row, strict=True)) for row in self.shown],
            "servers": self.servers,
        }
        return json.dumps({key: value for key, value in document.items() if value != []}, indent=2)


def check(
    path: Path | None, flags: Mapping[str, object], environ: Mapping[str, str], options: CheckOptions
) -> tuple[str, int]:
    """Check the configuration that ``load`` makes of the arguments. Returns the text to print, and the exit code."""
    try:
        config = load(path, flags, environ)
        # The imports are here, because they take time that a wrong file need not.
        from proxy.worker.configured_users import users_of

        users = users_of(config)
        if config.audit.rules:
            from proxy.worker.audit_log import audit_rules_of  # imported here, as it brings the event loop

            audit_rules_of(config)
    except ConfigError as error:
        return _refused(error, options), 1
    origins = Origins(path, flags, environ)
    findings = [_placed(each, origins) for each in _offline(config, origins, users.default_open)]
    servers: list[dict[str, str]] = []
    if options.connect:
        from proxy.commandline.server_questions import inspect  # imported here, as it brings the event loop

        servers, of_servers = inspect(config)
        findings += of_servers
    report = CheckReport(
        findings,
        failed(findings, options.strict),
        summary(config, [user.name for user in users if user.enabled]),
        list(values(config, origins)) if options.show else [],
        servers,
    )
    return report.as_json() if options.json else report.as_text(), int(report.failed)


def _offline(config: Config, origins: Origins, default_open: bool) -> Iterator[Finding]:
    yield from open_listeners(config, default_open)
    yield from (Finding("warning", "", words) for words in contradictions(config))
    for rule in RULES:
        yield from rule(config)
    yield from machine_findings(config, origins.file, origins.path)
    yield from written_as_text(origins.file)


def _placed(finding: Finding, origins: Origins) -> Finding:
    """Return the finding with the source of the value that it is about, unless that is the default."""
    source = origins.of(finding.where) if finding.where else DEFAULT
    return finding if source == DEFAULT else replace(finding, place=source)


def _refused(error: ConfigError, options: CheckOptions) -> str:
    if not options.json:
        return "\n".join(error.lines())
    found = [Finding("error", where, words, error.places.get(where, "")) for where, words in error.problems]
    return json.dumps({"ok": False, "findings": [each.fields() for each in found]}, indent=2)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows as lines with columns, under a heading in capitals."""
    cells = [[each.upper() for each in heading], *([cell or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
