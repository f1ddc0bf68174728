"""What the site of the end-to-end tests says of its users."""

from project.chat.people import user_data

WATCHERS = 5
"""Each user whose number can be divided by this watches the one before."""


def data_of(user):
    """The usual data and, for some, a watchlist."""
    watchlist = {} if user.pk % WATCHERS else {"watchlist": [str(user.pk - 1)]}
    return {**user_data(user), **watchlist}
