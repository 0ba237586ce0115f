"""Guarantees about who may see what, and about who pays for whose trouble."""

from __future__ import annotations

from typing import Final

from proof.guarantees.parts import Conn, Opening, Span
from proof.guarantees.scene import Scene
from proof.guarantees.shown import Cause
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Ended, Fault, Member, Open, Told, Took, View, Welcome

DEAD_STANDINGS: Final = frozenset(("used", "expired", "forged", "foreign", "revoked"))
LEEWAY_S: Final = 30.0
"""What `core.tokens.TokenVerifier` forgives an access token for the difference between two clocks."""
BUS_WORDS: Final = ("bus", "redis", "part")
"""In the name of a fault: after it nodes may not have heard each other."""
BLAMES: Final = {
    "internal": 4000,
    "bad_frame": 4500,
    "unauthorized": 4501,
    "forbidden": 4503,
    "too_large": 4505,
    "hello_timeout": 4003,
}
"""What says that the client broke a rule, or that we did. All other codes ask it to come back, or tell what it did itself."""
CODES: Final = {code: name for name, code in BLAMES.items()}
CLOSES: Final = {
    1002: "a breach of the framing",
    1003: "binary",
    1007: "no UTF-8",
    1009: "too large",
    1011: "our error",
}
RESTORED: Final = "the log was restored"
"""The one end of our making that is no fault: nothing that the connection was shown holds any more."""


# -- tenants ----------------------------------------------------------------------------------------------------------


def _tenant_wall(scene: Scene, judge: Judge) -> None:
    judge.judged = scene.tooks + len(scene.given) + len(scene.spans)
    for at, took, conn in scene.marked:
        if conn.tenant:
            judge.finds(at, conn.place(took.stream), f"seq {took.seq} bears the mark of {took.mark}")
    marked = {at for at, _, _ in scene.marked}
    for at, took, conn, cause, _ in scene.shown.wrong:
        if cause is Cause.FOREIGN and at not in marked:
            owner = scene.shown.foreign(conn, took.key)
            judge.finds(at, conn.place(took.stream), f"seq {took.seq} is {took.key} of {owner}")
    people = _people(scene)
    if len({tenant for tenants in people.values() for tenant in tenants}) < 2:
        return
    for at, told, to, *_ in scene.given:
        if to is not None and told.by and _stranger(people, to, told.by):
            judge.finds(at, to.place(told.stream), f"a {told.kind} of {told.by}, who is not of this tenant")
    for at, view in scene.all(View):
        holder = scene.conns.get(view.conn)
        for who in sorted({*(view.marks or ()), *(view.present or ())}):
            if holder is not None and _stranger(people, holder, who):
                judge.finds(at, holder.place(view.stream), f"holds {who}, who is not of this tenant")
    for span in scene.spans:
        _foreign_stream(scene, judge, span)


def _people(scene: Scene) -> dict[str, set[str]]:
    """The tenants in which each principal is known to be."""
    people: dict[str, set[str]] = {}
    for opening in scene.openings:
        opened = opening.open
        if opened.standing in ("good", "spent") and not opened.hostile and opened.tenant and opened.who:
            people.setdefault(opened.who, set()).add(opened.tenant)
    for _, member in scene.all(Member):
        people.setdefault(member.who, set()).add(member.tenant)
    for (tenant, _), log in scene.logs.items():
        for author in log.authors:
            people.setdefault(author, set()).add(tenant)
    return people


def _stranger(people: dict[str, set[str]], conn: Conn, who: str) -> bool:
    """Whether somebody is known in other tenants alone. Who is known nowhere may have come by a way that nobody saw."""
    tenants = people.get(who)
    return bool(conn.tenant) and tenants is not None and conn.tenant not in tenants and who != conn.who


def _foreign_stream(scene: Scene, judge: Judge, span: Span) -> None:
    """An empty stream may have the name of another tenant's; one with a head, of which this tenant has no event, may not."""
    conn, stream = span.conn, span.stream
    if not scene.knows_log or not conn.tenant or not span.follow.head or (conn.tenant, stream) in scene.logs:
        return
    if (conn.tenant, stream) in scene.trims:
        return
    others = [tenant for tenant, name in scene.logs if name == stream]
    if others:
        detail = f"follows it at head {span.follow.head}, but only {', '.join(sorted(others))} has events there"
        judge.finds(span.at, conn.place(stream), detail)


