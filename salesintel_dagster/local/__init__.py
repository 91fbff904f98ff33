"""The embedded world: Postgres, AWS emulator, Titan stand-in, image host, seed data. No ring imports it."""
