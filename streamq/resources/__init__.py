"""What handlers need besides their arguments: the lifespan of an app, and dependencies.

`depends` has the markers, `plan` compiles them, `lifespan` is the app's own start and end, `opened` holds
what is open in a process, `attempt` what is open for one attempt. Knows neither Redis nor how a handler is
executed.
"""