# -- identities ---------------------------------------------------------------------------------------------------------


def _auth_fresh(scene: Scene, judge: Judge) -> None:
    _openings(scene, judge)
    _removals(scene, judge)
    judge.judged += sum(conn.late_t < scene.end_t for conn in scene.conns.values())
    for at, given, conn in scene.overdue:
        given_t = _given_t(scene, given, conn)
        looked_t = conn.late_t - 2 * scene.run.heartbeat_s
        if scene.clock_moved(at) or given_t <= conn.late_t + scene.paused_s(conn.node, looked_t, given_t):
            continue
        what = f"seq {given.seq}" if isinstance(given, Took) else f"a {given.kind}"
        detail = f"{what} was given {given_t - looked_t:.1f} s after its identity was over"
        judge.finds(at, conn.place(given.stream), detail)
    for at, took, to, over, removed in scene.strays:
        if to is not None and removed is not None and not over:
            judge.finds(at, to.place(took.stream), f"seq {took.seq} came after it was let go of at {removed}")
    for at, told, to, _, removed, _ in scene.given:
        if to is not None and removed is not None:
            judge.finds(at, to.place(told.stream), f"a {told.kind} came after it was let go of at {removed}")


def _given_t(scene: Scene, given: Took | Told, conn: Conn) -> float:
    """When something was put on its way at the earliest. A client that reads slowly takes it long after: where commits were
    seen to take place, an event's is what counts, and of a signal what was seen on the wire."""
    if isinstance(given, Told):
        return given.sent_t if given.sent_t is not None else given.t if not scene.run.live_commits else 0.0
    if not scene.run.live_commits:
        return given.t
    log = scene.log_of(conn, given.stream)
    standing = None if log is None else log.at(given.seq, conn.life)
    return 0.0 if standing is None else scene.records[standing[0]].t


def _openings(scene: Scene, judge: Judge) -> None:
    """A token that is dead opens nothing."""
    for opening in scene.openings:
        opened = opening.open
        if opened.standing not in DEAD_STANDINGS:
            continue
        judge.judged += 1
        if not isinstance(opening.answer, Welcome):
            continue
        if opened.standing == "used" and _unheard(scene, opened, opening.answered_at):
            continue
        if opened.standing == "expired" and _in_time(scene, opening):
            continue
        detail = f"a {opened.how} with a token that is {opened.standing} was welcomed"
        judge.finds(opening.answered_at, opening.conn.place(), detail)


def _in_time(scene: Scene, opening: Opening) -> bool:
    """Whether a token that has ended may be good still by the clock of its node."""
    if scene.clock_moved(opening.answered_at):
        return True
    expires_t = opening.open.expires_t
    return expires_t is not None and scene.records[opening.answered_at].t < expires_t + LEEWAY_S


def _unheard(scene: Scene, opened: Open, until: int) -> bool:
    """Whether the node could not have heard of the token's use: that was on another, and the bus was in trouble by then.

    While nodes cannot hear each other a token works once on each (docs/decisions/0005-resume-tokens.md); a history does
    not say whom trouble cut off for how long, so any counts. A node always knows what it did itself."""
    troubled = any(at < until and any(word in fault.what for word in BUS_WORDS) for at, fault in scene.all(Fault))
    if scene.run.bus and not troubled:
        return False
    return not any(
        other.open.credential == opened.credential
        and other.open.node == opened.node
        and isinstance(other.answer, Welcome)
        and other.answered_at < until
        for other in scene.openings
    )


