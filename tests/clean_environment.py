"""Takes the settings of whoever runs the tests out of the environment, when it is imported."""

import os

for name in [n for n in os.environ if n.startswith(("LAKEHOUSE_", "DAGSTER_"))]:
    if not name.startswith("LAKEHOUSE_TEST_"):
        del os.environ[name]
