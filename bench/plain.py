"""The same job as a plain threaded script, for comparison: no retries, checks, cache, quarantine, progress or limits.

Reads the day with psycopg, downloads and embeds each image in a thread pool, writes one Parquet file.
"""

from __future__ import annotations

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import urllib3
from botocore.config import Config


def main(dsn: str, day: str, workers: int, folder: str) -> None:
    """Export one day."""
    http = urllib3.PoolManager(maxsize=workers)
    bedrock = boto3.client("bedrock-runtime", config=Config(max_pool_connections=workers))
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT sale_id, sold_price, image_url FROM sales WHERE sold_at >= %s AND sold_at < %s::date + 1",
            [day, day],
        ).fetchall()

    def one(row: tuple[str, object, str]) -> list[float]:
        image = http.request("GET", row[2]).data
        (Path(folder) / f"{row[0]}.jpg").write_bytes(image)
        body = {"inputImage": base64.b64encode(image).decode(), "embeddingConfig": {"outputEmbeddingLength": 1024}}
        answer = bedrock.invoke_model(modelId="amazon.titan-embed-image-v1", body=json.dumps(body))
        return json.loads(answer["body"].read())["embedding"]

    with ThreadPoolExecutor(workers) as pool:
        vectors = list(pool.map(one, rows))
    table = pa.table(
        {
            "sale_id": [row[0] for row in rows],
            "price": [row[1] for row in rows],
            "vector": pa.array(vectors, pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, Path(folder) / "day.parquet", compression="zstd")
    print(f"paid={len(rows)} success=True")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