def _removals(scene: Scene, judge: Judge) -> None:
    changes: dict[tuple[str, str, str], list[tuple[Member, int]]] = {}
    """By tenant, stream and principal, with the life of the log in which each was committed."""
    for at, member in scene.all(Member):
        born = scene.restores.born(at, member.seq, (member.tenant, member.stream))
        changes.setdefault((member.tenant, member.stream, member.who), []).append((member, born))
    if not changes:
        return
    for span in scene.spans:
        conn = span.conn
        place = (conn.tenant, span.stream)
        members = [
            member
            for member, born in changes.get((*place, conn.who), ())
            if scene.restores.holds(conn.life, member.seq, born, place)
        ]
        if conn.opening is not None and not conn.opening.open.privileged:
            members.sort(key=lambda member: member.seq)
            for removal in members:
                if removal.role is None and not removal.open:
                    judge.judged += 1
                    _removal(scene, judge, span, removal, members)


def _removal(scene: Scene, judge: Judge, span: Span, removal: Member, members: list[Member]) -> None:
    """A span that began before the removal ends with it; one that began after it must not have begun."""
    conn, follow = span.conn, span.follow
    back = next((member.seq for member in members if member.seq > removal.seq and member.role is not None), None)
    if back is not None and (back <= follow.head or _was_back(scene, span, back)):
        return
    if follow.head >= removal.seq:
        detail = f"was let in at head {follow.head}, though {conn.who} was removed at {removal.seq}"
        judge.finds(span.at, conn.place(span.stream), detail)
    elif span.next - 1 > removal.seq:
        for at, took in scene.events_of(span):
            if took.seq > removal.seq:
                detail = f"seq {took.seq} came, though {conn.who} was removed at {removal.seq}"
                judge.finds(at, conn.place(span.stream), detail)


def _was_back(scene: Scene, span: Span, back: int) -> bool:
    """Whether somebody may have been a member again when a span began: a node asks the log, which may be ahead of the
    events that it has itself. Where commits were not seen to take place, nobody knows."""
    log = scene.log_of(span.conn, span.stream)
    standing = None if log is None else log.at(back, span.conn.life)
    return not scene.run.live_commits or standing is None or standing[0] < span.at


# -- trouble ------------------------------------------------------------------------------------------------------------


def _blast_radius(scene: Scene, judge: Judge) -> None:
    first_fault = min((fault.t for _, fault in scene.all(Fault)), default=None)
    for conn in scene.conns.values():
        if conn.hostile or conn.at < 0:
            continue
        judge.judged += 1
        ended = conn.ended
        if ended is None or ended.by != "server":
            continue
        blame = _blame(ended)
        if blame is None or _deserved(conn, ended, blame, first_fault):
            continue
        if blame == "unauthorized" and scene.clock_moved(conn.ended_at):
            continue
        reason = f" ({ended.reason})" if ended.reason else ""
        judge.finds(conn.ended_at, conn.place(), f"was ended with {blame}{reason}, and had done nothing")


def _blame(ended: Ended) -> str | None:
    """The word for an end that blames somebody."""
    name = ended.bye or CODES.get(ended.code, "")
    if name in BLAMES:
        return None if ended.reason == RESTORED else name
    return CLOSES.get(ended.code)


def _deserved(conn: Conn, ended: Ended, blame: str, first_fault: float | None) -> bool:
    """Whether an end that blames a client comes of its token, or of trouble that delayed what it said."""
    opening = conn.opening or (conn.openings[0] if conn.openings else None)
    if blame == "unauthorized":
        if opening is None:
            return True  # all that it brought was answered already
        expires_t = opening.open.expires_t
        return opening.open.standing != "good" or (expires_t is not None and ended.t >= expires_t - 1.0)
    if blame == "hello_timeout":
        return conn.welcome is None and (not conn.openings or (first_fault is not None and first_fault <= ended.t))
    return False


TENANT_WALL = Guarantee(
    "Tenant-wall", "nothing of a tenant is seen in another, not even that it is there", _tenant_wall
)
AUTH_FRESH = Guarantee(
    "Auth-fresh",
    "past a removal, and past the end of an identity, nothing more is given, and a dead token opens nothing",
    _auth_fresh,
)
BLAST_RADIUS = Guarantee(
    "Blast-radius-one", "who breaks no rule is never ended for what another did, or for a fault of ours", _blast_radius
)
