//! Places orders in a batch: rows and events in one transaction, by tokio-postgres.
//!
//!     DATABASE_URL=postgres://… cargo run -p doorbell-outbox --example tokio_postgres -- 7 8 9

use std::error::Error;

use doorbell_outbox::{Event, Outbox};
use tokio::task::JoinSet;
use tokio_postgres_0_7::{NoTls, Transaction, connect};

/// Inserts orders and their events; the caller commits.
pub(crate) async fn place(tx: &mut Transaction<'_>, ids: &[i64]) -> Result<(), Box<dyn Error>> {
    tx.execute(
        "INSERT INTO orders (id) SELECT unnest($1::bigint[])",
        &[&ids],
    )
    .await?;
    let event = |id: &i64| {
        let event = Event::new("OrderPlaced").key(id.to_string());
        event.bytes(format!(r#"{{"id": {id}}}"#))
    };
    let events: Vec<Event> = ids.iter().map(event).collect();
    Outbox::DEFAULT.insert_all(tx, &events).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ids: Result<Vec<i64>, _> = std::env::args().skip(1).map(|id| id.parse()).collect();
    let (mut client, connection) = connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    let mut background = JoinSet::new();
    background.spawn(connection);
    let mut tx = client.transaction().await?;
    tx.batch_execute("CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, customer text)")
        .await?;
    place(&mut tx, &ids?).await?;
    tx.commit().await?;
    println!("the orders are placed, and their events are on their way");
    Ok(())
}
