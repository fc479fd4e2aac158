"""What `streamq dev` runs: server, worker, daemon and dashboard of one app, for whoever writes it.

`session` owns the parts, `part` one process of them, `inside` what runs in it, `watch` the files, `log` the
one log, `example` what sample tasks are called with. Nothing here is for production.
"""
