"""Speed and memory of the export, measured as whole processes. Not part of the package, not part of the tests."""
