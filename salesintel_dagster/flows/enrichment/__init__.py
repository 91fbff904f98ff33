"""Product enrichment: submitting catalogs, working on their batches, sweeping, retrying, telling how they stand."""
