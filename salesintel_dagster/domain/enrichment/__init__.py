"""Product enrichment: catalogs, batches, provider answers and their rules. Pure: no queue, table or HTTP."""
