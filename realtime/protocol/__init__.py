"""The Pusher protocol without sockets, Django, clock or randomness.

    app         App and Limits: who the tenant is and what a peer may send
    names       grammar of channel, event, socket and user names
    messages    decode() what clients send; one encoder per message we send
    signing     who may subscribe, sign in, call the HTTP API
    admission   the checks of a new connection
    connection  Connection: messages in, effects out
    errors      what is refused, and with which code

Imports the standard library only; ``tests/test_architecture.py`` holds that.
"""
