"""The event sync: sold events from the queue into both stores, exactly once in effect, without a lock."""
