"""The sales table in DynamoDB, behind `domain.sales_repository` and the ports of its upkeep.

`table` makes the calls and judges their failures, `items` knows the attributes, `shard_counts` the stored number of
shards; `writing`, `loading`, `reading` and `querying` are the parts of the door, `repository` the whole.
"""
