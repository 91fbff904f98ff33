"""Ring 1: nouns and rules. No Dagster, AWS, database or HTTP library; pyarrow only for column rules."""
