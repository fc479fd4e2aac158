"""What a producer holds: the app, its task types, and calls as values.

`app` is StreamQ itself, `tasktype` a registered handler, `bound` a call that has not been sent, `refusals`
what is raised where the server did not accept a task.
"""
