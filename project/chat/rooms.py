"""The rooms of the chat.  They are few and fixed, so they need no table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    slug: str
    title: str
    icon: str
    """Name of a symbol in ``static/chat/icons.svg``."""
    description: str

    @property
    def channel(self) -> str:
        """The presence channel on which the room is live."""
        return f"presence-room-{self.slug}"


ROOMS = (
    Room("gaming", "Gaming", "gamepad", "Matches, machines and late nights"),
    Room("hobbies", "Hobbies", "palette", "Whatever you make when nobody asks you to"),
    Room("business", "Business", "briefcase", "Work talk; the member list shows who is admin"),
)
DEFAULT_ROOM = ROOMS[0]


class RoomConverter:
    """URL converter for the slug of a room; other slugs do not match."""

    regex = "[a-z]+"

    def to_python(self, value: str) -> Room:
        for room in ROOMS:
            if room.slug == value:
                return room
        raise ValueError

    def to_url(self, value: Room) -> str:
        return value.slug
