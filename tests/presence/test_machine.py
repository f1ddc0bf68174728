"""Whatever happens in whatever order: the members are those with a connection, and each
observer sees a user come and go in turn.

Hypothesis chooses what happens on three processes.  The rows and the filter of the hub are
the real ones.  A process is played here, step by step, as the ledger works, so that it can be
cut off between any two steps.
"""

import json
import os
import random
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from realtime.hub import Hub, LocalChannel
from realtime.models import Member, Membership, RealtimeUser, Server
from realtime.presence import census, lease, purge, store
from realtime.presence.announcer import envelope_of
from realtime.presence.store import Join, Leave, Occupy
from realtime.protocol import messages
from tests.presence.conftest import members_in

APP = "3"
CHANNELS = ["presence-one", "presence-two"]
USERS = ["ann", "bob"]
LEASE_SECONDS = 60

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "200"))
"""How many stories are told; a nightly run asks for more."""

GROUPS = 40
"""How many groups each thread writes."""


class View:
    """What one subscriber shows: who is in its channel, as far as it was told."""

    over = False
    backlog_chars = 10**9

    def __init__(self, socket_id):
        self.app_id, self.socket_id = APP, socket_id
        self.users = None
        """``None`` until its subscription is confirmed."""

    def push(self, frame):
        frame = json.loads(frame.text)
        user = json.loads(frame["data"])["user_id"]
        if frame["event"] == "pusher_internal:member_added":
            assert user not in self.users, f"{self.socket_id} saw {user} come twice"
            self.users.add(user)
        else:
            assert user in self.users, f"{self.socket_id} saw {user} go twice"
            self.users.remove(user)


class Process:
    """A server process: a hub, connections, and the books that a ledger keeps."""

    def __init__(self):
        self.server_id = None
        self.hub = Hub()
        self.views = {}
        """Every connection there is, by channel, user and socket id."""
        self.pending = []
        self.held = {}
        self.unsent = []
        """Announcements that are committed and not on the bus yet, in order."""
        self.arriving = []
        """Announcements on the bus; it keeps no order here."""

    def join(self, channel, user, socket_id):
        view = self.views[channel, user, socket_id] = View(socket_id)
        local = self.hub._channels.setdefault((APP, channel), LocalChannel("group"))
        local.held.add(view)
        self.pending.append(Join(APP, channel, socket_id, messages.Member(user)))
        self.count(channel)

    def leave(self, key):
        channel, user, socket_id = key
        self.forget(key)
        self.pending.append(Leave(APP, channel, socket_id, user))

    def forget(self, key):
        """What the consumer tells the hub when somebody leaves or is refused."""
        channel, _, socket_id = key
        del self.views[key]
        local = self.hub._channels[APP, channel]
        local.sockets.pop(socket_id, None)
        local.held.drop(socket_id)
        if local.attendance is not None:
            local.attendance.dismiss(socket_id)
        if local.empty:
            del self.hub._channels[APP, channel]
        self.count(channel)

    def count(self, channel):
        self.pending.append(Occupy(APP, channel, self.hub.subscriptions(APP, channel)))

    def take_lease(self):
        if self.server_id is None:
            self.server_id = uuid.uuid4()
            lease.take(self.server_id, LEASE_SECONDS)

    def record_again(self):
        """The ledger's answer to a lost lease."""
        self.server_id = None
        self.pending[:0] = self.held.values()
        for channel in CHANNELS:
            self.count(channel)

    def committed(self, group, outcome):
        """The ledger's answer to a commit."""
        for move in group:
            if isinstance(move, Leave):
                self.held.pop((move.channel, move.socket_id), None)
            elif isinstance(move, Join):
                key = (move.channel, move.member.user_id, move.socket_id)
                if move not in outcome.banned:
                    self.held[move.channel, move.socket_id] = move
                    self.confirm(key, outcome.rosters[APP, move.channel])
                elif key in self.views:
                    self.forget(key)
        self.announce(outcome.changes)

    def confirm(self, key, roster):
        view = self.views.get(key)
        if view is not None and view.users is None:
            view.users = set(members_in(roster)["ids"])
            self.hub.release(APP, key[0], view, roster.view)

    def announce(self, changes):
        self.unsent.extend(envelope_of(change) for change in changes)

    def catch_up(self):
        """Compare with the rows; see ``Ledger._catch_up``."""
        for change in store.changed_within(3_600, CHANNELS):
            envelope = envelope_of(change)
            if self.hub.misses(APP, change.channel, envelope.announcement):
                self.hub.deliver(envelope)


