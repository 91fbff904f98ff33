"""Whether an Iceberg table may be written, asked without changing it: what `salesintel doctor` asks beside table_probe.

The store takes one small object under a name that no Iceberg writer gives and no upkeep lists, and gives it up again.
The catalog is asked to commit on a version that never was: it judges the permission, then refuses the version as it
refuses the loser of a race. Imports pyiceberg: import it lazily.
"""

from __future__ import annotations

from uuid import uuid4

from botocore.exceptions import ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.update import AssertTableUUID, SetPropertiesUpdate
from sqlalchemy import update

from salesintel_dagster.adapters.aws import code_of
from salesintel_dagster.adapters.table_layout import NAMESPACE, kept_by_aws
from salesintel_dagster.domain.errors import TableUnavailable

PROBE_FILE = "doctor.probe"
NEVER = "doctor.probe"
"""A metadata location that no table has."""
NO_VERSION = "2147483647"
"""A number of Glue's that no table gets to."""
REFUSALS = frozenset({"ConcurrentModificationException", "EntityNotFoundException"})
"""Glue's answers to a permitted change of a version, or of a table, that is not there."""
COMMITTED = ("Name", "Description", "TableType", "Parameters", "StorageDescriptor")
"""What a commit gives to Glue."""


def check_store(table: Table) -> None:
    """Put one object beside the table's files and delete it; on S3 Tables, where nobody can, AWS does it days later.

    Raises the vendor's errors.
    """
    probe = table.io.new_output(f"{table.location().rstrip('/')}/{PROBE_FILE}")
    with probe.create(overwrite=True) as opened:
        opened.write(b"salesintel doctor\n")
    if not kept_by_aws(table.location()):
        try:
            table.io.delete(probe)
        except FileNotFoundError:
            return  # another doctor's hand was quicker


def check_commit(catalog: Catalog, name: str, table: Table | None) -> None:
    """Have a commit judged and refused; without a table a REST catalog cannot be asked, and is not.

    Raises TableUnavailable where the commit is taken, and the vendor's errors, a missing permission among them.
    """
    if isinstance(catalog, SqlCatalog):
        _sql(catalog, name)
    elif isinstance(catalog, GlueCatalog):
        _glue(catalog, name)
    elif table is not None:
        _rest(catalog, name, table)


def _rest(catalog: Catalog, name: str, table: Table) -> None:
    """Require another uuid of the table than it has: it never changes."""
    try:
        catalog.commit_table(table, (AssertTableUUID(uuid=uuid4()),), (SetPropertiesUpdate(updates={}),))
    except CommitFailedException:
        return
    raise _taken(name)


def _sql(catalog: SqlCatalog, name: str) -> None:
    """Run the statement of a commit, for no row; a database judges the permission before it looks for rows."""
    commit = update(IcebergTables).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == NAMESPACE,
        IcebergTables.table_name == name,
        IcebergTables.metadata_location == NEVER,
    )
    with catalog.engine.connect() as connection:  # and no commit
        connection.execute(commit.values(metadata_location=NEVER, previous_metadata_location=NEVER))


def _glue(catalog: GlueCatalog, name: str) -> None:
    """Give the table back as it is: were the version not looked at, there would still be no change."""
    try:
        found = catalog.glue.get_table(DatabaseName=NAMESPACE, Name=name)["Table"]
        same = {field: found[field] for field in COMMITTED if found.get(field)}
    except ClientError as error:
        if code_of(error) not in REFUSALS:
            raise
        same = {"Name": name}
    try:
        catalog.glue.update_table(DatabaseName=NAMESPACE, TableInput=same, SkipArchive=True, VersionId=NO_VERSION)
    except ClientError as error:
        if code_of(error) in REFUSALS:
            return
        raise
    raise _taken(name)


def _taken(name: str) -> TableUnavailable:
    return TableUnavailable(f"the catalog took a commit of {name} on a version that never was: writers undo each other")
