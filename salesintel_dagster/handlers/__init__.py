"""Entry points that AWS calls, one module each. They stand on domain, settings and the DynamoDB adapter alone.

No Dagster, no pyarrow, no `wiring` (which brings both catalogs and databases): a cold start pays for boto3 and for
nothing else.
"""
