"""docs/metrics.md says what the code tells and what the template watches."""

from __future__ import annotations

import re
from pathlib import Path

from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.domain.metrics import MEASURES, NAMESPACE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"


def test_the_table_of_metrics_is_the_measures_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (
            measure.name,
            measure.unit.value,
            "Stage; Stage, Tenant" if measure.by_tenant else "Stage, Reason",
            measure.meaning,
        )
        for measure in MEASURES
    ]
    assert f"namespace `{NAMESPACE}`" in PAGE.read_text()


def test_the_table_of_alarms_is_the_alarms_of_the_template():
    rows = re.findall(r"^\| `salesintel-\{stage\}-([a-z-]+)` \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    made = re.findall(r'AlarmName: !Sub "salesintel-\$\{Stage\}-([a-z-]+)".*?MetricName: (\w+)', template(), re.DOTALL)
    assert rows == made
    assert len(made) == 5


def test_every_alarm_s_description_leads_to_a_place_on_the_page():
    told = re.findall(r"AlarmDescription: .+ docs/metrics\.md, salesintel-STAGE-([a-z-]+)$", template(), re.MULTILINE)
    assert len(told) == 5
    assert [name for name in told if f"**{name}**" not in PAGE.read_text()] == []
