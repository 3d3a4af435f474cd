import json
import uuid

from confluent_kafka import Consumer, Message
from place import Base
from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column


class OrderTotal(Base):
    __tablename__ = "order_totals"

    customer: Mapped[str] = mapped_column(primary_key=True)
    orders: Mapped[int]
    amount_cents: Mapped[int]


def header(record: Message, name: str) -> str:
    """The first header of that name: Doorbell's own come first."""
    return next(value.decode() for key, value in record.headers() or [] if key == name)


def apply(session: Session, record: Message) -> None:
    if header(record, "type") != "OrderPlaced" or record.value() is None:
        return
    order = json.loads(record.value())
    added = insert(OrderTotal).values(customer=order["customer"], orders=1, amount_cents=order["amount_cents"])
    session.execute(
        added.on_conflict_do_update(
            index_elements=["customer"],
            set_={
                "orders": OrderTotal.orders + 1,
                "amount_cents": OrderTotal.amount_cents + added.excluded.amount_cents,
            },
        )
    )


def take_in(session: Session, record: Message) -> bool:
    """Claims the event and applies its effect in one transaction. Tells whether the event was new."""
    with session.begin():
        claim = func.doorbell.first_time(cast("order-totals", Text), uuid.UUID(header(record, "id")))
        is_new = session.scalar(select(claim))
        if is_new:
            apply(session, record)
        return is_new


def consume(session: Session, consumer: Consumer, stopping) -> None:
    """Takes in record after record. The offset follows the effect, never the reverse."""
    while not stopping():
        record = consumer.poll(0.5)
        if record is None or record.error():
            continue  # the client goes on by itself
        is_new = take_in(session, record)
        consumer.commit(message=record, asynchronous=False)
        print("applied" if is_new else "seen before", flush=True)
