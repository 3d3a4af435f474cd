//! Places an order: the row and its event in one transaction, by sqlx 0.9.
//!
//!     DATABASE_URL=postgres://… cargo run -p doorbell-outbox --example place_order -- 7

use std::error::Error;

use doorbell_outbox::{Event, Outbox};
use sqlx_0_9::{Connection, PgConnection, Postgres, Transaction, query};

#[derive(serde::Serialize)]
struct Order {
    id: i64,
    customer: String,
}

/// Inserts the order and its event; the caller commits.
pub(crate) async fn place(
    tx: &mut Transaction<'_, Postgres>,
    id: i64,
    customer: &str,
) -> Result<(), Box<dyn Error>> {
    let order = Order {
        id,
        customer: customer.to_owned(),
    };
    query("INSERT INTO orders (id, customer) VALUES ($1, $2)")
        .bind(order.id)
        .bind(&order.customer)
        .execute(&mut **tx)
        .await?;
    let event = Event::new("OrderPlaced")
        .key(order.id.to_string())
        .json(&order)?
        .header("tenant", customer);
    Outbox::DEFAULT.insert(tx, event).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = std::env::args().nth(1).ok_or("which order?")?.parse()?;
    let mut session = PgConnection::connect(&std::env::var("DATABASE_URL")?).await?;
    let mut tx = session.begin().await?;
    query("CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, customer text)")
        .execute(&mut *tx)
        .await?;
    place(&mut tx, id, "grace").await?;
    tx.commit().await?;
    println!("order {id} is placed, and its event is on its way");
    Ok(())
}