class PresenceMachine(RuleBasedStateMachine):
    """Three processes, one database, and a bus that is late and keeps no order."""

    numbers = st.integers(0, 2)

    def __init__(self):
        super().__init__()
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.processes = [Process() for _ in range(3)]
        self.sockets = 0
        self.rows = {}
        """By server that is registered: its memberships by channel, user and socket id."""
        self.versions = {}
        self.banned = set()
        self.purged = False

    def teardown(self):
        try:
            self.settle()
        finally:
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    # ---- people -------------------------------------------------------------------------

    @rule(number=numbers, channel=st.sampled_from(CHANNELS), user=st.sampled_from(USERS))
    def join(self, number, channel, user):
        self.sockets += 1
        self.processes[number].join(channel, user, f"{number}.{self.sockets}")

    @rule(number=numbers, channel=st.sampled_from(CHANNELS), user=st.sampled_from(USERS))
    def join_at_once(self, number, channel, user):
        self.join(number, channel, user)
        self.commit(number, 100)

    @precondition(lambda self: any(process.views for process in self.processes))
    @rule(data=st.data())
    def leave(self, data):
        process = data.draw(st.sampled_from([item for item in self.processes if item.views]))
        process.leave(data.draw(st.sampled_from(list(process.views))))

    @rule(user=st.sampled_from(USERS))
    def ban(self, user):
        RealtimeUser.objects.update_or_create(
            app_id=APP, user_id=user, defaults={"banned_at": timezone.now()}
        )
        self.banned.add(user)
        for process in self.processes:
            for key in [key for key in process.views if key[1] == user]:
                process.leave(key)

    @precondition(lambda self: self.banned)
    @rule()
    def lift(self):
        RealtimeUser.objects.update(banned_at=None)
        self.banned.clear()

    # ---- processes ----------------------------------------------------------------------

    @rule(number=numbers, size=st.integers(1, 6))
    def commit(self, number, size):
        group, outcome = self.apply(number, size)
        if outcome is not None:
            self.processes[number].pending[:size] = []
            self.processes[number].committed(group, outcome)

    @rule(number=numbers, size=st.integers(1, 6))
    def commit_without_an_answer(self, number, size):
        """The connection to the database broke after the commit: the group stays pending."""
        self.apply(number, size)

    @rule(number=numbers)
    def crash(self, number):
        """No more renewals, and what was not sent is lost; another process takes the place."""
        self.processes[number] = Process()

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def lease_runs_out(self, data):
        """Of a process that crashed, or that is only slow."""
        server_id = data.draw(st.sampled_from(list(self.rows)))
        Server.objects.filter(pk=server_id).update(expires_at=Now() - timezone.timedelta(seconds=1))

    @rule(number=numbers)
    def heartbeat(self, number):
        process = self.processes[number]
        if process.server_id is None:
            return
        try:
            lease.renew(process.server_id, LEASE_SECONDS)
        except lease.LeaseLost:
            process.record_again()
            return
        dead = set(Server.objects.dead().values_list("pk", flat=True))
        self.take(process, store.reap() or [])
        for server_id in dead:
            del self.rows[server_id]

    @precondition(lambda self: self.sockets > 3 and not self.purged)
    @rule()
    def purge(self):
        """Days later, so everybody has heard of everything.  Once in a story: it takes long."""
        self.purged = True
        self.settle()
        purge.delete(timezone.now())

    # ---- the bus ------------------------------------------------------------------------

    @rule(number=numbers)
    def send(self, number):
        if self.processes[number].unsent:
            envelope = self.processes[number].unsent.pop(0)
            for process in self.processes:
                if (APP, envelope.channel) in process.hub._channels:
                    process.arriving.append(envelope)

    @precondition(lambda self: any(process.arriving for process in self.processes))
    @rule(data=st.data())
    def arrive(self, data):
        process = data.draw(st.sampled_from([item for item in self.processes if item.arriving]))
        position = data.draw(st.integers(0, len(process.arriving) - 1))
        process.hub.deliver(process.arriving.pop(position))

    @rule(number=numbers)
    def catch_up(self, number):
        self.processes[number].catch_up()

    # ---- what must hold -----------------------------------------------------------------

    @invariant()
    def the_members_are_the_users_with_a_membership(self):
        committed = {row for rows in self.rows.values() for row in rows}
        kept = Membership.objects.values_list(
            "member__channel", "member__user__user_id", "socket_id"
        )
        assert set(kept) == committed
        present = Member.objects.present().values_list("channel", "user__user_id")
        assert set(present) == {(channel, user) for channel, user, _ in committed}

    # ---- inside -------------------------------------------------------------------------

    def apply(self, number, size):
        """Commit the first of what is pending; the group and what came of it, or ``None``."""
        process = self.processes[number]
        group = process.pending[:size]
        if not group:
            return group, None
        process.take_lease()
        rows = self.rows.setdefault(process.server_id, set())
        try:
            outcome = store.apply(process.server_id, group, LEASE_SECONDS)
        except lease.LeaseLost:
            del self.rows[process.server_id]
            process.record_again()
            return group, None
        for move in group:
            if isinstance(move, Leave):
                rows.discard((move.channel, move.user_id, move.socket_id))
            elif isinstance(move, Join) and move not in outcome.banned:
                rows.add((move.channel, move.member.user_id, move.socket_id))
        self.check_versions(outcome.changes)
        return group, outcome

    def take(self, process, changes):
        self.check_versions(changes)
        process.announce(changes)

    def check_versions(self, changes):
        for change in changes:
            key = (change.channel, change.member.user_id)
            assert change.version > self.versions.get(key, 0)
            self.versions[key] = change.version

    def settle(self):
        """Let everything come to its end, and look whether everybody agrees."""
        for server_id in set(self.rows) - {process.server_id for process in self.processes}:
            Server.objects.filter(pk=server_id).update(expires_at=Now())
        for _ in range(2):  # the first round may find a lost lease
            for number, process in enumerate(self.processes):
                process.take_lease()
                self.rows.setdefault(process.server_id, set())
                self.heartbeat(number)
                while process.pending:
                    self.commit(number, 100)
        self.the_members_are_the_users_with_a_membership()
        users = census.user_counts(APP, CHANNELS)
        subscriptions = census.subscriptions(APP, CHANNELS)
        for channel in CHANNELS:
            views = self.views(channel)
            assert users.get(channel, 0) == len({user for user, _ in views})
            assert subscriptions.get(channel, 0) == len(views)
        for process in self.processes:
            process.catch_up()
        self.check_views()
        for number, process in enumerate(self.processes):
            while process.unsent:
                self.send(number)
        for process in self.processes:
            while process.arriving:
                process.hub.deliver(process.arriving.pop())
        self.check_views()

    def check_views(self):
        """Every observer shows the users that have a connection."""
        for channel in CHANNELS:
            views = self.views(channel)
            users = {user for user, _ in views}
            assert [view.users for _, view in views] == [users] * len(views)

    def views(self, channel):
        """The connections of a channel with their users."""
        return [
            (key[1], view)
            for process in self.processes
            for key, view in process.views.items()
            if key[0] == channel
        ]


