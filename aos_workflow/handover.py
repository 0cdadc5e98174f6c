"""A run in the caller's own transaction: stored with it, published after its commit, forgotten with its rollback.

A Session says when it is committed, so the publish waits for that. A Connection does not
(its event comes before the COMMIT is sent): what is enqueued on one is published by the sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from aos_workflow.errors import BadOption

Publish: TypeAlias = Callable[[], None]
#: Where a session keeps what is to be published, with the transactions each was enqueued in.
_WAITING = "aos_publish_after_commit"


def opened(session: Any) -> Session | Connection | None:
    """What was given as ``session``. Raises BadOption for anything but a Session or a Connection."""
    if isinstance(session, scoped_session):
        session = session()
    if session is None or isinstance(session, Session | Connection):
        return session
    raise BadOption(
        f"session={type(session).__name__} is not a transaction of SQLAlchemy",
        fix="give a Session or a Connection; of an AsyncSession give its sync_session inside run_sync",
        option="session",
    )


def after_commit(session: Session, publish: Publish) -> None:
    """Call ``publish`` once the outermost transaction is committed; never if what it is about was rolled back."""
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "after_commit", _publish_waiting)
        event.listen(session, "after_soft_rollback", _forget_undone)
        event.listen(session, "after_transaction_end", _forget_rest)
    session.info[_WAITING].append((_around(session), publish))


def _around(session: Session) -> set[SessionTransaction]:
    """The transactions that are open, savepoints included."""
    found, transaction = set(), session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        found.add(transaction)
        transaction = transaction.parent
    return found


def _publish_waiting(session: Session) -> None:
    if session.in_nested_transaction():
        return  # SQLAlchemy also announces the release of a savepoint
    waiting, session.info[_WAITING] = session.info[_WAITING], []
    for _, publish in waiting:
        publish()


def _forget_undone(session: Session, undone: SessionTransaction) -> None:
    session.info[_WAITING] = [entry for entry in session.info[_WAITING] if undone not in entry[0]]


def _forget_rest(session: Session, ended: SessionTransaction) -> None:
    if ended.parent is None:  # closed without a commit
        session.info[_WAITING] = []
