"""The Dagster webserver behind a guard: `python -m salesintel_dagster.webserver --port N -w workspace.yaml`.

`rule` says what is refused and `access` who is let in (both pure), `guard` is the ASGI application that applies them,
`wire` says how HTTP is spoken, `dagster_app` is the one module that knows how dagster-webserver is made, `viewer` makes
it read-only, `__main__` starts it. Nothing else of the package is imported here but `domain`.
"""