@pytest.mark.timeout(120 + EXAMPLES)
@pytest.mark.django_db
def test_whatever_happens_members_and_observers_agree():
    run_state_machine_as_test(
        PresenceMachine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ---- at the same time -------------------------------------------------------------------


def work(seed, server_id, changes, rows):
    """What one process writes, in a thread with a connection of its own."""
    chance = random.Random(seed)
    try:
        for _ in range(GROUPS):
            group = []
            for _ in range(chance.randint(1, 8)):
                channel, user = chance.choice(CHANNELS), chance.choice(USERS)
                socket_id = f"{seed}.{chance.randint(1, 3)}"
                if chance.random() < 0.5:
                    group.append(Join(APP, channel, socket_id, messages.Member(user), 10))
                    rows.add((channel, user, socket_id))
                else:
                    group.append(Leave(APP, channel, socket_id, user))
                    rows.discard((channel, user, socket_id))
            changes += store.apply(server_id, group, LEASE_SECONDS).changes
            changes += store.reap() or []
            if chance.random() < 0.2:
                purge.delete(timezone.now())
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_processes_that_write_at_the_same_time_neither_lock_nor_disagree():
    dead, *living = servers = [uuid.uuid4() for _ in range(4)]
    for server_id in servers:
        lease.take(server_id, LEASE_SECONDS)
    ghosts = [
        Join(APP, channel, "9.9", messages.Member(user)) for channel in CHANNELS for user in USERS
    ]
    changes = store.apply(dead, ghosts, LEASE_SECONDS).changes
    Server.objects.filter(pk=dead).update(expires_at=Now())
    rows = [set() for _ in living]
    with ThreadPoolExecutor(len(living)) as threads:
        done = [
            threads.submit(work, number, server_id, changes, rows[number])
            for number, server_id in enumerate(living)
        ]
    for future in done:
        future.result()

    present = set()
    told = defaultdict(list)
    for change in sorted(changes, key=lambda change: change.version):
        told[change.channel, change.member.user_id].append(change.present)
    for member, story in told.items():
        assert story == [number % 2 == 0 for number in range(len(story))], member
        if story[-1]:
            present.add(member)
    assert present == {row[:2] for row in set().union(*rows)}
    kept = Membership.objects.values_list("member__channel", "member__user__user_id", "socket_id")
    assert set(kept) == set().union(*rows)
    assert set(Member.objects.present().values_list("channel", "user__user_id")) == present
