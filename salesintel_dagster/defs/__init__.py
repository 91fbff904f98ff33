"""Ring 4: all Dagster, one module per flow. No business rule lives here."""
