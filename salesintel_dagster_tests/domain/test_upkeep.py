from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.upkeep import (
    MANIFEST_BYTES,
    ROWS_A_COMMIT,
    FileFact,
    ManifestFact,
    Place,
    SnapshotFact,
    Step,
    StoredFile,
    Survey,
    UpkeepRules,
    files_to_compact,
    files_to_remove,
    manifests_to_regroup,
    one_commit,
    snapshots_to_expire,
)

NOW = datetime(2026, 11, 21, 5, tzinfo=UTC)
TODAY = NOW.date()
RULES = UpkeepRules(keep_snapshots=3, keep_days=5, unreferenced_days=3, full_file_rows=100)


def history(*days_ago: float) -> list[SnapshotFact]:
    """Snapshots that follow one another, ids from 1; the last is the head."""
    last = len(days_ago)
    return [
        SnapshotFact(number, number - 1 or None, NOW - timedelta(days=ago), named=number == last)
        for number, ago in enumerate(days_ago, start=1)
    ]


def small(path: str, rows: int = 10, day: int = 3, tenant: str = "a", source: str = "smartgo") -> FileFact:
    return FileFact(path, rows, 1000, Place((tenant, 2026, 11), date(2026, 11, day), source))


class TestSnapshotsToExpire:
    def test_old_ones_go_and_the_newest_stay_whatever_their_age(self):
        assert snapshots_to_expire(history(90, 80, 70, 60, 50), NOW, RULES) == (1, 2)

    def test_a_young_one_stays_however_many_there_are(self):
        assert snapshots_to_expire(history(4, 3, 2, 1.5, 1, 0.5), NOW, RULES) == ()

    def test_age_counts_from_when_the_next_one_took_its_place(self):
        """D13: a reader who began on it yesterday, when it was still the newest, has five days to end."""
        assert snapshots_to_expire(history(90, 1, 0.9, 0.8, 0.7), NOW, RULES) == ()

    def test_one_that_was_made_current_again_counts_from_when_it_was_left_for_good(self):
        first, second, third, *rest = history(90, 80, 1, 0.9, 0.8, 0.7)
        back = SnapshotFact(third.snapshot_id, first.snapshot_id, third.written_at, named=False)
        assert snapshots_to_expire([first, second, back, *rest], NOW, RULES) == (2,)

    def test_a_branch_or_tag_keeps_its_snapshot(self):
        tagged, *rest = history(90, 80, 70, 60, 50)
        kept = SnapshotFact(tagged.snapshot_id, None, tagged.written_at, named=True)
        assert snapshots_to_expire([kept, *rest], NOW, RULES) == (2,)

    @given(st.lists(st.floats(0, 400), max_size=40), st.integers(1, 30), st.integers(1, 60))
    def test_it_never_takes_the_head_nor_leaves_fewer_than_it_should(self, ages: list[float], keep: int, days: int):
        snapshots = history(*sorted(ages, reverse=True))
        gone = set(snapshots_to_expire(snapshots, NOW, UpkeepRules(keep_snapshots=keep, keep_days=days)))
        left = [one for one in snapshots if one.snapshot_id not in gone]
        assert len(left) >= min(keep, len(snapshots))
        assert left[-1:] == snapshots[-1:]
        assert all(one.written_at < NOW - timedelta(days=days) for one in snapshots if one.snapshot_id in gone)


