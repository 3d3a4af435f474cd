//! Places orders with their events, and adds them up per customer from Kafka.
//!
//! ```sh
//! cargo run --example orders -- place CUSTOMER CENTS
//! cargo run --example orders -- consume
//! ```

use std::env;

use anyhow::Context as _;
use rdkafka::ClientConfig;

include!("place_order.rs");
include!("consume.rs");

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn consumer() -> anyhow::Result<StreamConsumer> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", env::var("KAFKA_BROKERS")?)
        .set("group.id", variable("GROUP", "order-totals"))
        // Committed by a timer, the offset could run ahead of the effect: an event would be lost.
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    if let Ok(name) = env::var("INSTANCE") {
        settings.set("group.instance.id", name);
    }
    let consumer: StreamConsumer = settings.create()?;
    consumer.subscribe(&[&variable("TOPIC", "outbox")])?;
    Ok(consumer)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut database = PgConnection::connect(&env::var("DATABASE_URL")?).await?;
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["place", customer, cents] => {
            println!(
                "{}",
                place_order(&mut database, customer, cents.parse()?).await?
            );
        }
        // Ctrl-C ends it anywhere: a transaction that was not committed is rolled back, and its
        // record comes again.
        ["consume"] => {
            let consumer = consumer()?;
            loop {
                consume_one(&mut database, &consumer).await?;
            }
        }
        _ => anyhow::bail!("usage: place CUSTOMER CENTS | consume"),
    }
    Ok(())
}
