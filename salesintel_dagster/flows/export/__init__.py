"""The daily SmartGo export: read, fetch, embed, write; one module per stage, each resumable on its own."""
