"""Flows: tasks that belong together, each of which starts when those that it waits for have ended.

Owns what programs, workers, daemons and the command line share of them: ids, what a node needs, and the steps
by which a flow goes on. A program declares flows with `app.flow(...)`, see `app.flow_graph`. The scripts
`lua/flow_*.lua` own every change; `lua/lib/flow_open.lua` describes what is stored.
"""
