"""What happens in an app, told to its endpoints and to receivers of Django signals.

``facts`` writes what happened into the transaction that caused it.  ``deliveries`` makes
requests of what is due, ``sending`` makes them, ``telling`` sends the signals, and ``courier``
keeps all of it going in a server process.
"""