class TestFilesToCompact:
    def test_small_files_of_one_place_become_one_group(self):
        files = [small("1"), small("2"), small("3")]
        assert files_to_compact(files, RULES) == (tuple(files),)

    def test_days_tenants_and_sources_never_meet_in_a_group(self):
        files = [
            small("1"),
            small("2", day=4),
            small("3", tenant="b"),
            small("4", source="carousel"),
            small("5"),
            small("6", day=4),
        ]
        groups = files_to_compact(files, RULES)
        assert [[file.path for file in group] for group in groups] == [["1", "5"], ["2", "6"]]

    def test_a_day_of_one_file_has_nothing_to_gain(self):
        assert files_to_compact([small("1"), small("2", day=4)], RULES) == ()

    def test_full_files_and_files_that_mix_days_are_left_alone(self):
        mixed = [FileFact(path, 10, 1000, None) for path in "xyz"]
        assert files_to_compact([small("1", rows=100), small("2", rows=400), small("3"), *mixed], RULES) == ()

    def test_it_must_at_least_halve_their_number(self):
        assert files_to_compact([small("1", rows=60), small("2", rows=60), small("3", rows=60)], RULES) == ()
        assert files_to_compact([small("1", rows=50), small("2", rows=50)], RULES) != ()

    def test_a_commit_takes_whole_places_of_one_partition_and_no_more_than_it_can_lose(self):
        tiny = [(small("1"), small("2")), (small("3", day=4), small("4", day=4)), (small("5", tenant="b"),)]
        large = (small("6", rows=ROWS_A_COMMIT),)
        assert one_commit(tiny) == tuple(tiny[:2])
        assert one_commit([tiny[0], large]) == (tiny[0],)
        assert one_commit([large, tiny[0]]) == (large,)
        assert one_commit([]) == ()


class TestManifestsToRegroup:
    def test_a_month_that_is_over_has_one(self):
        found = [ManifestFact(str(n), 100, 2026, 10) for n in range(2)]
        assert manifests_to_regroup(found, TODAY, RULES) == (tuple(found),)
        assert manifests_to_regroup(found[:1], TODAY, RULES) == ()

    def test_the_present_month_may_gather_some(self):
        found = [ManifestFact(str(n), 100, 2026, 11) for n in range(RULES.open_month_manifests)]
        assert manifests_to_regroup(found, TODAY, RULES) == (tuple(found),)
        assert manifests_to_regroup(found[1:], TODAY, RULES) == ()

    def test_months_do_not_mix_and_a_mixed_one_stays(self):
        found = [ManifestFact(str(n), 100, 2026, n) for n in range(1, 10)]
        mixed = [ManifestFact(f"mixed {n}", 100, None, None) for n in range(5)]
        assert manifests_to_regroup([*found, *mixed], TODAY, RULES) == ()

    def test_a_year_long_past_has_one_and_a_late_day_joins_it(self):
        whole = ManifestFact("2024", 100, 2024, None)
        late = ManifestFact("late", 100, 2024, 3)
        recent = [ManifestFact("2025", 100, 2025, None), ManifestFact("2025-03", 100, 2025, 3)]
        assert manifests_to_regroup([whole, late, *recent], TODAY, RULES) == ((whole, late),)

    def test_none_grows_beyond_what_a_commit_should_read(self):
        found = [ManifestFact(str(n), MANIFEST_BYTES // 2, 2026, 1) for n in range(5)]
        assert [len(group) for group in manifests_to_regroup(found, TODAY, RULES)] == [2, 2]


class TestFilesToRemove:
    def test_only_old_files_that_nothing_refers_to(self):
        """D4"""
        old, young = NOW - timedelta(days=3, seconds=1), NOW - timedelta(days=2, hours=23)
        stored = [StoredFile("left", 5, old), StoredFile("known", 5, old), StoredFile("just written", 5, young)]
        assert files_to_remove(stored, {"known"}, NOW, RULES) == (stored[0],)


@pytest.mark.parametrize(
    "name", ["keep_snapshots", "keep_days", "unreferenced_days", "full_file_rows", "open_month_manifests"]
)
def test_rules_that_would_take_files_from_under_somebody_are_refused(name: str):
    with pytest.raises(SettingInvalid, match=name):
        UpkeepRules(**{name: 0})


def test_a_rehearsal_counts_what_the_survey_found():
    survey = Survey(
        name="t",
        rows=1,
        data_files=1,
        data_bytes=1,
        manifests=1,
        snapshots=(),
        last_upkeep=None,
        managed=False,
        stored_files=1,
        stored_bytes=1,
        to_compact=((small("1"), small("2")),),
        to_regroup=((ManifestFact("m", 7, None, None),),),
        to_expire=(1, 2),
        to_remove=(StoredFile("x", 9, NOW),),
    )
    compact, expire, remove = survey.rehearsal()
    assert (compact.items, compact.bytes) == (3, 2007)
    assert (expire.step, expire.items) == (Step.EXPIRE, 2)
    assert (remove.items, remove.bytes) == (1, 9)
