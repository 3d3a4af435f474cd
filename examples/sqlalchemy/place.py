import json

from sqlalchemy import Column, Identity, MetaData, Table, Text, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData()


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    customer: Mapped[str]
    amount_cents: Mapped[int]


# A plain table without its `id`: with a primary key SQLAlchemy would ask for it by RETURNING, and writers may not read.
outbox = Table("outbox", Base.metadata, Column("type", Text), Column("key", Text), Column("payload", Text))


def place_order(session: Session, customer: str, cents: int) -> int:
    """Inserts the order and its event: both are there after the commit, or neither."""
    with session.begin():
        order = Order(customer=customer, amount_cents=cents)
        session.add(order)
        session.flush()  # assigns the id
        payload = {"order_id": order.id, "customer": customer, "amount_cents": cents}
        session.execute(insert(outbox).values(type="OrderPlaced", key=str(order.id), payload=json.dumps(payload)))
        return order.id
