"""What a connection and a subscription cost, counted."""

import asyncio

from realtime.layer import layer_group
from tests.conftest import ID, until

ROOM = layer_group(ID, "room")


def unnamed_tasks():
    """Tasks but those of the process, which all have names."""
    return sum(task.get_name().startswith("Task-") for task in asyncio.all_tasks())


async def test_an_idle_connection_is_one_task(connect):
    before = unnamed_tasks()

    for _ in range(10):
        client = await connect()
        await client.subscribe("room")

    assert unnamed_tasks() - before == 10


async def test_the_first_subscriber_of_a_process_joins_one_group_and_writes_one_row(
    connect, layer, database
):
    client = await connect()
    layer.groups_joined.clear()

    await client.subscribe("room")

    await until(lambda: database.writes_of("realtime_occupancy"))
    assert layer.groups_joined == [ROOM]
    assert database.writes_of("realtime_occupancy") == 1


async def test_more_subscribers_cost_no_message_and_one_write_together(connect, layer, database):
    """Their number is written half a second later, for all who came meanwhile."""
    await (await connect()).subscribe("room")
    await until(lambda: database.writes_of("realtime_occupancy"))
    database.statements.clear()
    layer.groups_joined.clear()
    layer.sent.clear()

    for _ in range(5):
        await (await connect()).subscribe("room")

    await until(lambda: database.writes_of("realtime_occupancy"))
    assert database.writes_of("realtime_occupancy") == 1
    assert layer.groups_joined == []
    # The process asks itself twice a second whether it hears the layer.
    assert [group for group, _ in layer.sent if ".echo." not in group] == []
