"""What `streamq dev` runs for a developer: server, worker, daemon and dashboard of one app.

`session` owns the parts, `part` one process, `inside` the code in that process, `watch` the files, `log` the
shared log, `example` the arguments of sample tasks. Nothing here is for production.
"""
