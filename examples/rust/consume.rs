use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers as _};

/// The first header of that name: Doorbell's own come first.
fn header<'a>(record: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = record.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Claims the event and applies its effect in one transaction. Tells whether the event was new.
async fn take_in(
    database: &mut PgConnection,
    record: &BorrowedMessage<'_>,
) -> anyhow::Result<bool> {
    let id: uuid::Uuid = header(record, "id").context("no header `id`")?.parse()?;
    let mut transaction = database.begin().await?;
    let is_new: bool =
        sqlx::query_scalar("SELECT doorbell.first_time('order-totals', $1::text::uuid)")
            .bind(id.to_string())
            .fetch_one(&mut *transaction)
            .await?;
    if let (true, Some("OrderPlaced"), Some(payload)) =
        (is_new, header(record, "type"), record.payload())
    {
        let order: serde_json::Value = serde_json::from_slice(payload)?;
        sqlx::query(
            "INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES ($1, 1, $2)
             ON CONFLICT (customer) DO UPDATE
             SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents",
        )
        .bind(order["customer"].as_str().context("no `customer`")?)
        .bind(order["amount_cents"].as_i64().context("no `amount_cents`")?)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(is_new)
}

/// Takes in the next record. The offset follows the effect, never the reverse.
async fn consume_one(database: &mut PgConnection, consumer: &StreamConsumer) -> anyhow::Result<()> {
    let record = consumer.recv().await?;
    let is_new = take_in(database, &record).await?;
    consumer.commit_message(&record, CommitMode::Sync)?;
    println!("{}", if is_new { "applied" } else { "seen before" });
    Ok(())
}
