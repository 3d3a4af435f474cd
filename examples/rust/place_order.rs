use sqlx::{Connection, PgConnection};

/// Inserts the order and its event: both are there after the commit, or neither.
async fn place_order(database: &mut PgConnection, customer: &str, cents: i64) -> sqlx::Result<i64> {
    let mut transaction = database.begin().await?;
    let order: i64 = sqlx::query_scalar(
        "INSERT INTO orders (customer, amount_cents) VALUES ($1, $2) RETURNING id",
    )
    .bind(customer)
    .bind(cents)
    .fetch_one(&mut *transaction)
    .await?;
    let payload =
        serde_json::json!({ "order_id": order, "customer": customer, "amount_cents": cents });
    sqlx::query("INSERT INTO outbox (type, key, payload) VALUES ('OrderPlaced', $1, $2)")
        .bind(order.to_string())
        .bind(payload.to_string())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(order)
}
