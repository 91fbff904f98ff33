"""Resale pricing intelligence as Dagster data assets.

The map, in the order in which data and dependencies flow:

    domain       nouns and rules; imports no framework
    flows        verbs over the ports of `domain`
    adapters     one outside system each
    defs         all Dagster: assets, checks, schedule, resources
    definitions  the composition root that Dagster loads
    local        the embedded world for a machine without a cloud account
    commands     the `salesintel` command line
"""

from salesintel_dagster.allocation import give_big_buffers_back

give_big_buffers_back()
