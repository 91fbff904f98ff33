"""Ring 2: verbs over ports. No Dagster, no AWS; batches of rows are Arrow."""
